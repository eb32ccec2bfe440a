"""Low-rank adapters by name in a base, through peft: which are there, which run, how strongly."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from rdtf.errors import ConfigError


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ConfigError(
            "low-rank adapters need peft; pip install 'rdtf[adapters]' (or pip install peft)"
        ) from error
    return peft


def add_lora(base: nn.Module, name: str, rank: int, targets: str) -> None:
    """Put a low-rank adapter `name` beside every linear layer whose path matches `targets`.

    It starts at zero (identity) and at strength 1, in float32 whatever the base's type.

    Args:
        targets: regular expression over whole module paths in `base`.
    """
    peft = _peft()
    if rank < 1:
        raise ConfigError(f"rank is {rank}; it must be at least 1")
    config = peft.LoraConfig(
        r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", target_modules=targets
    )
    with warnings.catch_warnings():
        # peft asks whether a second adapter in one model is meant; it is.
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        peft.inject_adapter_in_model(config, base, adapter_name=name)
    for parameter in lora_parameters(base, name).values():
        parameter.data = parameter.data.float()


def lora_parameters(base: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """Parameters of one low-rank adapter, by path without its name."""
    return {
        path.replace(f".{name}.", "."): parameter
        for path, parameter in base.named_parameters()
        if f".{name}." in path and ".lora_" in path
    }


def activate(base: nn.Module, strengths: Mapping[str, float]) -> None:
    """Run these adapters and no others, each times its strength; gradients are left alone."""
    _peft()
    from peft.tuners.tuners_utils import BaseTunerLayer

    trained = {
        name: parameter.requires_grad
        for name, parameter in base.named_parameters()
        if ".lora_" in name
    }
    for module in base.modules():
        if isinstance(module, BaseTunerLayer):
            layer: Any = module
            present = [name for name in strengths if name in layer.r]
            layer.set_adapter(present)
            for name in present:
                layer.set_scale(name, strengths[name])
    for name, parameter in base.named_parameters():
        if name in trained:
            parameter.requires_grad_(trained[name])
