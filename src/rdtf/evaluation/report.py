"""One HTML file that shows how good a model is: clips that move, scores, training curves.

The file stands alone: pictures are base64 data URIs of lossless WebP, charts are inline SVG, there
is no script, and a content security policy forbids the page to load anything. The templates are in
`templates/`; the environment escapes every value.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from rdtf.evaluation.charts import Curve, line_chart, render
from rdtf.evaluation.metrics import METRICS
from rdtf.evaluation.results import Cell, Example, Table, as_cell, is_name
from rdtf.fileio import write_text
from rdtf.stickers import Sticker, encode_sticker

CAPTION_METRICS = {"psnr": "PSNR {} dB", "line_distance": "lines {}% off"}
STRIP_CELL = 128  # pixels; a film strip of larger frames is only a download


def write_report(
    path: Path | str,
    *,
    title: str,
    intro: str = "",
    examples: Sequence[Example] = (),
    curves: Sequence[Curve] = (),
    tables: Sequence[Table] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write the report to `path` (.html), whole or not at all; returns the path.

    Args:
        path: of the file; an existing one is replaced.
        title, intro: heading and first words; blank lines in `intro` part paragraphs.
        examples: shown by task, in the order in which their tasks first appear.
        curves: one chart each.
        tables: in this order, above the examples.
        notes: a list at the end: settings, caveats.
    """
    content = {"Scores": tables, "Examples": examples, "Training": curves, "Notes": notes}
    page = render(
        "report.html",
        title=title,
        paragraphs=[block.strip() for block in intro.split("\n\n") if block.strip()],
        sections=[name for name, values in content.items() if values],
        tables=[_table_view(table) for table in tables],
        tasks=_examples_by_task(examples),
        charts=[line_chart(curve) for curve in curves],
        notes=notes,
    )
    write_text(path, page + "\n")
    return Path(path)


# ------------------------------------------------------------------------ tables


def _table_view(table: Table) -> dict[str, Any]:
    """Values of a table; groups of rows get a heading of their own, which saves a column."""
    groups = [
        (name, list(rows))
        for name, rows in groupby(table.rows, key=lambda row: as_cell(row[0]).text)
    ]
    grouped = any(len(rows) > 1 for _, rows in groups)
    first = 1 if grouped else 0  # the column that names the row
    return {
        "title": table.title,
        "note": table.note,
        "grouped": grouped,
        "heads": [(head, is_name(column)) for column, head in enumerate(table.headers)][first:],
        "groups": [(name, [_row_view(row, first) for row in rows]) for name, rows in groups],
    }


def _row_view(row: Sequence[Cell | str], first: int) -> dict[str, Any]:
    cells = [_cell_view(as_cell(cell), column) for column, cell in enumerate(row) if column > first]
    return {"name": as_cell(row[first]).text, "cells": cells}


def _cell_view(cell: Cell, column: int) -> dict[str, Any]:
    """A cell; an interval in brackets is set smaller."""
    value, bracket, rest = cell.text.partition(" [")
    css = "best" if cell.best else "name" if is_name(column) else ""
    return {"value": value, "spread": f"[{rest}" if bracket else "", "best": cell.best, "css": css}


# ---------------------------------------------------------------------- examples


def _examples_by_task(examples: Sequence[Example]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    by_task: dict[str, list[Example]] = {}
    for example in examples:
        by_task.setdefault(example.task, []).append(example)
    return [
        (task, members[0].task_label[:1].upper() + members[0].task_label[1:],
         [_example_view(member) for member in members])
        for task, members in by_task.items()
    ]  # fmt: skip


def _example_view(example: Example) -> dict[str, Any]:
    truth = example.truth
    return {
        "title": f"“{example.prompt}”" if example.prompt else "no text",
        "prompt": example.prompt or "no text",
        "known": ", ".join(map(str, sorted(example.known))) or "none",
        "given": [index in set(example.known) for index in range(truth.num_frames)],
        "clips": [_clip_view(example, name, clip) for name, clip in example.clips().items()],
        "credit": " · ".join(filter(None, (truth.attribution, truth.license, truth.source))),
    }


def _clip_view(example: Example, name: str, clip: Sticker) -> dict[str, Any]:
    # Browsers play equal images in step with the first of them on the page; the fragment makes
    # each its own, so that the clips of a card start together.
    fragment = "#" + quote(f"{example.task} {name}")
    small = max(clip.width, clip.height) < 128  # shown with hard pixels, not blurred
    return {
        "name": name,
        "animation": _data_uri(clip) + fragment,
        "still": _data_uri(clip.select([clip.num_frames // 2])),
        "strip": _strip_uri(clip),
        "width": clip.width,
        "height": clip.height,
        "css": "checker pixels" if small else "checker",
        "scores": _score_texts(example.scores.get(name, {})),
    }


def _score_texts(scores: Mapping[str, float]) -> list[str]:
    return [
        template.format(f"{scores[metric]:.{min(METRICS[metric].digits, 1)}f}")
        for metric, template in CAPTION_METRICS.items()
        if metric in scores
    ]


def _strip_uri(clip: Sticker) -> str:
    """All frames side by side in one picture, each at most `STRIP_CELL` pixels."""
    larger = max(clip.height, clip.width)
    if larger > STRIP_CELL:
        scale = STRIP_CELL / larger
        clip = clip.fit_canvas(
            (max(1, round(clip.height * scale)), max(1, round(clip.width * scale)))
        )
    return _data_uri(Sticker(np.concatenate(list(clip.frames), axis=1)[None], np.array([1000])))


def _data_uri(clip: Sticker) -> str:
    data = encode_sticker(clip, ".webp")
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
