"""Between ComfyUI's tensors and stickers. Pure functions; nothing of ComfyUI's is imported.

ComfyUI: IMAGE is float [B, H, W, C] in [0, 1], the frames of a clip being its batch; MASK is float
[B, H, W] with 1 where the picture is *transparent*. Pictures without transparency come with a mask
of zeros that may have another size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rdtf.errors import UserError
from rdtf.stickers import Sticker

AlphaKind = Literal["straight", "premultiplied"]
ALPHA_KINDS: tuple[AlphaKind, ...] = ("straight", "premultiplied")


def sticker_from_tensors(
    image: Tensor,
    mask: Tensor | None,
    durations_ms: Sequence[int] | int,
    alpha: AlphaKind = "straight",
) -> Sticker:
    """Frames and their transparency as one sticker.

    Args:
        image: float `[B, H, W, 3]`, or `[B, H, W, 4]` whose fourth channel counts if there is no
            mask.
        mask: float `[B, h, w]` or `[1, h, w]` for all frames, 1 = transparent, enlarged to the
            picture if it has another size; None = opaque.
        durations_ms: one for each frame, or one for all.
        alpha: "straight" = the colours are those of the drawing (what Load Image gives);
            "premultiplied" = they were multiplied with the opacity (a picture on black).

    Raises:
        UserError: shapes that don't fit, or values that are not finite.
    """
    if image.ndim != 4 or image.shape[-1] not in (3, 4) or 0 in image.shape:
        raise UserError(f"image must be [B, H, W, 3 or 4], got {list(image.shape)}")
    pixels = image.detach().float().cpu()
    opacity = _opacity(pixels, mask)
    pixels = torch.cat([pixels[..., :3], opacity[..., None]], dim=-1)
    if not torch.isfinite(pixels).all():
        raise UserError("image or mask holds values that are not finite")
    if not isinstance(durations_ms, int) and len(durations_ms) != len(pixels):
        raise UserError(
            f"{len(pixels)} frames came with {len(durations_ms)} durations; connect the durations "
            "that belong to them"
        )
    durations = np.broadcast_to(np.asarray(durations_ms, dtype=np.int64), (len(pixels),)).copy()
    if alpha == "premultiplied":
        return Sticker.from_premultiplied(pixels.numpy(), durations)
    frames = (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
    return Sticker(frames.numpy(), durations)


def tensors_from_sticker(sticker: Sticker, alpha: AlphaKind = "straight") -> tuple[Tensor, Tensor]:
    """(image `[B, H, W, 3]`, mask `[B, H, W]` with 1 = transparent), float32 in [0, 1]."""
    if alpha == "premultiplied":
        pixels = torch.from_numpy(sticker.premultiplied())
    else:
        pixels = torch.from_numpy(sticker.frames).float() / 255
    return pixels[..., :3].contiguous(), 1 - pixels[..., 3]


def positions_from_text(text: str) -> list[int]:
    """Frame numbers from 0 with commas between, "0, 3, 7" -> [0, 3, 7].

    Raises:
        UserError: anything else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(
            f"positions must be frame numbers with commas between, like 0,3,7; got {text!r}"
        ) from error


def _opacity(pixels: Tensor, mask: Tensor | None) -> Tensor:
    """Opacity `[B, H, W]` in [0, 1] of `pixels` `[B, H, W, C]`."""
    frames, height, width, channels = pixels.shape
    if mask is None:
        return pixels[..., 3] if channels == 4 else torch.ones(frames, height, width)
    mask = mask.detach().float().cpu()
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3 or 0 in mask.shape or len(mask) not in (1, frames):
        raise UserError(
            f"mask must be [{frames}, H, W] or [1, H, W] for {frames} frames, "
            f"got {list(mask.shape)}"
        )
    if mask.shape[1:] != (height, width):
        mask = torch.nn.functional.interpolate(mask[:, None], (height, width), mode="bilinear")[
            :, 0
        ]
    return (1 - mask).clamp(0, 1).expand(frames, height, width)
