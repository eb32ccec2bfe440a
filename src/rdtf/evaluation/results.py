"""Scores of an evaluation, summed up over clips with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from rdtf.evaluation.metrics import METRICS, PERCEPTUAL, Metric
from rdtf.evaluation.tasks import TASK_LABELS
from rdtf.stickers import Sticker, write_sheet

_NUM_NAMES = 2  # first columns of a table, which are names and aligned left


@dataclass(frozen=True)
class Cell:
    """A text, and whether it is the best of its column."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A titled table. Cells may be plain texts.

    The first two columns are names (task, method) and the others numbers. Neighbouring rows with
    the same first cell are a group, which a report draws as one.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.headers):
                raise ValueError(f"row of {len(row)} cells under {len(self.headers)} headers")

    @property
    def cells(self) -> list[list[Cell]]:
        """All rows, plain texts made cells."""
        return [[as_cell(cell) for cell in row] for row in self.rows]

    def groups(self) -> list[tuple[str, list[list[Cell]]]]:
        """Neighbouring rows by their first cell."""
        found = groupby(self.cells, key=lambda row: row[0].text)
        return [(name, list(rows)) for name, rows in found]

    def text(self) -> str:
        """Aligned plain text; the best of a column is marked with a star."""
        marked = [[cell.text + "*" * cell.best for cell in row] for row in self.cells]
        lines = [list(self.headers), *marked]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = [
            "  ".join(
                text.ljust(width) if column < _NUM_NAMES else text.rjust(width)
                for column, (text, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return "\n".join([self.title, "", *(line.rstrip() for line in aligned)])

    def markdown(self) -> str:
        """A section of Markdown; the best of a column is bold."""

        def line(cells: Sequence[Cell]) -> str:
            texts = [(cell.text.replace("|", "\\|"), cell.best) for cell in cells]
            return "| " + " | ".join(f"**{t}**" if best else t for t, best in texts) + " |"

        kinds = [" --- "] * _NUM_NAMES + [" ---: "] * (len(self.headers) - _NUM_NAMES)
        lines = [f"### {self.title}", "", line([as_cell(head) for head in self.headers])]
        lines += [f"|{'|'.join(kinds)}|", *map(line, self.cells)]
        return "\n".join([*lines, *(["", self.note] * bool(self.note)), ""])


def as_cell(cell: Cell | str) -> Cell:
    return cell if isinstance(cell, Cell) else Cell(cell)


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; NaN where there is nothing to count."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


_ARROWS = {"higher": "\u00a0↑", "lower": "\u00a0↓", "one": "\u00a0→1"}


def metric_header(metric: Metric) -> str:
    """Its label, and an arrow to where it is better."""
    return metric.label + _ARROWS[metric.better]


def score_cells(column: Sequence[Estimate], metric: Metric) -> list[Cell]:
    """Scores of the rows of one task; the best is marked, of equal ones (as printed) each."""

    def badness(found: Estimate) -> float:
        value = round(found.value, metric.digits)
        return {"higher": -value, "lower": value, "one": abs(value - 1)}[metric.better]

    def cell(found: Estimate) -> Cell:
        if not math.isfinite(found.value):
            return Cell("–")
        text = f"{found.value:.{metric.digits}f}"
        if math.isfinite(found.low) and metric.has_interval:
            text += f" [{found.low:.{metric.digits}f}, {found.high:.{metric.digits}f}]"
        return Cell(text, best=badness(found) <= least)

    least = min((badness(e) for e in column if math.isfinite(e.value)), default=0.0)
    return [cell(found) for found in column]


def difference_cell(found: Estimate, metric: Metric) -> Cell:
    """Marked where the whole interval is on the better side of zero; ✗ where it is against."""
    if not math.isfinite(found.value):
        return Cell("–")
    sign = 1 if metric.better == "higher" else -1
    worst, best = sorted((sign * found.low, sign * found.high))
    digits = metric.digits
    text = f"{found.value:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
    return Cell(text + (" ✗" if best < 0 else ""), best=worst > 0)


@dataclass(frozen=True)
class Example:
    """One clip of one task.

    Attributes:
        task: a name from `EVALUATION_TASKS`, or any other.
        prompt: the text that the model was given, or None.
        truth: the whole true clip.
        known: indices of the frames that were given.
        results: method → its clip, same frames and canvas as the truth.
        scores: method → scores as from `score_hidden`, if they are to be shown.
    """

    task: str
    prompt: str | None
    truth: Sticker
    known: Sequence[int]
    results: Mapping[str, Sticker]
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def task_label(self) -> str:
        return TASK_LABELS.get(self.task, self.task)

    def clips(self) -> dict[str, Sticker]:
        """Row label → clip: the truth first, then the results."""
        return {"truth": self.truth, **self.results}


def save_example_sheet(examples: Sequence[Example], path: Path | str) -> Path:
    """Write one picture: for each example a row of frames for the truth and for each method."""
    rows, labels = [], []
    for example in examples:
        for label, clip in example.clips().items():
            rows.append(clip)
            labels.append(f"{example.task}: {label}")
    return write_sheet(rows, path, labels)


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

    Distances as in `rdtf.evaluation.sets`.
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
class _Summary:
    """A score over clips. The interval is a 95% bootstrap of the mean; NaN where n = 0."""

    n: int
    mean: float
    median: float
    ci_low: float
    ci_high: float

    def estimate(self, metric: Metric) -> Estimate:
        """What a table shows: of a ratio that should be 1 the median, else the mean."""
        if metric.better == "one":
            return Estimate(self.median)
        return Estimate(self.mean, self.ci_low, self.ci_high)


def _summarise(values: Sequence[float]) -> _Summary:
    """Mean, median and 95% bootstrap interval of the mean; values that are not finite are left out.

    The resampling has a fixed seed: the same scores print the same interval.
    """
    finite = np.array([value for value in values if math.isfinite(value)])
    if finite.size == 0:
        return _Summary(0, *[float("nan")] * 4)
    low, high = interval(finite, lambda resamples: resamples.mean(axis=1))
    return _Summary(finite.size, float(finite.mean()), float(np.median(finite)), low, high)


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


_ALL = {**METRICS, **PERCEPTUAL}
_HEADLINE_METRICS = ("psnr", "ssim", "line_distance", "motion_ratio")


@dataclass(frozen=True)
class Row:
    """One method on one task, over all clips."""

    task: str
    method: str
    num_clips: int
    seconds_per_clip: float
    scores: Mapping[str, _Summary]


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

    def difference(self, task: str, metric: str, method: str, baseline: str) -> _Summary:
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
            if name == method and (baseline, clip) in values
        ]
        return _summarise(pairs)

    @property
    def _perceptual(self) -> list[str]:
        """Those that were measured."""
        return [metric for metric in PERCEPTUAL if metric in self.records[0].scores]

    def score_table(self) -> Table:
        """Mean and 95% interval per task and method.

        Of the motion ratio the median, because a few nearly still clips would rule its mean.
        """
        metrics = [*_HEADLINE_METRICS, *self._perceptual]
        headers = [metric_header(_ALL[metric]) for metric in metrics]
        cells = []
        for task, members in groupby(self.rows, key=lambda row: row.task):
            rows = list(members)
            columns = [
                score_cells([row.scores[metric].estimate(_ALL[metric]) for row in rows],
                            _ALL[metric])
                for metric in metrics
            ]  # fmt: skip
            for row, *scores in zip(rows, *columns, strict=True):
                seconds = row.seconds_per_clip
                time = f"{seconds:.2f}" if seconds >= 0.01 else "<0.01"
                cells.append([task, row.method, *scores, time, str(row.num_clips)])
        looped = (
            " KVD and FVD: I3D's logits of whole clips, given frames included, on white, looped to "
            "16 frames; not to be held against an FVD of true clips of 16."
        ) * ("fvd" in metrics)
        note = (
            "Hidden frames only. Mean over clips, 95% bootstrap interval in brackets; the motion "
            "ratio is a median. ↑ higher is better, ↓ lower is better, →1 should be 1. Untrained: "
            "the same network with fresh weights; what is no better, training did not bring."
            + looped
        )
        return Table("Scores", ["task", "method", *headers, "s/clip", "n"], cells, note)

    def comparison_table(self) -> Table:
        """The model minus each other row on the same clips, with the interval of the difference."""
        metrics = [*_HEADLINE_METRICS[:3], *(m for m in self._perceptual if m != "fvd")]
        cells = []
        for row in self.rows:
            if row.method != MODEL:
                found = {m: self.difference(row.task, m, MODEL, row.method) for m in metrics}
                scores = [
                    difference_cell(Estimate(d.mean, d.ci_low, d.ci_high), _ALL[m])
                    for m, d in found.items()
                ]
                cells.append([row.task, row.method, *scores])
        headers = ["task", "model minus", *(metric_header(_ALL[metric]) for metric in metrics)]
        note = (
            "Same clips, 95% bootstrap interval; marked where the whole interval is in favour of "
            "the model, ✗ where it is against it."
        )
        return Table("Model against untrained and baselines", headers, cells, note)

    def memorisation_text(self) -> str:
        """One sentence: how near generated clips come to training clips; empty if not measured."""
        if not self.memorisation:
            return ""
        ratio = _summarise([near.ratio for near in self.memorisation])
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
    found = records[0].scores
    scores = {metric: _summarise([r.scores[metric] for r in records]) for metric in found}
    seconds = float(np.mean([record.seconds for record in records]))
    return Row(task, method, len(records), seconds, scores)


def _json_values(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
