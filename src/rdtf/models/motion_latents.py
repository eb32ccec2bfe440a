"""Motion as latents: an affine part for the whole thing and a residual field (not in the paper).

Every frame of a clip is described relative to one reference frame:

    p = q + affine(q) + residual(q)      q: place in the frame, p: where it comes from

Affine: shift (x, y) of the centre c in normalised coordinates, turn in radians, log-scale along x
and y, and shear. A point p of the reference goes to

    q = c + shift + G·(p − c),   G = R(turn) · [[e^log_x, shear], [0, e^log_y]]

both in [−1, 1] (x right, y down). Pictures are made by looking backwards: `backward_flow` gives
p − q for every place q. The residual is what a dense flow has besides, on a coarse grid.

Both are stored in units in which real motion spreads by about 1: logarithms of shifts and flows, so
that creeping and leaping clips lie on one scale. A clip's latents are one tensor `[B, F, D]`,
D = 6 + 2·16·16: schedulers treat it like any other.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rdtf.models.matching import EXACT, grid_positions, match

NUM_PARAMETERS = 6
_LARGEST_SHIFT, _LARGEST_LOG, _LARGEST_SHEAR = 2.5, 2.5, 1.5


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


def _inverse_2x2(matrix: Tensor) -> Tensor:
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
    inverse = _inverse_2x2(linear_part(parameters))
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
    linear = forward @ _inverse_2x2(of_reference)[:, None]
    moved = origin - (linear @ origin_then[:, None, :, None])[..., 0]
    shift = (linear @ centre_then[:, None, :, None])[..., 0] + moved - centre_then[:, None]
    near = parameters[..., 2] - reference[:, None, 2]
    return torch.cat([shift, _decompose(linear, near)], dim=-1)


def _forward(parameters: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """q = G p + o: (G, o)."""
    linear = linear_part(parameters)
    origin = centre + parameters[..., :2] - (linear @ centre[..., None])[..., 0]
    return linear, origin


def _decompose(linear: Tensor, near_turn: Tensor | None = None) -> Tensor:
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
    linear = _inverse_2x2(inverse)
    moved = (linear @ (centre - offset)[..., None])[..., 0]
    shift = (moved - centre).clamp(-_LARGEST_SHIFT, _LARGEST_SHIFT)
    return torch.cat([shift, _decompose(linear)], dim=-1)


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


GRID = 16  # cells a side of the residual field
LATENT_DIM = NUM_PARAMETERS + 2 * GRID * GRID
_PER_UNIT = 64.0  # pixels of a canvas of 128 per unit of normalised coordinates
_SHIFT_UNIT, _RESIDUAL_UNIT = 2 / 2.4, 2 / 1.2
_LINEAR_GAIN, _LINEAR_UNIT = 5.0, 1.3
_BEND = 1.3  # half waves per canvas at which the spectrum of motion bends (docs/LOG.md)
_LIKENESS, _LIKENESS_AFFINE = 0.65, 0.8  # of neighbouring frames' noise
_MATCHING_SIDE = 64  # cells of the finest search


def latents_of_affine(parameters: Tensor) -> Tensor:
    """Affine parameters `[..., 6]` → latents `[..., 6]`."""
    shift, rest = parameters.split([2, 4], dim=-1)
    return torch.cat([_log(shift) * _SHIFT_UNIT, (rest * _LINEAR_GAIN).asinh() * _LINEAR_UNIT], -1)


def affine_of_latents(latents: Tensor) -> Tensor:
    """Inverse of `latents_of_affine`; within bounds, so that anything drawn can be decoded."""
    shift, rest = latents.split([2, 4], dim=-1)
    shift = _exp((shift / _SHIFT_UNIT).clamp(-5.5, 5.5))
    turn, linear = (rest / _LINEAR_UNIT).clamp(-5, 5).sinh().div(_LINEAR_GAIN).split([1, 3], dim=-1)
    return torch.cat([shift, turn, linear.clamp(-2.5, 2.5)], dim=-1)


def latents_of_residual(residual: Tensor) -> Tensor:
    """Flow in normalised coordinates → latents, any shape."""
    return _log(residual) * _RESIDUAL_UNIT


def _residual_of_latents(latents: Tensor) -> Tensor:
    """Latents → flow in normalised coordinates, any shape."""
    return _exp((latents / _RESIDUAL_UNIT).clamp(-5, 5))


def _log(flow: Tensor) -> Tensor:
    return flow.sign() * (flow.abs() * _PER_UNIT).log1p()


def _exp(motion: Tensor) -> Tensor:
    return motion.sign() * motion.abs().expm1() / _PER_UNIT


def pack(affine: Tensor, residual: Tensor) -> Tensor:
    """Affine latents `[B, F, 6]` and residual latents `[B, F, 2, h, w]` → `[B, F, D]`."""
    return torch.cat([affine, residual.flatten(2)], dim=-1)


def unpack(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse of `pack`."""
    affine, residual = latents.split([NUM_PARAMETERS, 2 * GRID * GRID], dim=-1)
    return affine, residual.unflatten(-1, (2, GRID, GRID))


def flow_of_latents(
    latents: Tensor, centre: Tensor, size: tuple[int, int] = (GRID, GRID), scale: float = 1.0
) -> Tensor:
    """Backward flow of every frame, at any resolution.

    Args:
        latents: `[B, F, D]`; centre: of the reference's alpha, `[B, 2]`.
        size: grid (h, w) of the flow; the affine part is exact on it, the residual enlarged.
        scale: how much further than the latents say things move.

    Returns:
        p − q in normalised coordinates, `[B, F, 2, h, w]`.
    """
    affine, residual = unpack(latents.float())
    parameters = affine_of_latents(affine) * scale
    field = _residual_of_latents(residual) * scale
    if size != (GRID, GRID):
        field = F.interpolate(field.flatten(0, 1), size=size, mode="bicubic", align_corners=False)
        field = field.unflatten(0, latents.shape[:2])
    return backward_flow(parameters, centre[:, None].expand(*latents.shape[:2], 2), *size) + field


def motion_noise(white: Tensor, anchor: Tensor) -> Tensor:
    """White noise `[B, F, D]` → noise with the spectrum of motion, of spread 1.

    Outwards from the reference each frame's noise resembles that of the frame before it; the
    residual is as smooth in space as motion is.

    Args:
        anchor: index of the reference frame, int64 `[B]`.
    """
    affine, residual = unpack(white)
    basis, spread = cosines(GRID).to(white), _spectrum(GRID).to(white)
    residual = basis.T @ (spread * residual) @ basis
    packed = pack(_follow(affine, anchor, _LIKENESS_AFFINE), _follow(residual, anchor, _LIKENESS))
    return packed


def _follow(noise: Tensor, anchor: Tensor, likeness: float) -> Tensor:
    """AR(1) outwards from the anchor on both sides, variance kept: `[B, F, ...]`."""
    frames = list(noise.unbind(1))
    fresh = math.sqrt(1 - likeness**2)
    after, before = [frames[0]], [frames[-1]]
    for frame in frames[1:]:
        after.append(likeness * after[-1] + fresh * frame)
    for frame in frames[-2::-1]:
        before.append(likeness * before[-1] + fresh * frame)
    index = torch.arange(noise.shape[1], device=noise.device)
    is_after = (index >= anchor[:, None]).view(*noise.shape[:2], *[1] * (noise.ndim - 2))
    return torch.where(is_after, torch.stack(after, 1), torch.stack(before[::-1], 1))


@functools.cache
def cosines(size: int) -> Tensor:
    """Orthonormal cosine basis, `[size, size]`, lowest frequency first."""
    index = torch.arange(size)
    basis = torch.cos(math.pi * index[:, None] * (index + 0.5) / size) * (2 / size) ** 0.5
    basis[0] /= 2**0.5
    return basis


@functools.cache
def _spectrum(size: int) -> Tensor:
    """Spread of each cosine's share, `[size, size]`."""
    index = torch.arange(size)
    spread = 1 / (1 + (index[:, None] ** 2 + index**2) / _BEND**2)
    return spread / spread.square().mean().sqrt()


def alpha_box(alpha: Tensor) -> Tensor:
    """Centre and box of what is there: alpha `[N, H, W]` in [0, 1] → `[N, 6]`.

    (centre x, centre y, left, top, right, bottom) in [−1, 1]; the whole canvas if it is empty.
    """
    height, width = alpha.shape[-2:]
    xs = (torch.arange(width, device=alpha.device, dtype=alpha.dtype) + 0.5) * 2 / width - 1
    ys = (torch.arange(height, device=alpha.device, dtype=alpha.dtype) + 0.5) * 2 / height - 1
    mass = alpha.sum((-1, -2))
    exists = mass > 1e-3
    columns, rows = alpha.sum(-2), alpha.sum(-1)
    centre_x = torch.where(exists, columns @ xs / mass.clamp(min=1e-6), 0.0)
    centre_y = torch.where(exists, rows @ ys / mass.clamp(min=1e-6), 0.0)

    def edges(present: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        low = torch.where(present, places, torch.inf).amin(-1)
        high = torch.where(present, places, -torch.inf).amax(-1)
        return torch.where(exists, low, -1.0), torch.where(exists, high, 1.0)

    left, right = edges(alpha.amax(-2) > 0.1, xs)
    top, bottom = edges(alpha.amax(-1) > 0.1, ys)
    box = torch.stack([centre_x, centre_y, left, top, right, bottom], dim=-1)
    return torch.where(box.isfinite(), box, 0.0)


# -------------------------------------------------------------- motion of known frames


def backward_warp(pictures: Tensor, flow: Tensor) -> Tensor:
    """Backward warp of pictures; nothing lies outside the canvas.

    Args:
        pictures: premultiplied in [−1, 1], `[N, 4, H, W]`; flow: p − q in normalised coordinates,
            `[N, 2, h, w]`.

    Returns:
        `[N, 4, h, w]`.
    """
    height, width = flow.shape[-2:]
    places = (flow + grid_positions(height, width, flow)).permute(0, 2, 3, 1)
    return F.grid_sample(pictures + 1, places, align_corners=False) - 1


@torch.no_grad()
def matched_flow(frames: Tensor, references: Tensor) -> Tensor:
    """Backward flow of each frame from its reference, found by matching.

    Args:
        frames, references: premultiplied in [−1, 1], `[N, 4, S, S]`.

    Returns:
        `[N, 2, 16, 16]` in normalised coordinates.
    """
    pictures = torch.stack([frames, references], dim=1)
    pool = pictures.shape[-1] // _MATCHING_SIDE
    if pool > 1:
        pictures = F.avg_pool2d(pictures.flatten(0, 1), pool).unflatten(0, (len(frames), 2))
    offsets = pictures.new_tensor([[0.0, 1.0]]).expand(len(frames), 2)
    flow, _ = match(pictures, offsets, _MATCHING_SIDE, EXACT)
    return F.adaptive_avg_pool2d(flow[:, 1], GRID)


def split_flow(
    flow: Tensor, alpha: Tensor, reference: Tensor, centre: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A matched flow as affine motion and residual.

    Args:
        flow: `[N, F, 2, 16, 16]`; alpha: of the frames on that grid, `[N, F, 16, 16]` in [0, 1];
        reference: premultiplied in [−1, 1], `[N, 4, S, S]`; centre: of its alpha, `[N, 2]`.

    Returns:
        (affine parameters `[N, F, 6]`; residual flow `[N, F, 2, 16, 16]`, zero where neither the
        frame nor the moved reference holds anything; how much each cell holds `[N, F, 16, 16]`).
    """
    middle = centre[:, None].expand(*alpha.shape[:2], 2)
    affine = fit(flow, alpha, middle)
    field = backward_flow(affine, middle, GRID, GRID)
    small = F.adaptive_avg_pool2d(reference, 2 * GRID)
    repeated = small[:, None].expand(-1, alpha.shape[1], -1, -1, -1).flatten(0, 1)
    moved = (backward_warp(repeated, field.flatten(0, 1))[:, 3] + 1).view_as(alpha) / 2
    near = F.max_pool2d(torch.maximum(alpha, moved), 3, stride=1, padding=1).clamp(0, 1)
    residual = (flow - field) * (near * 4).clamp(max=1)[:, :, None]
    return affine, residual, near
