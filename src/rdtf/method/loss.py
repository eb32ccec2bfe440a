"""The loss: squared error of the frames that are to be made, over the count of their elements.

Between ranks and micro-batches sums are added and divided by the global count, so a clip of two
frames and one of sixteen weigh by their frames, and padding weighs nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rdtf.method.dual_mask import extrapolated_frames, gather_references, reference_frames

# A motion latent's error counts relative to how much the clip moves, plus this: what flies across
# the canvas would outweigh all else.
_MOTION_FLOOR = 1.0


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


@torch.no_grad()
def blend_error(clean: Tensor, given: Tensor, valid: Tensor) -> Tensor:
    """Mean squared error per clip `[B]` of blending the given frames: how much there is to do.

    A clip of which nothing is given counts like one whose blend is all wrong.

    Args:
        clean: `[B, C, F, h, w]`; given, valid: bool `[B, F]`.
    """
    indices, distances = reference_frames(given)
    share = (1 / distances.clamp(min=0.25)).nan_to_num(0.0)
    share = share / share.sum(dim=2, keepdim=True).clamp(min=1e-6)
    references = gather_references(clean, indices)
    blend = (references * share[..., None, None, None]).sum(dim=2).transpose(1, 2)
    errors, counts = masked_error_sum(blend, clean, frame_weights(valid, given))
    return errors / counts.clamp(min=1)


def motion_errors(
    prediction: Tensor, target: Tensor, given: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Errors of motion latents, which extrapolated frames have.

    Args:
        prediction, target: `[B, M, F, h, w]`; given, valid: bool `[B, F]`.

    Returns:
        (error sum relative to how much the clip moves, error sum, element count), each `[B]`.
    """
    extrapolated = (extrapolated_frames(given) & valid).float()
    wrong, count = masked_error_sum(prediction, target, extrapolated)
    size, _ = masked_error_sum(torch.zeros_like(target), target, extrapolated)
    return wrong / (size / count.clamp(min=1) + _MOTION_FLOOR), wrong, count
