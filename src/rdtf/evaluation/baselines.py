"""What costs nothing: rows that a model has to beat.

A baseline is a function `(truth, known) -> Sticker` that reads only the known frames of `truth`
and returns them unchanged with the others filled in. Those in `BASELINES` are in every table and
report; `way_back` is a row of predictions, `optical_flow` needs a package of its own.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from rdtf.errors import ConfigError
from rdtf.evaluation.tasks import hidden_frames
from rdtf.stickers import Sticker

Baseline = Callable[[Sticker, Sequence[int]], Sticker]
_Between = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
NEAREST, BLEND, WAY_BACK = "nearest frame", "linear blend", "way back"


def nearest_frame(truth: Sticker, known: Sequence[int]) -> Sticker:
    """Each hidden frame repeats the given frame with the nearest index; the earlier on a tie."""
    frames = truth.frames.copy()
    given = np.sort(_given_indices(known))
    for index in hidden_frames(truth.num_frames, known):
        frames[index] = truth.frames[given[np.abs(given - index).argmin()]]
    return truth.replace(frames=frames)


def linear_blend(truth: Sticker, known: Sequence[int]) -> Sticker:
    """Each hidden frame cross-fades the given frames around it; beyond the ends the nearest one.

    Weights are linear in the frame index, not in time: the frames of a sticker are drawings, and a
    drawing that is held longer is not further away.
    """
    return _filled(truth, known, lambda a, b, weight: (1 - weight) * a + weight * b)


def _filled(truth: Sticker, known: Sequence[int], between: _Between) -> Sticker:
    """Hidden frames made from the two given ones around them, premultiplied: colours under
    transparent pixels do not bleed in."""
    premultiplied = truth.premultiplied()
    given = np.sort(_given_indices(known))
    hidden = hidden_frames(truth.num_frames, known)
    made = np.empty((len(hidden), *premultiplied.shape[1:]), dtype=np.float32)
    for slot, index in enumerate(hidden):
        before, after, weight = _neighbours(given, index)
        pair = premultiplied[before], premultiplied[after]
        made[slot] = pair[0] if before == after else between(*pair, weight)
    frames = truth.frames.copy()
    frames[hidden] = Sticker.from_premultiplied(made, truth.durations_ms[hidden]).frames
    return truth.replace(frames=frames)


def _neighbours(given: np.ndarray, index: int) -> tuple[int, int, float]:
    """Given frames before and after `index`, and the weight of the one after."""
    right = int(np.searchsorted(given, index))
    before, after = int(given[max(right - 1, 0)]), int(given[min(right, len(given) - 1)])
    weight = (index - before) / (after - before) if before < index < after else 0.0
    return (before, after, weight) if before < index else (after, after, 0.0)


def _given_indices(known: Sequence[int]) -> np.ndarray:
    """`known` as an array; nothing given is refused."""
    if len(known) == 0:
        raise ConfigError("baselines need at least one given frame; text to clip has none")
    return np.asarray(known, dtype=np.int64)


BASELINES: dict[str, Baseline] = {NEAREST: nearest_frame, BLEND: linear_blend}


def way_back(truth: Sticker, known: Sequence[int]) -> Sticker:
    """The given frames played back and forth: stickers swing and loop. See `is_continued`."""
    frames, given = truth.frames.copy(), np.sort(_given_indices(known))
    last = len(given) - 1
    for index in hidden_frames(truth.num_frames, known):
        round_trip = (index - given[0]) % (2 * last)
        frames[index] = truth.frames[given[0] + min(round_trip, 2 * last - round_trip)]
    return truth.replace(frames=frames)


def is_continued(known: Sequence[int]) -> bool:
    """Whether several neighbouring frames are given, and all others lie before or behind them."""
    return len(known) > 1 and max(known) - min(known) == len(known) - 1


OPTICAL_FLOW = "optical flow"
MISSING = "the row 'optical flow' is left out: it needs pip install 'rdtf[flow]'"


def optical_flow_rows() -> dict[str, Baseline]:
    """The row by its name, or nothing without OpenCV."""
    return {OPTICAL_FLOW: optical_flow} if importlib.util.find_spec("cv2") else {}


def optical_flow(truth: Sticker, known: Sequence[int]) -> Sticker:
    """Each hidden frame: the given frames around it, moved to it and cross-faded.

    Beyond the ends the nearest given frame, as in `linear_blend`.
    """
    with _one_thread() as cv2:
        return _filled(truth, known, functools.partial(_between, cv2))


@contextmanager
def _one_thread() -> Iterator[Any]:
    """OpenCV on one thread: it shares its work out by their number, and so would the result."""
    import cv2  # pyright: ignore[reportMissingImports]

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield cv2
    finally:
        cv2.setNumThreads(threads)


def _between(cv2: Any, a: np.ndarray, b: np.ndarray, weight: float) -> np.ndarray:
    """The frame at `weight` (0 to 1) of the way from `a` to `b`, premultiplied `[H,W,4]`."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey_a, grey_b = _grey(a), _grey(b)
    there, back = dis.calc(grey_a, grey_b, None), dis.calc(grey_b, grey_a, None)
    to_a = -(1 - weight) * weight * there + weight**2 * back
    to_b = (1 - weight) ** 2 * there - weight * (1 - weight) * back
    return (1 - weight) * _warp(cv2, a, to_a) + weight * _warp(cv2, b, to_b)


def _grey(frame: np.ndarray) -> np.ndarray:
    """Luma on white, uint8 `[H,W]`."""
    on_white = frame[..., :3] + 1 - frame[..., 3:]
    return (255 * on_white @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)


def _warp(cv2: Any, frame: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """`frame` looked up at each pixel plus `flow` `[H,W,2]` (x, y, pixels)."""
    rows, columns = np.indices(frame.shape[:2], dtype=np.float32)
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    places = x.astype(np.float32), y.astype(np.float32)
    return cv2.remap(frame, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
