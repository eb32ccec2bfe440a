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

from rdtf.models.affine import NUM_PARAMETERS, backward_flow, fit, grid_positions
from rdtf.models.matching import EXACT, match

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


def residual_of_latents(latents: Tensor) -> Tensor:
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
    """Pictures looked at elsewhere; nothing lies beyond the canvas.

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
