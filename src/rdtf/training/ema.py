"""Exponential moving average of the weights: what samples, validation and pipelines use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class EMA:
    """Averaged copy of a model's parameters, float32.

    The decay warms up as (1 + n) / (10 + n), so that early averages are not dominated by the
    random start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self._averages = {
            name: parameter.detach().float().clone() for name, parameter in model.named_parameters()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        parameters = dict(model.named_parameters())
        averages = list(self._averages.values())
        current = [parameters[name].detach().float() for name in self._averages]
        torch._foreach_lerp_(averages, current, 1 - decay)

    @contextlib.contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """Inside the block `model` holds the averages; its own weights come back after it."""
        parameters = dict(model.named_parameters())
        own = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self._copy_into(parameters, self._averages)
        try:
            yield
        finally:
            self._copy_into(parameters, own)

    @staticmethod
    @torch.no_grad()
    def _copy_into(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            parameters[name].copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._averages)

    def load_state_dict(self, state: Mapping[str, Tensor], num_updates: int) -> None:
        for name, average in self._averages.items():
            average.copy_(state[name])
        self.num_updates = num_updates
