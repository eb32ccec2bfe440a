"""Exponential moving averages of the weights: what samples, validation and pipelines use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from rdtf.training.parallel import gathered, local, shard_like
from rdtf.training.ranks import Ranks


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
        if self.num_updates % self.every:
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
        """Inside the block `model` holds the averages of one decay; its own weights come back."""
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
