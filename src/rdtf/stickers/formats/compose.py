"""From partial pictures to whole frames and back: how GIF, APNG and WebP store animation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rdtf.stickers.canvas import composite_over

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Region:
    """One stored picture: where it goes, how it is drawn, and what is left of it afterwards.

    Attributes:
        pixels: uint8 [h, w, 4], straight RGBA; what reaches beyond the canvas is cut off.
        left, top: position on the canvas.
        blend: "source" replaces what is there, "over" draws on it.
        dispose: before the next frame "keep" the canvas, "clear" the region to transparent, or
            "restore" what was there.
    """

    pixels: np.ndarray
    left: int
    top: int
    blend: Literal["source", "over"]
    dispose: Literal["keep", "clear", "restore"]


def compose(regions: Iterable[Region], num_frames: int, width: int, height: int) -> np.ndarray:
    """Play `num_frames` regions on a transparent canvas: uint8 [F, height, width, 4]."""
    frames = np.zeros((num_frames, height, width, 4), np.uint8)
    canvas = np.zeros((height, width, 4), np.uint8)
    for frame, region in zip(frames, regions, strict=True):
        rows, columns = region.pixels.shape[:2]
        part = canvas[region.top : region.top + rows, region.left : region.left + columns]
        before = part.copy() if region.dispose == "restore" else None
        _draw(region.pixels[: part.shape[0], : part.shape[1]], region.blend, part)
        frame[:] = canvas
        if region.dispose != "keep":
            part[:] = 0 if before is None else before
    return frames


def _draw(pixels: np.ndarray, blend: str, part: np.ndarray) -> None:
    if blend == "source":
        part[:] = pixels
        return
    alpha = pixels[..., 3]
    opaque, partial = alpha == 255, (alpha > 0) & (alpha < 255)
    part[opaque] = pixels[opaque]
    if partial.any():
        part[partial] = composite_over(pixels[partial], part[partial])


def bounding_box(mask: np.ndarray) -> Box | None:
    """The smallest box that holds every true value of a bool [h, w]; None if there is none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def changed_box(previous: np.ndarray, frame: np.ndarray) -> Box | None:
    """The box in which two uint8 [h, w, 4] differ; None if they are equal."""
    return bounding_box((previous != frame).any(axis=-1))


def crop(frame: np.ndarray, box: Box) -> np.ndarray:
    left, top, right, bottom = box
    return frame[top:bottom, left:right]
