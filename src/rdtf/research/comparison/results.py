"""From scores of clips and seeds to numbers with intervals.

Clips differ far more than methods do, and seeds differ too. Intervals are 95 % percentiles of a
bootstrap that draws seeds and clips anew, each on its own, with a fixed seed of its own; with one
seed they are over clips only. So are medians, of ratios. Differences are taken clip by clip and
seed by seed before that.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rdtf.evaluation.metrics import METRICS, Metric
from rdtf.evaluation.results import Estimate
from rdtf.evaluation.sets import pair_terms, set_distance
from rdtf.research.comparison.clips import TASKS
from rdtf.research.comparison.scoring import Scores, json_numbers

SET_DISTANCE = "set_distance"
TRAIN_DISTANCE = "train_distance_ratio"
COMPARED = {
    **METRICS,
    SET_DISTANCE: Metric(
        "set distance", "lower", 3, "unbiased squared MMD on random convolutional features"
    ),
    TRAIN_DISTANCE: Metric(
        "train distance", "one", 2, "to the nearest training clip, over the true clip's"
    ),
}
_NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Group:
    """Scores of one method at one point, seed by seed; all over the same clips.

    name: of the row; method, point: of the runs, "" for baselines.
    """

    name: str
    label: str
    by_seed: Mapping[int, Scores] = field(default_factory=dict)
    method: str = ""
    point: str = ""

    def values(self, task: str, metric: str, seeds: Sequence[int] | None = None) -> np.ndarray:
        """`[S, N]`: seeds × clips; NaN where a clip has no such score."""
        rows = [
            [
                math.nan if row["scores"][metric] is None else row["scores"][metric]
                for row in self.by_seed[seed].rows
                if row["task"] == task
            ]
            for seed in (self.by_seed if seeds is None else seeds)
        ]
        return np.array(rows, dtype=np.float64)

    def features(self, task: str, seeds: Sequence[int] | None = None) -> list[np.ndarray]:
        chosen = self.by_seed if seeds is None else seeds
        return [self.by_seed[seed].features[task].astype(np.float64) for seed in chosen]


# --------------------------------------------------------------------------- statistics


def _draws(seeds: int, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the seeds `[R, S]` and of the clips `[R, N]` in each resample."""
    generator = np.random.default_rng(0)
    return (generator.integers(seeds, size=(_NUM_RESAMPLES, seeds)),
            generator.integers(clips, size=(_NUM_RESAMPLES, clips)))  # fmt: skip


def _bootstrap(values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    """`statistic` (`[R, S, N]` → `[R]`) of `[S, N]`, and over resamples of seeds and clips."""
    if not np.isfinite(values).any():
        return Estimate()
    seeds, clips = _draws(*values.shape)
    with warnings.catch_warnings():  # a mean of nothing is NaN, and does not count
        warnings.simplefilter("ignore", RuntimeWarning)
        resampled = statistic(values[seeds[:, :, None], clips[:, None, :]])
        value = float(statistic(values[None])[0])
    return Estimate(value, *_percentiles(resampled))


def mean_estimate(values: np.ndarray) -> Estimate:
    """Mean of `[S, N]` over what is finite."""
    return _bootstrap(values, lambda rows: np.nanmean(rows, axis=(1, 2)))


def median_estimate(values: np.ndarray) -> Estimate:
    """Median over clips of each clip's mean over seeds, of `[S, N]`; where finite."""
    return _bootstrap(values, lambda rows: np.nanmedian(np.nanmean(rows, axis=1), axis=1))


def distance_estimate(terms: np.ndarray) -> Estimate:
    """Set distance from the pair terms of each seed, `[S, N, N]`: their mean."""
    seeds, clips = _draws(len(terms), terms.shape[1])
    counts = (clips[:, :, None] == np.arange(terms.shape[1])).sum(axis=1)
    by_seed = np.stack([set_distance(one, counts) for one in terms], axis=1)
    resampled = np.take_along_axis(by_seed, seeds, axis=1).mean(axis=1)
    value = float(np.mean([set_distance(one) for one in terms]))
    return Estimate(value, *_percentiles(resampled))


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


# -------------------------------------------------------------------------------- rows


def estimate(group: Group, task: str, metric: str, truth: np.ndarray) -> Estimate:
    """One cell: of the motion and distance ratios the median, of all others the mean.

    truth: scaled features of the true clips of that task.
    """
    if metric == SET_DISTANCE:
        return distance_estimate(_terms(group.features(task), truth))
    values = group.values(task, metric)
    return (median_estimate if COMPARED[metric].better == "one" else mean_estimate)(values)


def difference(group: Group, other: Group, task: str, metric: str, truth: np.ndarray) -> Estimate:
    """`group` minus `other` on the same clips and seeds; what has no seed counts for each."""
    seeds, others = _matched(group, other)
    if not seeds:
        return Estimate()
    if metric == SET_DISTANCE:
        first = _terms(group.features(task, seeds), truth)
        return distance_estimate(first - _terms(other.features(task, others), truth))
    return mean_estimate(group.values(task, metric, seeds) - other.values(task, metric, others))


def _terms(features: Sequence[np.ndarray], truth: np.ndarray) -> np.ndarray:
    return np.stack([pair_terms(rows, truth) for rows in features])


NO_SEED = -1  # baselines have none


def _matched(group: Group, other: Group) -> tuple[list[int], list[int]]:
    """Seeds that both have, as each of them names them."""
    if NO_SEED in other.by_seed:
        return list(group.by_seed), [NO_SEED] * len(group.by_seed)
    common = [seed for seed in group.by_seed if seed in other.by_seed]
    return common, common


def summary(groups: Sequence[Group], truth: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """All cells as JSON values."""
    return [
        {
            "task": task,
            "method": group.name,
            "seeds": [seed for seed in group.by_seed if seed != NO_SEED],
            "clips": len(truth[task]),
            "scores": {
                metric: json_numbers(vars(estimate(group, task, metric, truth[task])))
                for metric in COMPARED
            },
        }
        for task in TASKS
        for group in groups
    ]
