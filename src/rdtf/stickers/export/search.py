"""Finding the best that fits: what is given up, in which order, until the file is small enough.

The order is a chain of steps, each a choice of settings and of frames:

1. exact pixels, where the format has them, with all frames;
2. settings from best to good, with all frames;
3. good settings, with fewer and fewer frames, down to 15 a second;
4. settings from good to least;
5. the least settings, down to 5 frames a second;

and then the export is refused. The canvas and the time are not in the chain.

Files get smaller along the chain on the whole, so the first step that fits is found by bisection;
where an encoder can estimate its files in a fraction of the time, by estimates first. Whatever is
returned was encoded and measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rdtf.fileio import size_text
from rdtf.stickers import Sticker
from rdtf.stickers.export.encoders import Encoder, QualityStep
from rdtf.stickers.export.platforms import ExportError
from rdtf.stickers.export.prepare import FrameMerger

#: Above this nobody sees a difference, and rounding alone decides the number.
#: Frames a second that are kept before settings get worse than good, and before it is refused.
SMOOTH_RATE, LEAST_RATE = 15, 5
_FULL = 0.9  # of the limit: what the next better step would take is more than the rest
_NEAR = 0.85  # an estimate so near the limit tells enough about the steps around it
_MAX_FILES = 6  # whole files made to come near the limit
_SHRINKS = 12  # from the best settings to the least, about, whatever the format


@dataclass(frozen=True)
class Found:
    """The result of a search: the file, how it was made, and of which frames."""

    data: bytes  # the file
    quality: QualityStep  # the settings
    best: QualityStep  # what would have been used without a limit
    # keep, durations_ms: int64 [K], the frames of the clip that are shown, and how long
    keep: np.ndarray
    durations_ms: np.ndarray
    tries: int  # how many files, or parts of files, were encoded


def search(encoder: Encoder, clip: Sticker, max_bytes: int | None, min_frames: int = 1) -> Found:
    """The best file of at most `max_bytes` for `clip`.

    Args:
        encoder: made for the frames of `clip`.
        max_bytes: None for the best settings whatever their size.
        min_frames: never fewer, unless the clip has fewer.

    Raises:
        ExportError: (bytes) nothing fits.
    """
    attempts = _Attempts(encoder, clip, min_frames)
    if max_bytes is None:
        return attempts.encode(0)
    best = encoder.ladder[0]
    if best.exact and attempts.estimate(0) <= max_bytes * best.uncertainty:
        exact = attempts.encode(0)
        if len(exact.data) <= max_bytes:
            return exact
    found = _search_chain(attempts, 1 if best.exact else 0, max_bytes)
    if len(found.data) > max_bytes:
        raise ExportError(
            "bytes",
            f"even with {found.quality.words} and {len(found.keep)} of {clip.num_frames} frames "
            f"the file has {size_text(len(found.data))}, more than {size_text(max_bytes)}; "
            "make the clip shorter or simpler",
        )
    return replace(found, tries=attempts.tries)


def _search_chain(attempts: _Attempts, first: int, max_bytes: int) -> Found:
    """The file of the first step from `first` on that fits, or of the last step, too large.

    Estimates tell where to look; how far they are off is learned from each file that is made.
    """
    last = len(attempts.chain) - 1
    steps = np.arange(first, last + 1)
    curve = _curve(_sample(attempts.estimate, first, last, max_bytes), steps)
    errors: dict[int, float] = {}  # logarithms of how far the curve is off
    low, high = first - 1, last + 1  # files of `low` are too large, those of `high` fit
    best = None
    for number in range(_MAX_FILES):
        known = sorted(errors)
        off = np.interp(steps, known, [errors[at] for at in known]) if known else 0.0
        below = np.flatnonzero(curve + off <= math.log(max_bytes) + 1e-9)
        step = int(steps[below[0]]) if below.size else last
        if number >= 2 and best is not None and number % 2 == 0:
            step = (low + high) // 2
        step = min(max(step, low + 1), high - 1)
        attempt = attempts.encode(step)
        errors[step] = math.log(len(attempt.data)) - curve[step - first]
        if len(attempt.data) <= max_bytes:
            high, best = step, attempt
        else:
            low = step
        if high - low <= 1 or (best and len(best.data) > max_bytes * _FULL):
            break
    return best or attempts.encode(last)


def _sample(size: Callable[[int], float], first: int, last: int, goal: float) -> dict[int, float]:
    """Sizes at some steps, enough to tell where they fall below `goal`.

    Interpolation and bisection in turn: where a straight line between the logarithms of the known
    sizes meets the goal, which is mostly near, or the middle. A size near the goal ends it.
    """
    sizes = {first: size(first)}
    low, high = first, last + 1  # too large at `low`; small enough at `high`, which may not exist
    low_size = math.log(sizes[first])
    high_size = low_size - math.log(_SHRINKS)
    is_interpolated = True
    while high - low > 1 and sizes[first] > goal:
        middle = (low + high) // 2
        if is_interpolated and low_size > high_size:
            share = (low_size - math.log(goal)) / (low_size - high_size)
            middle = min(max(low + math.ceil(share * (high - low)), low + 1), high - 1)
        is_interpolated = not is_interpolated
        sizes[middle] = size(middle)
        if sizes[middle] > goal:
            low, low_size = middle, math.log(sizes[middle])
        else:
            high, high_size = middle, math.log(sizes[middle])
        if _NEAR < sizes[middle] / goal < 1 / _NEAR:
            break
    return sizes


def _curve(sizes: dict[int, float], steps: np.ndarray) -> np.ndarray:
    """Logarithms of the sizes at `steps`, float64, from the sizes at some of them."""
    known = sorted(sizes)
    curve = np.interp(steps, known, np.log([sizes[step] for step in known]))
    slope = math.log(_SHRINKS) / len(steps)  # beyond what is known
    return curve - slope * np.maximum(steps - known[-1], 0)


class _Attempts:
    """The steps of the chain, and the files made at some of them; counts what was encoded."""

    def __init__(self, encoder: Encoder, clip: Sticker, min_frames: int) -> None:
        self._encoder, self._clip = encoder, clip
        self.chain = _chain(encoder, clip, min_frames)
        self._files: dict[int, Found] = {}
        self._estimates: dict[int, float] = {}
        self.tries = 0

    def encode(self, step: int) -> Found:
        """The file of a step."""
        if step not in self._files:
            keep, durations, quality = self._choose(step)
            data = self._encoder.encode(keep, durations, quality)
            self.tries += 1
            best = self._encoder.ladder[0]
            self._files[step] = Found(data, quality, best, keep, durations, self.tries)
        return self._files[step]

    def estimate(self, step: int) -> float:
        """About its size; the size itself where the encoder has no quicker way."""
        if step not in self._estimates:
            size = self._encoder.estimate(*self._choose(step))
            self.tries += size is not None
            self._estimates[step] = len(self.encode(step).data) if size is None else size
        return self._estimates[step]

    def _choose(self, step: int) -> tuple[np.ndarray, np.ndarray, QualityStep]:
        num_frames, place = self.chain[step]
        quality = self._encoder.ladder[place]
        if num_frames == self._clip.num_frames:
            return np.arange(num_frames), self._clip.durations_ms, quality
        return *self._merger.keep(num_frames), quality

    @cached_property
    def _merger(self) -> FrameMerger:
        return FrameMerger(self._clip)


def _chain(encoder: Encoder, clip: Sticker, min_frames: int) -> list[tuple[int, int]]:
    """(number of frames, place on the ladder) of each step, as the head of this file has them."""
    everything, last = clip.num_frames, len(encoder.ladder) - 1
    good = max(index for index, quality in enumerate(encoder.ladder) if quality.good)
    smooth, least = (
        min(everything, max(2, min_frames, math.ceil(clip.total_ms * rate / 1000)))
        for rate in (SMOOTH_RATE, LEAST_RATE)
    )
    return [
        *((everything, place) for place in range(good + 1)),
        *((count, good) for count in range(everything - 1, smooth - 1, -1)),
        *((smooth, place) for place in range(good + 1, last + 1)),
        *((count, last) for count in range(smooth - 1, least - 1, -1)),
    ]
