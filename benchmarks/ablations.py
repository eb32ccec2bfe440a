"""What raises quality in equal time: one change at a time, over seeds.

`python -m benchmarks ablations --data DATA` trains each variant anew for the same seconds on one
thread, in turns, and scores it on held-out clips. DATA comes from `rdtf data prepare`.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import Table, say
from rdtf.data.dataset import PreparedDataset
from rdtf.evaluation.baselines import NEAREST
from rdtf.evaluation.evaluate import evaluate, spread_frames
from rdtf.evaluation.results import MODEL, Record
from rdtf.stickers import Sticker
from rdtf.training.config import override
from rdtf.training.presets import preset
from rdtf.training.run import load_pipeline
from rdtf.training.train import train

BASE: dict[str, Any] = {
    "model.motion": "alone",
    "curriculum.mode": "none",
    "curriculum.leave_out": ("t2v",),
    "objective.logit_mean": 1.0,
    "data.still_share": 0.0,
    "optimizer.warmup_steps": 20,
    "optimizer.ema_decays": (0.97,),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "no motion latents": {"model.motion": "none"},
    "motion latents only": {"learn": "motion"},
    "no composer": {"model.motion": "none", "model.compose": False},
    "no captions": {"data.text_dropout": 1.0},
    "no flips": {"data.flip_probability": 0.0},
    "30 % backwards": {"data.reverse_probability": 0.3},
    "15 % stills": {"data.still_share": 0.15},
    "whole clips only": {"data.subclip_probability": 0.0},
    "adaptive curriculum": {"curriculum.mode": "adaptive"},
    "static curriculum": {"curriculum.mode": "static"},
    "loss not relative": {"relative_loss_floor": 0.0},
    "noise levels around .88": {"objective.logit_mean": 2.0},
    "noise levels around .5": {"objective.logit_mean": 0.0},
}
_TASKS = ("interpolation", "post_frame_prediction", "it2v")


@dataclass(frozen=True)
class Ablations:
    """Train variants for equal time and compare what they reach."""

    data: Path | None = None
    """A prepared dataset with held-out animated clips. Without one there is nothing to do."""
    seconds: float = 120.0
    """Training time of each run, on one thread."""
    seeds: int = 2
    """Runs of each variant."""
    clips: int = 38
    """Held-out clips to score."""
    steps: int = 4
    """Sampling steps beyond the given frames; between them one is taken."""
    only: tuple[str, ...] = ()
    """Names of variants; all if empty. The base is always there."""

    def run(self) -> Table:
        if self.data is None:
            return Table("ablations: no --data given", ["variant"], [], {})
        torch.set_num_threads(1)
        names = [name for name in VARIANTS if not self.only or name in ("base", *self.only)]
        truths = _held_out(self.data, self.clips)
        scores: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for seed in range(self.seeds):
            for name in names:
                scores[name].append(self._one(name, seed, truths))
                say(f"{name}, seed {seed}: {scores[name][-1]}")
        rows = [[name, *_cells(scores[name])] for name in names]
        columns = ["variant", *(key.replace("_", " ") for key in scores["base"][0])]
        title = f"{self.seconds:.0f} s of one thread, {self.seeds} seeds, {len(truths)} clips"
        notes = (
            "median over seeds (lowest–highest); PSNR: dB over the nearest frame;",
            "lines: line distance / nearest frame's, motion: median share of the true one",
        )
        return Table(title, columns, rows, dict(scores), notes)

    def _one(self, name: str, seed: int, truths: Sequence[Sticker]) -> dict[str, float]:
        assert self.data is not None
        quiet = {"engine.validate_every": 0, "engine.sample_every": 0, "engine.save_every": 10**6,
                 "engine.track": "none", "engine.log_lines": False}  # fmt: skip
        settings = {**BASE, **VARIANTS[name], **quiet, "seed": seed, "steps": 10**6}
        config = override(preset("nano"), settings)
        out = Path(tempfile.mkdtemp(prefix="ablation-"))
        try:
            report = train(config, self.data, out / "run", max_seconds=self.seconds, quiet=True)
            pipeline = load_pipeline(out / "run")
        finally:
            shutil.rmtree(out, ignore_errors=True)
        pipeline.set_progress_bar_config(disable=True)
        records = [
            record
            for task in _TASKS
            for record in evaluate(
                pipeline, [truth.fit_canvas(pipeline.canvas) for truth in truths], tasks=(task,),
                num_inference_steps=1 if task == "interpolation" else self.steps,
                guidance_scale=1.0,
            ).records
        ]  # fmt: skip
        return {"training_steps": float(report.step), **_summary(records)}


def _held_out(data: Path, count: int) -> list[Sticker]:
    dataset = PreparedDataset(data)
    clips = [clip for clip in dataset.clips("val") if clip.num_frames > 1]
    chosen = clips[:: max(len(clips) // count, 1)][:count]
    return [spread_frames(dataset.read_sticker(clip.index), 8) for clip in chosen]


def _summary(records: Sequence[Record]) -> dict[str, float]:
    summary = {}
    for task in _TASKS:
        mine = _scores(records, task, MODEL)
        nearest = _scores(records, task, NEAREST)
        short = task.split("_")[0]
        gained = np.mean(mine["psnr"]) - np.mean(nearest["psnr"])
        summary[f"{short}_PSNR"] = float(gained)
        lines = np.nanmean(mine["line_distance"]) / np.nanmean(nearest["line_distance"])
        summary[f"{short}_lines"] = float(lines)
    moved = _scores(records, "it2v", MODEL)
    summary["it2v_motion"] = float(np.nanmedian(moved["motion_ratio"]))
    summary["it2v_drift"] = 255 * float(np.nanmedian(moved["colour_drift"]))
    return summary


def _scores(records: Sequence[Record], task: str, method: str) -> dict[str, np.ndarray]:
    rows = [r.scores for r in records if r.task == task and r.method == method]
    names = ("psnr", "line_distance", "motion_ratio", "colour_drift")
    return {name: np.array([row[name] for row in rows], dtype=float) for name in names}


def _cells(runs: Sequence[Mapping[str, float]]) -> list[str]:
    cells = []
    for key in runs[0]:
        values = [run[key] for run in runs]
        digits = 0 if key == "training_steps" else 2
        low, middle, high = min(values), statistics.median(values), max(values)
        cells.append(f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})")
    return cells
