"""Motion latents of known frames: matching, the affine part that fits it, and what is left."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rdtf.models.affine import backward_flow, fit, grid_positions
from rdtf.models.matching import EXACT, match
from rdtf.models.motion_latents import GRID

_MATCHING_SIDE = 64  # cells of the finest search


def look(pictures: Tensor, flow: Tensor) -> Tensor:
    """Pictures looked at elsewhere; nothing lies beyond the canvas.

    Args:
        pictures: premultiplied in [−1, 1], `[N, 4, H, W]`; flow: p − q in halves of the canvas,
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
        `[N, 2, 16, 16]` in halves of the canvas.
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
    moved = (look(repeated, field.flatten(0, 1))[:, 3] + 1).view_as(alpha) / 2
    near = F.max_pool2d(torch.maximum(alpha, moved), 3, stride=1, padding=1).clamp(0, 1)
    residual = (flow - field) * (near * 4).clamp(max=1)[:, :, None]
    return affine, residual, near
