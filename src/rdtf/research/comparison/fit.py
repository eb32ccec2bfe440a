"""A run of one method: warm-up, constant rate, and a decay branched off at each point of the curve.

The main run never decays. A point is reached by a copy that goes on from the main run's checkpoint
with the rate falling linearly to zero over the last share of the point's budget; the main run stays
as it was, bit by bit. Stopped at any step, either goes on later from there: batches, noise and
dropout are pure functions of seed and step.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from rdtf.errors import UserError
from rdtf.fileio import delete_folder
from rdtf.method.objective import build_objective
from rdtf.research.adapters.use import Stage
from rdtf.research.comparison.methods import Method
from rdtf.research.comparison.networks import FlopTable, ParameterView, Trainee
from rdtf.training.batches import BatchBuilder, PackedBatch, unpack
from rdtf.training.checkpoint import Retention, load_latest, load_weights, save_checkpoint
from rdtf.training.config import TrainConfig
from rdtf.training.distributed import Ranks
from rdtf.training.loader import LEAD_STEPS, CurriculumLookahead, StepLoader, resolve_workers
from rdtf.training.progress import StopSignals
from rdtf.training.step import StepResult

_PATIENCE = 3  # steps in a row whose loss may be non-finite
_SAVE_SECONDS = 120.0
_SAY_SECONDS = 10.0
_FOREVER = 10**9


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """Asked to stop before the end; what was done is saved. The text says by what."""


class Watch:
    """Whether it is time to leave: a deadline, or a signal."""

    def __init__(self, signals: StopSignals, deadline: float | None = None) -> None:
        self._signals, self._deadline = signals, deadline

    def check(self) -> None:
        """Raise `Stopped` if it is."""
        if self._signals.received:
            raise Stopped("interrupted")
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise Stopped("time is up")


@dataclass(frozen=True)
class Plan:
    """What a run trains, on what, and what a clip costs in each stage.

    measure: what budgets are counted in. first_stage: how much of it the first of two stages gets;
    decay_share: of that, in which its rate falls to zero.
    """

    method: Method
    config: TrainConfig
    network: Trainee
    batches: BatchBuilder
    tables: Mapping[str, FlopTable]
    measure: Literal["flops", "clips"] = "flops"
    first_stage: float = math.inf
    decay_share: float = 0.2


class Fit:
    """One run. It goes on from the checkpoint in `folder`, else from that in `start`, if any.

    Attributes:
        step, clips, flops, seconds: what was used until now. `seconds` are those of training
            steps, loading included.
        losses: of each step, weighted by noise level, on the run's own mix of tasks.
        before: spent before the last step.
        decay: from and up to how much spent the rate falls to zero; None = it stays constant.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        device: torch.device,
        say: Callable[[str], None] = lambda text: None,
        *,
        start: Path | None = None,
        decay: tuple[float, float] | None = None,
    ) -> None:
        self.plan, self.folder, self.device, self.say = plan, folder, device, say
        self.decay = decay
        self.network = plan.network.to(device)
        self.objective = build_objective(plan.config.objective)
        self.step = self.clips = self.stage = self.stage_start = 0
        self.flops = self.seconds = self.before = 0.0
        self.losses: list[float] = []
        self._saved_at = self._said_at = time.monotonic()
        checkpoint = load_latest(folder) or (load_latest(start) if start else None)
        if checkpoint is None:
            self._begin_stage()
        else:
            self._load(checkpoint)

    # ------------------------------------------------------------------------- loop

    @property
    def spent(self) -> float:
        """In the plan's measure."""
        return getattr(self, self.plan.measure)

    def run(self, until: float, watch: Watch) -> None:
        """Train until so much is spent.

        Raises:
            Stopped: asked to; the same call on a new `Fit` goes on.
        """
        try:
            while self.spent < until:
                watch.check()
                self._next_stage_if_due()
                self._train_one_step()
                self._now_and_then()
        except Stopped:
            self.save()
            raise

    def used(self) -> dict[str, Any]:
        return {
            "step": self.step, "clips": self.clips, "flops": self.flops,
            "seconds": round(self.seconds, 1),
        }  # fmt: skip

    @contextlib.contextmanager
    def sampling(self) -> Iterator[None]:
        """Inside the block the network samples."""
        self.network.begin("sampling")
        yield
        self.network.begin(self._stage_name)

    def _rate(self) -> float:
        """The next step's learning rate over that after the warm-up."""
        decay = self.decay
        if self.stage + 1 < len(self.network.stages):
            end = self.plan.first_stage
            decay = (1 - self.plan.decay_share) * end, end
        if decay is None:
            return 1.0
        return min(max((decay[1] - self.spent) / (decay[1] - decay[0]), 0.0), 1.0)

    def _train_one_step(self) -> None:
        started = time.monotonic()
        if self._batches is None:
            self._batches = iter(self._loader())
        packed = next(self._batches)
        batches = [unpack(batch, self.plan.batches.store, self.device) for batch in packed]
        in_stage, self.before = self.step - self.stage_start, self.spent
        result = self.training.step(batches, self.step, in_stage, self._rate())
        self._count(packed)
        self.step += 1
        self._look_back()
        self.pending = result
        self.seconds += time.monotonic() - started

    def _count(self, packed: Sequence[PackedBatch]) -> None:
        table = self.plan.tables[self._stage_name]
        for batch in packed:
            frames = batch.valid.shape[1]
            tokens = max(mask.shape[1] for mask in batch.text_mask)
            self.clips += len(batch.valid)
            self.flops += table.per_batch(frames, tokens)

    def _look_back(self) -> None:
        """Feed the curriculum with the step before: on a GPU its numbers have arrived by now."""
        if self.pending is not None:
            measured = self.pending.fetch()
            self.losses.append(measured.loss)
            self.bad_steps = 0 if measured.finite else self.bad_steps + 1
            if self.bad_steps > _PATIENCE:
                raise UserError(
                    f"{self.plan.method.name} diverged at step {self.step - 1}: its loss is "
                    "non-finite; use another --out with --set learning_rate_scale=0.3"
                )
            if measured.finite:
                self.curriculum.observe(measured.losses, measured.t, measured.tasks)
        self.lookahead.step_done()

    def _now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._said_at >= _SAY_SECONDS:
            self._said_at = now
            self.say(f"step {self.step}, {self.flops / 1e12:.2f} TFLOP, {self.seconds:.0f} s")
        if now - self._saved_at >= _SAVE_SECONDS:
            self.save()

    # ----------------------------------------------------------------------- stages

    @property
    def _stage_name(self) -> str:
        return self.network.stages[self.stage]

    def _begin_stage(self) -> None:
        """Everything that trains the present stage, new."""
        config = self.plan.config
        self.network.begin(self._stage_name)
        self.view = ParameterView(self.network.trained_parameters())
        self.training = Stage(
            self.network,
            self.objective,
            config,
            self.device,
            parameters=self.view,
        )
        self.bad_steps = 0  # in a row
        self.curriculum = self.plan.method.curriculum(self._stage_name, config)
        self.lookahead = CurriculumLookahead(self.curriculum, config.steps)
        self.lookahead.load_state_dict(
            {
                "first_step": self.step,
                "quantiles": [self.curriculum.quantile] * LEAD_STEPS,
                "time_shares": [0.0] * LEAD_STEPS,
            }
        )
        self.pending: StepResult | None = None
        self._batches: Iterator[list[PackedBatch]] | None = None

    def _next_stage_if_due(self) -> None:
        # By operations alone: by the clock, results would depend on what else the machine does.
        if self.stage + 1 < len(self.network.stages) and self.spent >= self.plan.first_stage:
            self.stage, self.stage_start = self.stage + 1, self.step
            self._begin_stage()

    def _loader(self) -> StepLoader:
        return StepLoader(
            self.plan.batches,
            self.lookahead,
            self.step,
            _FOREVER,
            rank=0,
            world_size=1,
            num_workers=resolve_workers(self.plan.config.engine.num_workers, self.device),
            pin_memory=self.device.type == "cuda",
        )

    # ------------------------------------------------------------------- checkpoint

    def save(self) -> None:
        """Write a checkpoint of the present step; the one before it goes."""
        ranks = Ranks(device=self.device)
        tensors = {
            "weights": {name: p.detach() for name, p in self.network.own_parameters().items()},
            "optimizer": self.training.optimizer.state_tensors(ranks),
        }
        state = {
            **self.used(),
            "seconds": self.seconds,
            "before": self.before,
            "stage": self.stage,
            "stage_start": self.stage_start,
            "losses": self.losses,
            "curriculum": self.curriculum.state_dict(),
            "foresight": self.lookahead.state_dict(),
            "pending": self.pending.state_dict() if self.pending is not None else None,
            "strikes": self.bad_steps,
        }
        save_checkpoint(self.folder, self.step, tensors, state, Retention(1, 0, False))
        self._saved_at = time.monotonic()

    def _load(self, checkpoint: Any) -> None:
        state = checkpoint.state
        self.step, self.clips = int(state["step"]), int(state["clips"])
        self.flops, self.seconds = float(state["flops"]), float(state["seconds"])
        self.before = float(state["before"])
        self.stage, self.stage_start = int(state["stage"]), int(state["stage_start"])
        self._begin_stage()
        own = self.network.own_parameters()
        whole = ParameterView(own)
        weights = {name.replace(".", "-"): v for name, v in checkpoint.load("weights").items()}
        load_weights(whole, weights, f"checkpoint of {self.folder}")
        self.training.optimizer.load_state_tensors(checkpoint.load("optimizer"))
        self.curriculum.load_state_dict(state["curriculum"])
        self.lookahead.load_state_dict(state["foresight"])
        self.bad_steps = int(state["strikes"])
        if state["pending"] is not None:
            self.pending = StepResult.from_state(state["pending"])
        self.losses = list(state["losses"])

    @staticmethod
    def remove(folder: Path) -> None:
        """Delete what a run has left, when its result is written."""
        if folder.is_dir():
            delete_folder(folder)
