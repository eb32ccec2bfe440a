"""The storyboard: the task, the pictures it starts from, and the condition mask that follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rdtf.app.studio.editor import regenerate_request
from rdtf.errors import UserError
from rdtf.sampling.requests import (
    ClipRequest,
    blank_request,
    interpolate_request,
    predict_request,
)
from rdtf.stickers import Sticker
from rdtf.stickers.info import DEFAULT_DURATION_MS

#: Task → what the page calls it. All but the first start from a clip.
TASKS = {
    "animate": "Animate",
    "smooth2": "Smooth ×2",
    "smooth3": "Smooth ×3",
    "extend": "Extend",
    "fix": "Fix frames",
}
_FACTORS = {"smooth2": 2, "smooth3": 3}


@dataclass(frozen=True)
class Slot:
    """One frame of the strip.

    picture: uint8 [H, W, 4], or None where there is none to show; given: it comes back unchanged;
    can_press: a click changes something; source: the clip's frame that is shown, if it is one.
    """

    picture: np.ndarray | None
    given: bool
    duration_ms: int
    can_press: bool
    source: int | None = None


class Storyboard:
    """What the Make tab starts from.

    Attributes:
        task: one of `TASKS`.
        clip: the dropped clip with every frame that it came with, or None.
        stills: for "animate": slot → uint8 [H, W, 4], all of one size.
        num_frames, frame_ms: for "animate": length of the clip, and how long each frame is shown.
        before, after: for "extend": frames to add.
        remade: for "fix": frames to make again.
        thumbnails: of the clip's frames, by index; filled by whoever draws the strip.
    """

    def __init__(self, num_frames: int, max_frames: int) -> None:
        self.max_frames = max_frames
        self.task = "animate"
        self.num_frames, self.frame_ms = num_frames, DEFAULT_DURATION_MS
        self.before, self.after = 0, min(4, max_frames)
        self._loops = {"animate": True}
        self.clear()

    def clear(self) -> None:
        """No pictures; task, length and time stay."""
        self.clip: Sticker | None = None
        self.stills: dict[int, np.ndarray] = {}
        self.remade: set[int] = set()
        self.thumbnails: dict[int, str] = {}
        self._last: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the pictures, if there are any."""
        shown = [self.clip.frames[0]] if self.clip is not None else list(self.stills.values())
        return (shown[0].shape[0], shown[0].shape[1]) if shown else None

    @property
    def loop(self) -> bool:
        """Whether the last frame leads back to the first; on unless switched off for "animate"."""
        return self._loops.get(self.task, False)

    def set_loop(self, on: bool) -> None:
        was_even = self._is_even()
        self._loops[self.task] = on
        if was_even:
            self.spread()

    def start(self, stickers: list[Sticker]) -> str:
        """Start again with what was dropped: stills, or one clip. Returns what to tell about it.

        Raises:
            UserError: several files of which one is a clip, or more than there may be frames.
        """
        clips = [sticker for sticker in stickers if sticker.num_frames > 1]
        if clips and len(stickers) > 1:
            raise UserError("drop one clip, or several stills; a clip can't be joined with others")
        if not clips:
            return self._start_stills(stickers)
        self.clear()
        self.clip = clips[0]
        if self.task != "animate":
            return ""
        self.task = "smooth2"
        return (
            f"A clip of {self.clip.num_frames} frames: all of them are kept. "
            "Smooth ×2 adds a new frame between any two; pick another task if you like."
        )

    def _start_stills(self, stickers: list[Sticker]) -> str:
        if len(stickers) > self.max_frames:
            raise UserError(
                f"{len(stickers)} pictures are too many; the limit is {self.max_frames} frames"
            )
        words = ""
        if self.task != "animate":
            words = f"{TASKS[self.task]} needs a clip, so this picture will be animated."
        self.clear()
        self.task = "animate"
        self.num_frames = max(self.num_frames, len(stickers))
        first = stickers[0]
        size = (first.height, first.width)
        for index, sticker in enumerate(stickers):
            self.stills[index] = sticker.fit_canvas(size).frames[0]
        self._last = first.frames[0]
        self.spread()
        return words

    def put(self, index: int, sticker: Sticker) -> None:
        """Put the first frame of `sticker` into a slot, at the size of the others, and give it."""
        self._check(index)
        if self.size is not None:
            sticker = sticker.fit_canvas(self.size)
        picture = sticker.frames[0]
        if self.task == "fix" and self.clip is not None:
            frames = self.clip.frames.copy()
            frames[index] = picture
            self.clip = self.clip.replace(frames=frames)
            self.thumbnails.pop(index, None)
            self.remade.discard(index)
        elif self.task == "animate":
            self._use_first_of_clip()
            self.stills[index] = picture
            self._last = self._last if len(self.stills) > 1 else picture
        else:
            raise UserError("only Animate and Fix frames take pictures for single frames")

    def spread(self) -> None:
        """Distribute the stills evenly; in a loop the way back to the first takes its share."""
        places = self._even(len(self.stills))
        pictures = [self.stills[index] for index in sorted(self.stills)]
        self.stills = dict(zip(places, pictures, strict=True))

    def _even(self, count: int) -> list[int]:
        if self.loop or count < 2:
            return [index * self.num_frames // max(count, 1) for index in range(count)]
        return [round(index * (self.num_frames - 1) / (count - 1)) for index in range(count)]

    def _is_even(self) -> bool:
        return len(self.stills) > 1 and sorted(self.stills) == self._even(len(self.stills))

    def set_task(self, task: str) -> None:
        if task not in TASKS:
            raise UserError(f"there is no task {task[:20]!r}")
        self.task = task

    def set_given(self, index: int, on: bool | None = None) -> None:
        """Keep a frame, or let it be made; None = the other of the two.

        Raises:
            UserError: no such frame, or nothing that it could show.
        """
        self._check(index)
        slot = self.slots()[index]
        on = not slot.given if on is None else on
        if self.task == "fix":
            (self.remade.discard if on else self.remade.add)(index)
        elif self.task != "animate":
            raise UserError(f"{TASKS[self.task]} keeps every frame of the clip")
        elif not on:
            self._use_first_of_clip()
            self.stills.pop(index, None)
        elif index not in self.stills:
            self._use_first_of_clip()
            if self._last is None:
                raise UserError(f"frame {index + 1} has no picture; drop one on it")
            self.stills[index] = self._last

    def make_again(self, indices: set[int]) -> None:
        """For "fix": which frames are to be made again."""
        if self.clip is not None:
            self.remade = {index for index in indices if 0 <= index < self.clip.num_frames}

    def _use_first_of_clip(self) -> None:
        """A clip that is animated gives its first frame."""
        if self.clip is not None and not self.stills:
            self._last = self.stills[0] = self.clip.frames[0]

    def set_length(self, num_frames: int, frame_ms: int) -> None:
        """For "animate": how many frames, and how long each is shown."""
        if not 1 <= num_frames <= self.max_frames:
            raise UserError(f"choose 1 to {self.max_frames} frames, not {num_frames}")
        if not 1 <= frame_ms <= 10_000:
            raise UserError(f"choose 1 to 10000 ms for a frame, not {frame_ms}")
        was_even = self._is_even() and len(self.stills) <= num_frames
        self.num_frames, self.frame_ms = num_frames, frame_ms
        if was_even:
            self.spread()
        self.stills = {i: picture for i, picture in self.stills.items() if i < num_frames}

    def set_extension(self, before: int, after: int) -> None:
        """For "extend": frames to add in front and behind."""
        if not (0 <= before <= self.max_frames and 0 <= after <= self.max_frames):
            raise UserError(f"choose 0 to {self.max_frames} frames to add")
        self.before, self.after = before, after

    def request(self, canvas: int) -> ClipRequest:
        """The clip to complete; without any picture at `canvas` x `canvas` pixels.

        Raises:
            UserError: a clip is missing, the result would be too long, or nothing is to be made.
        """
        if self.task == "animate":
            return self._animate_request(canvas)
        clip = self.clip
        if clip is None:
            raise UserError(
                f"{TASKS[self.task]} needs a clip: drop a GIF, WebP, APNG or WebM first"
            )
        clip = clip.replace(captions=())
        if self.task in _FACTORS:
            self._check_length((clip.num_frames - 1) * _FACTORS[self.task] + 1)
            return interpolate_request(clip, _FACTORS[self.task], self.loop)
        if self.task == "extend":
            if not self.before + self.after:
                raise UserError("choose how many frames to add, at the end or at the start")
            self._check_length(clip.num_frames + self.before + self.after)
            return predict_request(clip, self.after, self.before)
        if not self.remade:
            raise UserError("click the frames to regenerate first")
        return regenerate_request(clip, self.remade)

    def _animate_request(self, canvas: int) -> ClipRequest:
        self._use_first_of_clip()
        request = blank_request(self.num_frames, self.size or (canvas, canvas), self.frame_ms)
        for index, picture in self.stills.items():
            request.frames[index], request.known[index] = picture, True
        return request

    def _check_length(self, num_frames: int) -> None:
        if num_frames > self.max_frames:
            raise UserError(
                f"the result would have {num_frames} frames; the limit is {self.max_frames}. "
                "Delete frames in Edit, or add fewer"
            )

    def slots(self) -> list[Slot]:
        """The strip: every frame of the result as far as it is known."""
        if self.task == "animate":
            can = bool(self.stills) or self.clip is not None
            stills = self.stills or ({0: self.clip.frames[0]} if self.clip is not None else {})
            return [
                Slot(stills.get(index), index in stills, self.frame_ms, can)
                for index in range(self.num_frames)
            ]
        clip = self.clip
        if clip is None:
            return []
        if self.task == "fix":
            return [
                Slot(frame, index not in self.remade, int(clip.durations_ms[index]), True, index)
                for index, frame in enumerate(clip.frames)
            ]
        try:
            request = self.request(1)
        except UserError:  # too long, or nothing to add: the clip as it is
            known, durations = [True] * clip.num_frames, clip.durations_ms.tolist()
        else:
            known, durations = request.known.tolist(), request.durations_ms.tolist()
        sources = iter(range(clip.num_frames))
        slots = []
        for given, duration_ms in zip(known, durations, strict=True):
            source = next(sources) if given else None
            picture = None if source is None else clip.frames[source]
            slots.append(Slot(picture, given, duration_ms, False, source))
        return slots

    def _check(self, index: int) -> None:
        count = len(self.slots())
        if not 0 <= index < count:
            raise UserError(f"there is no frame {index + 1}; there are {count}")
