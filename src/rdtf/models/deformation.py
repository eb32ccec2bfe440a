"""Smooth deformations of the motion grammar, as flow on top of the affine part."""

from __future__ import annotations

import torch
from torch import Tensor

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
