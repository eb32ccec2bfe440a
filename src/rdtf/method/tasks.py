"""The six tasks and their condition masks (paper Table 7).

One model does all of them; they differ only in which frames are given. The released code draws one
task per batch and can draw masks that give nothing or hide nothing (see docs/method.md); here every
sample draws its own, and only pairs of (task, length) that leave something to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

TASKS = (
    "t2v",
    "i2v",
    "it2v",
    "interpolation",
    "pre_frame_prediction",
    "post_frame_prediction",
)
FAMILY = {
    "t2v": "generation",
    "i2v": "generation",
    "it2v": "generation",
    "interpolation": "interpolation",
    "pre_frame_prediction": "prediction",
    "post_frame_prediction": "prediction",
}
FAMILIES = ("generation", "interpolation", "prediction")

# Fewest frames at which a task has something given (unless it is t2v) and something hidden.
MIN_FRAMES = {
    "t2v": 1,
    "i2v": 2,
    "it2v": 2,
    "interpolation": 2,
    "pre_frame_prediction": 2,
    "post_frame_prediction": 2,
}


@dataclass(frozen=True)
class TaskDraw:
    """One sample's task: its name, its given frames `bool [F]`, and whether the text is used."""

    task: str
    given: np.ndarray
    use_text: bool


def condition_mask(task: str, num_frames: int, generator: np.random.Generator) -> np.ndarray:
    """Given frames `bool [F]` of one draw of `task` for a clip of `num_frames` valid frames.

    Raises `ValueError` for a pair that would give or hide nothing.
    """
    if num_frames < MIN_FRAMES[task]:
        raise ValueError(f"task {task} needs {MIN_FRAMES[task]} frames, the clip has {num_frames}")
    given = np.zeros(num_frames, dtype=bool)
    if task in ("i2v", "it2v"):
        given[generator.integers(num_frames)] = True
    elif task == "interpolation":
        given[:] = _every_nth(num_frames, generator)
    elif task == "pre_frame_prediction":
        given[_num_hidden(num_frames, generator) :] = True
    elif task == "post_frame_prediction":
        given[: num_frames - _num_hidden(num_frames, generator)] = True
    return given


def _every_nth(num_frames: int, generator: np.random.Generator) -> np.ndarray:
    """Every 2nd or 3rd frame, in any phase: 0101…, 1010…, 100100… (period 3 from 4 frames on)."""
    period = int(generator.integers(2, 4)) if num_frames >= 4 else 2
    # A phase beyond the clip's end would give nothing.
    phase = int(generator.integers(min(period, num_frames)))
    return np.arange(num_frames) % period == phase


def _num_hidden(num_frames: int, generator: np.random.Generator) -> int:
    """How many frames to predict: 1 to half + 1, always leaving one that is given."""
    return int(generator.integers(1, min(num_frames // 2 + 1, num_frames - 1) + 1))


def draw_task(
    num_frames: int, weights: Mapping[str, float], generator: np.random.Generator
) -> TaskDraw:
    """Draw a task for a clip of `num_frames ≥ 1` frames by the curriculum's `weights`.

    Tasks that would be degenerate at this length are left out; a single image is always t2v
    (text → image).
    """
    possible = [task for task in TASKS if num_frames >= MIN_FRAMES[task]]
    shares = np.array([max(weights.get(task, 0.0), 0.0) for task in possible])
    if shares.sum() == 0:
        shares = np.ones(len(possible))
    task = possible[generator.choice(len(possible), p=shares / shares.sum())]
    return TaskDraw(task, condition_mask(task, num_frames, generator), use_text=task != "i2v")
