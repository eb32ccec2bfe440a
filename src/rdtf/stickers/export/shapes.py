"""Space: cutting to the content, adding a border, a stroke around it. Pure: Sticker -> Sticker."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers import Sticker
from rdtf.stickers.canvas import composite_over
from rdtf.stickers.formats.pillow import bounding_box, crop

WHITE = (255, 255, 255)
# Fainter pixels, such as those of a soft shadow, are not part of the shape that gets a stroke.
_SHAPE_ALPHA = 90
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


def trim_to_content(sticker: Sticker) -> Sticker:
    """Cut every frame to the box that holds all that is visible in any frame.

    A clip in which nothing is visible comes back as it is.
    """
    box = bounding_box(sticker.frames[..., 3].max(axis=0) > 0)
    if box is None:
        return sticker
    return sticker.replace(frames=np.stack([crop(frame, box) for frame in sticker.frames]))


def pad(sticker: Sticker, pixels: int) -> Sticker:
    """Add a transparent border of `pixels` on each side."""
    if not 0 <= pixels <= 4096:
        raise StickerError(f"a border of {pixels} pixels is not between 0 and 4096")
    widths = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))
    return sticker.replace(frames=np.pad(sticker.frames, widths)) if pixels else sticker


def outline(sticker: Sticker, width_px: float, color: tuple[int, int, int] = WHITE) -> Sticker:
    """Draw a stroke around what is visible, with smooth edges, on a canvas larger by it.

    Args:
        sticker: what gets the stroke.
        width_px: how far the stroke reaches beyond the edge, 0 (none) to 128.
        color: red, green, blue, 0 to 255.
    """
    if not 0 <= width_px <= 128:
        raise StickerError(f"an outline of {width_px} pixels is not between 0 and 128")
    if len(color) != 3 or not all(0 <= value <= 255 for value in color):
        raise StickerError(f"outline colour {color!r} must be three numbers from 0 to 255")
    if width_px == 0:
        return sticker
    frames = pad(sticker, math.ceil(width_px)).frames
    return sticker.replace(frames=np.stack([outline_frame(f, width_px, color) for f in frames]))


def outline_frame(frame: np.ndarray, width_px: float, color: tuple[int, int, int]) -> np.ndarray:
    """uint8 [H, W, 4] over its own stroke, cut at the border."""
    stroke = np.zeros_like(frame)
    stroke[..., :3] = color
    stroke[..., 3] = np.rint(_coverage(frame[..., 3], width_px) * 255)
    drawn = composite_over(frame, stroke)
    # What is opaque stays as it is, to the bit.
    return np.where(frame[..., 3:] == 255, frame, drawn)


def _coverage(alpha: np.ndarray, width_px: float) -> np.ndarray:
    """How much of each pixel the shape and its stroke cover, float32 [H, W] in [0, 1].

    The distance to the nearest pixel of the shape, less how far the edge lies beyond the centre of
    that pixel, which its own alpha and that of the fainter pixels beside it tell.
    """
    from scipy import ndimage  # a fifth of a second that only who outlines waits for

    shape = alpha >= _SHAPE_ALPHA
    box = bounding_box(shape)
    covered = np.zeros(alpha.shape, np.float32)
    if box is None:
        return covered
    reach = math.ceil(width_px) + 2  # further away there is no stroke
    left, top = max(box[0] - reach, 0), max(box[1] - reach, 0)
    window = slice(top, box[3] + reach), slice(left, box[2] + reach)
    found: Any = ndimage.distance_transform_edt(~shape[window], return_indices=True)
    distance, nearest = found
    reaches = alpha[window].astype(np.float32)
    reaches += ndimage.maximum_filter(np.where(shape[window], 0, reaches), footprint=_CROSS)
    edge = reaches[tuple(nearest)] / 255 - 0.5
    covered[window] = np.clip(width_px + 0.5 - (distance - edge), 0, 1)
    return covered
