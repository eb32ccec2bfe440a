"""AdamW, and exponential moving averages of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rdtf.training.distributed import Ranks, gathered, local, shard_like

if TYPE_CHECKING:
    from rdtf.training.config import OptimizerConfig


class Optimizer:
    """AdamW over parameters; its state is named by parameter, so any rank count can load it.

    Args:
        named: parameters as they will be trained (sharded already, if they will be).
        config: settings.
        decay_vectors: whether weight decay is for those of one dimension, too.
    """

    def __init__(
        self,
        named: Mapping[str, nn.Parameter],
        config: OptimizerConfig,
        *,
        decay_vectors: bool = True,
    ) -> None:
        self._named = dict(named)
        every = list(self._named.values())
        kept = [] if decay_vectors else [value for value in every if value.ndim <= 1]
        decayed = every if decay_vectors else [value for value in every if value.ndim > 1]
        groups = [{"params": decayed}, {"params": kept, "weight_decay": 0.0}]
        self._adamw = torch.optim.AdamW(
            groups if kept else every,
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            fused=True,
        )

    @property
    def learning_rate(self) -> float:
        return float(self._adamw.param_groups[0]["lr"])

    def set_learning_rate(self, rate: float) -> None:
        for group in self._adamw.param_groups:
            group["lr"] = rate

    def step(self, skip: Tensor) -> None:
        """One step with the gradients at hand, unless the scalar `skip` is 1.

        `skip` is read on the device; the host does not wait.
        """
        self._adamw.found_inf = skip  # type: ignore[attr-defined]  # what GradScaler sets
        self._adamw.grad_scale = None  # type: ignore[attr-defined]
        self._adamw.step()

    def zero_grad(self) -> None:
        for parameter in self._named.values():
            parameter.grad = None

    # ------------------------------------------------------------------ checkpoint

    def state_tensors(self, ranks: Ranks) -> dict[str, Tensor]:
        """`<parameter>:<slot>` → whole tensor, on the main rank. All ranks must call."""
        return gathered(
            {
                f"{name}:{slot}": value
                for name, parameter in self._named.items()
                for slot, value in self._adamw.state[parameter].items()
            },
            ranks,
        )

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `state_tensors`; settings stay those of the config."""
        flat = {name.replace(".", "-"): name for name in self._named}  # comparisons of before
        for key, value in tensors.items():
            name, slot = key.rsplit(":", 1)
            parameter = self._named[name if name in self._named else flat[name]]
            like = parameter if value.ndim else local(parameter)
            self._adamw.state[parameter][slot] = shard_like(value, like)


# -------------------------------------------------------------------- averages


class EMA:
    """Averaged copies of a model's parameters, float32, one for each decay.

    A short average follows quickly, a long one is smoother; which serves best shows only later, so
    several can be kept. Decays warm up as (1 + n) / (10 + n), so that early averages are not
    dominated by the random start.

    Args:
        decays: per step, in [0, 1).
        every: update every so many steps, by as much as that many updates would.
        on_host: keep the averages in host memory, which spares the device four bytes a parameter
            and decay.
    """

    def __init__(
        self,
        model: nn.Module,
        decays: Sequence[float],
        *,
        every: int = 1,
        on_host: bool = False,
    ) -> None:
        self.decays = tuple(decays)
        self.every = every
        self.num_updates = 0
        self._host = torch.device("cpu") if on_host else None
        self._averages = [
            {name: self._copy(value) for name, value in model.named_parameters()} for _ in decays
        ]

    def _copy(self, parameter: Tensor) -> Tensor:
        return parameter.detach().to(device=self._host, dtype=torch.float32, copy=True)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after one more step."""
        self.num_updates += 1
        if self.num_updates % self.every or not self.decays:
            return
        parameters = dict(model.named_parameters())
        names = list(self._averages[0])
        current = [local(parameters[name]).detach().to(self._host).float() for name in names]
        for decay, averages in zip(self.decays, self._averages, strict=True):
            warm = min(decay, (1 + self.num_updates) / (10 + self.num_updates))
            kept = [local(averages[name]) for name in names]
            torch._foreach_lerp_(kept, current, 1 - warm**self.every)

    @contextlib.contextmanager
    def swapped(self, model: nn.Module, index: int = 0) -> Iterator[None]:
        """Inside the block `model` holds the averages of one decay; its own weights come back.

        Without any average it keeps its own.
        """
        if not self.decays:
            yield
            return
        parameters = dict(model.named_parameters())
        own = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self._copy_into(parameters, self._averages[index])
        try:
            yield
        finally:
            self._copy_into(parameters, own)

    @staticmethod
    @torch.no_grad()
    def _copy_into(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            local(parameters[name]).copy_(local(value))

    def state_tensors(self, ranks: Ranks) -> list[dict[str, Tensor]]:
        """Whole averages of each decay, on the main rank. All ranks must call."""
        return [gathered(averages, ranks) for averages in self._averages]

    @torch.no_grad()
    def load_state_tensors(self, states: Sequence[Mapping[str, Tensor]], num_updates: int) -> None:
        """The reverse of `state_tensors`."""
        for averages, state in zip(self._averages, states, strict=True):
            for name, average in averages.items():
                local(average).copy_(local(shard_like(state[name], average)))
        self.num_updates = num_updates
