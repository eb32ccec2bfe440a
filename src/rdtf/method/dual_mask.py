"""The dual mask: what is given (condition mask) and what counts (loss mask).

For a clip padded to F slots, `valid ∈ {0,1}^F` marks the frames that exist and `given ∈ {0,1}^F`,
`given ≤ valid`, those that are shown to the model. The network receives the noisy latents, the
clean latents × given, and the mask itself as a channel: a hidden frame and a frame whose latents
are zero stay different things.
"""

from __future__ import annotations

import torch
from torch import Tensor


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


def frame_weights(valid: Tensor, given: Tensor, given_frame_weight: float = 0.0) -> Tensor:
    """Loss mask `float [B, F]`: 1 on valid hidden frames, `given_frame_weight` on given ones."""
    hidden = valid & ~given
    return hidden.float() + given_frame_weight * (valid & given).float()


def masked_error_sum(
    prediction: Tensor, target: Tensor, weights: Tensor, sample_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weighted squared error summed over the elements that count, and their number.

    The caller divides by the count over *all* ranks and micro-batches, so a clip of two frames and
    one of sixteen weigh by their frames, and padding weighs nothing.

    Args:
        prediction: `[B, C, F, h, w]`.
        target: same shape.
        weights: loss mask from `frame_weights`, `[B, F]`.
        sample_weight: optional `[B]`, for example a weight by noise level.

    Returns:
        (error sum per sample `[B]`, count of weighted elements per sample `[B]`), both float32.
    """
    # where() before the square: NaN in a padded slot must reach neither the sum nor its gradient.
    counts = (weights > 0)[:, None, :, None, None]
    difference = torch.where(counts, prediction.float() - target.float(), 0.0)
    per_sample = (difference.square().sum(dim=(1, 3, 4)) * weights).sum(dim=1)
    if sample_weight is not None:
        per_sample = per_sample * sample_weight
    elements_per_frame = prediction.shape[1] * prediction.shape[3] * prediction.shape[4]
    return per_sample, weights.sum(dim=1) * elements_per_frame
