"""Tiny networks and clips for tests, with weights that hide nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rdtf.models.conditions import Conditions
from rdtf.models.dfgn import DFGN

TEXT_WIDTH = 24
Module = TypeVar("Module", bound=nn.Module)


def perturb(module: Module, seed: int = 0, std: float = 0.2) -> Module:
    """Noise on every parameter: what starts at zero would hide a leak or a missing input."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += std * torch.randn(parameter.shape, generator=generator)
    return module


def tiny_dfgn(**changes: Any) -> DFGN:
    """A DFGN of a quarter of a million perturbed parameters, in evaluation mode."""
    config: dict[str, Any] = {
        "latent_channels": 16,
        "channels": (16, 32),
        "attention_levels": (1,),
        "embedding_dim": 32,
        "text_dim": 16,
        "text_widths": (TEXT_WIDTH,),
        "sti_heads": 2,
        "sti_head_dim": 8,
        "patch": 2,
        "latent_size": 8,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return perturb(DFGN(**{**config, **changes})).eval()


@dataclass(frozen=True)
class Clip:
    """What a DFGN reads: noisy latents, noise level, and the fields of its conditions."""

    noisy: Tensor
    t: Tensor
    clean: Tensor
    given: Tensor
    valid: Tensor
    text: list[Tensor]
    text_mask: list[Tensor]
    mean_duration_ms: Tensor

    def run(self, model: nn.Module) -> Tensor:
        return model(self.noisy, self.t, self.conditions)

    @torch.no_grad()
    def through(self, model: nn.Module) -> Tensor:
        return self.run(model)

    @property
    def conditions(self) -> Conditions:
        fields = {name: value for name, value in vars(self).items() if name not in ("noisy", "t")}
        return Conditions(**fields)

    def replace(self, **changes: Any) -> Clip:
        return replace(self, **changes)

    def padded(self, slots: int, content: float = 0.0) -> Clip:
        """The same clip with `slots` more that do not exist and hold `content`."""
        return self.replace(
            noisy=nn.functional.pad(self.noisy, (0, 0, 0, 0, 0, slots), value=content),
            clean=nn.functional.pad(self.clean, (0, 0, 0, 0, 0, slots), value=content),
            given=nn.functional.pad(self.given, (0, slots)),
            valid=nn.functional.pad(self.valid, (0, slots)),
        )


def random_clip(
    given: list[bool], *, size: tuple[int, int] = (4, 4), channels: int = 16, seed: int = 0
) -> Clip:
    """One clip of noise, with text of three tokens."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, channels, len(given), *size)
    return Clip(
        noisy=torch.randn(shape, generator=generator),
        t=torch.rand(1, generator=generator),
        clean=torch.randn(shape, generator=generator),
        given=torch.tensor([given]),
        valid=torch.ones(1, len(given), dtype=torch.bool),
        text=[torch.randn(1, 3, TEXT_WIDTH, generator=generator)],
        text_mask=[torch.ones(1, 3, dtype=torch.bool)],
        mean_duration_ms=torch.tensor([80.0]),
    )


def stacked(first: Clip, second: Clip) -> Clip:
    """A batch of two clips of the same shapes."""
    joined: dict[str, Any] = {}
    for name, value in vars(first).items():
        other = getattr(second, name)
        if isinstance(value, Tensor):
            joined[name] = torch.cat([value, other])
        else:
            joined[name] = [torch.cat(pair) for pair in zip(value, other, strict=True)]
    return Clip(**joined)


def unused_parameters(module: nn.Module) -> list[str]:
    """Names of parameters that the last backward pass did not reach."""
    return [
        name
        for name, parameter in module.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
