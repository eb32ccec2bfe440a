"""The canvas that a platform asks for: scaled into it, never below it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rdtf.stickers import DEFAULT_BUDGET, Sticker
from rdtf.stickers.canvas import fit_frame, fitted_size, letterbox
from rdtf.stickers.export.errors import ExportError
from rdtf.stickers.export.platforms import Platform, format_limits
from rdtf.stickers.export.shapes import WHITE, outline


@dataclass(frozen=True)
class Canvas:
    """How one frame becomes a frame of the export.

    Attributes:
        height, width: the canvas in pixels.
        inner_height, inner_width: the box that the picture is scaled into; the rest is transparent.
        outline_px, outline_color: the stroke, drawn at the size of the canvas.
        crisp: whole-pixel enlargement first, for pixel art.
    """

    height: int
    width: int
    inner_height: int
    inner_width: int
    outline_px: float = 0
    outline_color: tuple[int, int, int] = WHITE
    crisp: bool = False

    def draw(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [h, w, 4] -> uint8 [height, width, 4]."""
        return self.stroke(self.place(frame))

    def place(self, frame: np.ndarray) -> np.ndarray:
        """Like `draw`, without the stroke."""
        inner = (self.inner_height, self.inner_width)
        if frame.shape[:2] != inner:
            frame = fit_frame(frame, *inner, crisp=self.crisp)
        return letterbox(frame, self.height, self.width)

    def stroke(self, frame: np.ndarray) -> np.ndarray:
        if not self.outline_px:
            return frame
        still = Sticker(frame[None], np.array([1]))
        return outline(still, self.outline_px, self.outline_color, grow=False).frames[0]


def plan_canvas(
    sticker: Sticker,
    platform: Platform,
    *,
    size: int | None = None,
    outline_px: float = 0,
    outline_color: tuple[int, int, int] = WHITE,
) -> Canvas:
    """The canvas for `sticker` on `platform`.

    Args:
        size: longer side in pixels; only where the platform leaves the canvas free.
        outline_px: room for a stroke of this width is kept at the borders.

    Raises:
        ExportError: (option) `size` where the platform sets the canvas, an outline that leaves no
            room for the picture, or more pixels than the format or the memory holds.
    """
    border = math.ceil(outline_px)
    limit = platform.canvas()
    if size is not None and limit is not None:
        wide, high = limit.value
        raise ExportError(
            "option", f"{platform.title} has a fixed canvas of {wide} x {high}; leave out --size"
        )
    if size is not None and not 1 <= size <= 4096:
        raise ExportError("option", f"size {size} is not between 1 and 4096 pixels")
    if limit is None:
        wide = high = size or max(sticker.height, sticker.width) + 2 * border
    else:
        wide, high = limit.value
    if min(wide, high) <= 2 * border:
        raise ExportError(
            "option", f"an outline of {outline_px:g} px leaves no room on a canvas of {high} px"
        )
    inner_height, inner_width = fitted_size(
        sticker.height, sticker.width, high - 2 * border, wide - 2 * border
    )
    height, width = inner_height + 2 * border, inner_width + 2 * border
    rule = "" if limit is None else limit.rule
    _check_side(max(height, width), platform)
    pixels = sticker.num_frames * height * width
    if size is not None and pixels > max(DEFAULT_BUDGET.max_total_pixels, sticker.frames.size // 4):
        count = sticker.num_frames
        raise ExportError(
            "option",
            f"{count} frames of {width} x {height} need too much memory; choose a smaller --size",
        )
    if rule in ("exact", "square up to"):
        height, width = high, wide
    elif rule == "height":
        height = high
    hard = bool(np.isin(sticker.frames[..., 3], (0, 255)).all())
    return Canvas(height, width, inner_height, inner_width, outline_px, outline_color, hard)


def _check_side(side: int, platform: Platform) -> None:
    most = format_limits(platform.format).get("max_side")
    if most is not None and side > most.value:
        message = f"{platform.title} allows at most {most.value} pixels on a side, not {side}"
        raise ExportError("option", f"{message}; choose a smaller --size")
