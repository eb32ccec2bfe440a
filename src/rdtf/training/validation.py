"""What a run shows of itself: held-out loss at fixed noise levels, and sample sheets."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rdtf.evaluation.charts import Curve, Line
from rdtf.evaluation.report import write_report
from rdtf.method.tasks import FAMILIES, FAMILY, MIN_FRAMES, TASKS, TaskDraw, condition_mask
from rdtf.randomness import Purpose, noise_key, stream
from rdtf.stickers import Sticker, write_sheet
from rdtf.training.batches import PackedBatch, Sample, choose_frames, pack, unpack
from rdtf.training.loader import PreparedStore
from rdtf.training.logging import read_metrics
from rdtf.training.step import batch_errors, elements_per_sample, loss_options
from rdtf.training.trainer import Trainer

NOISE_LEVELS = (0.25, 0.5, 0.75, 0.95)
_VEIL = np.array([90, 90, 110, 255], dtype=np.uint8)
_SHOWN_TASKS = ("it2v", "interpolation", "post_frame_prediction")


def validation_hook(store: PreparedStore, clips_per_task: int = 6) -> Callable[[Trainer], None]:
    """Log the held-out loss, and the error per family and noise level and per task.

    `loss` is what the run descends: of motion, if that is all it learns, with its floor, on the
    tasks that it draws. Every average is measured by it; the best one so far marks its checkpoint
    as the one to keep. Errors are mean squares, of motion or of pixels. Its randomness is its own:
    the same clips, masks and noise every time, whatever the run's step.
    """
    moving = np.flatnonzero(store.num_frames > 1)

    def validate(trainer: Trainer) -> None:
        if len(moving) == 0:
            return
        batches = [
            _fixed_batch(store, trainer, moving, task, t, clips_per_task)
            for task in TASKS
            if task not in trainer.trainable.config.curriculum.leave_out
            for t in NOISE_LEVELS
        ]
        scores = [_score(trainer, batches)]
        if not scores[0]["by_task"]:
            return
        for index in range(1, len(trainer.ema.decays)):
            with trainer.ema.swapped(trainer.model, index):
                scores.append(_score(trainer, batches))
        best = min(range(len(scores)), key=lambda index: scores[index]["loss"])
        losses = {str(d): s["loss"] for d, s in zip(trainer.ema.decays, scores, strict=True)}
        trainer.tracker.log(trainer.step, "validation", {**scores[0], "loss_by_ema": losses})
        trainer.validated(scores[best]["loss"], best)

    return validate


def _score(trainer: Trainer, batches: Sequence[PackedBatch]) -> dict[str, Any]:
    """Mean loss and errors of the model as it is; computed on the device, read once."""
    config, rows, keys = trainer.trainable.config, [], []
    for packed in batches:
        trainer.check_time()
        batch = unpack(packed, trainer.trainable.batches.store, trainer.device)
        with trainer.autocast:
            weighted, error, count = batch_errors(
                trainer.model, trainer.trainable.objective, batch, **loss_options(config)
            )
        loss = weighted / elements_per_sample(batch, config.given_frame_weight).clamp(min=1)
        rows.append(torch.stack([loss, error / count.clamp(min=1), count], dim=1))
        keys += zip(packed.info.tasks, packed.info.t, strict=True)
    losses: list[float] = []
    by_level, by_task = defaultdict(list), defaultdict(list)
    for (task, t), (loss, error, count) in zip(keys, torch.cat(rows).tolist(), strict=True):
        if count == 0:  # nothing that the run learns is in it: no motion between given frames
            continue
        losses.append(loss)
        by_level[f"{FAMILY[task]}@{t}"].append(error)
        by_task[task].append(error)
    return {
        "loss": float(np.mean(losses)) if losses else math.nan,
        "by_level": {name: float(np.mean(x)) for name, x in by_level.items()},
        "by_task": {name: float(np.mean(x)) for name, x in by_task.items()},
    }


def _fixed_batch(
    store: PreparedStore,
    trainer: Trainer,
    moving: np.ndarray,
    task: str,
    t: float,
    num_clips: int,
) -> PackedBatch:
    seed, config = trainer.trainable.config.seed, trainer.trainable.config
    samples = []
    for row in range(min(num_clips, len(moving))):
        generator = stream(seed, Purpose.VALIDATION, TASKS.index(task), row)
        clip = int(moving[generator.integers(len(moving))])
        frames = choose_frames(int(store.num_frames[clip]), config.max_frames, 0.0, generator)
        if len(frames) < MIN_FRAMES[task]:
            continue
        stored = store.stored(clip, frames, flip=False)
        samples.append(
            Sample(
                stored={name: torch.from_numpy(values) for name, values in stored.items()},
                noise_key=noise_key(seed, Purpose.VALIDATION, TASKS.index(task), row, 1),
                posterior_key=noise_key(seed, Purpose.VALIDATION, TASKS.index(task), row, 2),
                t=t,
                draw=TaskDraw(task, condition_mask(task, len(frames), generator), task != "i2v"),
                text=store.text(clip, 0.0) if task != "i2v" else [],
                mean_duration_ms=float(store.durations_ms(clip).mean()),
                clip=clip,
            )
        )
    return pack(samples, store.text_widths)


def sample_hook(
    store: PreparedStore, num_clips: int = 3, num_inference_steps: int = 10
) -> Callable[[Trainer], None]:
    """Write `RUN/samples/step-N.png`: truth and results of each family, fixed clips and seeds."""
    moving = np.flatnonzero(store.num_frames > 2)

    def show(trainer: Trainer) -> None:
        left_out = trainer.trainable.config.curriculum.leave_out
        tasks = [task for task in _SHOWN_TASKS if task not in left_out]
        rows: list[Sticker] = []
        labels: list[str] = []
        for row in range(min(num_clips, len(moving))):
            generator = stream(trainer.trainable.config.seed, Purpose.SAMPLE, row)
            truth = _held_out_clip(store, int(moving[generator.integers(len(moving))]), trainer)
            rows.append(truth)
            labels.append("truth")
            for task in tasks:
                trainer.check_time()
                known = np.flatnonzero(condition_mask(task, truth.num_frames, generator)).tolist()
                rows.append(
                    trainer.trainable.pipeline.fill(
                        truth,
                        known,
                        num_inference_steps=num_inference_steps,
                        generator=torch.Generator().manual_seed(row),
                    )
                )
                labels.append(f"{task.replace('_frame_', ' ')} {known}")
        if rows and trainer.ranks.is_main:
            path = trainer.run / "samples" / f"step-{trainer.step:08d}.png"
            write_sheet(rows, path, labels)
            trainer.tracker.log_image(trainer.step, "samples", path)

    return show


def _held_out_clip(store: PreparedStore, clip: int, trainer: Trainer) -> Sticker:
    """A clip at the run's canvas, spread to at most as many frames as the run trains on."""
    sticker = store.dataset.read_sticker(store.clips[clip].index)
    count = min(sticker.num_frames, trainer.trainable.config.max_frames)
    frames = np.linspace(0, sticker.num_frames - 1, count).round().astype(int)
    return sticker.select(frames).fit_canvas(trainer.trainable.config.canvas)


def write_first_batch(trainer: Trainer) -> None:
    """Write `RUN/samples/first-batch.png`: what the network sees, frames, masks, tasks, captions.

    Hidden frames are veiled. It shows mistakes of channel, range, order or caption in a glance.
    """
    weights = trainer.trainable.lookahead.task_weights(0)
    packed = trainer.trainable.batches.step_batches(0, weights)[0]
    batch = unpack(packed, trainer.trainable.batches.store, trainer.device)
    rows, labels = [], []
    known, info = batch.conditions, batch.info
    for row, (task, count) in enumerate(zip(info.tasks, info.num_frames, strict=True)):
        latents = known.clean[row, :, :count].transpose(0, 1)
        decoded = trainer.trainable.pipeline.representation.decode(latents)
        # A spoiled sticker is the loss's to report, by name.
        pixels = ((decoded.nan_to_num().clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).cpu().numpy()
        given = known.given[row, :count].cpu().numpy()
        sticker = Sticker.from_premultiplied(pixels, int(packed.mean_duration_ms[row]))
        rows.append([f if g else _veiled(f) for f, g in zip(sticker.frames, given, strict=True)])
        text = "with text" if any(bool(mask[row].any()) for mask in known.text_mask) else "no text"
        shown = f"given {np.flatnonzero(given).tolist()}" if given.any() else "nothing given"
        labels.append(
            f"{task.replace('_frame_', ' ')}, {shown}, noise {info.t[row]:.2f}, {text}: "
            f"{_caption(trainer, info.clips[row])}"
        )
    write_sheet(rows, trainer.run / "samples" / "first-batch.png", labels)


def _veiled(frame: np.ndarray) -> np.ndarray:
    """A frame that the network has to make: stripes over it."""
    rows, columns = np.indices(frame.shape[:2])
    striped = ((rows + columns) // max(frame.shape[0] // 16, 1)) % 2 == 0
    return np.where(striped[..., None], _VEIL, frame)


def _caption(trainer: Trainer, clip: int) -> str:
    caption = getattr(trainer.trainable.batches.store, "caption", None)
    return str(caption(clip)) if callable(caption) else f"clip {clip}"


# ---------------------------------------------------------------------- report


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
