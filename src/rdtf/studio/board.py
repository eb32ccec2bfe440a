"""The film strip: the slots of a clip, and which of them are given: the condition mask."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from rdtf.errors import UserError
from rdtf.inference.requests import DEFAULT_DURATION_MS, ClipRequest
from rdtf.stickers import Sticker

Choice = Literal["none", "first", "ends", "every second", "first half", "last half", "all"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


class Board:
    """Slots with or without a picture, each given or to be made.

    Attributes:
        pictures: uint8 [H, W, 4] of one size, or None for a slot that has none.
        given: which slots are given; only slots with a picture can be.
        frame_ms: how long each frame is shown; or None: as long as `durations_ms` says.
    """

    def __init__(self, num_frames: int, max_frames: int) -> None:
        self.max_frames = max_frames
        self.pictures: list[np.ndarray | None] = [None] * num_frames
        self.given = [False] * num_frames
        self.durations_ms = [DEFAULT_DURATION_MS] * num_frames
        self._still: np.ndarray | None = None

    @property
    def num_frames(self) -> int:
        return len(self.pictures)

    @property
    def num_given(self) -> int:
        return sum(self.given)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the pictures, if there are any."""
        for picture in self.pictures:
            if picture is not None:
                return picture.shape[0], picture.shape[1]
        return None

    # ------------------------------------------------------------------ what is on it

    def start(self, sticker: Sticker) -> None:
        """Begin anew. A still becomes frame 0; a clip brings its frames, every second one given.

        A clip of more than `max_frames` frames is thinned evenly; its total time is kept.
        """
        if sticker.num_frames == 1:
            self.clear()
            self._still = sticker.frames[0]
            self.toggle(0, True)
            return
        clip = thinned(sticker, self.max_frames)
        self._still = None
        self.pictures = list(clip.frames)
        self.durations_ms = clip.durations_ms.tolist()
        self.given = [False] * clip.num_frames
        self.choose("every second")

    def put(self, index: int, sticker: Sticker) -> None:
        """Put the first frame of `sticker` into a slot, at the size of the others, and give it."""
        self._check(index)
        if self.size is not None:
            sticker = sticker.fit_canvas(self.size)
        self.pictures[index], self.given[index] = sticker.frames[0], True
        if self._still is None and self.num_given == 1:
            self._still = sticker.frames[0]

    def clear(self) -> None:
        """Nothing given; the number of frames and their times stay."""
        self.pictures = [None] * self.num_frames
        self.given = [False] * self.num_frames
        self._still = None

    # ------------------------------------------------------------------ which are given

    def can_give(self, index: int) -> bool:
        """A slot with a picture; with a still to start from, every slot can show it."""
        return self.pictures[index] is not None or self._still is not None

    def toggle(self, index: int, on: bool | None = None) -> bool:
        """Give a slot or not; None = the other of the two. Returns what it is now.

        Raises:
            UserError: no such slot, or it has no picture to give.
        """
        self._check(index)
        on = not self.given[index] if on is None else on
        if on and self.pictures[index] is None:
            if self._still is None:
                raise UserError(
                    f"frame {index + 1} has no picture; drop one there, or let it be made"
                )
            self.pictures[index] = self._still
        if not on and self.pictures[index] is self._still and self._still is not None:
            self.pictures[index] = None
        self.given[index] = on
        return on

    def choose(self, choice: str) -> None:
        """Give a usual pattern of the slots that have a picture."""
        count = self.num_frames
        patterns = {
            "none": [],
            "first": [0],
            "ends": [0, count - 1],
            "every second": range(0, count, 2),
            "first half": range(count // 2),
            "last half": range(count - count // 2, count),
            "all": range(count),
        }
        if choice not in patterns:
            raise UserError(f"there is no choice {choice!r}; there is {', '.join(patterns)}")
        chosen = set(patterns[choice])
        for index in range(count):
            on = index in chosen and self.can_give(index)
            if on != self.given[index]:
                self.toggle(index, on)

    # ------------------------------------------------------------------ length and time

    def set_length(self, num_frames: int) -> None:
        """Cut at the end, or add slots to be made there, as long as the last one."""
        if not 1 <= num_frames <= self.max_frames:
            raise UserError(f"{num_frames} frames are not 1 to {self.max_frames}")
        more = num_frames - self.num_frames
        if more < 0:
            del self.pictures[num_frames:], self.given[num_frames:], self.durations_ms[num_frames:]
        else:
            self.pictures += [None] * more
            self.given += [False] * more
            self.durations_ms += [self.durations_ms[-1]] * more

    def set_duration(self, frame_ms: int) -> None:
        """The same time for every frame."""
        if not 1 <= frame_ms <= 10_000:
            raise UserError(f"{frame_ms} ms for a frame are not 1 to 10000")
        self.durations_ms = [frame_ms] * self.num_frames

    def request(self, canvas: int) -> ClipRequest:
        """The clip to complete; without any picture at `canvas` x `canvas` pixels."""
        height, width = self.size or (canvas, canvas)
        frames = np.zeros((self.num_frames, height, width, 4), np.uint8)
        for index, picture in enumerate(self.pictures):
            if self.given[index] and picture is not None:
                frames[index] = picture
        known = np.array(self.given, bool)
        return ClipRequest(frames, known, np.array(self.durations_ms, np.int64))

    def _check(self, index: int) -> None:
        if not 0 <= index < self.num_frames:
            raise UserError(f"there is no frame {index + 1}; there are {self.num_frames}")


def thinned(sticker: Sticker, most: int) -> Sticker:
    """At most `most` frames, evenly chosen; each takes over the time of those left out."""
    if sticker.num_frames <= most:
        return sticker
    kept = np.floor(np.arange(most) * sticker.num_frames / most).astype(np.int64)
    ends = np.cumsum(sticker.durations_ms)
    starts = ends - sticker.durations_ms
    edges = np.append(starts[kept], ends[-1])
    return sticker.select(kept.tolist()).with_durations(np.diff(edges))
