"""What costs nothing: rows that a model has to beat.

A baseline is a function `(truth, known) -> Sticker` that reads only the known frames of `truth`
and returns them unchanged with the others filled in. Those in `BASELINES` are in every table and
report; `optical_flow` has one more that needs a package of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rdtf.errors import ConfigError
from rdtf.evaluation.tasks import hidden_frames
from rdtf.stickers import Sticker

Baseline = Callable[[Sticker, Sequence[int]], Sticker]
NEAREST, BLEND = "nearest frame", "linear blend"


def nearest_frame(truth: Sticker, known: Sequence[int]) -> Sticker:
    """Each hidden frame repeats the given frame with the nearest index; the earlier on a tie."""
    frames = truth.frames.copy()
    given = np.sort(given_indices(known))
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
    given = np.sort(given_indices(known))
    hidden = hidden_frames(truth.num_frames, known)
    blended = np.empty((len(hidden), *premultiplied.shape[1:]), dtype=np.float32)
    for slot, index in enumerate(hidden):
        before, after, weight = neighbours(given, index)
        blended[slot] = (1 - weight) * premultiplied[before] + weight * premultiplied[after]
    frames = truth.frames.copy()
    frames[hidden] = Sticker.from_premultiplied(blended, truth.durations_ms[hidden]).frames
    return truth.replace(frames=frames)


def neighbours(given: np.ndarray, index: int) -> tuple[int, int, float]:
    """Given frames before and after `index`, and the weight of the one after."""
    right = int(np.searchsorted(given, index))
    before, after = int(given[max(right - 1, 0)]), int(given[min(right, len(given) - 1)])
    weight = (index - before) / (after - before) if before < index < after else 0.0
    return (before, after, weight) if before < index else (after, after, 0.0)


def given_indices(known: Sequence[int]) -> np.ndarray:
    """`known` as an array; nothing given is refused."""
    if len(known) == 0:
        raise ConfigError("baselines need at least one given frame; text to clip has none")
    return np.asarray(known, dtype=np.int64)


BASELINES: dict[str, Baseline] = {NEAREST: nearest_frame, BLEND: linear_blend}
