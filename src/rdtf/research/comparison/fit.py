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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rdtf.fileio import delete_folder
from rdtf.method.curriculum import Curriculum
from rdtf.research.comparison.methods import Method
from rdtf.research.comparison.networks import FlopTable, Trainee
from rdtf.training.batches import Batch, BatchBuilder
from rdtf.training.config import TrainConfig, plain_engine
from rdtf.training.distributed import Ranks
from rdtf.training.progress import StopSignals
from rdtf.training.step import Denoising, Measured
from rdtf.training.trainer import Trainer

_PATIENCE = 3  # steps in a row whose loss may be non-finite
_SAY_SECONDS = 10.0
_FOREVER = 10**9


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """Asked to stop before the end; what was done is saved. The text says by what."""


class Watch:
    """Whether it is time to leave: a deadline, or a signal."""

    def __init__(self, signals: StopSignals, deadline: float | None = None) -> None:
        self._signals, self._deadline = signals, deadline

    def reason(self) -> str:
        """Why to leave, or an empty string."""
        if self._signals.received:
            return "interrupted"
        is_late = self._deadline is not None and time.monotonic() >= self._deadline
        return "time is up" if is_late else ""

    def check(self) -> None:
        """Raise `Stopped` if it is."""
        if reason := self.reason():
            raise Stopped(reason)


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


class Fit(Denoising):
    """One run. It goes on from the checkpoint in `folder`, else from that in `start`, if any.

    Attributes:
        clips, flops: what was used until now, as `step` and `seconds`, those of training.
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
        self.plan, self.say, self.decay = plan, say, decay
        ranks = Ranks(device=device)
        super().__init__(plan.network.to(device), plan.batches, plan.config, ranks)
        self.optimizer = replace(plan.config.optimizer, ema_decays=())
        self.engine = plain_engine(plan.config.engine, skip_nonfinite=_PATIENCE, log_every=0)
        self.label = plan.method.name
        self.advice = "use another --out with a lower learning_rate_scale"
        self.stages = self.network.stages
        self.lengths = (_FOREVER,) * len(self.stages)
        self.clips, self.flops, self.before, self.until = 0, 0.0, 0.0, math.inf
        self.losses: list[float] = []
        self._said_at = time.monotonic()
        self.trainer = Trainer(self, folder, ranks=ranks, quiet=True, start=start)

    @property
    def step(self) -> int:
        return self.trainer.step

    @property
    def seconds(self) -> float:
        return self.trainer.seconds

    @property
    def stage(self) -> int:
        return self.trainer.stage

    @property
    def spent(self) -> float:
        """In the plan's measure."""
        return getattr(self, self.plan.measure)

    def run(self, until: float, watch: Watch) -> None:
        """Train until so much is spent.

        Raises:
            Stopped: asked to; the same call on a new `Fit` goes on.
        """
        self.until = until
        result = self.trainer.train(stop=watch.reason)
        if result.reason != "finished":
            raise Stopped(result.reason)

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
        self.network.begin(self.stages[self.stage])

    def save(self) -> None:
        """Write a checkpoint of the present step; the one before it goes."""
        self.trainer.save()

    @staticmethod
    def remove(folder: Path) -> None:
        """Delete what a run has left, when its result is written."""
        if folder.is_dir():
            delete_folder(folder)

    # ------------------------------------------------------------ as the trainer asks

    def begin(self, stage: str, step: int) -> None:
        self.network.begin(stage)
        super().begin(stage, step)

    def curriculum_of(self, stage: str) -> Curriculum:
        return self.plan.method.curriculum(stage, self.config)

    def is_over(self, step_in_stage: int, stage: int) -> bool:
        # By operations alone: by the clock, results would depend on what else the machine does.
        return stage + 1 < len(self.stages) and self.spent >= self.plan.first_stage

    @property
    def is_done(self) -> bool:
        return self.spent >= self.until

    def parameters(self) -> dict[str, nn.Parameter]:
        return self.network.trained_parameters()

    def tensors(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.network.own_parameters().items()}

    def rate(self) -> float:
        """The next step's learning rate over that after the warm-up."""
        decay = self.decay
        if self.stage + 1 < len(self.stages):
            end = self.plan.first_stage
            decay = (1 - self.plan.decay_share) * end, end
        if decay is None:
            return 1.0
        return min(max((decay[1] - self.spent) / (decay[1] - decay[0]), 0.0), 1.0)

    def to_device(self, packed: Any) -> list[Batch]:
        self.before, table = self.spent, self.plan.tables[self.stages[self.stage]]
        for batch in packed:
            frames = batch.valid.shape[1]
            tokens = max(mask.shape[1] for mask in batch.text_mask)
            self.clips += len(batch.valid)
            self.flops += table.per_batch(frames, tokens)
        return super().to_device(packed)

    def observe(self, measured: Measured) -> None:
        self.losses.append(measured.loss)
        super().observe(measured)

    def after_step(self, trainer: Trainer) -> None:
        now = time.monotonic()
        if now - self._said_at >= _SAY_SECONDS:
            self._said_at = now
            self.say(f"step {self.step}, {self.flops / 1e12:.2f} TFLOP, {self.seconds:.0f} s")

    def state_dict(self) -> dict[str, Any]:
        own = {"clips": self.clips, "flops": self.flops, "before": self.before}
        return {**super().state_dict(), **own, "losses": self.losses}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.clips, self.flops = int(state["clips"]), float(state["flops"])
        self.before, self.losses = float(state["before"]), list(state["losses"])
