"""The loss of a denoiser under the dual mask, and the `Trainable` that descends it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rdtf.method.curriculum import Curriculum
from rdtf.method.loss import frame_weights
from rdtf.method.objective import Objective
from rdtf.method.tasks import TASKS
from rdtf.models.latents import LatentSpace
from rdtf.training.batches import Batch, BatchBuilder, PackedBatch, unpack
from rdtf.training.config import TrainConfig
from rdtf.training.device import explain_out_of_memory
from rdtf.training.distributed import Ranks
from rdtf.training.loader import MAX_WORKERS, CurriculumLookahead
from rdtf.training.step import Measured, Trainable


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

    def build(self, request: tuple[int, Mapping[str, float]]) -> list[PackedBatch]:
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
