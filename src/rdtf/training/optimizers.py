"""AdamW, or Muon for the weight matrices inside the blocks and AdamW for everything else."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rdtf.errors import ConfigError
from rdtf.training.config import OptimizerConfig
from rdtf.training.parallel import gathered, local, shard_like
from rdtf.training.ranks import Ranks

# Inputs, outputs and conditions keep AdamW: Muon is for maps from features to features.
_MUON_PARTS = ("down.", "middle.", "up.", "downsample.", "upsample.")


class Optimizer:
    """Steps a model's parameters; its state is named by parameter, so any rank count can load it.

    Args:
        model: with the parameters as they will be trained (sharded already, if they will be).
        config: which optimizer, and its settings.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        self._named = dict(model.named_parameters())
        self._flat: dict[str, nn.Parameter] = {}
        if config.name == "muon":
            self._flat = flat_views(self._named)
        self._muon = self._build_muon(config) if self._flat else None
        self._adamw = torch.optim.AdamW(
            [value for name, value in self._named.items() if name not in self._flat],
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
        for key, value in tensors.items():
            name, slot = key.rsplit(":", 1)
            parameter = self._flat.get(name, self._named[name])
            like = parameter if value.ndim else local(parameter)
            self._state(name, parameter)[slot] = shard_like(value, like)

    def _state(self, name: str, parameter: nn.Parameter) -> dict[str, Tensor]:
        if name in self._flat:
            assert self._muon is not None
            return self._muon.state[self._flat[name]]
        return self._adamw.state[parameter]


def flat_views(named: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """`[out, in · kernel]` views of the weights that Muon takes; they share their memory."""
    views = {}
    for name, parameter in named.items():
        if parameter.ndim < 2 or not name.startswith(_MUON_PARTS):
            continue
        if local(parameter) is not parameter:
            raise ConfigError("optimizer.name muon needs whole matrices; use parallel=ddp")
        views[name] = nn.Parameter(parameter.detach().flatten(1), requires_grad=False)
    return views
