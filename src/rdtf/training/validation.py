"""What a run shows of itself: held-out loss at fixed noise levels, and sample sheets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch

from rdtf.fileio import atomic_path
from rdtf.method.tasks import FAMILY, MIN_FRAMES, TASKS, TaskDraw, condition_mask
from rdtf.randomness import Purpose, normal, stream
from rdtf.stickers import Sticker, contact_sheet
from rdtf.training.batches import Batch, Sample, choose_frames, collate
from rdtf.training.step import batch_errors
from rdtf.training.store import PreparedStore
from rdtf.training.trainer import Trainer

NOISE_LEVELS = (0.25, 0.5, 0.75, 0.95)
_SHOWN_TASKS = ("it2v", "interpolation", "post_frame_prediction")


def validation_hook(store: PreparedStore, clips_per_task: int = 6) -> Callable[[Trainer], None]:
    """Log the held-out loss per family and noise level.

    Its randomness is its own: the same clips, masks and noise every time, whatever the run's step.
    """
    moving = np.flatnonzero(store.num_frames > 1)

    def validate(trainer: Trainer) -> None:
        if len(moving) == 0:
            return
        errors: dict[tuple[str, float], list[float]] = defaultdict(list)
        for task in TASKS:
            for level in NOISE_LEVELS:
                batch = _fixed_batch(store, trainer, moving, task, level, clips_per_task)
                _, error, count = batch_errors(
                    trainer.model, trainer.objective, batch.to(trainer.device)
                )
                errors[FAMILY[task], level] += (error / count.clamp(min=1)).tolist()
        values = {f"{family}@{level}": float(np.mean(e)) for (family, level), e in errors.items()}
        mean = float(np.mean([x for e in errors.values() for x in e]))
        trainer.tracker.log(trainer.step, "validation", {"loss": mean, "by_level": values})

    return validate


def _fixed_batch(
    store: PreparedStore,
    trainer: Trainer,
    moving: np.ndarray,
    task: str,
    level: float,
    num_clips: int,
) -> Batch:
    seed, config = trainer.config.seed, trainer.config
    samples = []
    for row in range(min(num_clips, len(moving))):
        generator = stream(seed, Purpose.VALIDATION, TASKS.index(task), row)
        clip = int(moving[generator.integers(len(moving))])
        frames = choose_frames(int(store.num_frames[clip]), config.max_frames, 0.0, generator)
        if len(frames) < MIN_FRAMES[task]:
            continue
        key = (TASKS.index(task), row, 1)
        latents = store.latents(clip, frames, False, (seed, *key))
        samples.append(
            Sample(
                latents=latents,
                noise=normal(tuple(latents.shape), seed, Purpose.VALIDATION, *key),
                level=level,
                draw=TaskDraw(task, condition_mask(task, len(frames), generator), task != "i2v"),
                text=store.text(clip, 0.0) if task != "i2v" else [],
                mean_duration_ms=float(store.durations_ms(clip).mean()),
                clip=clip,
            )
        )
    return collate(samples)


def sample_hook(
    store: PreparedStore, num_clips: int = 3, num_inference_steps: int = 10
) -> Callable[[Trainer], None]:
    """Write `RUN/samples/step-N.png`: truth and results of each family, fixed clips and seeds."""
    moving = np.flatnonzero(store.num_frames > 2)

    def show(trainer: Trainer) -> None:
        rows: list[Sticker] = []
        labels: list[str] = []
        for row in range(min(num_clips, len(moving))):
            generator = stream(trainer.config.seed, Purpose.SAMPLE, row)
            truth = held_out_clip(store, int(moving[generator.integers(len(moving))]), trainer)
            rows.append(truth)
            labels.append("truth")
            for task in _SHOWN_TASKS:
                known = np.flatnonzero(condition_mask(task, truth.num_frames, generator)).tolist()
                rows.append(
                    trainer.pipeline.fill(
                        truth,
                        known,
                        num_inference_steps=num_inference_steps,
                        generator=torch.Generator().manual_seed(row),
                    )
                )
                labels.append(f"{task.replace('_frame_', ' ')} {known}")
        if rows:
            folder = trainer.run / "samples"
            folder.mkdir(exist_ok=True)
            with atomic_path(folder / f"step-{trainer.step:08d}.png") as path:
                contact_sheet(rows, labels=labels).save(path)

    return show


def held_out_clip(store: PreparedStore, clip: int, trainer: Trainer) -> Sticker:
    """A clip at the run's canvas, spread to at most as many frames as the run trains on."""
    sticker = store.dataset.read_sticker(store.clips[clip].index)
    count = min(sticker.num_frames, trainer.config.max_frames)
    frames = np.linspace(0, sticker.num_frames - 1, count).round().astype(int)
    return sticker.select(frames).fit_canvas(trainer.config.canvas)


def write_first_batch(trainer: Trainer) -> None:
    """Write `RUN/samples/first-batch.png`: what the network sees, frames, masks and tasks.

    It shows mistakes of channel, range, order or caption in a glance.
    """
    weights = trainer.curriculum.task_weights(0.0)
    batch = trainer.batches.step_batches(0, weights)[0]
    rows, labels = [], []
    for row, task in enumerate(batch.tasks):
        count = int(batch.valid[row].sum())
        latents = batch.clean[row, :, :count].transpose(0, 1)
        decoded = trainer.pipeline.representation.decode(latents.to(trainer.device))
        pixels = (decoded.clamp(-1, 1) + 1) / 2
        frames = pixels.permute(0, 2, 3, 1).cpu().numpy()
        rows.append(Sticker.from_premultiplied(frames, int(batch.mean_duration_ms[row])))
        given = np.flatnonzero(batch.given[row].numpy()).tolist()
        labels.append(f"{task.replace('_frame_', ' ')} given {given}")
    folder = trainer.run / "samples"
    folder.mkdir(exist_ok=True)
    with atomic_path(folder / "first-batch.png") as path:
        contact_sheet(rows, labels=labels).save(path)
