"""The training loop: named blocks once in a while, then the step. Same command again = resume."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rdtf.errors import ConfigError, UserError
from rdtf.method.curriculum import Curriculum
from rdtf.method.objective import build_objective
from rdtf.randomness import Purpose, stream
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.training.batches import BatchBuilder, ClipStore, PackedBatch, unpack
from rdtf.training.checkpoint import (
    MEASURE,
    Retention,
    load_latest,
    load_weights,
    mark_best,
    save_checkpoint,
)
from rdtf.training.config import TrainConfig, to_dict
from rdtf.training.cost import Meter
from rdtf.training.device import autocast, explain_out_of_memory, resolve_precision, settle_kernels
from rdtf.training.distributed import (
    Ranks,
    compile_blocks,
    gathered,
    local,
    parallelize,
    shard_like,
)
from rdtf.training.loader import CurriculumLookahead, StepLoader, resolve_workers
from rdtf.training.logging import Tracker, check_trackers
from rdtf.training.optimizer import EMA, Optimizer
from rdtf.training.presets import build_models, build_scheduler, load_warm_start
from rdtf.training.progress import Progress, StopSignals, planned_seconds
from rdtf.training.step import StepResult, learning_rate, loss_options, train_step

Hook = Callable[["Trainer"], None]


class NonFiniteLossError(UserError):
    """A loss or gradient is not finite; nothing of it was saved."""


@dataclass(frozen=True)
class TrainResult:
    """How a call ended: `finished`, `time is up` (the call's) or `interrupted` by a signal.

    planned_steps: of the whole run, as far as can be told where its time ends it.
    """

    step: int
    planned_steps: int
    reason: str
    seconds: float


class Trainer:
    """One run, on one device or, as one of several ranks, on its share of it.

    Args:
        config: the resolved config.
        store: training clips as their cache holds them.
        run: run directory (already locked and with its config written).
        ranks: this process's place among those that train together; alone if None.
        hooks: called as `hook(trainer)` every so many steps, with the EMA weights in the model;
            pairs of (every, hook), for validation and samples. Every rank calls them; only the
            main one writes.
        fingerprint: of the training set; saved with every checkpoint.
    """

    def __init__(
        self,
        config: TrainConfig,
        store: ClipStore,
        run: Path,
        *,
        ranks: Ranks | None = None,
        hooks: tuple[tuple[int, Hook], ...] = (),
        quiet: bool = False,
        fingerprint: str = "",
    ) -> None:
        self.config, self.run, self.store, self.hooks = config, run, store, hooks
        self.fingerprint = fingerprint
        self.ranks = ranks or Ranks()
        self.device = self.ranks.device
        self.quiet = quiet or not self.ranks.is_main
        engine = config.engine
        if engine.offload_ema and engine.parallel == "fsdp" and self.ranks.several:
            raise ConfigError("engine.offload_ema needs whole averages; use --engine.parallel ddp")

        check_trackers(engine.track)

        # ------------------------------------------------------------ what is trained
        settle_kernels(engine.deterministic)
        torch.manual_seed(int(stream(config.seed, Purpose.INIT).integers(2**31)))
        self.model, autoencoder, text_encoders = build_models(config)
        if config.start_from:
            load_warm_start(self.model, config.start_from)
        self.model.train()
        if engine.gradient_checkpointing:
            self.model.enable_gradient_checkpointing()
        self.pipeline = StickerPipeline(
            self.model, autoencoder, text_encoders, build_scheduler(config)
        ).to(self.device)
        self.pipeline.set_progress_bar_config(disable=True)  # the trainer has its own
        compile_blocks(self.model, engine.compile, self.device)
        self.parallel_model = parallelize(self.model, self.ranks, engine.parallel)

        # ------------------------------------------------------------ what trains it
        self.objective = build_objective(config.objective)
        self.optimizer = Optimizer(self.model, config.optimizer)
        self.ema = EMA(
            self.model,
            config.optimizer.ema_decays,
            every=config.optimizer.ema_every,
            on_host=engine.offload_ema,
        )
        self.curriculum = Curriculum(config.curriculum)
        self.lookahead = CurriculumLookahead(self.curriculum, config.steps)
        self.batches = BatchBuilder(store, config, self.objective)
        self.batches.deal(0, self.ranks.rank, self.ranks.world_size)  # refused now, not later
        self.precision = resolve_precision(engine.precision, self.device)
        self.autocast = autocast(self.precision, self.device)

        # ------------------------------------------------------------ where it stands
        self.step = 0
        self.seconds = 0.0  # of training, over all calls
        self.max_seconds: float | None = None  # what the schedule is planned for, if for a time
        self.saved_step: int | None = None
        # By validation: the lowest loss so far, whether it is this step's, and of which average.
        self.best_loss, self.is_best, self.ema_index = math.inf, False, 0
        # The last step's numbers: fed to the curriculum only after the next step was made.
        self.pending: StepResult | None = None
        self.bad_steps = 0  # in a row, until now
        self._load()
        self.tracker = Tracker(
            run,
            self.saved_step,
            names=engine.track,
            config=config,
            enabled=self.ranks.is_main,
        )
        self.meter = Meter(self)

    @property
    def resumed(self) -> bool:
        """Whether the run went on from a checkpoint, or saved one since."""
        return self.saved_step is not None

    @property
    def time_share(self) -> float:
        """How much of the run's time has passed, in [0, 1]; 0 if it is planned for steps only."""
        return 0.0 if self.max_seconds is None else min(self.seconds / self.max_seconds, 1.0)

    @property
    def is_over(self) -> bool:
        """Whether the schedule has ended, by its steps or its time."""
        return self.step >= self.config.steps or self.time_share >= 1.0

    @property
    def planned_steps(self) -> int:
        """How many steps the whole run will have, at its speed so far."""
        if self.time_share == 0.0:
            return self.config.steps
        return min(self.config.steps, max(round(self.step / self.time_share), self.step))

    # -------------------------------------------------------------------- loop

    def train(
        self, max_seconds: float | None = None, stop_after: float | None = None
    ) -> TrainResult:
        """Train to the end of the schedule, or until a signal comes; saved in any case.

        Args:
            max_seconds: plan the schedule for so much time over all calls: warm-up, decay and
                curriculum end with it, unless `config.steps` end before. Remembered by the run
                until another time is given; `math.inf` forgets it.
            stop_after: seconds after which this call saves and stops, whatever is left to do.

        Raises:
            NonFiniteLossError: a loss or gradient was not finite. Nothing of it was saved.
            UserError: memory or disk are full; says what to do.
        """
        engine, started = self.config.engine, time.monotonic()
        if max_seconds is not None:
            self.max_seconds = planned_seconds(max_seconds)
        earlier = self.seconds
        reason = "finished"
        progress = Progress(self.step, self.planned_steps, self.quiet, lines=engine.log_lines)
        with StopSignals() as signals, progress:
            if not self.resumed:
                with self.meter.paused():
                    self._run_hooks()
            for packed in self._loaded_batches():
                if self.is_over:
                    break
                stop = self._asked_to_stop(signals, started, stop_after)
                if stop:
                    reason = stop
                    break

                # ----------------------------------------------------------- step
                result = self.train_one_step(packed)
                self.seconds = self.ranks.max(earlier + time.monotonic() - started)
                progress.update(self.step, self.meter.loss, self.planned_steps)

                # ------------------------------------------------ once in a while
                # Saving comes last: what a checkpoint's step had to do is done, so that a resumed
                # run neither repeats nor skips it.
                if self._is_due(engine.log_every):
                    values = self.meter.describe(result)
                    self.tracker.log(self.step, "train", values)
                    progress.line(values)
                with self.meter.paused():
                    self._run_hooks()
                    if self._is_due(engine.save_every) or self.is_best:
                        self.save()
        if self.saved_step != self.step:
            self.save()
        self.tracker.close()
        seconds = time.monotonic() - started
        return TrainResult(self.step, self.planned_steps, reason, seconds)

    def _loaded_batches(self) -> Iterator[list[PackedBatch]]:
        loader = StepLoader(
            self.batches,
            self.lookahead,
            self.step,
            self.config.steps,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            num_workers=resolve_workers(self.config.engine.num_workers, self.device),
            pin_memory=self.device.type == "cuda",
        )
        with explain_out_of_memory(self.config, self.step, torch.device("cpu")):
            yield from loader

    def _asked_to_stop(self, signals: StopSignals, started: float, stop_after: float | None) -> str:
        """Why to stop before the next step, or an empty string: the same on every rank."""
        if self.ranks.any(signals.received):
            return "interrupted"
        is_late = stop_after is not None and time.monotonic() - started >= stop_after
        return "time is up" if self.ranks.any(is_late) else ""

    def _is_due(self, every: int) -> bool:
        return self.step % every == 0 or self.is_over

    def _run_hooks(self) -> None:
        for every, hook in self.hooks:
            if every > 0 and self._is_due(every):
                self.model.eval()
                with self.ema.swapped(self.model), torch.no_grad():
                    hook(self)
                self.model.train()

    # -------------------------------------------------------------------- step

    def train_one_step(self, packed: list[PackedBatch] | None = None) -> StepResult:
        """Make step `self.step` and count it; its batches are built here if not given."""
        config = self.config
        packed = self._build_batches() if packed is None else packed
        with explain_out_of_memory(config, self.step, self.device):
            batches = [unpack(batch, self.store, self.device) for batch in packed]
            self.optimizer.set_learning_rate(
                learning_rate(config.optimizer, self.step, config.steps, self.time_share)
            )
            result = train_step(
                self.parallel_model,
                self.objective,
                self.optimizer,
                batches,
                max_grad_norm=config.optimizer.max_grad_norm,
                **loss_options(config),
                autocast=self.autocast,
                ranks=self.ranks,
            )
            self.ema.update(self.model)
        result.step = self.step
        self.meter.saw(batches)
        self.step += 1
        self._look_back()
        self.pending = result
        return result

    def _build_batches(self) -> list[PackedBatch]:
        weights = self.lookahead.task_weights(self.step)
        return self.batches.step_batches(self.step, weights, self.ranks.rank, self.ranks.world_size)

    def _look_back(self) -> None:
        """Feed the curriculum with the step before this one: its numbers have arrived by now."""
        if self.pending is not None:
            measured = self.pending.fetch()
            self.check_finite(self.pending)
            if measured.finite:
                self.curriculum.observe(measured.losses, measured.t, measured.tasks)
        self.lookahead.step_done(self.time_share)

    def check_finite(self, result: StepResult) -> None:
        """Log the clips of a step whose loss or gradient is not finite, and go on or raise.

        Seed and step are enough to build its batches again. All ranks must call.

        Raises:
            NonFiniteLossError: more than `engine.skip_nonfinite` such steps in a row.
        """
        measured = result.fetch()
        if result.reported:
            return
        result.reported = True
        self.bad_steps = 0 if measured.finite else self.bad_steps + 1
        if measured.finite:
            return
        names = [self._clip_name(clip) for clip in measured.culprits]
        values = {"loss": str(measured.loss), "clips": names}
        self.tracker.log(result.step + 1, "nonfinite", values)
        what = (
            f"loss is {measured.loss:g}, gradient norm {measured.grad_norm:g} at step "
            f"{result.step} on clips {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
        )
        if self.bad_steps > self.config.engine.skip_nonfinite:
            raise NonFiniteLossError(
                f"{what}; what was saved is intact; remove these clips, lower "
                "optimizer.learning_rate, or set engine.skip_nonfinite"
            )
        if self.ranks.is_main:
            print(f"rdtf: {what}: step skipped", file=sys.stderr)

    def _clip_name(self, clip: int) -> str:
        """The clip's id in its training set, or its number."""
        name = getattr(self.store, "name", None)
        return f"{clip} ({name(clip)})" if callable(name) else str(clip)

    # -------------------------------------------------------------- checkpoint

    def save(self) -> None:
        """Write a checkpoint of the present step. All ranks must call."""
        if self.pending is not None:
            self.check_finite(self.pending)
        self._write()
        self.saved_step, self.is_best = self.step, False

    def _write(self) -> None:
        """Gather what is sharded, then let the main rank write: for any number of ranks."""
        ranks, engine = self.ranks, self.config.engine
        tensors = {
            "model": gathered(self.model.state_dict(), ranks),
            "optimizer": self.optimizer.state_tensors(ranks),
        }
        for index, averages in enumerate(self.ema.state_tensors(ranks)):
            tensors[f"ema-{index}"] = averages
        state = {
            "curriculum": self.curriculum.state_dict(),
            "foresight": self.lookahead.state_dict(),
            "pending": self.pending.state_dict() if self.pending is not None else None,
            "strikes": self.bad_steps,
            "ema_updates": self.ema.num_updates,
            "ema_index": self.ema_index,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "best_measure": MEASURE,
            "seconds": self.seconds,
            "max_seconds": self.max_seconds,
            "config": to_dict(self.config),
            "data": self.fingerprint,
        }
        if ranks.is_main:
            retention = Retention(engine.keep_checkpoints, engine.keep_every, engine.keep_best)
            save_checkpoint(self.run, self.step, tensors, state, retention)
            if self.is_best:
                mark_best(self.run, self.step, self.best_loss)
        ranks.wait()

    def _load(self) -> None:
        """Go on from the newest intact checkpoint, if there is one."""
        checkpoint = load_latest(self.run)
        if checkpoint is None:
            return
        state, weights = checkpoint.state, checkpoint.load("model")
        if all(local(parameter) is parameter for parameter in self.model.parameters()):
            load_weights(self.model, weights, f"checkpoint of {self.run}")
        else:
            own: dict[str, Any] = self.model.state_dict()
            for name, value in own.items():
                local(value).copy_(local(shard_like(weights[name], value)))
        averages = [checkpoint.load(f"ema-{index}") for index in range(len(self.ema.decays))]
        self.ema.load_state_tensors(averages, state["ema_updates"])
        self.optimizer.load_state_tensors(checkpoint.load("optimizer"))
        self.curriculum.load_state_dict(state["curriculum"])
        self.lookahead.load_state_dict(state["foresight"])
        if state["pending"] is not None:
            self.pending = StepResult.from_state(state["pending"])
        self.bad_steps, self.ema_index = int(state["strikes"]), int(state["ema_index"])
        best = state["best_loss"] if state.get("best_measure") == MEASURE else None
        self.best_loss = math.inf if best is None else float(best)
        self.seconds, self.max_seconds = float(state["seconds"]), state.get("max_seconds")
        self.step = self.saved_step = checkpoint.step

    def validated(self, loss: float, ema_index: int) -> None:
        """Take note of a held-out loss, and of which average reached it."""
        self.ema_index = ema_index
        self.is_best = loss < self.best_loss and self.step > 0
        self.best_loss = min(loss, self.best_loss)


__all__ = ["Hook", "NonFiniteLossError", "TrainResult", "Trainer"]
