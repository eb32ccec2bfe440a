"""Motion as latents: an affine part for the whole thing and a residual field (beyond the paper).

Every frame of a clip is described relative to one reference frame. Its latents are the six affine
parameters (`models/affine.py`) and what a dense flow has besides them, on a coarse grid:

    p = q + affine(q) + residual(q)      q: place in the frame, p: where it comes from

Both are stored in units in which real motion spreads by about 1: logarithms of shifts and flows, so
that creeping and leaping clips lie on one scale.

A clip's latents are one tensor `[B, F, D]`, D = 6 + 2·16·16: schedulers treat it like any other.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rdtf.models.affine import NUM_PARAMETERS, backward_flow

GRID = 16  # cells a side of the residual field
LATENT_DIM = NUM_PARAMETERS + 2 * GRID * GRID
_PER_HALF = 64.0  # pixels of a canvas of 128 in a half of the canvas
_SHIFT_UNIT, _RESIDUAL_UNIT = 2 / 2.4, 2 / 1.2
_LINEAR_GAIN, _LINEAR_UNIT = 5.0, 1.3
_BEND = 1.3  # half waves per canvas at which the spectrum of motion bends (docs/LOG.md)
_LIKENESS, _LIKENESS_AFFINE = 0.65, 0.8  # of neighbouring frames' noise


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
    """Flow in halves of the canvas → latents, any shape."""
    return _log(residual) * _RESIDUAL_UNIT


def residual_of_latents(latents: Tensor) -> Tensor:
    """Latents → flow in halves of the canvas, any shape."""
    return _exp((latents / _RESIDUAL_UNIT).clamp(-5, 5))


def _log(flow: Tensor) -> Tensor:
    return flow.sign() * (flow.abs() * _PER_HALF).log1p()


def _exp(motion: Tensor) -> Tensor:
    return motion.sign() * motion.abs().expm1() / _PER_HALF


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
        p − q in halves of the canvas, `[B, F, 2, h, w]`.
    """
    affine, residual = unpack(latents.float())
    parameters = affine_of_latents(affine) * scale
    field = residual_of_latents(residual) * scale
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
    basis, spread = _cosines(GRID).to(white), _spectrum(GRID).to(white)
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
def _cosines(size: int) -> Tensor:
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
