"""Tiny U-Nets with weights that hide nothing, and clips for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import UNet2DConditionModel, UNet3DConditionModel, UNetMotionModel
from torch import Tensor, nn

from rdtf.models.conditions import Conditions
from rdtf.research.adapters import AdaptedUNet, build_adapter, small_base

CHANNELS, TEXT_WIDTH, SIZE = 4, 24, 8
KINDS = ("motion", "image", "video")
BASE_OF = {"i2v-adapter": "motion", "simda": "image", "customize-a-video": "video"}
PARAMETER_EFFICIENT = tuple(BASE_OF)


def perturb(parameters: Any, std: float = 0.05, seed: int = 1) -> None:
    """Noise on parameters: what starts at zero would hide a missing input."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter += std * torch.randn(parameter.shape, generator=generator)


def published_base(kind: str) -> nn.Module:
    """A published U-Net's shape, on the meta device: no weights, no memory; for counting."""
    stable_diffusion: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768}
    with torch.device("meta"):
        if kind == "image":
            return UNet2DConditionModel(**stable_diffusion, attention_head_dim=8)
        if kind == "motion":
            return UNetMotionModel(**stable_diffusion, num_attention_heads=8)
        return UNet3DConditionModel(sample_size=32)


def tiny_base(kind: str, parameters: int = 1, seed: int = 0, **changes: Any) -> nn.Module:
    """A U-Net of about 0.1 million parameters, perturbed, in evaluation mode."""
    sizes = {"latent_channels": CHANNELS, "text_width": TEXT_WIDTH, "latent_size": SIZE}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        base = small_base(kind, parameters, **{**sizes, **changes}).eval()
    perturb(base.parameters(), seed=seed + 1)
    return base


def tiny_adapter(name: str, *, awake: bool = True, **settings: Any) -> AdaptedUNet:
    """An adapter on a tiny base; `awake` = as after some training, nothing is zero any more."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        adapter = build_adapter(name, tiny_base(BASE_OF.get(name, "video")), **settings)
    if awake:
        perturb(adapter.adapter_parameters().values(), std=0.1, seed=7)
    return adapter


@dataclass(frozen=True)
class Clips:
    """What an adapter's forward pass reads."""

    noisy: Tensor
    t: Tensor
    clean: Tensor
    given: Tensor
    valid: Tensor
    text: list[Tensor]
    text_mask: list[Tensor]

    def through(self, adapter: nn.Module) -> Tensor:
        return adapter(self.noisy, self.t, self.conditions)

    @property
    def conditions(self) -> Conditions:
        fields = {name: value for name, value in vars(self).items() if name not in ("noisy", "t")}
        return Conditions(**fields)

    def replace(self, **changes: Any) -> Clips:
        return replace(self, **changes)


def clips(given: list[list[bool]], *, size: tuple[int, int] = (SIZE, SIZE), seed: int = 0) -> Clips:
    """A batch of clips of one length, each with text of three tokens."""
    generator = torch.Generator().manual_seed(seed)
    batch, frames = len(given), len(given[0])
    shape = (batch, CHANNELS, frames, *size)
    return Clips(
        noisy=torch.randn(shape, generator=generator),
        t=torch.rand(batch, generator=generator),
        clean=torch.randn(shape, generator=generator),
        given=torch.tensor(given),
        valid=torch.ones(batch, frames, dtype=torch.bool),
        text=[torch.randn(batch, 3, TEXT_WIDTH, generator=generator)],
        text_mask=[torch.ones(batch, 3, dtype=torch.bool)],
    )


def plain(base: Any, batch: Clips) -> Tensor:
    """What the frozen base itself makes of the clips, called in diffusers' own way.

    Frozen, because torch computes with other kernels (last bits differ) where weights have
    gradients.
    """
    base.requires_grad_(False)
    frames = batch.noisy.shape[2]
    timestep, text = batch.t * 1000, batch.text[0]
    kind = type(base).__name__
    with torch.no_grad():
        if kind == "UNet3DConditionModel":
            return base(batch.noisy, timestep, text).sample
        if kind == "UNetMotionModel":
            return base(batch.noisy, timestep, text.repeat_interleave(frames, 0)).sample
        images = batch.noisy.transpose(1, 2).flatten(0, 1)
        timestep, text = timestep.repeat_interleave(frames), text.repeat_interleave(frames, 0)
        out = base(images, timestep, text).sample
        return out.unflatten(0, (-1, frames)).transpose(1, 2)


def gradients(adapter: AdaptedUNet, *batches: Clips) -> dict[str, Tensor]:
    """Gradients of what is trained, all forward passes before the one backward pass."""
    adapter.zero_grad(set_to_none=True)
    total = sum(batch.through(adapter).square().mean() for batch in batches)
    assert isinstance(total, Tensor)
    total.backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in adapter.named_parameters()
        if parameter.grad is not None
    }
