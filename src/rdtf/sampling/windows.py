"""Any length: which slots of a long clip, or of a loop, go through the model together, and when.

A clip that fits is one window. A longer one is filled window by window, each given what is already
there, and a gap between two frames is only filled by a window that sees both of its ends.

A loop is a circle: behind its last frame lies its first. Nothing else makes it close. What would
freeze is made in two acts: between a frame and itself a model sees no reason to move, so the first
half is made freely (`_opening`) and the second leads back. A loop longer than a window, like a long
gap, is made coarsely first and then filled in, so that the whole of it knows where it is going.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rdtf.sampling.moving import MotionWindow, plan_motion
from rdtf.sampling.options import DRAWING


@dataclass(frozen=True)
class Window:
    """Slots that go through the model together.

    slots: ascending positions in the clip; in a loop of F frames, F + i is frame i once more.
    make: those of `slots` whose frames are kept; the other unknown ones only help to make them.
    """

    slots: tuple[int, ...]
    make: tuple[int, ...]

    def durations_ms(self, durations_ms: Sequence[int]) -> list[int]:
        """How long each slot is shown if only these slots are: up to the next of them."""
        total = len(durations_ms)
        spans = [
            sum(int(durations_ms[slot % total]) for slot in range(start, stop))
            for start, stop in pairwise(self.slots)
        ]
        last = self.slots[-1]
        is_coarse = bool(spans) and last != self.slots[-2] + 1
        return [*spans, spans[-1] if is_coarse else int(durations_ms[last % total])]


def plan_windows(known: Sequence[bool], window: int, loop: bool = False) -> Iterator[Window]:
    """The windows to fill, in order, until every frame is there.

    Args:
        known: which frames are given.
        window: most slots that the model takes, at least 1. Below 3 no gap can be seen whole, and
            a loop closes by chance only.
        loop: the clip is a circle.
    """
    done = list(known)
    while not all(done):
        step = _opening(done, window) if loop and sum(done) <= 1 else None
        step = step or _coarse(done, window, loop) or _fullest(done, window, loop)
        yield step
        for slot in step.make:
            done[slot % len(done)] = True


def _opening(done: list[bool], window: int) -> Window | None:
    """The first half of a loop of which at most one frame is known, coarse if it is long."""
    total = len(done)
    first = done.index(True) if any(done) else 0
    slots = range(first, first + total, _ceil(total, window))
    # Of two frames the second is the first's way out and back at once.
    kept = slots if total == 2 else slots[: len(slots) - len(slots) // 2]
    make = tuple(slot for slot in kept if not done[slot % total])
    return Window(tuple(slots), make) if make else None


def _coarse(done: list[bool], window: int, loop: bool) -> Window | None:
    """Evenly spaced slots of the first gap that no window can see whole, if there is one.

    Around it go as many known slots of the same spacing as there is room for, on both sides.
    """
    gap = next((g for g in _gaps(done, loop) if g[1] - g[0] >= window), None)
    if gap is None or window < 3:
        return None

    def known(slot: int) -> bool:
        return (loop or 0 <= slot < len(done)) and done[slot % len(done)]

    left, right = gap
    stride = _ceil(right - left, window // 2 + 1)
    make = tuple(range(left + stride, right, stride))
    slots = [left, *make, right]
    wider = True
    while wider:
        wider = [slot for slot in (slots[0] - stride, slots[-1] + stride) if known(slot)]
        wider = wider[: window - len(slots)]
        slots = sorted([*slots, *wider])
    below_zero = -min(slots[0] // len(done), 0) * len(done)  # in a loop: one turn further
    return Window(tuple(s + below_zero for s in slots), tuple(s + below_zero for s in make))


def _gaps(done: list[bool], loop: bool) -> list[tuple[int, int]]:
    """(known slot, next known slot) around every run of unknown ones that has both."""
    slots = [slot for slot, is_done in enumerate(done) if is_done]
    if loop and slots:
        slots.append(slots[0] + len(done))
    return [(left, right) for left, right in pairwise(slots) if right - left > 1]


def _fullest(done: list[bool], window: int, loop: bool) -> Window:
    """The window that adds most frames while at least half of it (or all that there is) is given.

    Among equals: the one with more context on its poorer side, then the earliest.
    """
    best, best_score = None, None
    for start in range(len(done) if loop else max(len(done) - window, 0) + 1):
        step = _window_at(start, done, window, loop)
        if not step.make:
            continue
        size, missing = len(step.slots), len(step.make)
        given = size - missing
        context = min(step.make[0] - step.slots[0], step.slots[-1] - step.make[-1])
        enough = given >= size // 2
        score = (enough, missing if enough else given, given, context, -start)
        if best_score is None or score > best_score:
            best, best_score = step, score
    assert best is not None
    return best


def _window_at(start: int, done: list[bool], window: int, loop: bool) -> Window:
    """Up to `window` slots from `start` on, less unknown ones at its edges that it can't make."""
    total = len(done)
    slots: list[int] = []
    for slot in range(start, start + window):
        again = slot - start >= total and not done[slot % total]
        if again or (slot >= total and not loop):  # an unknown frame twice, or the clip's end
            break
        slots.append(slot)
    unknown = [not done[slot % total] for slot in slots]
    if window > 1 and unknown[0] and (loop or any(done[:start])):
        slots = slots[_run(unknown) :]  # what it goes on from lies outside
    unknown = [not done[slot % total] for slot in slots]
    if window > 2 and slots and unknown[-1] and (loop or any(done[slots[-1] + 1 :])):
        slots = slots[: -_run(unknown[::-1])]  # what it leads to lies outside
    return Window(tuple(slots), tuple(slot for slot in slots if not done[slot % total]))


def _run(unknown: list[bool]) -> int:
    """Length of the run of unknown slots at the start."""
    return unknown.index(False) if False in unknown else len(unknown)


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)


# ------------------------------------------------------------------------ stages


def family_of(known: np.ndarray) -> str:
    """The family of completing a clip of which the frames `known`, bool `[F]`, are given."""
    given, hidden = np.flatnonzero(known), np.flatnonzero(~known)
    if len(given) < 2:
        return "generation"
    between = (hidden > given[0]) & (hidden < given[-1])
    return "interpolation" if between.sum() > len(hidden) / 2 else "prediction"


@dataclass(frozen=True)
class Stage:
    """One act.

    family: whose steps and guidance it takes: "drawing" or a family of tasks;
    window: None = draw the first frame; else what is moved or filled.
    """

    family: str
    window: MotionWindow | Window | None


def plan_stages(
    known: np.ndarray, *, longest: int, longest_motion: int | None, loop: bool
) -> Iterator[Stage]:
    """The stages until every frame is there.

    Args:
        known: given frames, bool `[F]`.
        longest: most frames of a window of the denoiser.
        longest_motion: most frames of a window of the motion network; None = there is none, and the
            denoiser makes every frame.
        loop: the clip is a circle.
    """
    done = known.copy()
    if longest_motion is None:
        family = family_of(known)
        for window in plan_windows(done.tolist(), longest, loop):
            yield Stage(family, window)
        return
    if not done.any():
        yield Stage(DRAWING, None)
        done[0] = True
    family = "generation" if done.sum() == 1 else "prediction"
    for move in plan_motion(done.tolist(), longest_motion, loop):
        yield Stage(family, move)
        done[[slot % len(done) for slot in move.make]] = True
    for window in plan_windows(done.tolist(), longest, loop):
        yield Stage("interpolation", window)
