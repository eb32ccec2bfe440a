"""One optimizer step: the arithmetic of training, apart from the loop that schedules it.

Nothing here makes the host wait for the device. What the step measured stays there, is copied to
the host behind its back (`StepResult.fetch` waits for it, usually a step later). A step whose
gradient is not finite is left out on the device; the trainer hears of it one step later.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rdtf.method.loss import frame_weights
from rdtf.method.objective import Objective
from rdtf.method.tasks import TASKS
from rdtf.models.latents import LatentSpace
from rdtf.training.batches import Batch
from rdtf.training.config import OptimizerConfig, TrainConfig
from rdtf.training.distributed import Ranks, clip_gradients, last_of_step
from rdtf.training.optimizer import Optimizer


@dataclass(frozen=True)
class Measured:
    """What one step measured, over all ranks, samples in the order of their positions.

    loss: what was descended; losses: per sample, unweighted; t: noise level of each; finite:
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

    Attributes:
        step: which step; reported: whether a non-finite loss was reported.
    """

    def __init__(self, numbers: Tensor, samples: Tensor, ranks: Ranks) -> None:
        self.step = -1
        self.reported = False
        self._samples = samples
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
            losses = numbers[_NUM_SUMMARY:, None]
            rows = self._ranks.gather(torch.cat([self._samples, losses], dim=1)).tolist()
            parts = self._ranks.gather(numbers[:1]).tolist()
            _, tasks, clips, t, losses = zip(*sorted(rows), strict=True)
            self._measured = Measured(
                loss=math.fsum(parts),
                grad_norm=float(numbers[1]),
                finite=bool(numbers[2]),
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
        result = cls(torch.zeros(_NUM_SUMMARY), torch.zeros(0, 4), Ranks())
        values = dict(state)
        result.step, values["t"] = values.pop("step"), values.pop("levels")
        result._measured, result.reported = Measured(**values), True
        return result


_NUM_SUMMARY = 3  # loss, gradient norm, whether the step was taken; then losses per sample


def _sample_facts(batches: Sequence[Batch]) -> Tensor:
    """Position, task, clip and noise level of each sample, float64 `[n, 4]` on the host."""
    rows = [
        (position, TASKS.index(task), clip, t)
        for info in (batch.info for batch in batches)
        for position, task, clip, t in zip(
            info.positions, info.tasks, info.clips, info.t, strict=True
        )
    ]
    return torch.tensor(rows, dtype=torch.float64)


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


def train_step(
    model: nn.Module,
    objective: Objective,
    optimizer: Optimizer,
    batches: Sequence[Batch],
    *,
    max_grad_norm: float,
    given_frame_weight: float,
    autocast: contextlib.AbstractContextManager[Any],
    ranks: Ranks,
    **loss_options: Any,
) -> StepResult:
    """Accumulate over micro-batches, normalise by the elements that count on all ranks, and step.

    Gradients between ranks are averaged by DDP and FSDP; times their number, that is the sum.
    """
    total = ranks.sum(element_count(batches, given_frame_weight)).clamp(min=1.0)
    parts, losses = [], []
    for index, batch in enumerate(batches):
        with last_of_step(model, index == len(batches) - 1):
            with autocast:
                weighted, errors, counts = batch_errors(
                    model, objective, batch, given_frame_weight=given_frame_weight, **loss_options
                )
                loss = weighted.sum() / total
            (loss * ranks.world_size).backward()
        parts.append(loss.detach())
        losses.append((errors / counts.clamp(min=1)).detach())
    grad_norm = clip_gradients(model.parameters(), max_grad_norm)
    skip = (~grad_norm.isfinite()).float()  # on the device: the host does not wait to know
    optimizer.step(skip)
    optimizer.zero_grad()
    summary = torch.stack([torch.stack(parts).sum(), grad_norm, 1 - skip])
    numbers = torch.cat([summary, *losses])
    return StepResult(numbers, _sample_facts(batches), ranks)


def element_count(batches: Sequence[Batch], given_frame_weight: float) -> Tensor:
    """Weighted latent elements that the loss counts in these micro-batches, a scalar."""
    return torch.stack([elements_per_sample(b, given_frame_weight).sum() for b in batches]).sum()


def elements_per_sample(batch: Batch, given_frame_weight: float) -> Tensor:
    """Weighted latent elements that the loss counts in each sample, `[B]`."""
    known = batch.conditions
    channels, _, height, width = known.clean.shape[1:]
    weights = frame_weights(known.valid, known.given, given_frame_weight)
    return weights.sum(dim=1) * (channels * height * width)


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
