"""Scores clip by clip, and what is said about many of them: a number with an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MODEL = "model"
_NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Record:
    """Scores of one method on one task of one clip.

    `true_motion` is the mean change between neighbouring frames of the true clip on white, over
    all of its steps, given frames too: how much the clip moves, whatever is hidden of it.
    """

    clip: str
    task: str
    method: str
    num_frames: int
    known: tuple[int, ...]
    seconds: float
    true_motion: float
    scores: Mapping[str, float]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """From JSON, in which NaN is None."""
        scores = {
            name: math.nan if score is None else score for name, score in values["scores"].items()
        }
        return cls(**{**values, "known": tuple(values["known"]), "scores": scores})


@dataclass(frozen=True)
class Nearness:
    """How near a generated clip and the true one come to their nearest training clips.

    Distances as in `rdtf.evaluation.memorisation`.
    """

    clip: str
    prompt: str
    generated: float
    truth: float

    @property
    def ratio(self) -> float:
        """NaN if the true clip is itself among the training clips."""
        return self.generated / self.truth if self.truth > 1e-6 else float("nan")


@dataclass(frozen=True)
class Summary:
    """A score over clips. The interval is a 95% bootstrap of the mean; NaN where n = 0."""

    n: int
    mean: float
    median: float
    ci_low: float
    ci_high: float


def summarise(values: Sequence[float]) -> Summary:
    """Mean, median and 95% bootstrap interval of the mean; values that are not finite are left out.

    The resampling has a fixed seed: the same scores print the same interval.
    """
    finite = np.array([value for value in values if math.isfinite(value)])
    if finite.size == 0:
        return Summary(0, *[float("nan")] * 4)
    low, high = interval(finite, lambda resamples: resamples.mean(axis=1))
    return Summary(finite.size, float(finite.mean()), float(np.median(finite)), low, high)


def interval(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """95% bootstrap interval of `statistic` over the rows of `values`, fixed seed.

    Args:
        values: `[N, ...]`, one row for each clip; what belongs to one clip stays together.
        statistic: resampled rows `[R, N, ...]` → `[R]`.
    """
    draws = np.random.default_rng(0).integers(len(values), size=(_NUM_RESAMPLES, len(values)))
    low, high = np.nanpercentile(statistic(values[draws]), (2.5, 97.5))
    return float(low), float(high)
