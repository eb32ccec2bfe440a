"""Scores of an evaluation, summed up over clips with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from rdtf.evaluation.examples import Example
from rdtf.evaluation.metrics import METRICS
from rdtf.evaluation.records import MODEL, Nearness, Record, Summary, summarise
from rdtf.evaluation.tables import Cell, Table

HEADLINE_METRICS = ("psnr", "ssim", "line_distance", "motion_ratio")


@dataclass(frozen=True)
class Row:
    """One method on one task, over all clips."""

    task: str
    method: str
    num_clips: int
    seconds_per_clip: float
    scores: Mapping[str, Summary]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` returns: every record, how it was made, and some clips to look at.

    `memorisation` is empty unless clips were generated from text and held against training clips.
    """

    records: Sequence[Record]
    settings: Mapping[str, Any]
    examples: Sequence[Example] = field(default_factory=tuple)
    memorisation: Sequence[Nearness] = field(default_factory=tuple)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """From what `to_dict` made, or the JSON of it; the examples are not in there."""
        return cls(
            [Record.from_dict(record) for record in values["clips"]],
            values["settings"],
            memorisation=[Nearness(**near) for near in values["memorisation"]],
        )

    @property
    def rows(self) -> list[Row]:
        """One row per task and method, in the order in which they were run."""
        groups: dict[tuple[str, str], list[Record]] = {}
        for record in self.records:
            groups.setdefault((record.task, record.method), []).append(record)
        order = sorted(groups, key=lambda group: self.settings["tasks"].index(group[0]))
        return [_row(task, method, groups[task, method]) for task, method in order]

    def difference(self, task: str, metric: str, method: str, baseline: str) -> Summary:
        """`method` minus `baseline` on the same clips.

        Clips differ far more than methods do, so the intervals of two rows may overlap although
        one is better on nearly every clip; the interval of the difference tells.
        """
        values = {
            (record.method, record.clip): record.scores[metric]
            for record in self.records
            if record.task == task
        }
        pairs = [
            value - values[baseline, clip]
            for (name, clip), value in values.items()
            if name == method
        ]
        return summarise(pairs)

    def score_table(self, metrics: Sequence[str] = HEADLINE_METRICS) -> Table:
        """Mean and 95% interval per task and method.

        Of the motion ratio the median, because a few nearly still clips would rule its mean.
        """
        rows = self.rows
        headers = ["task", "method", *(_header(metric) for metric in metrics), "s/clip", "n"]
        cells = [
            [
                row.task,
                row.method,
                *(_score_cell(row, metric, rows) for metric in metrics),
                _seconds(row.seconds_per_clip),
                str(row.num_clips),
            ]
            for row in rows
        ]
        note = (
            "Hidden frames only. Mean over clips, 95% bootstrap interval in brackets; the motion "
            "ratio is a median. ↑ higher is better, ↓ lower is better, →1 should be 1. Untrained: "
            "the same network with fresh weights; what is no better, training did not bring."
        )
        return Table("Scores", headers, cells, note)

    def comparison_table(self, metrics: Sequence[str] = HEADLINE_METRICS[:3]) -> Table:
        """The model minus each other row on the same clips, with the interval of the difference."""
        others = [row for row in self.rows if row.method != MODEL]
        cells = [
            [
                row.task,
                row.method,
                *(
                    _difference_cell(self.difference(row.task, metric, MODEL, row.method), metric)
                    for metric in metrics
                ),
            ]
            for row in others
        ]
        headers = ["task", "model minus", *(_header(metric) for metric in metrics)]
        note = "Same clips, 95% bootstrap interval; marked where the model is clearly better."
        return Table("Model against untrained and baselines", headers, cells, note)

    def memorisation_text(self) -> str:
        """One sentence: how near generated clips come to training clips; empty if not measured."""
        if not self.memorisation:
            return ""
        ratio = summarise([near.ratio for near in self.memorisation])
        return (
            "Memorisation: distance to the nearest training clip, generated / true: median "
            f"{ratio.median:.2f} over {ratio.n} clips (about 1: new; far below: copies)."
        )

    def table(self) -> str:
        """The scores as aligned plain text."""
        return "\n\n".join(filter(None, [self.score_table().text(), self.memorisation_text()]))

    def to_dict(self) -> dict[str, Any]:
        """JSON values (NaN becomes None): settings, rows, and the scores of every clip."""
        return _json_values(
            {
                "settings": dict(self.settings),
                "rows": [asdict(row) for row in self.rows],
                "clips": [asdict(record) for record in self.records],
                "memorisation": [asdict(near) for near in self.memorisation],
            }
        )


def _row(task: str, method: str, records: Sequence[Record]) -> Row:
    scores = {
        metric: summarise([record.scores[metric] for record in records]) for metric in METRICS
    }
    seconds = float(np.mean([record.seconds for record in records]))
    return Row(task, method, len(records), seconds, scores)


def _header(metric: str) -> str:
    arrow = {"higher": "\u00a0↑", "lower": "\u00a0↓", "one": "\u00a0→1", "none": ""}[
        METRICS[metric].better
    ]
    return METRICS[metric].label + arrow


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds >= 0.01 else "<0.01"


def _headline(summary: Summary, metric: str) -> float:
    return summary.median if METRICS[metric].better == "one" else summary.mean


def _score_cell(row: Row, metric: str, rows: Sequence[Row]) -> Cell:
    """The score of one row, marked as best if no other row of its task prints a better one."""
    digits, summary = METRICS[metric].digits, row.scores[metric]
    if summary.n == 0:
        return Cell("–")
    value = _headline(summary, metric)
    text = f"{value:.{digits}f}"
    if METRICS[metric].better != "one":
        text += f" [{summary.ci_low:.{digits}f}, {summary.ci_high:.{digits}f}]"
    peers = [_headline(peer.scores[metric], metric) for peer in rows if peer.task == row.task]
    ranks = [_badness(round(peer, digits), metric) for peer in peers if math.isfinite(peer)]
    best = _badness(round(value, digits), metric)
    return Cell(text, best=METRICS[metric].better != "none" and best <= min(ranks))


def _difference_cell(difference: Summary, metric: str) -> Cell:
    """Marked if the whole interval lies on the better side of zero."""
    if difference.n == 0:
        return Cell("–")
    digits, higher = METRICS[metric].digits, METRICS[metric].better == "higher"
    interval = f"[{difference.ci_low:+.{digits}f}, {difference.ci_high:+.{digits}f}]"
    clearly = difference.ci_low > 0 if higher else difference.ci_high < 0
    return Cell(f"{difference.mean:+.{digits}f} {interval}", best=clearly)


def _badness(value: float, metric: str) -> float:
    """Smaller is better, whichever way the metric runs."""
    better = METRICS[metric].better
    return {"higher": -value, "lower": value, "one": abs(value - 1), "none": 0.0}[better]


def _json_values(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
