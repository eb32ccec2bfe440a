"""What may be asked of an export besides the platform: edits of space and time, and choices."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from PIL import ImageColor

from rdtf.errors import StickerError, UserError
from rdtf.stickers import DEFAULT_BUDGET, Sticker
from rdtf.stickers.canvas import composite_over, premultiply, unpremultiply
from rdtf.stickers.export.platforms import ExportError, Platform
from rdtf.stickers.formats.pillow import bounding_box, crop

WHITE = (255, 255, 255)
Color = tuple[int, int, int]
Closing = Literal["none", "ping-pong", "cross-fade", "boomerang"]
#: What to do with a clip whose length the platform does not take.
TimePolicy = Literal["refuse", "trim", "hold", "speed"]

# Fainter pixels, such as those of a soft shadow, are not part of the shape that gets a stroke.
_SHAPE_ALPHA = 90
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


@dataclass(frozen=True)
class ExportOptions:
    """Edits and choices; the defaults change nothing.

    Attributes:
        trim: cut to what is visible first.
        pad: transparent border in pixels of the source, after trimming.
        outline_px: stroke around the picture, in pixels of the exported canvas.
        outline_color: its colour.
        first: the frame that the loop begins with, or "fullest". Some platforms stop on the first
            frame or put it in their shop.
        close: close the loop. "ping-pong": forward and back, F frames become 2F - 2; "boomerang":
            the same in the time of the clip; "cross-fade": the last quarter of the frames fades
            into the first, which is left out at the front.
        speed: play so many times as fast. Frames that get no time are left out.
        time: what to do if the platform does not take the clip's length: "refuse" it, "trim" its
            end, "hold" its last frame longer, or play it at another "speed".
        background: an opaque colour behind the picture; None keeps it transparent.
        size: longer side in pixels, for plain formats only.
        max_bytes: a stricter limit than the platform's.

    Raises:
        ExportError: (option) a value outside its range.
    """

    trim: bool = False
    pad: int = 0
    outline_px: float = 0
    outline_color: Color = WHITE
    first: int | Literal["fullest"] = 0
    close: Closing = "none"
    speed: float = 1.0
    time: TimePolicy = "refuse"
    background: Color | None = None
    size: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, kind in (("close", Closing), ("time", TimePolicy)):
            if (value := getattr(self, name)) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise ExportError("option", f"{name} {value!r} must be one of {known}")
        if not 0 <= self.outline_px <= 128:
            raise ExportError("option", f"outline of {self.outline_px} px: must be from 0 to 128")
        if not 0 <= self.pad <= 4096:
            raise ExportError("option", f"border of {self.pad} px: must be from 0 to 4096")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise ExportError("option", f"max_bytes is {self.max_bytes}; it must be at least 1")

    def byte_limit(self, platform: Platform) -> int | None:
        """The stricter of the platform's limit and `max_bytes`."""
        limits = [self.max_bytes, platform.value("max_bytes")]
        return min((limit for limit in limits if limit is not None), default=None)

    def apply(self, sticker: Sticker) -> tuple[Sticker, list[str]]:
        """The edits of shape and time, in their order; returns what was done, in words.

        Raises:
            ExportError: (option) an edit that this clip does not allow.
        """
        done: list[str] = []
        try:
            if self.trim:
                sticker = trim_to_content(sticker)
                done.append(f"trimmed to {sticker.width} x {sticker.height}")
            if self.pad:
                _check_room(sticker, self.pad)
                sticker = _pad(sticker, self.pad)
                done.append(f"border of {self.pad} px added")
            if self.first:
                sticker = _start_at(sticker, self.first)
                done.append(f"starts with frame {self.first}")
            if self.close != "none":
                before = sticker.total_ms
                sticker = _cross_fade(sticker) if self.close == "cross-fade" else _back(sticker)
                if self.close == "boomerang":
                    sticker = fit_time(sticker, before)
                after = "" if self.close == "boomerang" else f" to {sticker.total_ms} ms"
                done.append(f"loop closed by {self.close}: {before} ms{after}")
            if self.speed != 1:
                if not 0.05 <= self.speed <= 20:
                    raise StickerError(f"speed {self.speed} is not between 0.05 and 20")
                before = sticker.total_ms
                sticker = fit_time(sticker, max(1, round(before / self.speed)))
                times = f"{before} ms to {sticker.total_ms} ms"
                done.append(f"played {self.speed:g} times as fast: {times}")
        except UserError as error:
            raise ExportError("option", str(error)) from error
        return sticker, done


def parse_color(text: str) -> Color:
    """`#rrggbb`, `#rgb` or a name that CSS knows -> three numbers of 0 to 255.

    Raises:
        ExportError: (option) anything else.
    """
    text = re.sub(r"^(?=[0-9a-fA-F]{3,6}$)", "#", text.strip())
    try:
        rgb = ImageColor.getrgb(text)
    except ValueError:
        rgb = ()
    if len(rgb) != 3:
        message = f"colour {text!r} must be like #ff8800, or a name such as white"
        raise ExportError("option", message)
    return rgb


# ------------------------------------------------------------------------------ space


def trim_to_content(sticker: Sticker) -> Sticker:
    """Cut every frame to the box that holds all that is visible in any frame.

    A clip in which nothing is visible comes back as it is.
    """
    box = bounding_box(sticker.frames[..., 3].max(axis=0) > 0)
    if box is None:
        return sticker
    return sticker.replace(frames=np.stack([crop(frame, box) for frame in sticker.frames]))


def _pad(sticker: Sticker, pixels: int) -> Sticker:
    widths = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))
    return sticker.replace(frames=np.pad(sticker.frames, widths))


def _check_room(sticker: Sticker, border: int) -> None:
    """A border may make any clip larger than the memory."""
    height, width = sticker.height + 2 * border, sticker.width + 2 * border
    if sticker.num_frames * height * width > DEFAULT_BUDGET.max_total_pixels:
        count = sticker.num_frames
        message = f"{count} frames of {width} x {height} need too much memory"
        raise ExportError("option", f"with a border of {border} px {message}")


def outline(sticker: Sticker, width_px: float, color: Color = WHITE) -> Sticker:
    """Draw a stroke around what is visible, with smooth edges, on a canvas larger by it.

    Args:
        sticker: what gets the stroke.
        width_px: how far the stroke reaches beyond the edge, 0 (none) or more.
        color: red, green, blue, 0 to 255.
    """
    if width_px == 0:
        return sticker
    frames = _pad(sticker, math.ceil(width_px)).frames
    return sticker.replace(frames=np.stack([outline_frame(f, width_px, color) for f in frames]))


def outline_frame(frame: np.ndarray, width_px: float, color: Color) -> np.ndarray:
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


# ------------------------------------------------------------------------------- time


def visible_shares(frames: np.ndarray) -> np.ndarray:
    """Mean opacity of each frame of uint8 [F, H, W, 4], float64 [F] in [0, 1]."""
    return frames[..., 3].mean(axis=(1, 2)) / 255


def _start_at(sticker: Sticker, first: int | Literal["fullest"]) -> Sticker:
    """The same loop, begun at frame `first`, or at the frame that shows the most."""
    index = int(np.argmax(visible_shares(sticker.frames))) if first == "fullest" else first
    if not -sticker.num_frames <= index < sticker.num_frames:
        raise StickerError(
            f"can't start at frame {index}; the clip has {sticker.num_frames} frames"
        )
    return sticker.select(np.roll(np.arange(sticker.num_frames), -index))


def _back(sticker: Sticker) -> Sticker:
    """Forward and back again, none of the ends twice; time grows."""
    last = sticker.num_frames - 1
    return sticker.select([*range(last + 1), *range(last - 1, 0, -1)])


def _cross_fade(sticker: Sticker) -> Sticker:
    """Close the loop by fading the end into the beginning.

    The last quarter of the frames become mixtures of themselves with the first ones, which are left
    out at the front. So the clip gets shorter by their time, nothing stands still while it fades,
    and the frame after the last is the first.
    """
    total = sticker.num_frames
    count = max(1, total // 4)
    if total < 3:
        hint = "it needs at least 3 frames; use ping-pong"
        raise StickerError(f"a clip of {total} frames can't cross-fade over {count}; {hint}")
    weights = np.arange(1, count + 1, dtype=np.float32)[:, None, None, None] / (count + 1)
    starts, ends = premultiply(sticker.frames[:count]), premultiply(sticker.frames[-count:])
    faded = unpremultiply(ends * (1 - weights) + starts * weights)
    frames = np.concatenate([sticker.frames[count : total - count], faded])
    return sticker.replace(frames=frames, durations_ms=sticker.durations_ms[count:])


def fit_time(sticker: Sticker, total_ms: int) -> Sticker:
    """The same clip, all durations scaled so that it lasts exactly `total_ms` >= 1.

    The running total is rounded, not each frame. Frames that get less than a millisecond are left
    out.
    """
    ends = np.rint(np.cumsum(sticker.durations_ms) * (total_ms / sticker.total_ms)).astype(np.int64)
    durations = np.diff(ends, prepend=0)
    kept = np.flatnonzero(durations)
    return sticker.select(kept).with_durations(durations[kept])
