"""Edits of a sticker's pictures: crop, background to transparency, text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rdtf.errors import UserError
from rdtf.stickers.canvas import composite_over, cut_background
from rdtf.stickers.export.edit import parse_color
from rdtf.stickers.sticker import Sticker


def crop(clip: Sticker, left: int, top: int, right: int, bottom: int) -> Sticker:
    """Without so many pixels at each side; at least one pixel must stay."""
    if min(left, top, right, bottom) < 0:
        raise UserError("crop by 0 pixels or more at each side")
    if left + right >= clip.width or top + bottom >= clip.height:
        raise UserError(f"nothing would be left of {clip.width} × {clip.height} pixels; crop less")
    frames = clip.frames[:, top : clip.height - bottom, left : clip.width - right]
    return clip.replace(frames=np.ascontiguousarray(frames))


def without_background(clip: Sticker, tolerance: int = 40) -> Sticker:
    """What is joined to the border and of its colour becomes transparent, with a soft edge.

    Every frame is flooded from its border. Pixels at the edge, mixed of picture and background, get
    the part that is picture as their alpha, and its colour.

    Args:
        tolerance: how far a colour may be from the border's, as distance in RGB (0 to 255).

    Raises:
        UserError: the border is of many colours, or transparent already.
    """
    if not 1 <= tolerance <= 255:
        raise UserError(f"choose a tolerance of 1 to 255, not {tolerance}")
    return clip.replace(frames=np.stack([_cut_out(frame, tolerance) for frame in clip.frames]))


def _cut_out(frame: np.ndarray, tolerance: int) -> np.ndarray:
    """uint8 [H, W, 4] without its background."""
    border = np.concatenate([frame[0], frame[-1], frame[:, 0], frame[:, -1]])
    border = border[border[:, 3] > 127, :3].astype(np.float32)
    if not len(border):
        raise UserError("the border is transparent already, so there is no background to remove")
    color = np.median(border, axis=0)
    if (np.linalg.norm(border - color, axis=1) <= tolerance).mean() < 0.6:
        raise UserError("the border has many colours; this removes a background of one colour only")
    distance = np.linalg.norm(frame[..., :3] - color, axis=-1)
    return cut_background(frame, (distance <= tolerance) | (frame[..., 3] < 128), color[None])


_LEAST_TEXT_PX = 9.0
PLACES = ("top", "middle", "bottom")


def with_text(
    clip: Sticker,
    indices: Iterable[int],
    words: str,
    *,
    place: str = "bottom",
    size_percent: float = 16,
    color: str = "#ffffff",
    edge_color: str = "#000000",
) -> Sticker:
    """Text with an outline on some of the frames, made smaller if it is wider than the picture.

    Args:
        words: one line or several; letters of the Latin alphabet.
        place: one of `PLACES`.
        size_percent: height of a line in percent of the picture's.
        color, edge_color: of the letters and their outline, like "#ffffff".

    Raises:
        UserError: no text, letters that there are not, or a colour that can't be read.
    """
    words = words.strip()[:200]
    if not words:
        raise UserError("enter the text first")
    if place not in PLACES:
        raise UserError(f"there is no place {place[:20]!r}; choose {', '.join(PLACES)}")
    if not 4 <= size_percent <= 60:
        raise UserError("choose a text size of 4 to 60 percent of the height")
    size = (clip.width, clip.height)
    colors = parse_color(color), parse_color(edge_color)
    drawn = _text_layer(words, size, place, clip.height * size_percent / 100, *colors)
    frames = clip.frames.copy()
    for index in indices:
        frames[index] = composite_over(drawn, frames[index])
    return clip.replace(frames=frames)


def _text_layer(
    words: str,
    size: tuple[int, int],
    place: str,
    height: float,
    color: tuple[int, int, int],
    edge_color: tuple[int, int, int],
) -> np.ndarray:
    """The text alone, uint8 [H, W, 4]."""
    layer = Image.new("RGBA", size, (*edge_color, 0))
    draw = ImageDraw.Draw(layer)
    _check_letters(words, ImageFont.load_default(24))
    points = max(height, _LEAST_TEXT_PX)
    while True:  # smaller until it fits
        font, edge = ImageFont.load_default(points), max(1, round(points / 9))
        box = draw.multiline_textbbox((0, 0), words, font=font, stroke_width=edge, align="center")
        if box[2] - box[0] <= size[0] and box[3] - box[1] <= size[1]:
            break
        if points <= _LEAST_TEXT_PX:
            raise UserError("the text is too long for this picture; make it shorter, or two lines")
        points = max(points * 0.85, _LEAST_TEXT_PX)
    margin = min(size) * 0.03
    free = size[1] - (box[3] - box[1])
    top = {"top": min(margin, free), "middle": free / 2, "bottom": max(free - margin, 0)}[place]
    left = (size[0] - (box[2] - box[0])) / 2
    draw.multiline_text(
        (left - box[0], top - box[1]),
        words,
        font=font,
        fill=(*color, 255),
        stroke_width=edge,
        stroke_fill=(*edge_color, 255),
        align="center",
    )
    return np.asarray(layer)


def _check_letters(words: str, font: Any) -> None:
    """Refuse letters that the font would show as boxes."""
    missing = font.getmask("\uffff").getbbox(), bytes(font.getmask("\uffff"))
    for letter in dict.fromkeys(words):
        mask = font.getmask(letter)
        if letter != "\n" and (mask.getbbox(), bytes(mask)) == missing:
            raise UserError(f"the font has no {letter!r}; use letters of the Latin alphabet")
