"""The training loop, one for all that is trained here. Same command again = resume."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rdtf.errors import UserError
from rdtf.randomness import Purpose, noise_key
from rdtf.training.checkpoint import (
    MEASURE,
    Checkpoint,
    Retention,
    load_latest,
    load_weights,
    mark_best,
    save_checkpoint,
)
from rdtf.training.device import autocast, resolve_precision
from rdtf.training.distributed import Ranks, gathered, shard_like
from rdtf.training.loader import load_ahead, resolve_workers
from rdtf.training.logging import Meter, Tracker
from rdtf.training.optimizer import EMA, Optimizer
from rdtf.training.progress import Progress, StopSignals, planned_seconds
from rdtf.training.step import StepResult, Trainable, learning_rate, train_step

Hook = Callable[["Trainer"], None]
_SAVE_SECONDS = 60.0  # between checkpoints, where `engine.save_every` is 0
_HOOKS_SHARE = 0.1  # of a run's time: what its first validation, and its last, may take


class NonFiniteLossError(UserError):
    """A loss or gradient is not finite; nothing of it was saved."""


class _Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """A hook was left because of a signal, or because its time is over."""


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
        trainable: what is trained.
        run: run directory (already locked), which is gone on from if it holds a checkpoint; None:
            nothing is saved or logged.
        ranks: this process's place among those that train together; alone if None.
        hooks: called as `hook(trainer)` every so many steps, with the EMA weights in the model;
            pairs of (every, hook), for validation and samples. Every rank calls them; only the
            main one writes. What takes long calls `trainer.check_time` now and then.
        start: another run, to go on from if `run` has no checkpoint.
    """

    def __init__(
        self,
        trainable: Trainable,
        run: Path | None,
        *,
        ranks: Ranks | None = None,
        hooks: Sequence[tuple[int, Hook]] = (),
        quiet: bool = False,
        start: Path | None = None,
    ) -> None:
        self.trainable: Any = trainable
        self.run: Any = run
        self.hooks = tuple(hooks)
        self.ranks = ranks or Ranks()
        self.device = self.ranks.device
        self.engine = engine = trainable.engine
        self.quiet = quiet or not self.ranks.is_main
        self.precision = resolve_precision(engine.precision, self.device)
        self.autocast = autocast(self.precision, self.device)
        self.ema = EMA(
            trainable.network,
            trainable.optimizer.ema_decays,
            every=trainable.optimizer.ema_every,
            on_host=engine.offload_ema,
        )
        self.step = self.stage = self.stage_start = 0
        # Over all calls: of training, of what came before it, and what the run may take in all.
        self.seconds = self.startup_seconds = 0.0
        self.max_seconds: float | None = None
        self._hooks_seconds = 0.0  # what the hooks took when last they were all done
        self._owes_hooks = True  # those of this step, when the next call begins
        self._deadline = math.inf  # of what hooks do
        self._signals = StopSignals()
        self.saved_step: int | None = None
        self._saved_at = time.monotonic()
        # By validation: the lowest loss so far, whether it is this step's, and of which average.
        self.best_loss, self.is_best, self.ema_index = math.inf, False, 0
        checkpoint = None if run is None else load_latest(run)
        if checkpoint is not None:
            self.saved_step = checkpoint.step
        elif start is not None:
            checkpoint = load_latest(start)
        if checkpoint is None:
            self._begin_stage()
        else:
            self._load(checkpoint)
        self.tracker = Tracker(
            run,
            self.saved_step,
            names=engine.track,
            config=trainable.config,
            enabled=self.ranks.is_main and run is not None and engine.log_every > 0,
        )
        self.meter = Meter(self)

    def _begin_stage(self) -> None:
        """Everything that trains the present stage, new."""
        self.trainable.begin(self.trainable.stages[self.stage], self.step)
        self.optimizer = Optimizer(
            self.trainable.parameters(),
            self.trainable.optimizer,
            decay_vectors=self.trainable.decays_vectors,
        )
        # The last step's numbers: looked at only after the next step was made.
        self.pending: StepResult | None = None
        self.bad_steps = 0  # in a row, until now
        self._batches: Iterator[Any] | None = None

    @property
    def model(self) -> nn.Module:
        return self.trainable.network

    @property
    def time_share(self) -> float:
        """How much of the run's time has passed, in [0, 1]; 0 if it is planned for steps only."""
        if self.max_seconds is None:
            return 0.0
        last_look = self._hooks_seconds
        last_look = last_look if last_look <= _HOOKS_SHARE * self.max_seconds else 0.0
        left = self.max_seconds - self.startup_seconds - last_look
        return min(self.seconds / left, 1.0) if left > 0 else 1.0

    @property
    def progress(self) -> float:
        """How much of the present stage is over, by its steps or the run's time, in [0, 1]."""
        steps = (self.step - self.stage_start) / self.trainable.lengths[self.stage]
        return min(max(steps, self.time_share), 1.0)

    @property
    def is_over(self) -> bool:
        """Whether the schedule has ended, by its steps or its time."""
        is_last = self.stage + 1 == len(self.trainable.stages)
        is_over = self.time_share >= 1.0 or self.trainable.is_done
        return is_over or (is_last and self._stage_is_over)

    @property
    def _stage_is_over(self) -> bool:
        return self.trainable.is_over(self.step - self.stage_start, self.stage)

    @property
    def planned_steps(self) -> int:
        """How many steps the whole run will have, at its speed so far."""
        steps = sum(self.trainable.lengths)
        if self.time_share == 0.0 or self.step == 0:
            return steps
        return min(steps, max(round(self.step / self.time_share), self.step))

    # -------------------------------------------------------------------- loop

    def train(
        self,
        max_seconds: float | None = None,
        stop_after: float | None = None,
        *,
        began: float | None = None,
        stop: Callable[[], str] = lambda: "",
    ) -> TrainResult:
        """Train to the end of the schedule, or until a signal comes; saved in any case.

        Args:
            max_seconds: plan the schedule for so much time over all calls: warm-up, decay and
                curriculum end with it, unless the steps end before. Remembered by the run until
                another time is given; `math.inf` forgets it.
            stop_after: seconds after which this call saves and stops, whatever is left to do.
            began: when the call began, by `time.monotonic`, where that was before this one: what
                came before counts.
            stop: asked before each step; a reason to stop, or an empty string.

        Raises:
            NonFiniteLossError: a loss or gradient was not finite. Nothing of it was saved.
            UserError: memory or disk are full; says what to do.
        """
        started = time.monotonic()
        began = started if began is None else began
        if max_seconds is not None:
            self.max_seconds = planned_seconds(max_seconds)
        self.startup_seconds += self.ranks.max(started - began)
        earlier, ends = self.seconds, math.inf if stop_after is None else began + stop_after
        if self.max_seconds is not None:
            ends = min(ends, started + self.max_seconds - self.startup_seconds - earlier)
        progress = Progress(self.step, self.planned_steps, self.quiet, self.engine.log_lines)
        with StopSignals() as self._signals, progress:
            owed, reason = self._owes_hooks, ""
            if owed:
                is_first = self.step == 0
                self._run_hooks(started + (_HOOKS_SHARE if is_first else 1.0) * (ends - started))
            while not self.is_over:
                reason = self._asked_to_stop(began, stop_after) or stop()
                if reason:
                    break
                result = self.train_one_step()
                self.seconds = self.ranks.max(earlier + time.monotonic() - started)
                progress.update(self.step, self.meter.loss, self.planned_steps)

                # ------------------------------------------------ once in a while
                # Saving comes last: what a checkpoint's step had to do is done, so that a resumed
                # run neither repeats nor skips it.
                if self._is_due(self.engine.log_every):
                    values = self.meter.describe(result)
                    self.tracker.log(self.step, "train", values)
                    progress.line(values)
                with self.meter.paused():
                    self._run_hooks(ends)
                    if self._must_save() or self.is_best:
                        self.save()
                self.trainable.after_step(self)
            if self.ranks.any(self._signals.received):
                reason = "interrupted"
            self._batches = None
            if self.saved_step != self.step or owed != self._owes_hooks:
                self.save()
        self.tracker.close()
        reason = reason or "finished"
        return TrainResult(self.step, self.planned_steps, reason, time.monotonic() - began)

    def _next_batch(self) -> Any:
        if self._batches is None:
            self._batches = load_ahead(
                self.trainable.build,
                self._requests(),
                num_workers=resolve_workers(self.engine.num_workers, self.device),
                in_flight=self.trainable.in_flight,
                pin_memory=self.device.type == "cuda",
            )
        with self.trainable.explain_memory(self.step, torch.device("cpu")):
            return next(self._batches)

    def _requests(self) -> Iterator[Any]:
        """What decides the batches of each step, asked for as the loader has room."""
        length = self.trainable.lengths[self.stage]
        for step in range(self.step, self.stage_start + length):
            progress = max((step - self.stage_start) / length, self.time_share)
            yield self.trainable.request(step, progress)

    def _asked_to_stop(self, began: float, stop_after: float | None) -> str:
        """Why to stop before the next step, or an empty string: the same on every rank."""
        if self.ranks.any(self._signals.received):
            return "interrupted"
        is_late = stop_after is not None and time.monotonic() - began >= stop_after
        return "time is up" if self.ranks.any(is_late) else ""

    def _is_due(self, every: int) -> bool:
        return every > 0 and (self.step % every == 0 or self.is_over)

    def _must_save(self) -> bool:
        if self.run is None:
            return False
        if self.engine.save_every > 0:
            return self._is_due(self.engine.save_every)
        return self.is_over or time.monotonic() - self._saved_at > _SAVE_SECONDS

    def _run_hooks(self, deadline: float) -> None:
        """Those that are due, unless a signal comes or `deadline` is over before they are done."""
        started, self._deadline = time.monotonic(), deadline
        due = [hook for every, hook in self.hooks if self._is_due(every)]
        self._owes_hooks = bool(due)
        try:
            for hook in due:
                self.model.eval()
                with self.ema.swapped(self.model), torch.no_grad():
                    hook(self)
            if due and len(due) == len([every for every, _ in self.hooks if every > 0]):
                self._hooks_seconds = self.ranks.max(time.monotonic() - started)
            self._owes_hooks = False
        except _Stopped:
            pass
        finally:
            if due:
                self.model.train()
            self._deadline = math.inf

    def check_time(self) -> None:
        """For hooks: leaves them if a signal has come, or if their time is over."""
        is_late = self._signals.received or time.monotonic() > self._deadline
        if self.ranks.any(is_late):
            raise _Stopped

    # -------------------------------------------------------------------- step

    def train_one_step(self, packed: Any = None) -> StepResult:
        """Make step `self.step` and count it; its batches are loaded if they are not given."""
        if self.stage + 1 < len(self.trainable.stages) and self._stage_is_over:
            self.look_back()
            self.stage, self.stage_start = self.stage + 1, self.step
            self._begin_stage()
        trainable = self.trainable
        packed = self._next_batch() if packed is None else packed
        with trainable.explain_memory(self.step, self.device):
            rate = learning_rate(
                trainable.optimizer,
                self.step - self.stage_start,
                trainable.lengths[self.stage],
                self.time_share,
            )
            self.optimizer.set_learning_rate(rate * trainable.rate())
            batches = trainable.to_device(packed)
            # Dropout is torch's own; seeded by the step, it is the same when a run goes on later.
            torch.manual_seed(noise_key(trainable.seed, Purpose.DROPOUT, self.step, 1))
            trainable.prepare()
            result = train_step(
                trainable,
                self.optimizer,
                batches,
                max_grad_norm=trainable.optimizer.max_grad_norm,
                autocast=self.autocast,
                ranks=self.ranks,
            )
            self.ema.update(self.model)
        result.step = self.step
        self.meter.saw(batches)
        self.step += 1
        self.look_back()
        trainable.step_done(self.time_share)
        self.pending = result
        return result

    def look_back(self) -> None:
        """Tell the trainable of the last step that it has not heard of: its numbers are here."""
        if self.pending is not None:
            measured = self.pending.fetch()
            self._check_finite(self.pending)
            self.trainable.observe(measured)
            self.pending = None

    def _check_finite(self, result: StepResult) -> None:
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
        names = [self.trainable.clip_name(clip) for clip in measured.culprits]
        values = {"loss": str(measured.loss), "clips": names}
        self.tracker.log(result.step + 1, "nonfinite", values)
        label = f"{self.trainable.label} diverged: " if self.trainable.label else ""
        clips = f" on clips {', '.join(names[:8])}{' …' if len(names) > 8 else ''}" if names else ""
        what = (
            f"{label}loss is {measured.loss:g}, gradient norm {measured.grad_norm:g} at step "
            f"{result.step}{clips}"
        )
        if self.bad_steps > self.engine.skip_nonfinite:
            raise NonFiniteLossError(f"{what}; what was saved is intact; {self.trainable.advice}")
        if self.ranks.is_main:
            print(f"rdtf: {what}: step skipped", file=sys.stderr)

    # -------------------------------------------------------------- checkpoint

    def save(self) -> None:
        """Write a checkpoint of the present step. All ranks must call."""
        if self.pending is not None:
            self._check_finite(self.pending)
        if self.run is not None:
            self._write(self.run)
        self.saved_step, self.is_best = self.step, False
        self._saved_at = time.monotonic()

    def _write(self, run: Path) -> None:
        """Gather what is sharded, then let the main rank write: for any number of ranks."""
        ranks, engine = self.ranks, self.engine
        tensors = {
            "model": gathered(self.trainable.tensors(), ranks),
            "optimizer": self.optimizer.state_tensors(ranks),
        }
        for index, averages in enumerate(self.ema.state_tensors(ranks)):
            tensors[f"ema-{index}"] = averages
        state = {
            **self.trainable.state_dict(),
            "stage": self.stage,
            "stage_start": self.stage_start,
            "pending": self.pending.state_dict() if self.pending is not None else None,
            "strikes": self.bad_steps,
            "ema_updates": self.ema.num_updates,
            "ema_index": self.ema_index,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "best_measure": MEASURE,
            "seconds": self.seconds,
            "startup_seconds": self.startup_seconds,
            "max_seconds": self.max_seconds,
            "owes_hooks": self._owes_hooks,
        }
        if ranks.is_main:
            retention = Retention(engine.keep_checkpoints, engine.keep_every, engine.keep_best)
            save_checkpoint(run, self.step, tensors, state, retention)
            if self.is_best:
                mark_best(run, self.step, self.best_loss)
        ranks.wait()

    def _load(self, checkpoint: Checkpoint) -> None:
        state, self.step = checkpoint.state, checkpoint.step
        self.stage, self.stage_start = state.get("stage", 0), state.get("stage_start", 0)
        self._begin_stage()
        own, model = self.trainable.tensors(), "model"
        if model not in checkpoint.stems:  # comparisons of before
            model = "weights"
        weights = checkpoint.load(model)
        weights = {name: shard_like(x, own.get(name, x)) for name, x in weights.items()}
        load_weights(own, weights, f"checkpoint of {self.run}")
        averages = [checkpoint.load(f"ema-{index}") for index in range(len(self.ema.decays))]
        self.ema.load_state_tensors(averages, state.get("ema_updates", 0))
        self.optimizer.load_state_tensors(checkpoint.load("optimizer"))
        self.trainable.load_state_dict(state)
        if state.get("pending") is not None:
            self.pending = StepResult.from_state(state["pending"])
        self.bad_steps = int(state.get("strikes", 0))
        self.ema_index = int(state.get("ema_index", 0))
        best = state.get("best_loss") if state.get("best_measure") == MEASURE else None
        self.best_loss = math.inf if best is None else float(best)
        self.seconds, self.max_seconds = float(state["seconds"]), state.get("max_seconds")
        self.startup_seconds = float(state.get("startup_seconds", 0.0))
        self._owes_hooks = bool(state.get("owes_hooks", False))

    def validated(self, loss: float, ema_index: int) -> None:
        """Take note of a held-out loss, and of which average reached it."""
        self.ema_index = ema_index
        self.is_best = loss < self.best_loss and self.step > 0
        self.best_loss = min(loss, self.best_loss)


__all__ = ["Hook", "NonFiniteLossError", "TrainResult", "Trainer"]
