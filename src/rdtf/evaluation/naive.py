"""What costs nothing: rows that a model has to beat.

A naive row is a function `(truth, known) -> Sticker` that reads only the known frames of `truth`
and returns them unchanged with the others filled in. Add one (optical flow, say) to `NAIVE_ROWS`
and it appears in every table and report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rdtf.errors import ConfigError
from rdtf.evaluation.tasks import hidden_frames
from rdtf.stickers import Sticker

NaiveRow = Callable[[Sticker, Sequence[int]], Sticker]


def nearest_frame(truth: Sticker, known: Sequence[int]) -> Sticker:
    """Each hidden frame repeats the given frame with the nearest index; the earlier on a tie."""
    frames = truth.frames.copy()
    given = np.sort(_given(known))
    for index in hidden_frames(truth.num_frames, known):
        frames[index] = truth.frames[given[np.abs(given - index).argmin()]]
    return truth.replace(frames=frames)


def linear_blend(truth: Sticker, known: Sequence[int]) -> Sticker:
    """Each hidden frame cross-fades the given frames around it; beyond the ends the nearest one.

    Weights are linear in the frame index, not in time: the frames of a sticker are drawings, and a
    drawing that is held longer is not further away. Blended premultiplied, so that colours under
    transparent pixels do not bleed in.
    """
    premultiplied = truth.premultiplied()
    given = np.sort(_given(known))
    hidden = hidden_frames(truth.num_frames, known)
    blended = np.empty((len(hidden), *premultiplied.shape[1:]), dtype=np.float32)
    for slot, index in enumerate(hidden):
        before, after, weight = _neighbours(given, index)
        blended[slot] = (1 - weight) * premultiplied[before] + weight * premultiplied[after]
    frames = truth.frames.copy()
    frames[hidden] = Sticker.from_premultiplied(blended, truth.durations_ms[hidden]).frames
    return truth.replace(frames=frames)


def _neighbours(given: np.ndarray, index: int) -> tuple[int, int, float]:
    """Given frames before and after `index`, and the weight of the one after."""
    right = int(np.searchsorted(given, index))
    before, after = int(given[max(right - 1, 0)]), int(given[min(right, len(given) - 1)])
    weight = (index - before) / (after - before) if before < index < after else 0.0
    return (before, after, weight) if before < index else (after, after, 0.0)


def _given(known: Sequence[int]) -> np.ndarray:
    if len(known) == 0:
        raise ConfigError("naive rows need at least one given frame; text to clip has none")
    return np.asarray(known, dtype=np.int64)


NAIVE_ROWS: dict[str, NaiveRow] = {"nearest frame": nearest_frame, "linear blend": linear_blend}
