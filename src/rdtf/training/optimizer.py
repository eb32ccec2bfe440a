"""AdamW or Muon, and exponential moving averages of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rdtf.errors import ConfigError
from rdtf.training.distributed import Ranks, gathered, local, shard_like

if TYPE_CHECKING:
    from rdtf.training.config import OptimizerConfig

# Inputs, outputs and conditions keep AdamW: Muon is for maps from features to features.
_MUON_PARTS = ("down.", "middle.", "up.", "downsample.", "upsample.")


class Optimizer:
    """Steps parameters; its state is named by parameter, so any rank count can load it.

    Args:
        named: parameters as they will be trained (sharded already, if they will be).
        config: which optimizer, and its settings.
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
        self._flat: dict[str, nn.Parameter] = {}
        if config.name == "muon":
            self._flat = _flat_views(self._named)
        self._muon = self._build_muon(config) if self._flat else None
        rest = [value for name, value in self._named.items() if name not in self._flat]
        kept = [] if decay_vectors else [value for value in rest if value.ndim <= 1]
        decayed = rest if decay_vectors else [value for value in rest if value.ndim > 1]
        groups = [{"params": decayed}, {"params": kept, "weight_decay": 0.0}]
        self._adamw = torch.optim.AdamW(
            groups if kept else rest,
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def _build_muon(self, config: OptimizerConfig) -> torch.optim.Optimizer:
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(
                f"optimizer.name muon needs torch 2.9 or newer, this is {torch.__version__}; "
                "use adamw"
            )
        # Steps as long as AdamW's, so that both go by the same learning rate.
        return torch.optim.Muon(
            self._flat.values(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.muon_momentum,
            adjust_lr_fn="match_rms_adamw",
        )

    @property
    def learning_rate(self) -> float:
        return float(self._adamw.param_groups[0]["lr"])

    def set_learning_rate(self, rate: float) -> None:
        for optimizer in filter(None, (self._adamw, self._muon)):
            for group in optimizer.param_groups:
                group["lr"] = rate

    def step(self, skip: Tensor) -> None:
        """One step with the gradients at hand, unless the scalar `skip` is 1.

        AdamW reads `skip` on the device; for Muon the host looks at it, and waits.
        """
        if self._muon is not None:
            if bool(skip):
                return
            for name, flat in self._flat.items():
                gradient = self._named[name].grad
                flat.grad = None if gradient is None else gradient.flatten(1)
            self._muon.step()
        self._adamw.found_inf = skip  # type: ignore[attr-defined]  # what GradScaler sets
        self._adamw.grad_scale = None  # type: ignore[attr-defined]
        self._adamw.step()

    def zero_grad(self) -> None:
        for parameter in (*self._named.values(), *self._flat.values()):
            parameter.grad = None

    # ------------------------------------------------------------------ checkpoint

    def state_tensors(self, ranks: Ranks) -> dict[str, Tensor]:
        """`<parameter>:<slot>` → whole tensor, on the main rank. All ranks must call."""
        return gathered(
            {
                f"{name}:{slot}": value
                for name, parameter in self._named.items()
                for slot, value in self._state(name, parameter).items()
            },
            ranks,
        )

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `state_tensors`; settings stay those of the config."""
        flat = {name.replace(".", "-"): name for name in self._named}  # comparisons of before
        for key, value in tensors.items():
            name, slot = key.rsplit(":", 1)
            name = name if name in self._named else flat[name]
            parameter = self._flat.get(name, self._named[name])
            like = parameter if value.ndim else local(parameter)
            self._state(name, parameter)[slot] = shard_like(value, like)

    def _state(self, name: str, parameter: nn.Parameter) -> dict[str, Tensor]:
        if name in self._flat:
            assert self._muon is not None
            return self._muon.state[self._flat[name]]
        return self._adamw.state[parameter]


def _flat_views(named: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """`[out, in · kernel]` views of the weights that Muon takes; they share their memory."""
    views = {}
    for name, parameter in named.items():
        if parameter.ndim < 2 or not name.startswith(_MUON_PARTS):
            continue
        if local(parameter) is not parameter:
            raise ConfigError("optimizer.name muon needs whole matrices; use --engine.parallel ddp")
        views[name] = nn.Parameter(parameter.detach().flatten(1), requires_grad=False)
    return views


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
