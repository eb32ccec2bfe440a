"""A still from text: a clip of one frame, drawn by a network of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rdtf.models.conditions import Conditions
from rdtf.models.dfgn import DFGN
from rdtf.sampling.sampling import sample_traced
from rdtf.sampling.schedulers import objective_of

Encoded = tuple[list[Tensor], list[Tensor]]


@torch.no_grad()
def draw_still(
    model: DFGN,
    scheduler: Any,
    text: Encoded,
    negative: Encoded,
    *,
    device: torch.device,
    num_inference_steps: int,
    guidance_scale: float,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    callback: Callable[[int, float, Tensor], Tensor] | None = None,
) -> Tensor:
    """Draw one frame.

    Args:
        model: a DFGN on pixel patches, trained on single frames.
        text, negative: token states and masks per encoder.
        device: where it computes; an offloaded network comes there by itself.

    Returns:
        Premultiplied in [−1, 1], `[4, S, S]`.
    """
    config = model.config_
    shape = (1, int(config.latent_channels), 1, int(config.latent_size), int(config.latent_size))
    source = torch.device("cpu") if generator is None else generator.device
    noise = torch.randn(shape, generator=generator, device=source).to(device)
    exists = torch.ones(1, 1, dtype=torch.bool, device=device)
    conditions = Conditions(
        clean=torch.zeros(shape, device=device),
        given=~exists,
        valid=exists,
        mean_duration_ms=torch.full((1,), 100.0, device=device),
        text=text[0],
        text_mask=text[1],
    )
    sampled = sample_traced(
        model,
        objective_of(scheduler, config.prediction, "flow"),
        scheduler,
        conditions,
        noise,
        negative=negative,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        eta=eta,
        generator=generator,
        callback=callback,
    )
    pixels = F.pixel_shuffle(sampled.latents[:, :, 0], int(config.patch))[0]
    rgb, alpha = ((pixels.clamp(-1, 1) + 1) / 2).split([3, 1])
    # A few per mille of haze in empty places is no drawing.
    alpha = ((alpha - 0.06) / 0.94).clamp(min=0)
    return torch.cat([torch.minimum(rgb, alpha), alpha]) * 2 - 1
