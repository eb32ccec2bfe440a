"""From scores of clips, seeds and budgets to curves, differences and crossovers with intervals.

Clips differ far more than methods do, and seeds differ too. Everything is paired by clip and seed;
intervals are 95 % percentiles of a bootstrap that draws seeds and clips anew, each on its own, with
fixed draws of its own. With one seed they are over clips only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rdtf.evaluation.results import Estimate
from rdtf.fileio import read_json
from rdtf.research.comparison.methods import METHODS
from rdtf.research.comparison.scoring import COMPARED, Scores

_NUM_RESAMPLES = 10_000
_NO_SEED = -1  # baselines have none, and count for each


@dataclass(frozen=True)
class Row:
    """A method with its base, or a baseline: point → seed → scores, all over the same clips.

    runs: result of each seed; empty for baselines, which are the same at every point.
    """

    name: str
    label: str
    runs: Mapping[int, Mapping[str, Any]]
    baseline: Scores | None = None

    @property
    def points(self) -> list[int]:
        """Those that some seed has reached, rising; 0 is before training."""
        return sorted({int(point) for run in self.runs.values() for point in run["points"]})

    @property
    def metrics(self) -> set[str]:
        """What was measured at some point."""
        scored = [one for point in self.points or [0] for one in self.scores(point).values()]
        return {metric for one in scored for task in one.values() for metric in task}

    def scores(self, point: int) -> dict[int, Scores]:
        """Seed → scores."""
        if self.baseline is not None:
            return {_NO_SEED: self.baseline}
        return {
            seed: run["points"][str(point)]["scores"]
            for seed, run in self.runs.items()
            if str(point) in run["points"]
        }

    def used(self, point: int, key: str) -> float:
        """Mean over seeds of what was used: step, clips, flops, seconds or sampling_s."""
        return float(np.mean([run["points"][str(point)][key] for run in self.runs.values()
                              if str(point) in run["points"]]))  # fmt: skip


def read_rows(folder: Path) -> list[Row]:
    """All rows of a target, in the order of the tables: methods by base, then baselines."""
    runs: dict[tuple[int, int], dict[int, Mapping[str, Any]]] = {}
    order = list(METHODS)
    for path in sorted(folder.glob("*-*.json")):
        run = read_json(path, "result")
        if run["method"] in order:
            key = order.index(run["method"]), run["base_clips"]
            runs.setdefault(key, {})[run["seed"]] = run
    rows = []
    for (number, clips), by_seed in sorted(runs.items()):
        method, by_seed = METHODS[order[number]], dict(sorted(by_seed.items()))
        base = f", base of {clips:,} clips" if clips else ""
        rows.append(Row(next(iter(by_seed.values()))["row"], method.label + base, by_seed))
    baselines = read_json(folder / "target.json", "target")["baselines"]
    return rows + [Row(name, name, {}, scores) for name, scores in baselines.items()]


# --------------------------------------------------------------------------- statistics


@functools.cache
def _draws(seeds: int, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed `[R, S]` and each clip `[R, N]` is drawn."""
    draw = np.random.default_rng(0)
    return (draw.multinomial(seeds, np.full(seeds, 1 / seeds), _NUM_RESAMPLES),
            draw.multinomial(clips, np.full(clips, 1 / clips), _NUM_RESAMPLES))  # fmt: skip


def _resampled_means(values: np.ndarray) -> np.ndarray:
    """Means of `[S, N]` over resamples of seeds and clips, `[R]`, of what is finite."""
    seeds, clips = _draws(*values.shape)
    finite = np.isfinite(values)
    sums = ((seeds @ np.where(finite, values, 0.0)) * clips).sum(axis=1)
    counts = ((seeds @ finite.astype(float)) * clips).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1e-12), np.nan)


def mean(values: np.ndarray) -> float:
    """Of what is finite."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def estimate(values: np.ndarray) -> Estimate:
    """Mean of `[S, N]` with its interval."""
    if not np.isfinite(values).any():
        return Estimate()
    low, high = np.nanpercentile(_resampled_means(values), (2.5, 97.5))
    return Estimate(float(np.nanmean(values)), float(low), float(high))


def p_value(values: np.ndarray) -> float:
    """Two-sided: how often resampled means of `[S, N]` lie on the other side of zero."""
    means = _resampled_means(values)
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    return float(min(2 * (beyond + 1) / (len(means) + 1), 1.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for as many comparisons as there are (Holm 1979)."""
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values)):
        highest = max(highest, min((len(p_values) - rank) * p_values[index], 1.0))
        adjusted[index] = highest
    return adjusted


# ------------------------------------------------------------------------------- values


def values_at(row: Row, point: int, task: str, metric: str) -> np.ndarray:
    """`[S, N]`: seeds × clips; NaN where a clip has no such score."""
    return _stack(list(row.scores(point).values()), task, metric)


def differences(row: Row, other: Row, point: int, task: str, metric: str) -> np.ndarray | None:
    """`row` minus `other` on the same clips and seeds, `[S, N]`; None if they share no score."""
    mine, theirs = row.scores(point), other.scores(point)
    if _NO_SEED in theirs:
        theirs = dict.fromkeys(mine, theirs[_NO_SEED])
    seeds = [seed for seed in mine if seed in theirs]
    if not seeds:
        return None
    rows = [_stack([scores[seed] for seed in seeds], task, metric) for scores in (mine, theirs)]
    found = rows[0] - rows[1]
    return found if np.isfinite(found).any() else None


def _stack(scores: Sequence[Scores], task: str, metric: str) -> np.ndarray:
    unknown = [None] * len(
        next(iter(scores[0][task].values()))
    )  # results may be older than a metric
    rows = [
        [math.nan if v is None else v for v in one[task].get(metric, unknown)] for one in scores
    ]
    return np.array(rows, dtype=np.float64)


def shared_points(row: Row, other: Row) -> list[int]:
    """Trained points that both have for some seed; of a baseline, all."""
    own = [point for point in row.points if point]
    if other.baseline is not None:
        return own
    return [p for p in own if any(s in other.scores(p) for s in row.scores(p))]


# ---------------------------------------------------------------------------- crossover


@dataclass(frozen=True)
class Crossover:
    """The budget from which on a row stays ahead of another, as a multiple of 1 ×.

    value, low, high: the lowest budget measured if it is ahead from there on, infinite if it is not
    ahead at the end. first, last: lowest and highest budget measured.
    """

    value: float
    low: float
    high: float
    first: int
    last: int

    def __str__(self) -> str:
        if math.isinf(self.value):
            text = f"not reached, beyond {self.last} ×"
            return text if math.isinf(self.low) else f"{text} [{self._text(self.low)}, –]"
        spread = "" if self.low == self.high else (
            f" [{self._text(self.low)}, {self._text(self.high)}]"
        )  # fmt: skip
        return f"{self._text(self.value)}{spread}"

    def _text(self, value: float) -> str:
        if math.isinf(value):
            return f"> {self.last} ×"
        return f"≤ {self.first} ×" if value <= self.first else f"{value:.2g} ×"


def crossover(row: Row, other: Row, task: str, metric: str) -> Crossover | None:
    """Where `row` overtakes `other` for good; None if they share no point.

    Between two budgets, where the line between their differences over the logarithm of the budget
    crosses zero. The interval is of the bootstrap that draws seeds and clips, the same at every
    budget.
    """
    sign = 1 if COMPARED[metric].better == "higher" else -1
    found = {p: differences(row, other, p, task, metric) for p in shared_points(row, other)}
    leads = [sign * values for values in found.values() if values is not None]
    points = [point for point, values in found.items() if values is not None]
    if not leads:
        return None
    value = _last_crossing(points, np.array([[np.nanmean(lead)] for lead in leads]))[0]
    resampled = _last_crossing(points, np.stack([_resampled_means(lead) for lead in leads]))
    low, high = np.quantile(resampled, (0.025, 0.975), method="inverted_cdf")
    return Crossover(float(value), float(low), float(high), points[0], points[-1])


def _last_crossing(points: Sequence[int], leads: np.ndarray) -> np.ndarray:
    """`[P, R]` leads at rising budgets → `[R]` budgets from which on they stay above zero."""
    found = np.full(leads.shape[1], float(points[0]))
    for index in range(len(points) - 1):
        before, after = leads[index], leads[index + 1]
        share = before / np.where(before == after, 1.0, before - after)
        where = points[index] * (points[index + 1] / points[index]) ** np.clip(share, 0, 1)
        found = np.where(before <= 0, where, found)
    return np.where(leads[-1] > 0, found, math.inf)
