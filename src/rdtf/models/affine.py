"""Affine motion of a whole sticker, and smooth deformations on top (beyond the paper).

Six parameters say where a thing went relative to a reference frame: shift (x, y) of its centre in
normalised coordinates, turn in radians, log-scale along x and y, and shear. With c the centre,

    q = c + shift + G·(p − c),   G = R(turn) · [[e^log_x, shear], [0, e^log_y]]

where p is a point of the reference and q the same point in the frame, both in [−1, 1] (x right,
y down). Pictures are made by looking backwards: `backward_flow` gives p − q for every place q.
"""

from __future__ import annotations

import torch
from torch import Tensor

NUM_PARAMETERS = 6
_LARGEST_SHIFT, _LARGEST_LOG, _LARGEST_SHEAR = 2.5, 2.5, 1.5


def grid_positions(height: int, width: int, like: Tensor) -> Tensor:
    """Positions (x, y) of cell centres in [−1, 1], `[2, h, w]`."""
    ys = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * 2 / height - 1
    xs = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * 2 / width - 1
    grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
    return torch.stack([grid_x, grid_y])


def linear_part(parameters: Tensor) -> Tensor:
    """G: parameters `[..., 6]` → `[..., 2, 2]`."""
    turn, log_x, log_y, shear = parameters[..., 2:].unbind(-1)
    cos, sin = turn.cos(), turn.sin()
    scale_x, scale_y = log_x.exp(), log_y.exp()
    rows = (
        torch.stack([cos * scale_x, cos * shear - sin * scale_y], dim=-1),
        torch.stack([sin * scale_x, sin * shear + cos * scale_y], dim=-1),
    )
    return torch.stack(rows, dim=-2)


def inverse_2x2(matrix: Tensor) -> Tensor:
    """Inverse of `[..., 2, 2]`; determinants nearer to 0 than 1e-4 count as 1e-4."""
    a, b, c, d = matrix.flatten(-2).unbind(-1)
    determinant = a * d - b * c
    safe = torch.where(determinant < 0, determinant.clamp(max=-1e-4), determinant.clamp(min=1e-4))
    adjugate = torch.stack([d, -b, -c, a], dim=-1).unflatten(-1, (2, 2))
    return adjugate / safe[..., None, None]


def backward_flow(parameters: Tensor, centre: Tensor, height: int, width: int) -> Tensor:
    """Where to look in the reference: p − q on a grid.

    Args:
        parameters: `[..., 6]`; centre: `[..., 2]` (x, y) in [−1, 1].

    Returns:
        `[..., 2, h, w]` in normalised coordinates.
    """
    inverse = inverse_2x2(linear_part(parameters))
    positions = grid_positions(height, width, parameters).flatten(1)  # [2, h·w]
    offset = positions - (centre + parameters[..., :2])[..., None]
    looked = inverse @ offset + centre[..., None]
    return (looked - positions).unflatten(-1, (height, width))


def relative_to(
    parameters: Tensor, reference: Tensor, centre: Tensor, centre_then: Tensor
) -> Tensor:
    """Motion relative to another frame of the same clip.

    Args:
        parameters: of each frame relative to a common rest pose, `[B, F, 6]`.
        reference: of the frame that becomes the reference, `[B, 6]`.
        centre, centre_then: of the thing at rest and in the reference frame, `[B, 2]`.

    Returns:
        `[B, F, 6]`; the turn goes on counting beyond half a turn.
    """
    forward, origin = _forward(parameters, centre[:, None])
    of_reference, origin_then = _forward(reference, centre)
    linear = forward @ inverse_2x2(of_reference)[:, None]
    moved = origin - (linear @ origin_then[:, None, :, None])[..., 0]
    shift = (linear @ centre_then[:, None, :, None])[..., 0] + moved - centre_then[:, None]
    near = parameters[..., 2] - reference[:, None, 2]
    return torch.cat([shift, decompose(linear, near)], dim=-1)


def _forward(parameters: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """q = G p + o: (G, o)."""
    linear = linear_part(parameters)
    origin = centre + parameters[..., :2] - (linear @ centre[..., None])[..., 0]
    return linear, origin


def decompose(linear: Tensor, near_turn: Tensor | None = None) -> Tensor:
    """G `[..., 2, 2]` → (turn, log_x, log_y, shear) `[..., 4]`, within bounds.

    Of all turns that give G the one nearest to `near_turn` (0 if None) is taken.
    """
    a, b, c, d = linear.flatten(-2).unbind(-1)
    turn = torch.atan2(c, a)
    scale_x = torch.hypot(a, c)
    cos, sin = turn.cos(), turn.sin()
    shear, scale_y = cos * b + sin * d, cos * d - sin * b
    if near_turn is not None:
        turn = turn + (2 * torch.pi) * ((near_turn - turn) / (2 * torch.pi)).round()
    logs = [
        scale.clamp(min=1e-3).log().clamp(-_LARGEST_LOG, _LARGEST_LOG)
        for scale in (scale_x, scale_y)
    ]
    return torch.stack([turn, *logs, shear.clamp(-_LARGEST_SHEAR, _LARGEST_SHEAR)], dim=-1)


def fit(flow: Tensor, weight: Tensor, centre: Tensor) -> Tensor:
    """The affine motion nearest to a backward flow, by weighted least squares.

    Args:
        flow: p − q, `[..., 2, h, w]`; weight: how much each place counts, `[..., h, w]` ≥ 0;
        centre: `[..., 2]`.

    Returns:
        Parameters `[..., 6]`; zero motion where nothing counts.
    """
    height, width = flow.shape[-2:]
    x, y = grid_positions(height, width, flow).flatten(1).unbind(0)
    basis = torch.stack([x, y, torch.ones_like(x)], dim=-1)  # [n, 3]
    weight = weight.flatten(-2)
    weight = weight / weight.sum(-1, keepdim=True).clamp(min=1e-6)
    weighted = basis * weight[..., None]
    # A little of "nothing moved", more of it for turning and scaling than for shifting.
    ridge = torch.diag(flow.new_tensor([3e-4, 3e-4, 3e-5]))
    normal = weighted.transpose(-1, -2) @ basis + ridge
    right = weighted.transpose(-1, -2) @ flow.flatten(-2).transpose(-1, -2)  # [..., 3, 2]
    solved = torch.linalg.solve(normal, right)
    inverse = solved[..., :2, :].transpose(-1, -2) + torch.eye(
        2, device=flow.device, dtype=flow.dtype
    )
    offset = solved[..., 2, :]
    linear = inverse_2x2(inverse)
    moved = (linear @ (centre - offset)[..., None])[..., 0]
    shift = (moved - centre).clamp(-_LARGEST_SHIFT, _LARGEST_SHIFT)
    return torch.cat([shift, decompose(linear)], dim=-1)


# ---------------------------------------------------------------------- deformations


DEFORMS = ("", "ripple", "swirl", "drip")
"""Kinds, as verbs of the grammar name them; the first is none."""


def deformation(still: Tensor, kind: Tensor, strength: Tensor, seed: Tensor, box: Tensor) -> Tensor:
    """Smooth deformations of the grammar, as flow on top of the affine part.

    Args:
        still: places on the still `[N, F, 2, h, w]`; kind: index into DEFORMS `[N]`;
        strength: phase or amount, 0 = none, `[N, F]`; seed: in [0, 1], `[N]`;
        box: of the still's alpha, `[N, 6]`.

    Returns:
        `[N, F, 2, h, w]`.
    """
    x, y = still.unbind(2)
    centre_x, centre_y, left, top, right, bottom = (
        edge[:, None, None, None] for edge in box.unbind(-1)
    )
    amount, phase = strength[..., None, None], seed[:, None, None, None]
    width = (right - left).clamp(min=0.2)
    height = (bottom - top).clamp(min=0.2)
    along = ((x - left) / width).clamp(-0.2, 1.2)
    turn = 2 * torch.pi

    wave = torch.sin(turn * (1.2 * along - amount)) - torch.sin(turn * 1.2 * along)
    ripple = torch.stack([torch.zeros_like(wave), 0.11 * along.clamp(min=0) * wave], dim=2)

    off_x, off_y = x - centre_x, y - centre_y
    radius = (off_x**2 + off_y**2).sqrt() / (0.6 * torch.maximum(width, height))
    angle = -2.0 * amount * (1 - radius).clamp(min=0) ** 2
    cos, sin = angle.cos(), angle.sin()
    swirl = torch.stack(
        [cos * off_x - sin * off_y - off_x, sin * off_x + cos * off_y - off_y], dim=2
    )

    low = ((y - top) / height).clamp(0, 1.2)
    drops = torch.sin(turn * (2.0 * along + phase))
    drip = torch.stack(
        [
            0.05 * amount * torch.sin(turn * (low + phase)),
            -0.16 * amount * low * (0.5 + 0.5 * drops),
        ],
        dim=2,
    )
    fields = torch.stack([torch.zeros_like(ripple), ripple, swirl, drip], dim=1)
    assert len(DEFORMS) == fields.shape[1]
    rows = torch.arange(len(kind), device=kind.device)
    return fields[rows, kind]
