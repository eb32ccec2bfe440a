"""One HTML file that shows how good a model is: clips that move, scores, training curves.

The file stands alone: pictures are base64 data URIs of lossless WebP, charts are inline SVG, there
is no script, and a content security policy forbids the page to load anything. The templates are in
`templates/`; the environment escapes every value.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from rdtf.evaluation.charts import Curve, line_chart, render
from rdtf.evaluation.metrics import METRICS
from rdtf.evaluation.results import Example, Table
from rdtf.fileio import write_text
from rdtf.stickers import Sticker, encode_sticker

_CAPTION_METRICS = {"psnr": "PSNR {} dB", "line_distance": "lines {}% off"}
_STRIP_CELL = 128  # pixels; a film strip of larger frames is only a download


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
        tables=tables,
        tasks={e.task: [one for one in examples if one.task == e.task] for e in examples},
        clip_view=_clip_view,
        charts=[line_chart(curve) for curve in curves],
        notes=notes,
    )
    write_text(path, page + "\n")
    return Path(path)


# ---------------------------------------------------------------------- examples


def _clip_view(example: Example) -> list[dict[str, Any]]:
    """What the template shows of each clip of an example."""
    views = []
    for name, clip in example.clips().items():
        # Browsers play equal images in step with the first of them on the page; the fragment makes
        # each its own, so that the clips of a card start together.
        fragment = "#" + quote(f"{example.task} {name}")
        small = max(clip.width, clip.height) < 128  # shown with hard pixels, not blurred
        views.append(
            {
                "name": name,
                "animation": _data_uri(clip) + fragment,
                "still": _data_uri(clip.select([clip.num_frames // 2])),
                "strip": _strip_uri(clip),
                "width": clip.width,
                "height": clip.height,
                "css": "checker pixels" if small else "checker",
                "scores": _score_texts(example.scores.get(name, {})),
            }
        )
    return views


def _score_texts(scores: Mapping[str, float]) -> list[str]:
    return [
        template.format(f"{scores[metric]:.{min(METRICS[metric].digits, 1)}f}")
        for metric, template in _CAPTION_METRICS.items()
        if metric in scores
    ]


def _strip_uri(clip: Sticker) -> str:
    """All frames side by side in one picture, each at most `_STRIP_CELL` pixels."""
    larger = max(clip.height, clip.width)
    if larger > _STRIP_CELL:
        scale = _STRIP_CELL / larger
        clip = clip.fit_canvas(
            (max(1, round(clip.height * scale)), max(1, round(clip.width * scale)))
        )
    return _data_uri(Sticker(np.concatenate(list(clip.frames), axis=1)[None], np.array([1000])))


def _data_uri(clip: Sticker) -> str:
    data = encode_sticker(clip, ".webp")
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
