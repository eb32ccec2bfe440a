"""What is trained (`Trainable`, `Denoising`), and one optimizer step of it.

Nothing here makes the host wait for the device. What the step measured stays there, is copied to
the host behind its back (`StepResult.fetch` waits for it, usually a step later). A step whose
gradient is not finite is left out on the device; the trainer hears of it one step later.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rdtf.method.curriculum import Curriculum
from rdtf.method.loss import frame_weights
from rdtf.method.objective import Objective
from rdtf.method.tasks import TASKS
from rdtf.models.latents import LatentSpace
from rdtf.training.batches import Batch, BatchBuilder, unpack
from rdtf.training.device import explain_out_of_memory
from rdtf.training.distributed import Ranks, clip_gradients, last_of_step
from rdtf.training.loader import MAX_WORKERS, CurriculumLookahead
from rdtf.training.optimizer import Optimizer

if TYPE_CHECKING:
    from rdtf.training.config import EngineConfig, OptimizerConfig, TrainConfig
    from rdtf.training.trainer import Trainer


@dataclass(frozen=True)
class Measured:
    """What one step measured, over all ranks, samples in the order of their positions.

    loss: what was descended; losses: per sample, unweighted, and its task, clip and noise level t;
    where samples are not told apart, `losses` are parts of the loss, with names in `tasks`. finite:
    whether the step was taken.
    """

    loss: float
    grad_norm: float
    finite: bool
    losses: list[float]
    t: list[float]
    tasks: list[str]
    clips: list[int]

    @property
    def culprits(self) -> list[int]:
        """Clips whose own loss is not finite; all of the step, if only the gradient is not."""
        bad = {c for c, x in zip(self.clips, self.losses, strict=True) if not math.isfinite(x)}
        return sorted(bad or set(self.clips))


class StepResult:
    """A step's numbers on their way to the host.

    Args:
        numbers: loss, gradient norm, whether the step was taken; then values of `facts`.
        facts: position, task, clip and noise level of each sample, float64 `[n, 4]` on the host;
            or names.

    Attributes:
        step: which step; reported: whether a non-finite loss was reported.
    """

    def __init__(self, numbers: Tensor, facts: Tensor | Sequence[str], ranks: Ranks) -> None:
        self.step = -1
        self.reported = False
        self._facts = facts
        self._ranks = ranks
        self._measured: Measured | None = None
        self._numbers, self._arrival = numbers, None
        if numbers.device.type == "cuda":
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._arrival = torch.cuda.Event()
            self._arrival.record()

    def fetch(self) -> Measured:
        """The numbers, once they are there. All ranks must call at the same place."""
        if self._measured is None:
            if self._arrival is not None:
                self._arrival.synchronize()
            numbers = self._numbers.double()
            loss = math.fsum(self._ranks.gather(numbers[:1]).tolist())
            summary = loss, float(numbers[1]), bool(numbers[2])
            values = numbers[_NUM_SUMMARY:, None]
            if not isinstance(self._facts, Tensor):
                names = list(self._facts)
                self._measured = Measured(*summary, values[:, 0].tolist(), [], names, [])
                return self._measured
            rows = self._ranks.gather(torch.cat([self._facts, values], dim=1)).tolist()
            _, tasks, clips, t, losses = zip(*sorted(rows), strict=True)
            self._measured = Measured(
                *summary,
                losses=list(losses),
                t=list(t),
                tasks=[TASKS[int(task)] for task in tasks],
                clips=[int(clip) for clip in clips],
            )
        return self._measured

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON values. All ranks must call."""
        values = dict(vars(self.fetch()))
        return {"step": self.step, "levels": values.pop("t"), **values}  # as it always was

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> StepResult:
        result = cls(torch.zeros(_NUM_SUMMARY), (), Ranks())
        values = dict(state)
        result.step, values["t"] = values.pop("step"), values.pop("levels")
        result._measured, result.reported = Measured(**values), True
        return result


_NUM_SUMMARY = 3  # loss, gradient norm, whether the step was taken


class Trainable:
    """What a `Trainer` trains: a network in one or more stages, its batches, and their loss.

    A subclass sets the attributes and defines `build` and `loss`; the other methods suit a network
    that learns in one stage from batches that depend on nothing but their step.

    Attributes:
        network: what is saved and averaged; `forward`: what `loss` calls, the network or a
            parallel or compiled form of it.
        optimizer, engine: settings.
        stages: what is trained, one after the other; lengths: how many steps each takes.
        seed: with the step, of torch's own randomness (dropout).
        label: in messages; advice: what to do about a loss that is not finite.
        decays_vectors: whether weight decay is for biases and scales, too.
        in_flight: how many requests may be under way before their step.
        config: a dataclass, shown beside the run by trackers; batch_size: samples a step.
    """

    network: Any
    forward: Any
    optimizer: OptimizerConfig
    engine: EngineConfig
    lengths: Sequence[int]
    stages: tuple[str, ...] = ("train",)
    seed = 0
    label = ""
    advice = "lower the learning rate"
    decays_vectors = True
    in_flight = 12
    config: Any = None
    batch_size = 1

    def begin(self, stage: str, step: int) -> None:
        """Make ready for a stage that begins at `step`."""

    def is_over(self, step_in_stage: int, stage: int) -> bool:
        """Whether stage number `stage` has ended, after so many steps of it."""
        return step_in_stage >= self.lengths[stage]

    @property
    def is_done(self) -> bool:
        """Whether the run is over in any stage, however few steps it has made."""
        return False

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """What the present stage trains."""
        return dict(self.network.named_parameters())

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of the network; the tensors share its memory."""
        return dict(self.network.state_dict())

    def rate(self) -> float:
        """Factor of the learning rate, beside warm-up and decay by steps or time."""
        return 1.0

    # ------------------------------------------------------------ batches and their loss

    def request(self, step: int, progress: float) -> Any:
        """What decides the batches of `step`, settled when they are asked for."""
        return step, progress

    def build(self, request: Any) -> Any:
        """The batches of a request; runs in a worker: a pure function of its argument."""
        raise NotImplementedError

    def to_device(self, packed: Any) -> list[Any]:
        """The micro-batches of a step, on the device."""
        return [packed]

    def count(self, batches: Sequence[Any], ranks: Ranks) -> Tensor | float:
        """What the sum of all ranks' losses is divided by."""
        return 1.0

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        """A scalar to descend, and detached values to log, `[n]`."""
        raise NotImplementedError

    def facts(self, batches: Sequence[Any]) -> Tensor | Sequence[str]:
        """What the values that `loss` gives are of: names, or a row a sample (see `StepResult`)."""
        return ()

    # ------------------------------------------------------------ beside a step

    def prepare(self) -> None:
        """Right before a step."""

    def observe(self, measured: Measured) -> None:
        """Right after the next step: what this one measured."""

    def step_done(self, time_share: float) -> None:
        """After each step, behind `observe`."""

    def after_step(self, trainer: Trainer) -> None:
        """After each step, last."""

    def log_values(self, step: int) -> dict[str, Any]:
        """More for a row of metrics.jsonl."""
        return {}

    def clip_name(self, clip: int) -> str:
        return str(clip)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds beside tensors; plain JSON values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...

    def explain_memory(
        self, step: int, device: torch.device
    ) -> contextlib.AbstractContextManager[Any]:
        """Turns a failed allocation in the block into a line that says what to do."""
        return contextlib.nullcontext()


def train_step(
    trainable: Trainable,
    optimizer: Optimizer,
    batches: Sequence[Any],
    *,
    max_grad_norm: float,
    autocast: contextlib.AbstractContextManager[Any],
    ranks: Ranks,
) -> StepResult:
    """Accumulate over micro-batches, normalise by what counts on all ranks, and step.

    Gradients between ranks are averaged by DDP and FSDP; times their number, that is the sum.
    """
    total = trainable.count(batches, ranks)
    parts, values = [], []
    for index, batch in enumerate(batches):
        with last_of_step(trainable.forward, index == len(batches) - 1):
            with autocast:
                loss, found = trainable.loss(batch)
                loss = loss / total
            (loss * ranks.world_size).backward()
        parts.append(loss.detach())
        values.append(found)
    grad_norm = clip_gradients(trainable.network.parameters(), max_grad_norm)
    skip = (~grad_norm.isfinite()).float()  # on the device: the host does not wait to know
    optimizer.step(skip)
    optimizer.zero_grad()
    summary = torch.stack([torch.stack(parts).sum(), grad_norm, 1 - skip])
    return StepResult(torch.cat([summary, *values]), trainable.facts(batches), ranks)


# ------------------------------------------------------------------- a denoiser


def batch_errors(
    model: nn.Module, objective: Objective, batch: Batch, **loss: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted error sum, unweighted error sum and element count per sample, each `[B]`.

    Args:
        loss: see `loss_options`.
    """
    known, t = batch.conditions, batch.t
    space = LatentSpace.of(getattr(model, "module", model))  # DDP wraps the network
    clean, noise = space.clean(known), space.noise(batch.noise, batch.motion_noise, known.given)
    extra: dict[str, Any] = {"motion_only": True} if loss.get("learn") == "motion" else {}
    prediction = model(objective.add_noise(clean, noise, t), t, known, **extra)
    target = objective.target(clean, noise, t)
    return space.errors(prediction, target, known, objective.loss_weight(t), **loss)


def loss_options(config: TrainConfig) -> dict[str, Any]:
    """What of a config decides the loss, as arguments of `batch_errors`."""
    return {
        "given_frame_weight": config.given_frame_weight,
        "relative_loss_floor": config.relative_loss_floor,
        "learn": config.learn,
    }


def elements_per_sample(batch: Batch, given_frame_weight: float) -> Tensor:
    """Weighted latent elements that the loss counts in each sample, `[B]`."""
    known = batch.conditions
    channels, _, height, width = known.clean.shape[1:]
    weights = frame_weights(known.valid, known.given, given_frame_weight)
    return weights.sum(dim=1) * (channels * height * width)


class Denoising(Trainable):
    """A network, DFGN or adapted U-Net, on batches of a training set.

    Args:
        network: on its device.
        batches: of the training set.
        config: settles everything else.
    """

    in_flight = MAX_WORKERS
    advice = "remove these clips, lower optimizer.learning_rate, or set engine.skip_nonfinite"

    def __init__(
        self,
        network: nn.Module,
        batches: BatchBuilder,
        config: TrainConfig,
        ranks: Ranks | None = None,
    ) -> None:
        self.network: Any = network
        self.forward = network
        self.batches, self.config, self.ranks = batches, config, ranks or Ranks()
        self.optimizer, self.engine, self.seed = config.optimizer, config.engine, config.seed
        self.lengths, self.batch_size = (config.steps,), config.batch_size

    @property
    def objective(self) -> Objective:
        return self.batches.objective

    def begin(self, stage: str, step: int) -> None:
        self.curriculum = self.curriculum_of(stage)
        self.lookahead = CurriculumLookahead(self.curriculum, self.config.steps, step)

    def curriculum_of(self, stage: str) -> Curriculum:
        """How the tasks of a stage are drawn."""
        return Curriculum(self.config.curriculum)

    def request(self, step: int, progress: float) -> tuple[int, Mapping[str, float]]:
        return step, self.lookahead.task_weights(step)

    def build(self, request: tuple[int, Mapping[str, float]]) -> list[Any]:
        return self.batches.step_batches(*request, self.ranks.rank, self.ranks.world_size)

    def to_device(self, packed: Any) -> list[Batch]:
        return [unpack(batch, self.batches.store, self.ranks.device) for batch in packed]

    def count(self, batches: Sequence[Batch], ranks: Ranks) -> Tensor:
        """Weighted latent elements that the loss counts, over all ranks."""
        weight = self.config.given_frame_weight
        parts = [elements_per_sample(batch, weight).sum() for batch in batches]
        return ranks.sum(torch.stack(parts).sum()).clamp(min=1.0)

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        weighted, errors, counts = batch_errors(
            self.forward, self.objective, batch, **loss_options(self.config)
        )
        return weighted.sum(), (errors / counts.clamp(min=1)).detach()

    def facts(self, batches: Sequence[Batch]) -> Tensor:
        rows = [
            (position, TASKS.index(task), clip, t)
            for info in (batch.info for batch in batches)
            for position, task, clip, t in zip(
                info.positions, info.tasks, info.clips, info.t, strict=True
            )
        ]
        return torch.tensor(rows, dtype=torch.float64)

    def observe(self, measured: Measured) -> None:
        if measured.finite:
            self.curriculum.observe(measured.losses, measured.t, measured.tasks)

    def step_done(self, time_share: float) -> None:
        self.lookahead.step_done(time_share)

    def log_values(self, step: int) -> dict[str, Any]:
        return {
            "task_weights": self.lookahead.family_weights(step),
            "quantile": self.curriculum.quantile,
        }

    def clip_name(self, clip: int) -> str:
        """The clip's id in its training set, or its number."""
        name = getattr(self.batches.store, "name", None)
        return f"{clip} ({name(clip)})" if callable(name) else str(clip)

    def state_dict(self) -> dict[str, Any]:
        return {
            "curriculum": self.curriculum.state_dict(),
            "foresight": self.lookahead.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.curriculum.load_state_dict(state["curriculum"])
        self.lookahead.load_state_dict(state["foresight"])

    def explain_memory(
        self, step: int, device: torch.device
    ) -> contextlib.AbstractContextManager[Any]:
        return explain_out_of_memory(self.config, step, device)


# ------------------------------------------------------------------- its rate


# What part of its time a run that is planned for a time warms up at most.
_WARMUP_SHARE = 0.1


def learning_rate(config: OptimizerConfig, step: int, steps: int, time_share: float = 0.0) -> float:
    """Warm-up, constant, linear decay to zero over the last `decay_share` of the run.

    Args:
        steps: of the whole run.
        time_share: how much of its time has passed, in [0, 1], if the run is planned for a time:
            it ends with its steps or its time, whichever is over first.
    """
    warmup = max((step + 1) / max(config.warmup_steps, 1), time_share / _WARMUP_SHARE)
    left = min(max(steps - step, 0) / steps, 1.0 - time_share)
    decay = left / config.decay_share if config.decay_share > 0 else 1.0
    return config.learning_rate * min(warmup, 1.0) * min(decay, 1.0)
