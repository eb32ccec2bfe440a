"""The dual mask: what is given (condition mask) and what counts (loss mask).

For a clip padded to F slots, `valid ∈ {0,1}^F` marks the frames that exist and `given ∈ {0,1}^F`,
`given ≤ valid`, those that are shown to the model. The network receives the noisy latents, the
clean latents × given, and the mask itself as a channel: a hidden frame and a frame whose latents
are zero stay different things.
"""

from __future__ import annotations

import torch
from torch import Tensor

NUM_REFERENCES = 2


def denoiser_input(noisy: Tensor, clean: Tensor, given: Tensor) -> Tensor:
    """Channels that the denoiser sees.

    Args:
        noisy: latents at the current timestep, `[B, C, F, h, w]`.
        clean: clean latents, same shape; only given frames are read.
        given: condition mask, bool or float `[B, F]`.

    Returns:
        `[B, 2C + 1, F, h, w]`: noisy, clean × given, and the mask as a constant plane per frame.
    """
    mask = given.to(noisy.dtype)[:, None, :, None, None]
    plane = mask.expand(-1, 1, -1, *noisy.shape[-2:])
    return torch.cat([noisy, torch.where(mask > 0, clean, 0.0), plane], dim=1)


def reference_frames(given: Tensor) -> tuple[Tensor, Tensor]:
    """For each frame the two given frames to look at: nearest before, nearest after.

    Where one side has none (prediction), the second nearest of the other side steps in, and where
    a single frame is given, it serves twice.

    Args:
        given: condition mask, bool `[B, F]`.

    Returns:
        (indices int64 `[B, F, 2]`, distances in frames float `[B, F, 2]`, infinite where a clip has
        no given frame at all).
    """
    frames = given.shape[1]
    index = torch.arange(frames, device=given.device)
    offset = (index[None, :] - index[:, None]).float()  # [f, k] = k − f
    distance = offset.abs().expand(len(given), -1, -1)
    distance = distance.masked_fill(~given[:, None, :], torch.inf)

    before = distance.masked_fill(offset > 0, torch.inf)
    after = distance.masked_fill(offset <= 0, torch.inf)
    before_distance, before_index = before.min(dim=2)
    after_distance, after_index = after.min(dim=2)

    count = min(NUM_REFERENCES, frames)
    nearest_distance, nearest_index = distance.topk(count, dim=2, largest=False)
    second_index, second_distance = nearest_index[..., -1], nearest_distance[..., -1]
    alone = second_distance.isinf()
    second_index = torch.where(alone, nearest_index[..., 0], second_index)
    second_distance = torch.where(alone, nearest_distance[..., 0], second_distance)

    both = before_distance.isfinite() & after_distance.isfinite()
    first_index = torch.where(both, before_index, nearest_index[..., 0])
    first_distance = torch.where(both, before_distance, nearest_distance[..., 0])
    second_index = torch.where(both, after_index, second_index)
    second_distance = torch.where(both, after_distance, second_distance)
    return (
        torch.stack([first_index, second_index], dim=-1),
        torch.stack([first_distance, second_distance], dim=-1),
    )


def gather_references(clean: Tensor, indices: Tensor) -> Tensor:
    """Latents of the reference frames: `[B, C, F, h, w]`, `[B, F, 2]` → `[B, F, 2, C, h, w]`."""
    batch = torch.arange(len(clean), device=clean.device)[:, None, None]
    return clean.transpose(1, 2)[batch, indices]


def extrapolated_frames(given: Tensor) -> Tensor:
    """Frames that have given ones on one side only, bool `[B, F]` → bool `[B, F]`."""
    before = given.cumsum(dim=1) > 0
    after = given.flip(1).cumsum(dim=1).flip(1) > 0
    return before ^ after
