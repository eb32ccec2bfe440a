"""The page of a comparison, rendered from its results: one HTML file, or Markdown and SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rdtf.errors import ConfigError
from rdtf.evaluation.charts import Curve, Line, svg_chart
from rdtf.evaluation.report import write_report
from rdtf.evaluation.results import (
    Cell,
    Table,
    difference_cell,
    metric_header,
    score_cells,
)
from rdtf.evaluation.tasks import TASK_LABELS
from rdtf.fileio import ensure_folder, read_json, write_text
from rdtf.research.comparison.clips import TASKS
from rdtf.research.comparison.curve import (
    Row,
    crossover,
    differences,
    estimate,
    holm,
    mean,
    p_value,
    read_rows,
    shared_points,
    values_at,
)
from rdtf.research.comparison.methods import METHODS, REFERENCE
from rdtf.research.comparison.scoring import (
    COMPARED,
    EXPECTED,
    KVD,
    LPIPS,
    MOTION_DISTANCE,
    SET_DISTANCE,
    TEXT,
    is_ordered,
)

_TITLE = "DFGN from scratch against tuning of a larger pre-trained model"
_DECIDING = ("psnr", "ssim", "line_distance", SET_DISTANCE, MOTION_DISTANCE, TEXT, LPIPS, KVD)
_DRAWN = ("psnr", "line_distance", SET_DISTANCE, MOTION_DISTANCE, TEXT, LPIPS, KVD)
_START, _END = "<!-- results: rendered by rdtf compare --page -->", "<!-- end of results -->"
_SHORT = {
    "it2v": "image + text → clip",
    "interpolation": "interpolation",
    "post_frame_prediction": "prediction",
}


def write_page(results: Path, path: Path) -> Path:
    """Render what is in `results` until now.

    Args:
        results: the `results` folder of a comparison, or a copy of it.
        path: .html for a page that stands alone; .md for Markdown, with charts as SVG files in a
            folder of its name. A Markdown file that has the two marker comments keeps what is
            outside of them.

    Raises:
        ConfigError: no results there, or another suffix.
    """
    if path.suffix not in (".html", ".md"):
        raise ConfigError(f"a page is .html or .md, not {path.name}")
    targets = sorted(results.glob("*/target.json"))
    if not targets:
        raise ConfigError(f"{results} holds no results of rdtf compare")
    sections = [_Target(target.parent) for target in targets]
    bases = read_json(results / "bases.json") if (results / "bases.json").is_file() else {}
    tables = [table for section in sections for table in section.tables()]
    tables.append(_bases_table(bases))
    tables = [table for table in tables if table.rows]
    curves = [curve for section in sections for curve in section.curves()]
    if bases:
        curves.append(_bases_curve(bases))
    verdicts = "\n\n".join(section.verdict() for section in sections)
    if path.suffix == ".html":
        return write_report(path, title=_TITLE, intro=verdicts, tables=tables, curves=curves)
    return _write_markdown(path, verdicts, tables, curves)


def _write_markdown(
    path: Path, verdicts: str, tables: Sequence[Table], curves: Sequence[Curve]
) -> Path:
    folder = path.with_suffix("")
    ensure_folder(folder, "folder for charts")
    pictures = []
    for number, curve in enumerate(curves, start=1):
        write_text(folder / f"curve-{number}.svg", svg_chart(curve) + "\n")
        name = f"{folder.name}/curve-{number}.svg"
        pictures.append(f'<img src="{name}" alt="{curve.title}" width="49%">')
    parts = [verdicts, "\n".join(pictures), *(table.markdown() for table in tables)]
    block = "\n\n".join([_START, *parts, _END])
    old = path.read_text("utf-8") if path.is_file() else f"# {_TITLE}\n\n{_START}{_END}\n"
    before, start, rest = old.partition(_START)
    _, end, after = rest.partition(_END)
    if not (start and end):
        raise ConfigError(f"{path} has no lines {_START!r} and {_END!r} to write between")
    write_text(path, before + block + after)
    return path


@dataclass(frozen=True)
class _Verdict:
    """One difference at the highest budget that both rows have reached."""

    other: Row
    point: int
    task: str
    metric: str
    cell: Cell
    lead: float  # above zero: the reference is better
    p: float


class _Target:
    """All about one target."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.about = read_json(folder / "target.json", "target")
        self.rows = read_rows(folder)
        none = Row(REFERENCE, METHODS[REFERENCE].label, {})  # it has not been trained yet
        self.reference = next((row for row in self.rows if row.name == REFERENCE), none)
        measured = {m for row in self.rows for m in row.metrics}
        self.metrics = {name: metric for name, metric in COMPARED.items() if name in measured}
        self.deciding = [name for name in _DECIDING if name in measured]
        self.others = [row for row in self.rows if row.name != REFERENCE]
        found = list(self._differences())
        adjusted = holm([one.p for one in found])
        self.found = list(zip(found, adjusted, strict=True))

    @property
    def title(self) -> str:
        return "synthetic stickers" if self.name == "synthetic" else self.name

    def _differences(self) -> Iterator[_Verdict]:
        for other in self.others:
            points = shared_points(self.reference, other)
            for task in TASKS if points else []:
                for metric in self.deciding:
                    values = differences(self.reference, other, points[-1], task, metric)
                    if values is None:
                        continue
                    sign = 1 if COMPARED[metric].better == "higher" else -1
                    found = estimate(values)
                    cell = difference_cell(found, COMPARED[metric])
                    yield _Verdict(
                        other, points[-1], task, metric, cell, sign * found.value, p_value(values)
                    )

    # ---------------------------------------------------------------------- in words

    def verdict(self) -> str:
        """What can be said, first of all."""
        head = f"**Target: {self.title}** ({self.about['target']}). Source: {self.about['source']}."
        tuned = [(v, p) for v, p in self.found if v.other.runs and _is_tuned(v.other)]
        if not tuned:
            return f"{head} No adapter has been compared with the DFGN yet."
        parts = []
        for task in TASKS:
            mine = [(v, p) for v, p in tuned if v.task == task]
            ahead = sum(p < 0.05 and v.lead > 0 for v, p in mine)
            behind = sum(p < 0.05 and v.lead < 0 for v, p in mine)
            parts.append(f"{_SHORT[task]}: ahead in {ahead}, behind in {behind} of {len(mine)}")
        last = max(v.point for v, _ in tuned)
        ahead = sum(p < 0.05 and v.lead > 0 for v, p in tuned)
        claim = (
            "**The paper's claim is not confirmed at any budget measured here**: in no comparison "
            "is the DFGN surely ahead of a tuned base. "
            if not ahead
            else ""
        )
        return (
            f"{head} {claim}DFGN (dual mask, adaptive curriculum) against tuned bases at the "
            f"highest budget that both have reached (up to {last} ×), after Holm at 5 %: "
            f"{'; '.join(parts)}; the rest is undecided."
        )

    # ------------------------------------------------------------------------ tables

    def tables(self) -> list[Table]:
        return [
            self._crossover_table(),
            self._difference_table(),
            self._score_table(),
            self._cost_table(),
            self._validity_table(),
        ]

    def _crossover_table(self) -> Table:
        rows = []
        for task in TASKS:
            for other in self.others:
                cells = [crossover(self.reference, other, task, metric) for metric in self.deciding]
                if all(cells):
                    rows.append([TASK_LABELS[task], other.label, *map(str, cells)])
        note = (
            "The budget from which on the DFGN (dual mask, adaptive curriculum) stays ahead, up to "
            "the highest budget that both have reached; in brackets the 95 % bootstrap interval "
            "over seeds and clips, paired. 1 × = "
            f"{self.about['unit_flops'] / 1e12:.2f} TFLOP on the target; pre-training is on top."
        )
        headers = ["task", "overtakes", *(COMPARED[metric].label for metric in self.deciding)]
        return Table(f"Crossover, {self.title}", headers, rows, note)

    def _difference_table(self) -> Table:
        cells: dict[tuple[str, str], list[Cell | str]] = {}
        for one, adjusted in self.found:
            place = one.task, one.other.name
            row = cells.setdefault(
                place, [TASK_LABELS[one.task], one.other.label, f"{one.point} ×"]
            )
            text = one.cell.text.removesuffix(" ✗")
            sure = adjusted < 0.05
            mark = " ✗" if sure and one.lead < 0 else ""
            row.append(Cell(text + mark, best=sure and one.lead > 0))
        rows = [row for _, row in sorted(cells.items(), key=lambda item: TASKS.index(item[0][0]))]
        note = (
            "The DFGN (dual mask, adaptive curriculum) minus each other row: same clips, seeds and "
            "noise, 95 % bootstrap interval. Bold: better, ✗: worse, at 5 % after Holm."
        )
        headers = ["task", "minus", "at", *(metric_header(COMPARED[m]) for m in self.deciding)]
        return Table(f"Differences, {self.title}", headers, rows, note)

    def _score_table(self) -> Table:
        shown: list[tuple[Row, int]] = []
        for row in self.rows:
            points = row.points
            shown += [(row, 0)] * (0 in points)
            shown += [(row, points[-1])] if points and points[-1] else []
            shown += [(row, -1)] if row.baseline is not None else []
        rows = []
        for task in TASKS:
            columns = [
                score_cells([estimate(values_at(r, p, task, m)) for r, p in shown], COMPARED[m])
                for m in self.metrics
            ]
            for (row, point), *cells in zip(shown, *columns, strict=True):
                at = {0: "untrained" if not _is_tuned(row) else "not tuned", -1: "–"}.get(
                    point, f"{point} ×"
                )
                seeds = len(row.scores(point)) if row.runs else "–"
                rows.append([TASK_LABELS[task], row.label, at, *cells, str(seeds)])
        note = (
            f"Hidden frames only, {len(self.about['clips'])} held-out clips; mean, 95 % bootstrap "
            "interval over seeds and clips. What is no better than untrained was not learned."
        )
        names = map(metric_header, self.metrics.values())
        headers = ["task", "method", "at", *names, "seeds"]
        return Table(f"Scores, {self.title}", headers, rows, note)

    def _cost_table(self) -> Table:
        rows = []
        for row in self.rows:
            for point in [point for point in row.points if point]:
                run = next(iter(row.runs.values()))
                rows.append(
                    [
                        row.label,
                        f"{point} ×",
                        f"{run['parameters'] / 1e6:.2f}",
                        f"{run['trained_parameters'] / 1e6:.3f}",
                        f"{row.used(point, 'clips'):,.0f}",
                        f"{row.used(point, 'flops') / 1e12:.2f}",
                        f"{row.used(point, 'seconds'):,.0f}",
                        f"{row.used(point, 'sampling_s'):.3f}",
                    ]
                )
        runs = [run for row in self.rows for run in row.runs.values()]
        devices = {f"{run['device']}, {run['precision']}" for run in runs}
        headers = ["method", "at", "parameters (M)", "trained (M)", "clips", "TFLOP", "seconds",
                   "sampling (s/clip)"]  # fmt: skip
        note = (
            "Training on the target, means over seeds; seconds of training steps on "
            f"{'; '.join(sorted(devices))}. Equal FLOPs are not equal time."
        )
        return Table(f"Cost, {self.title}", headers, rows, note)

    def _validity_table(self) -> Table:
        rows = []
        for task, metrics in self.about["validity"].items():
            for metric, found in metrics.items():
                cells = []
                for name in (*EXPECTED["psnr"], "captions"):
                    means = found.get(name)
                    wanted = name in EXPECTED[metric] or name == "captions"
                    if means is None or not wanted:
                        cells.append("–")
                        continue
                    digits = COMPARED[metric].digits
                    text = " > ".join(f"{value:.{digits}f}" for value in means)
                    ordered = is_ordered(metric, means)
                    text = text if COMPARED[metric].better == "higher" else text.replace(">", "<")
                    cells.append(Cell(text if ordered else f"{text} ✗", best=ordered))
                rows.append([TASK_LABELS[task], COMPARED[metric].label, *cells])
        headers = ["task", "metric", *EXPECTED["psnr"], "shuffled captions"]
        note = (
            "Means over the held-out clips: truth, then the mild and the strong corruption of its "
            "hidden frames. Bold: ordered as they should be; ✗: not, and not to be read for it."
        )
        return Table(f"Validity of the metrics, {self.title}", headers, rows, note)

    # ------------------------------------------------------------------------ curves

    def curves(self) -> list[Curve]:
        """One chart for each task and metric."""
        last = max((row.points[-1] for row in self.rows if row.points), default=0)
        if last < 2:
            return []
        return [
            Curve(
                f"{_SHORT[task]}: {metric_header(COMPARED[metric])} ({self.title})",
                [self._line(row, task, metric, last) for row in self.rows],
                x_label="training FLOPs on the target, multiples of 1 ×",
                y_label=COMPARED[metric].label,
                log_x=True,
                smooth=False,
            )
            for task in TASKS
            for metric in _DRAWN
            if metric in self.metrics
        ]

    def _line(self, row: Row, task: str, metric: str, last: int) -> Line:
        if row.baseline is not None:
            return Line(row.label, [1, last], [mean(values_at(row, -1, task, metric))] * 2)
        points = [point for point in row.points if point]
        return Line(row.label, points, [mean(values_at(row, p, task, metric)) for p in points])


def _is_tuned(row: Row) -> bool:
    run = next(iter(row.runs.values()), None)
    return run is not None and bool(METHODS[run["method"]].pretrained_base)


# -------------------------------------------------------------------------------- bases


def _bases_table(bases: dict[str, Any]) -> Table:
    rows = [
        [
            f"{cost['kind']} U-Net",
            cost["task"],
            f"{cost['parameters'] / 1e6:.2f}",
            f"{cost['clips']:,}",
            f"{cost['flops'] / 1e12:.2f}",
            f"{cost['seconds']:,.0f}",
            f"{cost['loss']:.4f}",
        ]
        for cost in bases.values()
    ]
    headers = ["base", "pre-trained on", "parameters (M)", "clips", "TFLOP", "seconds", "loss"]
    note = "On the source domain, once for all seeds; on top of what tuning costs."
    return Table("Pre-training of the bases", headers, rows, note)


def _bases_curve(bases: dict[str, Any]) -> Curve:
    lines = [
        Line(name.replace("-", ", ") + " clips", *np.array(cost["curve"], dtype=float).T)
        for name, cost in bases.items()
    ]
    return Curve(
        "Pre-training loss of the bases (each ends with its decay)",
        lines,
        x_label="clips of the source domain",
        y_label="loss",
        log_x=True,
        log_y=True,
        smooth=False,
    )
