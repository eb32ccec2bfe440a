"""What the paper's additions cost: curriculum and dual mask, as a share of a training step.

`python -m benchmarks curriculum --preset nano`
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.common import Table, say
from rdtf.method.curriculum import Curriculum
from rdtf.method.dual_mask import denoiser_input
from rdtf.method.loss import frame_weights, masked_error_sum
from rdtf.method.objective import build_objective
from rdtf.method.tasks import TASKS, draw_task
from rdtf.models.conditions import Conditions
from rdtf.models.latents import MOTION_CHANNELS
from rdtf.randomness import Purpose, stream
from rdtf.training.batches import Batch, SampleInfo
from rdtf.training.config import TrainConfig
from rdtf.training.loader import CurriculumLookahead
from rdtf.training.presets import build_models, preset
from rdtf.training.step import batch_errors


@dataclass(frozen=True)
class CurriculumCost:
    """Time of drawing tasks, feeding the curriculum and masking, against a step without them."""

    preset: str = "nano"
    """Which preset's model and batch."""
    batch: int = 8
    """Clips per step."""
    runs: int = 3
    """Timed runs; medians count."""

    def run(self) -> Table:
        config = preset(self.preset)
        say("timing a training step")
        model, _, text_encoders = build_models(config)
        size = config.canvas // model.config_.patch
        batch = _batch(self.batch, model.config_.latent_channels, config.max_frames, size,
                       text_encoders.widths)  # fmt: skip
        objective = build_objective(config.objective)

        def step() -> None:
            weighted, _, _ = batch_errors(model, objective, batch)
            weighted.sum().backward()
            model.zero_grad()

        step_seconds = _median(step, self.runs)
        parts = {
            "draw tasks and masks": _median(lambda: _draw(config, self.batch), self.runs * 5),
            "feed the curriculum": _median(_feeder(config, self.batch), self.runs * 5),
            "condition mask": _median(
                lambda: denoiser_input(batch.noise, batch.conditions.clean, batch.conditions.given),
                self.runs * 5,
            )
            - _median(
                lambda: torch.cat([batch.noise, batch.conditions.clean], dim=1), self.runs * 5
            ),
            "loss mask": _median(lambda: _masked(batch), self.runs * 5)
            - _median(lambda: _plain(batch), self.runs * 5),
        }
        total = sum(parts.values())
        rows = [
            (name, f"{1e3 * value:.2f} ms", f"{100 * value / step_seconds:.2f} %")
            for name, value in (*parts.items(), ("all", total))
        ]
        return Table(
            f"Curriculum and masks, {self.preset}, {self.batch} clips: "
            f"forward and backward pass {1e3 * step_seconds:.0f} ms",
            ("part", "time", "of a step"),
            rows,
            {
                "preset": self.preset,
                "step_seconds": step_seconds,
                "parts_seconds": parts,
                "share": total / step_seconds,
            },
        )


def _batch(count: int, channels: int, frames: int, size: int, widths: tuple[int, ...]) -> Batch:
    shape = (count, channels, frames, size, size)
    given = torch.zeros(count, frames, dtype=torch.bool)
    given[:, ::2] = True
    conditions = Conditions(
        clean=torch.randn(shape),
        given=given,
        valid=torch.ones(count, frames, dtype=torch.bool),
        text=[torch.randn(count, 16, width) for width in widths],
        text_mask=[torch.ones(count, 16, dtype=torch.bool) for _ in widths],
        mean_duration_ms=torch.full((count,), 100.0),
        padded=False,
    )
    rows = tuple(range(count))
    return Batch(
        SampleInfo(("interpolation",) * count, rows, rows, (0.5,) * count, (frames,) * count),
        conditions,
        noise=torch.randn(shape),
        motion_noise=torch.randn(count, MOTION_CHANNELS, *shape[2:]),
        t=torch.rand(count),
    )


def _draw(config: TrainConfig, count: int) -> None:
    weights = Curriculum(config.curriculum).task_weights(0.3)
    for position in range(count):
        draw_task(config.max_frames, weights, stream(0, Purpose.TASK, position))


def _feeder(config: TrainConfig, count: int) -> Callable[[], None]:
    """One observation, with a history as long as the window, and the weights that follow."""
    curriculum = Curriculum(config.curriculum)
    foresight = CurriculumLookahead(curriculum, config.steps)
    random = np.random.default_rng(0)
    losses, levels = random.random(count).tolist(), random.random(count).tolist()
    tasks = [TASKS[index % len(TASKS)] for index in range(count)]

    def feed() -> None:
        curriculum.observe(losses, levels, tasks)
        foresight.step_done()

    for _ in range(config.curriculum.window):
        feed()
    return feed


def _masked(batch: Batch) -> None:
    prediction = batch.noise.clone().requires_grad_()
    weights = frame_weights(batch.conditions.valid, batch.conditions.given)
    errors, _ = masked_error_sum(prediction, batch.conditions.clean, weights)
    (errors.sum() / weights.sum()).backward()


def _plain(batch: Batch) -> None:
    prediction = batch.noise.clone().requires_grad_()
    F.mse_loss(prediction, batch.conditions.clean).backward()


def _median(run: Callable[[], object], runs: int) -> float:
    seconds = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])
