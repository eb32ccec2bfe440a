"""What a log line says about the last interval: losses, speed, memory, time that remains."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rdtf.method.tasks import FAMILY
from rdtf.training.forecast import forward_flops, peak_flops
from rdtf.training.packing import Batch
from rdtf.training.progress import memory_in_use
from rdtf.training.step import Measured, StepResult

if TYPE_CHECKING:
    from rdtf.training.trainer import Trainer


class Meter:
    """Counts clips, padding and model FLOPs between two log lines."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.loss = float("nan")
        # The first call counts for a second or two: before the clock starts.
        forward_flops(trainer.config, 1)
        self._peak = peak_flops(trainer.device, trainer.precision)
        self._restart()

    def _restart(self) -> None:
        self._started, self._steps = time.monotonic(), 0
        self._slots = self._padded = self._flops = 0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens in the block is no training: its time does not count."""
        started = time.monotonic()
        yield
        self._started += time.monotonic() - started

    def saw(self, batches: Sequence[Batch]) -> None:
        """Count one step of this rank."""
        self._steps += 1
        for batch in batches:
            count, slots = batch.conditions.valid.shape
            self._slots += count * slots
            self._padded += count * slots - sum(batch.info.num_frames)
            # Forward and, twice as dear, backward.
            self._flops += 3 * forward_flops(self._trainer.config, slots, count)

    def describe(self, result: StepResult) -> dict[str, Any]:
        """The row to log, and a new interval. All ranks must call; the host waits for the step."""
        trainer, config = self._trainer, self._trainer.config
        measured = result.fetch()
        self.loss = measured.loss
        seconds = max(time.monotonic() - self._started, 1e-9)
        values = {
            "loss": measured.loss,
            **_by_task(measured),
            "grad_norm": measured.grad_norm,
            "learning_rate": trainer.optimizer.learning_rate,
            "task_weights": trainer.foresight.family_weights(trainer.step),
            "quantile": trainer.curriculum.quantile,
            "clips": trainer.step * config.batch_size,
            "clips_per_second": self._steps * config.batch_size / seconds,
            "padding_share": self._padded / max(self._slots, 1),
            "mfu": self._flops / seconds / self._peak if self._peak else None,
            "memory_bytes": memory_in_use(trainer.device),
            "eta_seconds": self._seconds_left(seconds / max(self._steps, 1)),
            "seconds": trainer.seconds,
        }
        self._restart()
        return values

    def _seconds_left(self, seconds_per_step: float) -> float:
        """By the steps that are left, or the time if that is over first."""
        trainer = self._trainer
        left = seconds_per_step * (trainer.config.steps - trainer.step)
        if trainer.max_seconds is None:
            return left
        return min(left, max(trainer.max_seconds - trainer.seconds, 0.0))


def _by_task(measured: Measured) -> dict[str, dict[str, float]]:
    tasks, families = defaultdict(list), defaultdict(list)
    for task, loss in zip(measured.tasks, measured.losses, strict=True):
        tasks[task].append(loss)
        families[FAMILY[task]].append(loss)
    return {
        "loss_by_family": {family: float(np.mean(x)) for family, x in families.items()},
        "loss_by_task": {task: float(np.mean(x)) for task, x in tasks.items()},
    }
