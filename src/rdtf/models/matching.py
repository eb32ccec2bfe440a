"""Find how things moved between two given frames, without any weights (not in the paper).

Block matching as seen from the frame to make: under the assumption of even motion a point that is
at p then was at p + o₀·u in the first reference and is at p + o₁·u in the second, where o are their
offsets in time and u is the motion. Coarse to fine, for each place the u is taken under which both
references look alike around it. A sticker's flat shapes with sharp lines are kind to such matching,
and the network need not learn from examples what a difference of pixels tells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_COARSEST_SIDE = 8  # cells; the search starts with at most so many
_COARSE_RADIUS, _FINE_RADIUS = 3, 1  # cells
# Differences are of pixels in [-1, 1], averaged over a window of so many cells.
_WINDOW, _SMOOTHING = 7, 5


# A motion is chosen by weights exp(−sharpness · (difference + penalty · cells moved)): the two
# numbers. What is alike either way stays where it is.
_CAUTIOUS = 30.0, 0.06
# To find what moved between a picture and itself is to find nothing, up to .02 pixels; and true
# motions are found more exactly (docs/LOG.md).
EXACT = 400.0, 0.01


@torch.no_grad()
def match(
    references: Tensor, offsets: Tensor, finest_side: int, prior: tuple[float, float] = _CAUTIOUS
) -> tuple[Tensor, Tensor]:
    """Where to look in each reference, and how well the two agree there.

    Args:
        references: the two references of each frame, `[N, 2, c, H, W]` in [-1, 1].
        offsets: of the references from the frame in time, signed, `[N, 2]`. If both are equal there
            is no motion to find.
        finest_side: cells along the side of the last search.
        prior: sharpness and penalty: how sure to be of what looks best, and what moving costs.

    Returns:
        (flow `[N, 2, 2, h, w]` (x, y) in normalised coordinates, disagreement `[N, 1, h, w]` ≥ 0).
    """
    shares = _shares(offsets)[:, :, None, None, None]
    motion = references.new_zeros(len(references), 2, 1, 1)
    disagreement = motion[:, :1]
    levels = _pyramid(references, finest_side)
    if references.is_meta:  # only the shape is asked for, and the search is a thousand operations
        shape = (len(references), 2, *levels[-1].shape[-2:])
        return motion.new_empty(shape)[:, None] * shares, motion.new_empty(shape)[:, :1]
    for level, pair in enumerate(levels):
        motion = F.interpolate(motion, size=pair.shape[-2:], mode="bilinear")
        shifts = _shifts(_COARSE_RADIUS if level == 0 else _FINE_RADIUS, motion)
        steps = _normalised(shifts, *pair.shape[-2:])
        differences = [_difference(pair, shares, motion + step[:, None, None]) for step in steps]
        costs = _local_mean(torch.stack(differences, dim=1), _WINDOW)
        penalty = prior[1] * shifts.norm(dim=1)
        likely = ((costs + penalty[:, None, None]) * -prior[0]).softmax(dim=1)
        along = [(likely * steps[:, axis, None, None]).sum(dim=1) for axis in (0, 1)]
        step = torch.stack(along, dim=1)
        motion = _local_mean(motion + step, _SMOOTHING)
        disagreement = (likely * costs).sum(dim=1, keepdim=True)
    return motion[:, None] * shares, disagreement


def grid_positions(height: int, width: int, like: Tensor) -> Tensor:
    """Positions (x, y) of cell centres in [−1, 1], `[2, h, w]`."""
    ys = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * 2 / height - 1
    xs = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * 2 / width - 1
    grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
    return torch.stack([grid_x, grid_y])


def warp(references: Tensor, flow: Tensor, outside: float | Tensor | None = None) -> Tensor:
    """Backward warp: references `[..., c, H, W]`, flow `[..., 2, h, w]` → `[..., c, H, W]`.

    Args:
        flow: (x, y) in normalised coordinates, so that it fits any resolution.
        outside: value beyond the canvas; None = that of the nearest border pixel.
    """
    height, width = references.shape[-2:]
    flat = flow.reshape(-1, *flow.shape[-3:])
    if flat.shape[-2:] != (height, width):
        flat = F.interpolate(flat, size=(height, width), mode="bilinear")
    places = grid_positions(height, width, flat.float()).to(flat.dtype)
    grid = (places + flat).permute(0, 2, 3, 1)
    shifted = references if outside is None else references - outside
    padding = "border" if outside is None else "zeros"
    images = shifted.reshape(-1, *references.shape[-3:])
    warped = F.grid_sample(images, grid, padding_mode=padding, align_corners=False)
    warped = warped.reshape(references.shape)
    return warped if outside is None else warped + outside


def _shares(offsets: Tensor) -> Tensor:
    """What part of the motion from one reference to the other lies at each, signed, `[N, 2]`.

    Zero where both are the same frame.
    """
    gap = (offsets[:, 1:] - offsets[:, :1]).abs()
    return torch.where(gap > 0, offsets / gap.clamp(min=1.0), 0.0)


def _pyramid(references: Tensor, finest_side: int) -> list[Tensor]:
    """The references reduced to `finest_side`, and halved until they are small; smallest first."""
    images = references.flatten(0, 1)
    pool = max(images.shape[-1] // finest_side, 1)
    levels = [F.avg_pool2d(images, pool)]
    while min(levels[-1].shape[-2:]) > _COARSEST_SIDE:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return [level.unflatten(0, references.shape[:2]) for level in reversed(levels)]


def _shifts(radius: int, like: Tensor) -> Tensor:
    """All shifts (x, y) of up to `radius` cells each way, `[K, 2]`."""
    line = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    ys, xs = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([xs, ys], dim=-1).reshape(-1, 2)


def _normalised(shifts: Tensor, height: int, width: int) -> Tensor:
    """Shifts in cells of a grid → in normalised coordinates, `[K, 2]`."""
    return torch.stack([shifts[:, 0] * (2 / width), shifts[:, 1] * (2 / height)], dim=1)


def _difference(pair: Tensor, shares: Tensor, motion: Tensor) -> Tensor:
    """How unlike the two references are under a motion, `[N, h, w]`."""
    moved = warp(pair, motion[:, None] * shares)
    return (moved[:, 0] - moved[:, 1]).abs_().mean(dim=1)


def _local_mean(x: Tensor, window: int) -> Tensor:
    padded = F.pad(x, [window // 2] * 4, mode="replicate")
    return F.avg_pool2d(padded, window, stride=1)
