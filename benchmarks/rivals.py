"""The two networks that are compared, of equal size, on the same latents."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel
from torch import Tensor, nn

from rdtf.models.conditions import Conditions
from rdtf.models.dfgn import DFGN
from rdtf.training.presets import build_denoiser, preset

TEXT_WIDTH, TOKENS = 384, 16


@dataclass(frozen=True)
class Latents:
    """Shape of the clips: `[B, C, F, side, side]`."""

    batch: int
    channels: int
    frames: int
    side: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, self.frames, self.side, self.side)


def preset_latents(name: str, batch: int, frames: int = 8, side: int = 16) -> Latents:
    """Latents of a pixel-patch preset: its own channels, on a grid of `side`."""
    return Latents(batch, 4 * preset(name).representation.patch ** 2, frames, side)


def our_denoiser(name: str, latents: Latents) -> DFGN:
    """The preset's DFGN, composer included."""
    config = preset(name)
    return build_denoiser(
        config,
        latent_channels=latents.channels,
        downsampling=config.canvas // latents.side,
        text_widths=(TEXT_WIDTH,),
    )


def their_unet(parameters: int, latents: Latents, layers: int) -> UNet3DConditionModel:
    """diffusers' UNet3DConditionModel, as wide as `parameters` ask for.

    Four levels of 1 : 2 : 4 : 4 and `layers` per level; diffusers' default is two. Widths move in
    fours; the last two levels, where most parameters are, settle what is left.
    """
    size = functools.partial(_size, latents.channels, layers)
    width = _largest(lambda w: size(w, 4 * w) <= parameters)
    wide = _largest(lambda w: size(width, w) <= parameters)
    wide = min((wide, wide + 4), key=lambda w: abs(size(width, w) - parameters))
    return _build(latents.channels, layers, width, wide)


def _largest(fits: Callable[[int], bool]) -> int:
    """The largest multiple of four, at least eight, that fits: by bisection."""
    low, high = 2, 512
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(4 * middle) else (low, middle)
    return 4 * low


@functools.cache
def _size(channels: int, layers: int, width: int, wide: int) -> int:
    with torch.device("meta"):
        return count(_build(channels, layers, width, wide))


def _build(channels: int, layers: int, width: int, wide: int) -> UNet3DConditionModel:
    kind = cast(Any, UNet3DConditionModel)
    return kind(
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(width, 2 * width, wide, wide),
        layers_per_block=layers,
        norm_num_groups=4,
        attention_head_dim=8,
        cross_attention_dim=TEXT_WIDTH,
    )


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def our_pass(model: nn.Module, latents: Latents, device: torch.device) -> Callable[[], Tensor]:
    """One forward pass of the DFGN: interpolation, every 2nd frame given, with text."""
    batch, frames = latents.batch, latents.frames
    given = torch.zeros(batch, frames, dtype=torch.bool, device=device)
    given[:, ::2] = True
    conditions = Conditions(
        clean=torch.randn(latents.shape, device=device),
        given=given,
        valid=torch.ones(batch, frames, dtype=torch.bool, device=device),
        text=[torch.randn(batch, TOKENS, TEXT_WIDTH, device=device)],
        text_mask=[torch.ones(batch, TOKENS, dtype=torch.bool, device=device)],
        mean_duration_ms=torch.full((batch,), 100.0, device=device),
    )
    channels = cast(DFGN, model).state_channels
    noisy = torch.randn(batch, channels, *latents.shape[2:], device=device)
    t = torch.rand(batch, device=device)
    return lambda: model(noisy, t, conditions)


def their_pass(model: nn.Module, latents: Latents, device: torch.device) -> Callable[[], Tensor]:
    """One forward pass of the U-Net on noisy latents and text: it takes no given frames."""
    noisy = torch.randn(latents.shape, device=device)
    timestep = torch.randint(0, 1000, (latents.batch,), device=device)
    text = torch.randn(latents.batch, TOKENS, TEXT_WIDTH, device=device)
    return lambda: model(noisy, timestep, encoder_hidden_states=text).sample


def training_step(
    model: nn.Module, forward: Callable[[], Tensor], autocast: Any
) -> Callable[[], None]:
    """Forward, backward and a fused AdamW step."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        with autocast:
            loss = forward().float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
