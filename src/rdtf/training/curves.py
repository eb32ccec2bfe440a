"""A run's curves: loss, held-out loss, and the curriculum's weights, ready to draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rdtf.evaluation.charts import Curve, Line
from rdtf.evaluation.report import write_report
from rdtf.method.tasks import FAMILIES
from rdtf.training.tracking import read_metrics


def run_curves(run: Path) -> list[Curve]:
    """Charts of a run directory; empty where it has logged nothing yet."""
    rows, validation = read_metrics(run, "train"), read_metrics(run, "validation")
    if not rows:
        return []
    steps = [row["step"] for row in rows]
    curves = [
        Curve(
            "Training loss",
            [Line("loss", steps, [row["loss"] for row in rows])],
            y_label="loss",
            log_y=True,
            note="Masked error over hidden frames, weighted by noise level.",
        ),
        Curve("Error by family", [_family_line(rows, family) for family in FAMILIES], log_y=True),
        Curve(
            "Curriculum: weight of each family",
            [
                Line(family, steps, [row["task_weights"][family] for row in rows])
                for family in FAMILIES
            ],
            smooth=False,
            y_label="weight",
        ),
    ]
    if len(validation) > 1:
        curves.insert(2, _validation_curve(validation))
    return curves


def _family_line(rows: list[dict[str, Any]], family: str) -> Line:
    seen = [row for row in rows if family in row["loss_by_family"]]
    return Line(
        family,
        [row["step"] for row in seen],
        [row["loss_by_family"][family] for row in seen],
    )


def _validation_curve(rows: list[dict[str, Any]]) -> Curve:
    lines = []
    for family in FAMILIES:
        means = []
        for row in rows:
            values = [v for name, v in row["by_level"].items() if name.startswith(family)]
            means.append(sum(values) / max(len(values), 1))
        lines.append(Line(family, [row["step"] for row in rows], means))
    return Curve(
        "Held-out error by family",
        lines,
        log_y=True,
        smooth=False,
        note="Fixed clips, masks, noise and noise levels: only the weights differ.",
    )


def write_run_report(run: Path) -> Path:
    """`RUN/report.html`: the curves of the run."""
    title = f"Training run {run.resolve().name}"
    return write_report(run / "report.html", title=title, curves=run_curves(run))
