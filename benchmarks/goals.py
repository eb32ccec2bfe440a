"""What the model that ships has to reach: a few numbers, each beside its target.

`rdtf evaluate --data DATA --json > scores.json; python -m benchmarks goals --scores scores.json`

The score tables say how good a model is; goals say whether that is enough. Intervals are 95%
bootstraps over clips. What belongs to one clip (two methods, two kinds of prediction) is resampled
together, so that intervals are of paired differences and ratios. "Upper half of motion" are the
clips of a task whose true motion is at or above the median of that task's clips.

`TARGETS` is the one place where the targets stand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.stats import binomtest

from benchmarks import common
from rdtf.evaluation.baselines import BLEND, NEAREST, OPTICAL_FLOW
from rdtf.evaluation.evaluate import UNTRAINED
from rdtf.evaluation.results import MODEL, Evaluation, Record, Table, as_cell, interval

MOVES_ABOVE = 0.05  # share of the true motion above which a generated clip counts as moving
_MOVING = ", upper half of motion"
_PREDICTION = ("post_frame_prediction", "pre_frame_prediction")


@dataclass(frozen=True)
class Target:
    """One bound on one number; `unit` and `digits` say how both are printed."""

    task: str
    name: str
    bound: Literal["≥", "≤", "="]
    limit: float
    unit: str = ""
    digits: int = 2
    signed: bool = False

    def number(self, value: float) -> str:
        return f"{value:{'+' if self.signed else ''}.{self.digits}f}"

    def __str__(self) -> str:
        digits = min(self.digits, 1) if self.signed else self.digits
        sign = "+" if self.signed else ""
        return f"{self.bound} {self.limit:{sign}.{digits}f} {self.unit}".strip()

    def allows(self, value: float) -> bool:
        return {
            "≥": value >= self.limit,
            "≤": value <= self.limit,
            "=": value == self.limit,
        }[self.bound]


TARGETS = {
    "over_blend": Target("interpolation", "PSNR − linear blend", "≥", 1.0, "dB", signed=True),
    "over_nearest": Target("interpolation", "PSNR − nearest frame", "≥", 1.5, "dB", signed=True),
    "lines_blend": Target("interpolation", "line distance / linear blend", "≤", 0.75),
    "over_flow": Target(
        "interpolation", f"PSNR − optical flow{_MOVING}", "≥", 0.0, "dB", signed=True
    ),
    "predicts": Target("prediction", "PSNR − nearest frame", "≥", 1.5, "dB", signed=True),
    "lines_nearest": Target("prediction", f"line distance / nearest frame{_MOVING}", "≤", 0.85),
    "given": Target("it2v", "largest change of a given frame", "=", 0.0, digits=4),
    "motion": Target("it2v", "median motion ratio", "≥", 0.7),
    "motion_most": Target("it2v", "median motion ratio", "≤", 1.4),
    "moves": Target("it2v", "clips that move more than 5% of the truth", "≥", 90, "%", digits=0),
    "drift": Target("it2v", "median colour drift", "≤", 3.0, "/255"),
    "copies": Target("memorisation", "distance to training clips, generated / true", "≥", 0.8),
}


@dataclass(frozen=True)
class Estimate:
    """A number over `n` clips and its 95% interval; n = 0 if there is nothing to count."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0


@dataclass(frozen=True)
class Goal:
    """A target and what was reached; `untrained`: what was before training, if that was run."""

    target: Target
    reached: Estimate
    untrained: Estimate = Estimate()

    @property
    def met(self) -> bool:
        """Whether the number itself is within the bound."""
        return self.target.allows(self.reached.value)

    @property
    def sure(self) -> bool:
        """Whether both ends of the interval say the same as the number."""
        ends = (self.reached.low, self.reached.high)
        return all(self.target.allows(end) == self.met for end in ends)

    @property
    def verdict(self) -> str:
        return ("yes" if self.met else "no") + ("" if self.sure else " (unsure)")

    def to_dict(self) -> dict[str, Any]:
        return {
            "task": self.target.task,
            "goal": self.target.name,
            "value": self.reached.value,
            "ci_low": self.reached.low,
            "ci_high": self.reached.high,
            "n": self.reached.n,
            "unit": self.target.unit,
            "bound": self.target.bound,
            "limit": self.target.limit,
            "target": str(self.target),
            "untrained": self.untrained.value,
            "met": self.met,
            "sure": self.sure,
        }


def find_goals(records: Sequence[Record], copy_ratios: Sequence[float] = ()) -> list[Goal]:
    """All goals that the records can tell about, in the order of `TARGETS`.

    Args:
        records: of any tasks and methods; what was not run has no goal.
        copy_ratios: of generated clips, see `rdtf.evaluation.sets`.
    """
    before = _reached(_Clips(records, UNTRAINED), ())
    return [
        Goal(TARGETS[name], found, before[name])
        for name, found in _reached(_Clips(records), copy_ratios).items()
        if found.n
    ]


def _reached(clips: _Clips, copy_ratios: Sequence[float]) -> dict[str, Estimate]:
    """What each of `TARGETS` is about, of one model."""
    return {
        "over_blend": clips.difference(("interpolation",), BLEND),
        "over_nearest": clips.difference(("interpolation",), NEAREST),
        "lines_blend": clips.line_ratio(("interpolation",), BLEND),
        "over_flow": clips.difference(("interpolation",), OPTICAL_FLOW, moving=True),
        "predicts": clips.difference(_PREDICTION, NEAREST),
        "lines_nearest": clips.line_ratio(_PREDICTION, NEAREST, moving=True),
        "given": _largest(clips.of_model("it2v", "given_error")),
        "motion": _median(clips.of_model("it2v", "motion_ratio", moving=True)),
        "motion_most": _median(clips.of_model("it2v", "motion_ratio", moving=True)),
        "moves": _share_above(clips.of_model("it2v", "motion_ratio", moving=True), MOVES_ABOVE),
        "drift": _median(255 * clips.of_model("it2v", "colour_drift")),
        "copies": _median(_finite(copy_ratios)),
    }


def goals_table(goals: Sequence[Goal]) -> Table:
    """Value with interval, target, whether it is met, and over how many clips."""
    told = any(goal.untrained.n for goal in goals)
    rows = [_row(goal, told) for goal in goals]
    note = (
        "Hidden frames only; 95% bootstrap interval over clips in brackets. Differences and ratios "
        "are of the same clips; prediction pools both directions. Upper half of motion: clips that "
        "truly move as much as the median clip or more. Unsure: the interval reaches across. "
        "Untrained: the same network with fresh weights; what it meets, training did not bring."
    )
    headers = ["task", "goal", "value", *["untrained"] * told, "target", "met", "n"]
    return Table("Goals", headers, rows, note)


def _row(goal: Goal, told: bool) -> list[str]:
    target, reached, before = goal.target, goal.reached, goal.untrained
    untrained = [target.number(before.value) if before.n else "–"] if told else []
    return [target.task, target.name, _value(goal), *untrained, str(target), goal.verdict,
            str(reached.n)]  # fmt: skip


def _value(goal: Goal) -> str:
    number, reached = goal.target.number, goal.reached
    text = number(reached.value)
    if reached.low != reached.value or reached.high != reached.value:
        text += f" [{number(reached.low)}, {number(reached.high)}]"
    return text


# ------------------------------------------------------------------------------- pairs


class _Clips:
    """The records by task, method and clip; "the model" is one of the methods."""

    def __init__(self, records: Sequence[Record], model: str = MODEL) -> None:
        self._records = {(r.task, r.method, r.clip): r for r in records}
        self._model = model

    def difference(self, tasks: Sequence[str], baseline: str, *, moving: bool = False) -> Estimate:
        """Mean PSNR of the model minus that of the baseline."""
        pairs = self._pairs(tasks, "psnr", baseline, moving)
        return _estimate(pairs, lambda rows: (rows[..., 0] - rows[..., 1]).mean(axis=-1))

    def line_ratio(self, tasks: Sequence[str], baseline: str, *, moving: bool = False) -> Estimate:
        """Mean line distance of the model over that of the baseline."""
        pairs = self._pairs(tasks, "line_distance", baseline, moving)
        return _estimate(pairs, _ratio_of_means)

    def of_model(self, task: str, metric: str, *, moving: bool = False) -> np.ndarray:
        """Finite scores of the model, `[N]`; with `moving` only of clips that truly move."""
        return _finite(
            [
                record.scores[metric]
                for record in self._records.values()
                if (record.task, record.method) == (task, self._model)
                and (record.true_motion > 0 or not moving)
            ]
        )

    def _pairs(self, tasks: Sequence[str], metric: str, baseline: str, moving: bool) -> np.ndarray:
        """Scores of model and baseline, `[N, 2]`: one row a clip, the mean of its tasks."""
        rows: dict[str, list[tuple[float, float]]] = {}
        motion: dict[str, float] = {}
        for (task, method, clip), record in self._records.items():
            other = self._records.get((task, baseline, clip))
            if task in tasks and method == self._model and other is not None:
                rows.setdefault(clip, []).append((record.scores[metric], other.scores[metric]))
                motion[clip] = record.true_motion
        least = float(np.median(list(motion.values()))) if moving and motion else 0.0
        chosen = [np.mean(pairs, axis=0) for clip, pairs in rows.items() if motion[clip] >= least]
        return np.reshape(chosen, (-1, 2))


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


# -------------------------------------------------------------------------- statistics


def _estimate(values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    """`statistic` of `[R, N, ...]` → `[R]`, of all rows once and of resamples of them."""
    if len(values) == 0:
        return Estimate()
    return Estimate(float(statistic(values[None])[0]), *interval(values, statistic), len(values))


def _ratio_of_means(rows: np.ndarray) -> np.ndarray:
    """`[R, N, 2]` → `[R]`; 1 where both means are zero."""
    above, below = rows[..., 0].mean(axis=-1), rows[..., 1].mean(axis=-1)
    equal = above == below
    return np.where(equal, 1.0, above / np.where(equal, 1.0, np.maximum(below, 1e-12)))


def _median(values: np.ndarray) -> Estimate:
    return _estimate(values, lambda rows: np.median(rows, axis=-1))


def _largest(values: np.ndarray) -> Estimate:
    """The maximum; of what must never happen there is no interval."""
    if len(values) == 0:
        return Estimate()
    largest = float(values.max())
    return Estimate(largest, largest, largest, len(values))


def _share_above(values: np.ndarray, least: float) -> Estimate:
    """Per cent of values above `least`, with Wilson's interval: "all of 5" is not certainty."""
    if len(values) == 0:
        return Estimate()
    found = int((values > least).sum())
    ends = binomtest(found, len(values)).proportion_ci(method="wilson")
    return Estimate(100 * found / len(values), 100 * ends.low, 100 * ends.high, len(values))


@dataclass(frozen=True)
class Goals:
    """Compare the scores of `rdtf evaluate --json` with the targets."""

    scores: Path | None = None
    """The JSON file. Without one there is nothing to do."""

    def run(self) -> common.Table:
        if self.scores is None:
            return common.Table("goals: no --scores given", ["task"], [], {})
        evaluation = Evaluation.from_dict(json.loads(self.scores.read_text("utf-8")))
        ratios = [near.ratio for near in evaluation.memorisation]
        goals = find_goals(evaluation.records, ratios)
        table = goals_table(goals)
        rows = [[as_cell(cell).text for cell in row] for row in table.rows]
        values = {"goals": [goal.to_dict() for goal in goals]}
        return common.Table(table.title, table.headers, rows, values, (table.note,))
