"""What a tab works on: the storyboard of what is to be made, and the editor of a clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rdtf.errors import UserError
from rdtf.sampling.requests import ClipRequest
from rdtf.stickers import Sticker
from rdtf.stickers.sticker import DEFAULT_DURATION_MS

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
class _Slot:
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
    def _size(self) -> tuple[int, int] | None:
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
        """Start again with what was dropped: stills, or one clip. Returns what to tell about it."""
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
        self._slot(index)
        if self._size is not None:
            sticker = sticker.fit_canvas(self._size)
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
        """Keep a frame, or let it be made; None = the other of the two."""
        given = self._slot(index).given
        on = not given if on is None else on
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
        """The clip to complete; without any picture at `canvas` x `canvas` pixels."""
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
            return ClipRequest.interpolate(clip, _FACTORS[self.task], self.loop)
        if self.task == "extend":
            if not self.before + self.after:
                raise UserError("choose how many frames to add, at the end or at the start")
            self._check_length(clip.num_frames + self.before + self.after)
            return ClipRequest.predict(clip, self.after, self.before)
        if not self.remade:
            raise UserError("click the frames to regenerate first")
        return regenerate_request(clip, self.remade)

    def _animate_request(self, canvas: int) -> ClipRequest:
        self._use_first_of_clip()
        request = ClipRequest.blank(self.num_frames, self._size or (canvas, canvas), self.frame_ms)
        for index, picture in self.stills.items():
            request.frames[index], request.known[index] = picture, True
        return request

    def _check_length(self, num_frames: int) -> None:
        if num_frames > self.max_frames:
            raise UserError(
                f"the result would have {num_frames} frames; the limit is {self.max_frames}. "
                "Delete frames in Edit, or add fewer"
            )

    def slots(self) -> list[_Slot]:
        """The strip: every frame of the result as far as it is known."""
        if self.task == "animate":
            can = bool(self.stills) or self.clip is not None
            stills = self.stills or ({0: self.clip.frames[0]} if self.clip is not None else {})
            return [
                _Slot(stills.get(index), index in stills, self.frame_ms, can)
                for index in range(self.num_frames)
            ]
        clip = self.clip
        if clip is None:
            return []
        if self.task == "fix":
            return [
                _Slot(frame, index not in self.remade, int(clip.durations_ms[index]), True, index)
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
            slots.append(_Slot(picture, given, duration_ms, False, source))
        return slots

    def _slot(self, index: int) -> _Slot:
        slots = self.slots()
        if not 0 <= index < len(slots):
            raise UserError(f"there is no frame {index + 1}; there are {len(slots)}")
        return slots[index]


# ------------------------------------------------------------------------------ editor

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
        kept = [index for index in self._all() if index not in self._chosen()]
        if not kept:
            raise UserError("a clip needs at least one frame; keep one")
        self._select(kept)

    def duplicate(self) -> None:
        """Each selected frame twice, with its time."""
        chosen = self._chosen()
        self._select([i for index in self._all() for i in [index] * (1 + (index in chosen))])

    def reverse(self) -> None:
        self._select(self._all()[::-1])

    def move(self, by: int) -> None:
        """The selected frames one place later (1) or earlier (-1), as far as there is room."""
        chosen, order = self._chosen(), self._all()[::-by]
        for place in range(1, len(order)):
            if order[place] in chosen and order[place - 1] not in chosen:
                order[place - 1], order[place] = order[place], order[place - 1]
        order = order[::-by]
        self._select(order)
        self.selected = {place for place, index in enumerate(order) if index in chosen}

    def retime(self, frame_ms: int) -> None:
        """The selected frames, or all if none is, are shown for so many milliseconds each."""
        if not 1 <= frame_ms <= 10_000:
            raise UserError(f"a frame can last 1 to 10000 ms, not {frame_ms}")
        durations = self.current().durations_ms.copy()
        durations[self.selected_or_all()] = frame_ms
        self.apply(lambda clip: clip.with_durations(durations))

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

    def selected_or_all(self) -> list[int]:
        return sorted(self.selected) or self._all()

    def request(self) -> ClipRequest:
        """The selected frames to be made again, all others given."""
        return regenerate_request(self.current(), self._chosen())

    def _undo_bytes(self) -> int:
        return sum(clip.frames.nbytes for clip in self._undo[:-1])

    def _all(self) -> list[int]:
        return list(range(self.current().num_frames))

    def _chosen(self) -> set[int]:
        if not self.selected:
            raise UserError("choose a frame first: click on it in the strip")
        return self.selected

    def _select(self, order: list[int]) -> None:
        """The clip of these frames, each with its time."""
        self.apply(lambda clip: clip.select(order))
        self.selected = set()


def regenerate_request(clip: Sticker, again: set[int]) -> ClipRequest:
    """The frames `again` to be made, all others given."""
    kept = [index for index in range(clip.num_frames) if index not in again]
    if not kept:
        raise UserError("keep at least one frame to regenerate the others from")
    return ClipRequest.fill(clip, kept, clip.num_frames, clip.durations_ms)
