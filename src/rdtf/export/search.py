"""Finding the best that fits: first quality or colours, then frames, never the canvas or the time.

1. The best settings, with all frames.
2. If those are too large: the best settings of the ladder that fit, by bisection.
3. If not even the least settings fit: as many frames as fit with these, by bisection; then the best
   settings that fit with so many frames.
4. If the fewest frames do not fit with the least settings: no export.

Bytes need not fall at every single step for this to be safe: whatever is returned was encoded and
measured. They need to fall on the whole for it to be best.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rdtf.export.encoders import Encoder, Rung
from rdtf.export.errors import ExportError
from rdtf.export.merging import FrameMerger
from rdtf.fileio import size_text
from rdtf.stickers import Sticker

#: With fewer frames a second a clip is no animation any more, and the export is refused.
MIN_FRAMES_PER_SECOND = 5
_LADDER_SHRINKS = 12  # from the best settings to the least, about, whatever the format
_NEAR = 0.15  # as a logarithm: from a size so near, sizes a few steps away are known well enough
_FULL = 0.96  # of the limit; the next better settings take more than the rest


@dataclass(frozen=True)
class Found:
    """The result of a search: the file, how it was made, and of which frames.

    Attributes:
        data: the file.
        rung: the settings.
        keep, durations_ms: int64 [K], the frames of the clip that are shown, and how long.
        tries: how many files were encoded.
        best: what would have been used without a limit.
    """

    data: bytes
    rung: Rung
    keep: np.ndarray
    durations_ms: np.ndarray
    tries: int
    best: Rung


def search(encoder: Encoder, clip: Sticker, max_bytes: int | None, min_frames: int = 1) -> Found:
    """The best file of at most `max_bytes` for `clip`.

    Args:
        encoder: made for the frames of `clip`.
        max_bytes: None for the best settings whatever their size.
        min_frames: never fewer, unless the clip has fewer; besides `MIN_FRAMES_PER_SECOND`.

    Raises:
        ExportError: (bytes) nothing fits.
    """
    attempts = _Attempts(encoder, clip)
    if max_bytes is None:
        return attempts.encode(clip.num_frames, 0)
    # An exact rung is of another kind than those after it and says nothing about their sizes.
    if encoder.ladder[0].exact and not attempts.is_hopeless(0, max_bytes):
        exact = attempts.encode(clip.num_frames, 0)
        if len(exact.data) <= max_bytes:
            return exact
    found = _best_rung(attempts, clip.num_frames, max_bytes)
    if len(found.data) <= max_bytes:
        return found
    fewest = _fewest_frames(clip, min_frames)
    found = _most_frames(attempts, found, fewest, max_bytes)
    if len(found.data) > max_bytes:
        raise ExportError(
            "bytes",
            f"even with {found.rung.words} and {fewest} of {clip.num_frames} frames it is "
            f"{size_text(len(found.data))}, more than {size_text(max_bytes)}; "
            "make the clip shorter or simpler",
        )
    return _best_rung(attempts, len(found.keep), max_bytes)


def _fewest_frames(clip: Sticker, min_frames: int) -> int:
    by_rate = math.ceil(clip.total_ms * MIN_FRAMES_PER_SECOND / 1000)
    return min(clip.num_frames, max(2, min_frames, by_rate))


def _best_rung(attempts: _Attempts, num_frames: int, max_bytes: int) -> Found:
    """The best lossy rung that fits, with so many frames; if none does, the last, too large."""
    ladder = attempts.encoder.ladder
    top = 1 if ladder[0].exact else 0
    num_steps = len(ladder) - top

    def encode(step: int, is_draft: bool = False) -> Found:
        return attempts.encode(num_frames, top + step, is_draft)

    if ladder[top].quick is None:
        return _first_that_fits(encode, num_steps, max_bytes, _LADDER_SHRINKS)
    # Drafts cost a fraction of the time and tell where to look.
    drafts = _sketch(lambda step: len(encode(step, is_draft=True).data), num_steps, max_bytes)
    return _guided(encode, drafts, num_steps, max_bytes)


def _sketch(draft: Callable[[int], int], num_steps: int, max_bytes: int) -> dict[int, int]:
    """Sizes of at most three drafts: of step 0 and of steps near the first that may fit."""
    sizes = {0: draft(0)}
    for _ in range(2):
        step = _first_below(_curve(sizes, num_steps), max_bytes)
        if step in sizes:
            break
        sizes[step] = draft(step)
        if abs(math.log(sizes[step] / max_bytes)) < _NEAR:
            break
    return sizes


def _guided(
    encode: Callable[[int], Found], drafts: dict[int, int], num_steps: int, max_bytes: int
) -> Found:
    """Like `_first_that_fits`, by the sizes of drafts at some steps.

    How much smaller files are than drafts hardly changes from step to step, and the first file
    shows it.
    """
    curve = _curve(drafts, num_steps)
    step = _first_below(curve, max_bytes)
    found = attempt = encode(step)
    second = _first_below(curve + math.log(len(found.data)) - curve[step], max_bytes)
    if len(found.data) <= max_bytes and second < step:
        attempt = encode(second)
        if len(attempt.data) <= max_bytes:
            found = attempt
    elif len(found.data) > max_bytes and step + 1 < num_steps:
        step = max(second, step + 1)
        found = attempt = encode(step)
    while len(found.data) > max_bytes and step + 1 < num_steps:
        step += 1
        found = attempt = encode(step)
    return dataclasses.replace(found, tries=attempt.tries)


def _curve(sizes: dict[int, int], num_steps: int) -> np.ndarray:
    """Logarithms of the sizes at all steps, float64, from the sizes at some."""
    known = sorted(sizes)
    slope = math.log(_LADDER_SHRINKS) / num_steps
    beyond = np.maximum(np.arange(num_steps) - known[-1], 0)
    inside = np.interp(np.arange(num_steps), known, np.log([sizes[step] for step in known]))
    return inside - slope * beyond


def _first_below(curve: np.ndarray, max_bytes: int) -> int:
    """The first step whose size is at most `max_bytes`, else the last."""
    fitting = np.flatnonzero(curve <= math.log(max_bytes))
    return int(fitting[0]) if fitting.size else len(curve) - 1


def _most_frames(attempts: _Attempts, all_frames: Found, fewest: int, max_bytes: int) -> Found:
    """As many frames as fit with the last rung; if none do, the fewest, too large."""
    most, last = len(all_frames.keep), len(attempts.encoder.ladder) - 1
    return _first_that_fits(
        lambda step: all_frames if step == 0 else attempts.encode(most - step, last),
        most - fewest + 1,
        max_bytes,
        most / fewest,
    )


def _first_that_fits(
    encode: Callable[[int], Found],
    num_steps: int,
    max_bytes: int,
    shrinks: float,
) -> Found:
    """The first of the steps 0 to `num_steps` - 1 whose file fits, or the last step's, too large.

    Files shrink from step to step on the whole, to a part in `shrinks` in all, as it is expected.
    Every other guess is where a straight line between the logarithms of the known sizes meets the
    limit, which is mostly near; the others halve what is left. A file that nearly fills the limit
    is good enough.
    """
    found = encode(0)
    if len(found.data) <= max_bytes or num_steps == 1:
        return found
    low, high, best = 0, num_steps, None  # too large at `low`; it fits at `high`, if that exists
    low_size = math.log(len(found.data))
    high_size = low_size - math.log(max(shrinks, 1.01))
    guesses = True
    while high - low > 1:
        middle = (low + high) // 2
        if guesses and low_size > high_size:
            share = (low_size - math.log(max_bytes)) / (low_size - high_size)
            middle = min(max(low + math.ceil(share * (high - low)), low + 1), high - 1)
        guesses = not guesses
        found = encode(middle)
        size = math.log(len(found.data))
        if len(found.data) > max_bytes:
            low, low_size = middle, size
        else:
            high, high_size, best = middle, size, found
            if len(found.data) > max_bytes * _FULL:
                break
    return dataclasses.replace(best or found, tries=found.tries)


class _Attempts:
    """Encodes choices of frames at rungs; counts."""

    def __init__(self, encoder: Encoder, clip: Sticker) -> None:
        self.encoder, self._clip = encoder, clip
        self._merger: FrameMerger | None = None
        self._tries = 0

    def encode(self, num_frames: int, rung: int, is_draft: bool = False) -> Found:
        keep, durations = self._choose(num_frames)
        settings = self.encoder.ladder[rung]
        data = self._encode(keep, durations, settings.draft() if is_draft else settings)
        best = self.encoder.ladder[0]
        return Found(data, settings, keep, durations, self._tries, best)

    def is_hopeless(self, rung: int, max_bytes: int) -> bool:
        """Whether a quick look shows that a rung is too large; spares coding all of it slowly.

        A quarter of a long clip may be too large already, or a draft may be so by more than what
        drafts are larger.
        """
        settings, count = self.encoder.ladder[rung], self._clip.num_frames
        if count >= 16:
            return len(self._encode(*self._first(count // 4), settings)) > max_bytes
        if settings.quick is None:
            return False
        draft = self._encode(*self._choose(count), settings.draft())
        return len(draft) > max_bytes * settings.quick_excess

    def _encode(self, keep: np.ndarray, durations_ms: np.ndarray, rung: Rung) -> bytes:
        self._tries += 1
        return self.encoder.encode(keep, durations_ms, rung)

    def _first(self, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(num_frames), self._clip.durations_ms[:num_frames]

    def _choose(self, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
        if num_frames == self._clip.num_frames:
            return np.arange(num_frames), self._clip.durations_ms
        if self._merger is None:
            self._merger = FrameMerger(self._clip)
        return self._merger.keep(num_frames)
