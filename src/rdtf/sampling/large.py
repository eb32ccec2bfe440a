"""Frames above the model's canvas, made of the given frames' own pixels.

The model says where pixels come from (`rdtf.models.warp.Composition`), and that holds at any
resolution: a 512-pixel still is animated with its 512-pixel lines. What the model draws itself is
enlarged, and stays as soft as the canvas makes it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rdtf.models.warp import TRANSPARENT, Composition
from rdtf.sampling.requests import ClipRequest, at_request_size
from rdtf.stickers import Sticker


class LargeFrames:
    """The clip on a square canvas of `side` pixels, straight RGBA uint8 `[F, side, side, 4]`."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames
        self.side = frames.shape[1]

    @classmethod
    def of(cls, request: ClipRequest, output_size: str | int, canvas: int) -> LargeFrames | None:
        """The request's frames at the output's size, or None where that is the model's canvas."""
        if output_size == "canvas":
            return None
        if output_size == "input":
            side = max(*request.frames.shape[1:3], canvas)
        else:
            side = int(output_size)
        fitted = Sticker(request.frames, request.durations_ms).fit_canvas(side)
        return cls(fitted.frames.copy())

    def enlarge(self, slots: np.ndarray, made: np.ndarray) -> None:
        """Set frames to made ones `[n, canvas, canvas, 4]`, enlarged."""
        sticker = Sticker(made, np.ones(len(made), dtype=np.int64))
        self.frames[slots] = sticker.fit_canvas(self.side).frames

    def compose(
        self,
        slot: int,
        references: np.ndarray,
        composition: Composition,
        small_references: np.ndarray,
        made: np.ndarray,
    ) -> None:
        """Set one frame.

        Args:
            references: the slots of its two reference frames, int `[2]`.
            composition: how the model put it together.
            small_references: the same two frames on the canvas, straight RGBA `[2, S, S, 4]`.
            made: the finished frame on the canvas, `[1, S, S, 4]`. Where guidance made it another
                than what the composition says, that is added.
        """
        large = composed_large(
            composition, _pixels(self.frames[references]), _pixels(small_references), _pixels(made)
        )
        pixels = (large.permute(1, 2, 0).clamp(-1, 1) + 1) / 2
        sticker = Sticker.from_premultiplied(pixels.cpu().numpy()[None], np.ones(1, dtype=np.int64))
        self.frames[slot] = sticker.frames[0]

    def finished(self, request: ClipRequest, output_size: str | int) -> np.ndarray:
        """The frames at the output's size; given ones as they came in, if that is theirs."""
        if output_size == "input":
            return at_request_size(self.frames, request)
        return self.frames


def composed_large(
    composition: Composition, references: Tensor, small_references: Tensor, made: Tensor
) -> Tensor:
    """One frame, composed of large references where the composition lies (a GPU, or not).

    Args:
        composition: one row, on any device and of any floating type.
        references, small_references: `[2, 4, H, W]` and `[2, 4, S, S]`, premultiplied in [-1, 1].
        made: the finished frame on the canvas, `[1, 4, S, S]`.

    Returns:
        float32 `[4, H, W]` on the composition's device.
    """
    composition = composition.in_float32()
    device = composition.flow.device
    references, small_references, made = (
        pixels.to(device) for pixels in (references, small_references, made)
    )
    small = composition.apply(small_references[None], TRANSPARENT)
    large = composition.apply(references[None], TRANSPARENT)
    guided = F.interpolate(made - small, size=large.shape[-2:], mode="bilinear")
    # Eight bits of the finished frame are no guidance.
    large = large + torch.where(guided.abs() > 2 / 255, guided, 0.0)
    return large[0]


def _pixels(frames: np.ndarray) -> Tensor:
    """Straight RGBA uint8 `[n, H, W, 4]` → premultiplied in [-1, 1], `[n, 4, H, W]`."""
    sticker = Sticker(frames, np.ones(len(frames), dtype=np.int64))
    return torch.from_numpy(sticker.premultiplied() * 2 - 1).permute(0, 3, 1, 2)
