"""What may be asked of an export besides the platform."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args

from PIL import ImageColor

from rdtf.errors import UserError
from rdtf.stickers import DEFAULT_BUDGET, Sticker
from rdtf.stickers.export.loops import boomerang, change_speed, cross_fade, ping_pong, start_at
from rdtf.stickers.export.platforms import ExportError, Platform
from rdtf.stickers.export.shapes import WHITE, pad, trim_to_content
from rdtf.stickers.export.timing import TimePolicy

Closing = Literal["none", "ping-pong", "cross-fade", "boomerang"]
Color = tuple[int, int, int]


@dataclass(frozen=True)
class ExportOptions:
    """Edits and choices; the defaults change nothing.

    Attributes:
        trim: cut to what is visible first.
        pad: transparent border in pixels of the source, after trimming.
        outline_px: stroke around the picture, in pixels of the exported canvas.
        outline_color: its colour.
        first: the frame that the loop begins with, or "fullest".
        close: close the loop, see `rdtf.stickers.export.loops`.
        speed: play so many times as fast.
        time: what to do if the platform does not take the clip's length; see `settle_total`.
        background: an opaque colour behind the picture; None keeps it transparent.
        size: longer side in pixels, for plain formats only.
        max_bytes: a stricter limit than the platform's.
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
        for name, (is_right, words) in _KINDS.items():
            if not is_right(value := getattr(self, name)):
                raise ExportError("option", f"{name} {value!r} must be {words}")
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
                sticker = pad(sticker, self.pad)
                done.append(f"border of {self.pad} px added")
            if self.first:
                sticker = start_at(sticker, self.first)
                done.append(f"starts with frame {self.first}")
            if self.close != "none":
                before = sticker.total_ms
                sticker = _CLOSINGS[self.close](sticker)
                after = "" if self.close == "boomerang" else f" to {sticker.total_ms} ms"
                done.append(f"loop closed by {self.close}: {before} ms{after}")
            if self.speed != 1:
                before = sticker.total_ms
                sticker = change_speed(sticker, self.speed)
                done.append(
                    f"played {self.speed:g} times as fast: {before} ms to {sticker.total_ms} ms"
                )
        except UserError as error:
            raise ExportError("option", str(error)) from error
        return sticker, done


def _check_room(sticker: Sticker, border: int) -> None:
    """A border may make any clip larger than the memory."""
    height, width = sticker.height + 2 * border, sticker.width + 2 * border
    if sticker.num_frames * height * width > DEFAULT_BUDGET.max_total_pixels:
        count = sticker.num_frames
        message = f"{count} frames of {width} x {height} need too much memory"
        raise ExportError("option", f"with a border of {border} px {message}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_whole_or_none(value: Any) -> bool:
    return value is None or _is_whole(value)


def _is_color(color: Any) -> bool:
    is_triple = isinstance(color, tuple) and len(color) == 3
    return is_triple and all(isinstance(value, int) and 0 <= value <= 255 for value in color)


_Kind = tuple[Callable[[Any], bool], str]


def _one_of(kind: Any) -> _Kind:
    return lambda value: value in get_args(kind), f"one of {', '.join(get_args(kind))}"


#: What a value must be, for who calls from Python.
_KINDS: dict[str, _Kind] = {
    "trim": (lambda value: isinstance(value, bool), "true or false"),
    "pad": (_is_whole, "a whole number"),
    "outline_px": (_is_number, "a number"),
    "outline_color": (_is_color, "three numbers from 0 to 255"),
    "first": (lambda value: value == "fullest" or _is_whole(value), 'a whole number or "fullest"'),
    "close": _one_of(Closing),
    "speed": (_is_number, "a number"),
    "time": _one_of(TimePolicy),
    "background": (lambda value: value is None or _is_color(value), "three numbers from 0 to 255"),
    "size": (_is_whole_or_none, "a whole number"),
    "max_bytes": (_is_whole_or_none, "a whole number"),
}
_CLOSINGS = {"ping-pong": ping_pong, "cross-fade": cross_fade, "boomerang": boomerang}


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
