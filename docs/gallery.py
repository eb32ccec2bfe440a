"""Make the gallery of the docs: what a model makes of held-out clips, chosen by rule.

    python docs/gallery.py MODEL DATA                    docs/images/gallery-*.webp, docs/gallery.md
    python docs/gallery.py MODEL DATA --out out/images   elsewhere: out/images/*, out/gallery.md

MODEL is a run directory or a saved pipeline, DATA a prepared training set. The same model, data and
options make the same pictures. Nothing is chosen by hand: see `RULE`.
"""

from __future__ import annotations

import argparse
import html
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rdtf.errors import UserError
from rdtf.evaluation.baselines import BLEND, NEAREST
from rdtf.evaluation.evaluate import clip_id, evaluate, held_out_stickers, spread, spread_frames
from rdtf.evaluation.metrics import motion_magnitude, on_white
from rdtf.evaluation.results import MODEL, Evaluation, Example
from rdtf.evaluation.tasks import TASK_LABELS, evaluation_tasks
from rdtf.fileio import ensure_folder, write_bytes, write_text
from rdtf.stickers import Sticker
from rdtf.stickers.canvas import fit_frame
from rdtf.training.run import load_pipeline

IMAGES = Path(__file__).with_name("images")
MAX_FRAMES = 8
MAX_BYTES = 200_000
NUM_FAILURES = 3
# Family → its task, and the baseline that the model is held against.
FAMILIES = {
    "interpolation": ("interpolation", BLEND),
    "prediction": ("post_frame_prediction", NEAREST),
    "image-text": ("it2v", NEAREST),
}
RULE = """\
Nothing here is chosen by hand. The held-out animated clips are sorted by how much they truly move
and cut into as many equal parts as there are clips to show; of each part one clip is shown, from
another place for each family. Every clip is made once, from noise that only the seed and the clip's
name settle. The failures are the clips on which the model is furthest behind a baseline: the
blend in interpolation, the nearest frame in prediction."""

_CELL, _GAP, _BORDER = 96, 8, 3
_MARGIN, _HEADING = 120, 30  # pixels left of the rows, and above them
_SQUARE = 8
_PAPER, _INK, _GREY, _GIVEN = (255, 255, 255), (32, 32, 32), (110, 110, 110), (46, 125, 171)
_FRAME_MS = 120


@dataclass(frozen=True)
class Shown:
    """One clip of one task with what all methods made of it, and its name in the set."""

    name: str
    example: Example

    @property
    def rows(self) -> dict[str, Sticker]:
        """Truth, model and the baselines that make sense: a blend needs frames on both sides."""
        methods = [MODEL, NEAREST, *([BLEND] if self.example.task == "interpolation" else [])]
        return {"truth": self.example.truth, **{m: self.example.results[m] for m in methods}}

    def scores(self, method: str) -> str:
        """`24.1 dB, lines 1.2 %`; nothing for the truth."""
        scores = self.example.scores.get(method)
        return f"{scores['psnr']:.1f} dB, {scores['line_distance']:.2f} %" if scores else ""


# ------------------------------------------------------------------------------- choosing


def chosen_clips(clips: Sequence[Sticker], task: str, count: int, place: float) -> list[Sticker]:
    """`count` clips at evenly spaced ranks of true motion, the stillest first.

    `place` in [0, 1) says which of each part: 0 the stillest, towards 1 the one that moves most.
    """
    able = [clip for clip in clips if task in evaluation_tasks(clip.num_frames)]
    able.sort(key=lambda clip: (motion_magnitude(on_white(clip)), clip_id(clip)))
    count = min(count, len(able))
    return [able[int((index + place) * len(able) / count)] for index in range(count)]


def worst(evaluation: Evaluation, count: int = NUM_FAILURES) -> list[tuple[str, str]]:
    """(clip, task) of the clips with the lowest PSNR against the baseline, each clip once."""
    scores = {(r.clip, r.task, r.method): r.scores["psnr"] for r in evaluation.records}
    behind = sorted(
        (scores[clip, task, MODEL] - scores[clip, task, baseline], clip, task)
        for task, baseline in (FAMILIES["interpolation"], FAMILIES["prediction"])
        for clip in {r.clip for r in evaluation.records if r.task == task}
    )
    found: dict[str, str] = {}
    for _, clip, task in behind:
        found.setdefault(clip, task)
    return list(found.items())[:count]


class Gallery:
    """A model and the clips that it is shown on."""

    def __init__(
        self, model: Path, data: Path, *, steps: int | None, seed: int, limit: int
    ) -> None:
        self.pipeline = load_pipeline(model)
        self.pipeline.set_progress_bar_config(disable=True)
        stickers = held_out_stickers(data, self.pipeline)
        self.clips = [spread_frames(sticker, MAX_FRAMES) for sticker in stickers]
        self.options: dict[str, Any] = {"num_inference_steps": steps, "seed": seed}
        self.limit = limit

    def family(self, family: str, count: int) -> list[Shown]:
        """The clips that are shown of one family."""
        task, place = FAMILIES[family][0], (list(FAMILIES).index(family) + 0.5) / len(FAMILIES)
        return [self.shown(clip, task) for clip in chosen_clips(self.clips, task, count, place)]

    def failures(self) -> list[Shown]:
        """The clips on which the model is furthest behind, of at most `limit` clips."""
        clips = spread(self.clips, self.limit or None)
        tasks = [FAMILIES[family][0] for family in ("interpolation", "prediction")]
        found = worst(evaluate(self.pipeline, clips, tasks=tasks, **self.options))
        by_name = {clip_id(clip): clip for clip in clips}
        return [self.shown(by_name[name], task) for name, task in found]

    def shown(self, clip: Sticker, task: str) -> Shown:
        result = evaluate(self.pipeline, [clip], tasks=[task], num_examples=1, **self.options)
        return Shown(clip_id(clip), result.examples[0])


# -------------------------------------------------------------------------------- drawing


def draw_sheet(shown: Sequence[Shown]) -> Image.Image:
    """One block for each clip: heading, then rows of frames; given frames have a border."""
    blocks = [_draw_block(one) for one in shown]
    width = max(block.width for block in blocks)
    sheet = Image.new("RGB", (width, sum(block.height for block in blocks)), _PAPER)
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _draw_block(shown: Shown) -> Image.Image:
    step, rows = _CELL + _GAP, shown.rows
    columns = max(shown.example.truth.num_frames, 6)  # the heading needs some room
    size = (_MARGIN + columns * step + _GAP, _HEADING + len(rows) * step + _GAP)
    block = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(block)
    title = f"“{shown.example.prompt}”" if shown.example.prompt else shown.name
    task = TASK_LABELS[shown.example.task]
    draw.text((_GAP, 7), f"{title}  ·  {task}"[:96], fill=_INK, font=_font(14))
    for row, (method, clip) in enumerate(rows.items()):
        y = _HEADING + row * step
        _write_label(draw, y, method, shown.scores(method))
        for index, frame in enumerate(clip.frames):
            x = _MARGIN + index * step
            if index in shown.example.known:
                corners = (x - _BORDER, y - _BORDER, x + _CELL + 2, y + _CELL + 2)
                draw.rectangle(corners, outline=_GIVEN, width=_BORDER)
            block.paste(_tile(frame), (x, y))
    return block


def _write_label(draw: ImageDraw.ImageDraw, y: int, method: str, scores: str) -> None:
    middle = y + _CELL // 2
    draw.text((_GAP, middle - 10), method, fill=_INK, font=_font(13), anchor="lm")
    draw.text((_GAP, middle + 9), scores, fill=_GREY, font=_font(11), anchor="lm")


def draw_animation(shown: Sequence[Shown]) -> list[Image.Image]:
    """A grid that moves: the truth above, the model's clip below; shorter clips start again."""
    step, rows = _CELL + _GAP, ("truth", MODEL)
    size = (_MARGIN // 2 + len(shown) * step + _GAP, _GAP + len(rows) * step)
    pictures = []
    for time in range(MAX_FRAMES):
        picture = Image.new("RGB", size, _PAPER)
        draw = ImageDraw.Draw(picture)
        for row, name in enumerate(rows):
            y = _GAP + row * step
            draw.text((_GAP, y + _CELL // 2), name, fill=_INK, font=_font(13), anchor="lm")
            for column, one in enumerate(shown):
                frames = one.rows[name].frames
                picture.paste(_tile(frames[time % len(frames)]), (_MARGIN // 2 + column * step, y))
        pictures.append(picture)
    return pictures


def _tile(frame: np.ndarray) -> Image.Image:
    """A frame in a cell, on a light checkerboard."""
    rows, columns = np.indices((_CELL, _CELL)) // _SQUARE
    grey = np.where((rows + columns) % 2, 236, 252).astype(np.uint8)
    board = Image.fromarray(grey).convert("RGBA")
    fitted = Image.fromarray(fit_frame(frame, _CELL, _CELL, crisp=frame.shape[0] < _CELL))
    return Image.alpha_composite(board, fitted).convert("RGB")


def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)


def write_small(pictures: Sequence[Image.Image], path: Path) -> Path:
    """WebP of at most `MAX_BYTES`: the best quality that fits, then a smaller picture."""
    for scale, quality in _qualities():
        width, height = (max(1, round(side * scale)) for side in pictures[0].size)
        scaled = [picture.resize((width, height)) if scale < 1 else picture for picture in pictures]
        data = _webp(scaled, quality)
        if len(data) <= MAX_BYTES:
            ensure_folder(path.parent)
            write_bytes(path, data)
            print(f"{path}: {len(data) / 1000:.0f} kB")
            return path
    raise UserError(f"{path} does not fit into {MAX_BYTES} bytes; show fewer clips")


def _qualities() -> Iterator[tuple[float, int]]:
    for scale in (1.0, 0.75, 0.5):
        yield from ((scale, quality) for quality in (88, 80, 70, 60, 50))


def _webp(pictures: Sequence[Image.Image], quality: int) -> bytes:
    file = io.BytesIO()
    moving = {"save_all": True, "append_images": pictures[1:], "duration": _FRAME_MS, "loop": 0}
    pictures[0].save(
        file, "WEBP", quality=quality, method=6, **(moving if len(pictures) > 1 else {})
    )
    return file.getvalue()


# ------------------------------------------------------------------------------- the page


def page(sections: dict[str, list[Shown]], folder: str, settings: str) -> str:
    """docs/gallery.md; pictures are looked for in `folder` beside it."""
    parts = [
        "# Gallery",
        "<!-- Written by docs/gallery.py; run it again instead of editing. -->",
        "Stickers that the model has never seen: truth, what the model made, and baselines.",
        f"![Truth above, the model's clip below]({folder}/gallery.webp)",
        "*Truth above, the model below: first those whose first frame and caption were given, then "
        "those of which every 2nd frame and the last were given.*",
        RULE,
        settings,
        "In the sheets, frames with a blue border were given and all others had to be made. Scores "
        "are of the hidden frames on white: PSNR, and how far lines are off in per cent of the "
        "diagonal.",
    ]
    for name, shown in sections.items():
        title = _TITLES[name]
        picture = f"![{title}: rows of frames]({folder}/gallery-{name}.webp)"
        parts += [f"## {title}", picture, _captions(shown)]
    return "\n\n".join(parts) + "\n"


_TITLES = {
    "interpolation": "Interpolation: every 2nd frame and the last given",
    "prediction": "Prediction: the first half given",
    "image-text": "Image and text: the first frame and a caption given",
    "failures": "Failures: the lowest PSNR against a baseline",
}


def _captions(shown: Sequence[Shown]) -> str:
    lines = [
        "| clip | text | model | nearest frame | linear blend | by, licence |",
        "|---|---|---|---|---|---|",
    ]
    for one in shown:
        truth = one.example.truth
        credit = ", ".join(part for part in (truth.attribution, truth.license) if part)
        scores = [one.scores(method) if method in one.rows else "" for method in _SCORED]
        cells = [one.name, one.example.prompt or "", *scores, credit or "unknown"]
        lines.append(f"| {' | '.join(map(_plain, cells))} |")
    return "\n".join(lines)


_SCORED = (MODEL, NEAREST, BLEND)


def _plain(text: str) -> str:
    """Any text as a cell of a table: no markup, no links, one line."""
    text = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~$#!])", r"\\\1", text)


# ----------------------------------------------------------------------------------- main


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make the gallery of the docs.")
    parser.add_argument("model", type=Path, help="run directory, or a saved pipeline")
    parser.add_argument("data", type=Path, help="prepared training set, its held-out clips")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures")
    parser.add_argument("--count", type=int, default=4, help="clips of each family")
    parser.add_argument("--steps", type=int, help="sampling steps; default: the pipeline's own")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--limit", type=int, default=0, help="search failures in so many; 0 = all")
    o = parser.parse_args(arguments)
    if o.count < 1:
        parser.error("--count must be at least 1")
    gallery = Gallery(o.model, o.data, steps=o.steps, seed=o.seed, limit=o.limit)
    sections = {family: gallery.family(family, o.count) for family in FAMILIES}
    moving = [*sections["image-text"], *sections["interpolation"]]
    sections["failures"] = gallery.failures()
    sections = {name: shown for name, shown in sections.items() if shown}
    for name, shown in sections.items():
        write_small([draw_sheet(shown)], o.out / f"gallery-{name}.webp")
    write_small(draw_animation(moving), o.out / "gallery.webp")
    settings = (
        f"{len(gallery.clips)} held-out clips, {gallery.pipeline.canvas} pixels, at most "
        f"{MAX_FRAMES} frames; {o.steps or 'default'} sampling steps, seed {o.seed}."
    )
    text = page(sections, o.out.name, settings)
    write_text(o.out.parent / "gallery.md", text)


if __name__ == "__main__":
    main()
