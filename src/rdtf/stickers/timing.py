"""Durations: browsers' rules for nonsense, and rounding that keeps the total."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: How long a frame without a usable duration is shown: what browsers do.
DEFAULT_DURATION_MS = 100
_GIF_MIN_CS = 2  # 50 frames a second is the fastest that browsers play a GIF


def whole_durations(exact_ms: Sequence[float] | np.ndarray, *, ignored_ms: float = 0) -> np.ndarray:
    """What players show: integer milliseconds, int64 [F], each >= 1.

    Frames of at most `ignored_ms` last `DEFAULT_DURATION_MS`; otherwise as `rounded_durations`.
    """
    exact = np.asarray(exact_ms, dtype=np.float64)
    exact = np.where(exact > ignored_ms, exact, DEFAULT_DURATION_MS)
    return np.maximum(rounded_durations(exact), 1)


def rounded_durations(exact_ms: Sequence[float] | np.ndarray) -> np.ndarray:
    """Integer milliseconds, int64 [F], whose sum is the rounded sum of `exact_ms`.

    The running total is rounded, not each frame, so 60 frames a second stay 60 a second.
    """
    ends = np.rint(np.cumsum(np.asarray(exact_ms, np.float64))).astype(np.int64)
    return np.diff(ends, prepend=0)


def gif_delays_cs(durations_ms: np.ndarray) -> np.ndarray:
    """GIF delays in hundredths of a second, int64 [F], each >= 2.

    The total is that of `durations_ms` to 10 ms: rounding errors are carried on, and what raising
    very short frames to 20 ms adds is taken from the longest frames, as far as they have it.
    """
    ends = np.rint(np.cumsum(durations_ms) / 10).astype(np.int64)
    delays = np.maximum(np.diff(ends, prepend=0), _GIF_MIN_CS)
    for _ in range(int(delays.sum() - ends[-1])):
        longest = int(delays.argmax())
        if delays[longest] <= _GIF_MIN_CS:
            break
        delays[longest] -= 1
    return delays
