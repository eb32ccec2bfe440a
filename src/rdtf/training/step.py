"""One optimizer step: the arithmetic of training, apart from the loop that schedules it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rdtf.method.dual_mask import frame_weights, masked_error_sum
from rdtf.method.objective import Objective
from rdtf.models.dfgn import DFGN
from rdtf.training.batches import Batch
from rdtf.training.config import OptimizerConfig


@dataclass(frozen=True)
class StepResult:
    """What one step measured: the loss that was descended, and per-sample losses (unweighted)."""

    loss: float
    grad_norm: float
    losses: list[float]
    levels: list[float]
    tasks: list[str]


class NonFiniteLossError(ArithmeticError):
    """The loss or gradient is not a number; the weights were left as they were."""


def batch_errors(
    model: DFGN, objective: Objective, batch: Batch, given_frame_weight: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted error sum, unweighted error sum and element count per sample, each `[B]`."""
    noisy = objective.add_noise(batch.clean, batch.noise, batch.level)
    prediction = model(
        noisy,
        batch.level,
        clean=batch.clean,
        given=batch.given,
        valid=batch.valid,
        text=batch.text,
        text_mask=batch.text_mask,
        mean_duration_ms=batch.mean_duration_ms,
    )
    target = objective.target(batch.clean, batch.noise, batch.level)
    weights = frame_weights(batch.valid, batch.given, given_frame_weight)
    errors, counts = masked_error_sum(prediction, target, weights)
    return errors * objective.loss_weight(batch.level), errors, counts


def train_step(
    model: DFGN,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    *,
    max_grad_norm: float,
    given_frame_weight: float,
    autocast: contextlib.AbstractContextManager[Any],
) -> StepResult:
    """Accumulate over micro-batches, normalise by the elements that count in all, and step.

    Raises `NonFiniteLossError` before the optimizer has touched anything.
    """
    total = element_count(batches, given_frame_weight)
    loss, losses = 0.0, []
    for batch in batches:
        with autocast:
            weighted, errors, counts = batch_errors(model, objective, batch, given_frame_weight)
        micro_loss = weighted.sum() / total
        loss += float(micro_loss.detach())
        # Before backward: on a CPU, warping's backward pass reads out of bounds where flow is NaN.
        _check_finite("loss", loss, batches, optimizer)
        micro_loss.backward()
        losses += (errors / counts.clamp(min=1)).tolist()
    grad_norm = float(nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm))
    _check_finite("gradient norm", grad_norm, batches, optimizer)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return StepResult(
        loss=loss,
        grad_norm=grad_norm,
        losses=losses,
        levels=[level for batch in batches for level in batch.level.tolist()],
        tasks=[task for batch in batches for task in batch.tasks],
    )


def _check_finite(
    what: str, value: float, batches: Sequence[Batch], optimizer: torch.optim.Optimizer
) -> None:
    if not math.isfinite(value):
        optimizer.zero_grad(set_to_none=True)
        clips = sorted({clip for batch in batches for clip in batch.clips})
        raise NonFiniteLossError(f"{what} is {value} on clips {clips}")


def element_count(batches: Sequence[Batch], given_frame_weight: float) -> float:
    """Weighted latent elements that the loss counts, over all micro-batches."""
    total = 0.0
    for batch in batches:
        weights = frame_weights(batch.valid, batch.given, given_frame_weight)
        channels, _, height, width = batch.clean.shape[1:]
        total += float(weights.sum()) * channels * height * width
    return max(total, 1.0)


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Warm-up, constant, linear decay to zero over the last `decay_share` of the run."""
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    decay_steps = config.decay_share * steps
    decay = min(1.0, max(steps - step, 0) / decay_steps) if decay_steps > 0 else 1.0
    return config.learning_rate * warmup * decay
