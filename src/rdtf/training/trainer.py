"""The training loop: named blocks once in a while, then the step. Same command again = resume."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from rdtf.inference.pipeline import StickerPipeline
from rdtf.method.curriculum import Curriculum
from rdtf.method.objective import build_objective
from rdtf.method.tasks import FAMILIES, FAMILY
from rdtf.randomness import Purpose, stream
from rdtf.training.batches import BatchBuilder, ClipStore
from rdtf.training.checkpoint import (
    load_latest,
    load_optimizer,
    load_weights,
    save_checkpoint,
)
from rdtf.training.config import TrainConfig
from rdtf.training.device import autocast, default_device, resolve_precision
from rdtf.training.ema import EMA
from rdtf.training.presets import build_models, build_scheduler
from rdtf.training.progress import Progress
from rdtf.training.step import (
    StepResult,
    learning_rate,
    train_step,
)
from rdtf.training.tracking import Tracker

Hook = Callable[["Trainer"], None]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended: `finished`, `time is up` or `interrupted` by a signal."""

    step: int
    reason: str
    seconds: float


class Trainer:
    """One run on one device.

    Args:
        config: the resolved config.
        store: training clips as latents.
        run: run directory (already locked and with its config written).
        hooks: called as `hook(trainer)` every so many steps, with the EMA weights in the model;
            pairs of (every, hook), for validation and samples.
    """

    def __init__(
        self,
        config: TrainConfig,
        store: ClipStore,
        run: Path,
        *,
        device: torch.device | None = None,
        hooks: tuple[tuple[int, Hook], ...] = (),
        quiet: bool = False,
    ) -> None:
        self.config = config
        self.run = run
        self.device = device or default_device()
        self.hooks = hooks
        self.quiet = quiet
        torch.manual_seed(int(stream(config.seed, Purpose.INIT).integers(2**31)))
        self.model, autoencoder, text_encoders = build_models(config)
        self.model.train()
        if config.gradient_checkpointing:
            self.model.enable_gradient_checkpointing()
        self.pipeline = StickerPipeline(
            self.model, autoencoder, text_encoders, build_scheduler(config)
        ).to(self.device)
        self.objective = build_objective(config.objective)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.optimizer.learning_rate,
            betas=config.optimizer.betas,
            eps=config.optimizer.epsilon,
            weight_decay=config.optimizer.weight_decay,
            fused=True,
        )
        self.ema = EMA(self.model, config.optimizer.ema_decay)
        self.curriculum = Curriculum(config.curriculum)
        self.batches = BatchBuilder(store, config, self.objective)
        self.autocast = autocast(resolve_precision(config.precision, self.device), self.device)
        self.step = 0
        self._saved_step: int | None = None
        self._resume()
        self.tracker = Tracker(run, self._saved_step)

    @property
    def resumed(self) -> bool:
        """Whether the run went on from a checkpoint, or saved one since."""
        return self._saved_step is not None

    # -------------------------------------------------------------------- loop

    def train(self, max_seconds: float | None = None) -> TrainResult:
        """Train to `config.steps`, or until the time is up or a signal comes; saved in any case."""
        config, started = self.config, time.monotonic()
        reason = "finished"
        with _StopSignals() as signals, Progress(self.step, config.steps, self.quiet) as progress:
            if not self.resumed:
                self._run_hooks()
            while self.step < config.steps:
                if signals.received:
                    reason = "interrupted"
                    break
                if max_seconds is not None and time.monotonic() - started >= max_seconds:
                    reason = "time is up"
                    break

                # ----------------------------------------------------------- step
                result = self.train_one_step()
                self.step += 1
                progress.update(self.step, result.loss)

                # ------------------------------------------------ once in a while
                # Saving comes last: what a checkpoint's step had to do is done, so that a resumed
                # run neither repeats nor skips it.
                if self._is_due(config.log_every):
                    values = self._describe(result, time.monotonic() - started)
                    self.tracker.log(self.step, "train", values)
                self._run_hooks()
                if self._is_due(config.save_every):
                    self._save()
        if self._saved_step != self.step:
            self._save()
        self.tracker.close()
        return TrainResult(self.step, reason, time.monotonic() - started)

    def _is_due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.steps

    def _run_hooks(self) -> None:
        for every, hook in self.hooks:
            if every > 0 and self._is_due(every):
                self._with_averages(hook)

    def train_one_step(self) -> StepResult:
        """The step at `self.step`; the caller counts it."""
        config = self.config
        rate = learning_rate(config.optimizer, self.step, config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        weights = self.curriculum.task_weights(self.step / config.steps)
        batches = [batch.to(self.device) for batch in self.batches.step_batches(self.step, weights)]
        result = train_step(
            self.model,
            self.objective,
            self.optimizer,
            batches,
            max_grad_norm=config.optimizer.max_grad_norm,
            given_frame_weight=config.given_frame_weight,
            autocast=self.autocast,
        )
        self.curriculum.observe(result.losses, result.levels, result.tasks)
        self.ema.update(self.model)
        return result

    def _with_averages(self, hook: Hook) -> None:
        self.model.eval()
        with self.ema.swapped(self.model), torch.no_grad():
            hook(self)
        self.model.train()

    def _describe(self, result: StepResult, seconds: float) -> dict[str, Any]:
        families = [FAMILY[task] for task in result.tasks]
        by_family = {
            family: float(
                np.mean([x for x, f in zip(result.losses, families, strict=True) if f == family])
            )
            for family in FAMILIES
            if family in families
        }
        return {
            "loss": result.loss,
            "loss_by_family": by_family,
            "grad_norm": result.grad_norm,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "task_weights": self.curriculum.family_weights(self.step / self.config.steps),
            "quantile": self.curriculum.quantile,
            "clips": self.step * self.config.clips_per_step,
            "seconds": seconds,
        }

    # -------------------------------------------------------------- checkpoint

    def _save(self) -> None:
        save_checkpoint(
            self.run,
            self.step,
            model=self.model.state_dict(),
            ema=self.ema.state_dict(),
            optimizer=self.optimizer,
            state={
                "curriculum": self.curriculum.state_dict(),
                "ema_updates": self.ema.num_updates,
            },
            keep=self.config.keep_checkpoints,
        )
        self._saved_step = self.step

    def _resume(self) -> None:
        checkpoint = load_latest(self.run)
        if checkpoint is None:
            return
        load_weights(self.model, checkpoint.model, f"checkpoint of {self.run}")
        self.ema.load_state_dict(checkpoint.ema, checkpoint.state["ema_updates"])
        load_optimizer(self.optimizer, checkpoint.optimizer)
        self.curriculum.load_state_dict(checkpoint.state["curriculum"])
        self.step = self._saved_step = checkpoint.step


class _StopSignals:
    """SIGINT and SIGTERM ask the loop to save and leave; a second one leaves at once."""

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _StopSignals:
        try:
            for number in self._SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        except ValueError:  # not the main thread: whoever runs us handles signals
            self._previous.clear()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = True
