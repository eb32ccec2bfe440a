"""The Edit tab's clip: the edits as functions from clip to clip, the selection, and undo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from rdtf.errors import UserError
from rdtf.sampling.requests import ClipRequest, fill_request
from rdtf.stickers import Sticker
from rdtf.stickers.canvas import cut_background
from rdtf.stickers.export.edit import parse_color, trim_to_content

__all__ = ["PLACES", "Editor", "trim_to_content"]

_MAX_UNDO = 30
_MAX_UNDO_BYTES = 64 * 2**20


class Editor:
    """A clip with a selection and undo.

    Attributes:
        clip: the clip; None until one is opened.
        selected: frames that the next edit is about.
        max_frames: no edit makes a clip longer than that.
    """

    def __init__(self, max_frames: int = 240) -> None:
        self.max_frames = max_frames
        self.clip: Sticker | None = None
        self.selected: set[int] = set()
        self._undo: list[Sticker] = []
        self._redo: list[Sticker] = []

    def open(self, clip: Sticker) -> None:
        """Another clip; the one before can't be brought back."""
        self.clip, self.selected = clip, set()
        self._undo, self._redo = [], []

    def current(self) -> Sticker:
        """The clip; `UserError` if none is open."""
        if self.clip is None:
            raise UserError("there is no sticker yet; make one, or open one from the history")
        return self.clip

    def select(self, index: int, on: bool) -> None:
        if not 0 <= index < self.current().num_frames:
            raise UserError(f"there is no frame {index + 1}")
        (self.selected.add if on else self.selected.discard)(index)

    def select_all(self, on: bool = True) -> None:
        self.selected = set(range(self.current().num_frames)) if on else set()

    def delete(self) -> None:
        self.apply(lambda clip: delete(clip, self.selected))
        self.selected = set()

    def duplicate(self) -> None:
        self.apply(lambda clip: duplicate(clip, self.selected))
        self.selected = set()

    def reverse(self) -> None:
        self.apply(reverse)
        self.selected = set()

    def move(self, by: int) -> None:
        clip, places = move(self.current(), self.selected, by)
        self.apply(lambda _: clip)
        self.selected = set(places)

    def retime(self, frame_ms: int) -> None:
        """The selected frames; all if none is selected."""
        chosen = self.selected or range(self.current().num_frames)
        self.apply(lambda clip: retime(clip, chosen, frame_ms))

    def undo(self) -> None:
        if not self._undo:
            raise UserError("there is nothing to undo")
        self._redo.append(self.current())
        self.clip, self.selected = self._undo.pop(), set()

    def redo(self) -> None:
        if not self._redo:
            raise UserError("there is nothing to redo")
        self._undo.append(self.current())
        self.clip, self.selected = self._redo.pop(), set()

    def apply(self, edit: Callable[[Sticker], Sticker]) -> None:
        """An edit of the whole clip; the selection stays."""
        before = self.current()
        after = edit(before)
        if after.num_frames > max(self.max_frames, before.num_frames):
            raise UserError(f"a clip has at most {self.max_frames} frames here")
        self.clip = after
        self._undo.append(before)
        self._redo = []
        while len(self._undo) > _MAX_UNDO or self._undo_bytes() > _MAX_UNDO_BYTES:
            del self._undo[0]

    def _undo_bytes(self) -> int:
        return sum(clip.frames.nbytes for clip in self._undo[:-1])


def delete(clip: Sticker, indices: Iterable[int]) -> Sticker:
    """Without these frames; at least one must stay."""
    gone = _checked(clip, indices)
    kept = [index for index in range(clip.num_frames) if index not in gone]
    if not kept:
        raise UserError("a clip needs at least one frame; keep one")
    return clip.select(kept)


def duplicate(clip: Sticker, indices: Iterable[int]) -> Sticker:
    """Each of these frames twice, with its time."""
    twice = _checked(clip, indices)
    order = [i for index in range(clip.num_frames) for i in [index] * (2 if index in twice else 1)]
    return clip.select(order)


def move(clip: Sticker, indices: Iterable[int], by: int) -> tuple[Sticker, list[int]]:
    """These frames `by` places later (negative: earlier), as far as there is room.

    Returns:
        The clip, and where the frames are now. They keep their order and their times.
    """
    moving = _checked(clip, indices)
    order = list(range(clip.num_frames))
    for _ in range(abs(by)):
        order = _step(order, set(moving), forward=by > 0)
    return clip.select(order), [place for place, index in enumerate(order) if index in moving]


def _step(order: list[int], moving: set[int], *, forward: bool) -> list[int]:
    order = order[::-1] if forward else order[:]
    for place in range(1, len(order)):
        if order[place] in moving and order[place - 1] not in moving:
            order[place - 1], order[place] = order[place], order[place - 1]
    return order[::-1] if forward else order


def reverse(clip: Sticker) -> Sticker:
    return clip.select(range(clip.num_frames - 1, -1, -1))


def retime(clip: Sticker, indices: Iterable[int], frame_ms: int) -> Sticker:
    """These frames shown for `frame_ms` milliseconds each."""
    if not 1 <= frame_ms <= 10_000:
        raise UserError(f"a frame can last 1 to 10000 ms, not {frame_ms}")
    durations = clip.durations_ms.copy()
    durations[_checked(clip, indices)] = frame_ms
    return clip.with_durations(durations)


def regenerate_request(clip: Sticker, indices: Iterable[int]) -> ClipRequest:
    """These frames to be made again, all others given."""
    hidden = _checked(clip, indices)
    kept = [index for index in range(clip.num_frames) if index not in hidden]
    if not kept:
        raise UserError("keep at least one frame to regenerate the others from")
    return fill_request(clip, kept, clip.num_frames, clip.durations_ms)


def _checked(clip: Sticker, indices: Iterable[int]) -> Sequence[int]:
    chosen = sorted({int(index) for index in indices})
    if not chosen:
        raise UserError("choose a frame first: click on it in the strip")
    if chosen[0] < 0 or chosen[-1] >= clip.num_frames:
        raise UserError(f"there is no frame {chosen[-1] + 1}; there are {clip.num_frames}")
    return chosen


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
    from rdtf.stickers.canvas import composite_over

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
    for index in _checked(clip, indices):
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
    from PIL import Image, ImageDraw, ImageFont

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
