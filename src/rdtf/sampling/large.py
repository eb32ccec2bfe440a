"""Frames above the model's canvas, made of the given frames' own pixels; and pixel art.

The model says where pixels come from (`rdtf.models.warp.Composition`), and that holds at any
resolution: a 512-pixel still is animated with its 512-pixel lines. What the model draws itself is
enlarged, and stays as soft as the canvas makes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from rdtf.models.warp import TRANSPARENT, Composition
from rdtf.sampling.moving import to_frames, to_pixels
from rdtf.sampling.requests import ClipRequest
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
        own = max(*request.frames.shape[1:3], canvas)
        side = own if output_size == "input" else int(output_size)
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
            composition: how the model put it together; one row, of any device and floating type.
            small_references: the same two frames on the canvas, straight RGBA `[2, S, S, 4]`.
            made: the finished frame on the canvas, `[1, S, S, 4]`. Where guidance made it another
                than what the composition says, that is added.
        """
        composed = _composed_large(
            composition,
            *(to_pixels(frames) for frames in (self.frames[references], small_references, made)),
        )
        self.frames[slot] = to_frames(composed[None])[0]

    def finished(self, request: ClipRequest, output_size: str | int) -> np.ndarray:
        """The frames at the output's size; given ones as they came in, if that is theirs."""
        if output_size == "input":
            return request.at_own_size(self.frames)
        return self.frames


def _composed_large(
    composition: Composition, references: Tensor, small_references: Tensor, made: Tensor
) -> Tensor:
    """One frame, float32 `[4, H, W]`, composed of large references on the composition's device.

    Args:
        references, small_references: `[2, 4, H, W]` and `[2, 4, S, S]`, premultiplied in [-1, 1].
        made: `[1, 4, S, S]`.
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
    return (large + torch.where(guided.abs() > 2 / 255, guided, 0.0))[0]


# ------------------------------------------------------------------------ pixel art

_MOST_COLOURS = 64
_LARGEST_PLAIN_SIDE = 128  # pixels; larger pictures are pixel art only if they are in blocks
_WORKING_SIDE = 256  # pixels; small art is enlarged to it while it is made
_TOLERANCE = 24  # in RGB, of a colour that is one of the given ones


@dataclass(frozen=True)
class PixelArt:
    """The colours that pixel art is made of: straight RGBA uint8 `[N, 4]`, transparent included."""

    colours: np.ndarray

    @classmethod
    def of(cls, request: ClipRequest) -> PixelArt | None:
        """None unless the given frames have few colours, no partial alpha, and are small or made of
        blocks."""
        values = np.zeros(1, np.uint32)
        for frame in request.frames[request.known]:
            is_small = max(frame.shape[:2]) <= _LARGEST_PLAIN_SIDE
            if not np.isin(frame[..., 3], (0, 255)).all() or not (is_small or _has_blocks(frame)):
                return None
            values = np.union1d(values, _packed(frame))
            if len(values) > _MOST_COLOURS:
                return None
        return cls(_unpacked(values)) if request.known.any() else None

    def enlarged(self, request: ClipRequest) -> ClipRequest:
        """The request at 256 pixels or more, by whole pixels."""
        factor = math.ceil(_WORKING_SIDE / max(request.frames.shape[1:3]))
        frames = request.frames.repeat(factor, axis=1).repeat(factor, axis=2)
        return replace(request, frames=frames)

    def restored(self, frames: np.ndarray, request: ClipRequest) -> np.ndarray:
        """Frames made of the enlarged request, at the size of `request`; given ones as they came.

        A pixel takes the colour that most of the enlarged ones have.
        """
        height, width = request.frames.shape[1:3]
        factor, count = frames.shape[1] // height, len(self.colours)
        cells = np.arange(height * width).reshape(height, 1, width, 1)
        made = request.frames.copy()
        for index in np.flatnonzero(~request.known):
            colours = self._indices(frames[index]).reshape(height, factor, width, factor)
            votes = np.bincount((cells * count + colours).ravel(), minlength=cells.size * count)
            made[index] = self.colours[votes.reshape(height, width, count).argmax(axis=-1)]
        return made

    def _indices(self, frame: np.ndarray) -> np.ndarray:
        """Which colour each pixel has, `[H, W]`; mixed ones have their neighbours'."""
        values, where = np.unique(_packed(frame), return_inverse=True)
        seen, own = (_unpacked(v).astype(int) for v in (values, _packed(self.colours)))
        seen[:, 3] = np.where(seen[:, 3] < 128, 0, 255)
        seen[seen[:, 3] == 0] = 0
        distances = np.square(seen[:, None] - own[None]).sum(axis=-1)
        nearest, is_mixed = distances.argmin(axis=1), distances.min(axis=1) > _TOLERANCE**2
        nearest, is_mixed = (x[where].reshape(frame.shape[:2]) for x in (nearest, is_mixed))
        if is_mixed.all():
            return nearest
        where: Any = distance_transform_edt(is_mixed, return_distances=False, return_indices=True)
        return nearest[tuple(where)]


def _packed(frames: np.ndarray) -> np.ndarray:
    """One uint32 per pixel; colours of transparent pixels mean nothing."""
    frames = np.where(frames[..., 3:] > 0, frames, 0).astype(np.uint8)
    return np.ascontiguousarray(frames).view(np.uint32)[..., 0]


def _unpacked(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint8).reshape(-1, 4)


def _has_blocks(frame: np.ndarray) -> bool:
    """Whether all edges lie on a grid of 2 pixels or more."""
    packed = _packed(frame)
    edges = [
        np.flatnonzero((np.diff(packed, axis=axis) != 0).any(axis=1 - axis)) + 1 for axis in (0, 1)
    ]
    return math.gcd(*packed.shape, *np.concatenate(edges).tolist()) > 1
