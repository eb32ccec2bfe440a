"""The sampling loop: noise → latents under a condition mask, with separate guidance scales."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rdtf.method.objective import Objective
from rdtf.models.conditions import Conditions
from rdtf.models.dfgn import DFGN
from rdtf.models.latents import LatentSpace
from rdtf.sampling.schedulers import noise_levels, objective_of, set_timesteps, step_options

#: Called after each step with (index, t, latents); a tensor that it returns takes their place.
StepCallback = Callable[[int, float, Tensor], Tensor | None]
#: Token states and masks per encoder.
Encoded = tuple[list[Tensor], list[Tensor]]


@dataclass(frozen=True)
class Sampled:
    """Finished latents `[B, C, F, h, w]`, and what the last evaluation saw.

    conditions: as given, with what the network made of them.
    """

    latents: Tensor
    last_noisy: Tensor
    last_t: Tensor
    conditions: Conditions


def sample(*args: Any, **options: Any) -> Tensor:
    """The latents of `sample_traced`, which see."""
    return sample_traced(*args, **options).latents


@torch.no_grad()
def sample_traced(
    model: nn.Module,
    objective: Objective,
    scheduler: Any,
    conditions: Conditions,
    noise: Tensor,
    *,
    negative: Encoded = ([], []),
    num_inference_steps: int,
    guidance_scale: float = 1.0,
    image_guidance_scale: float = 1.0,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    callback: StepCallback | None = None,
) -> Sampled:
    """Latents `[B, C, F, h, w]` of the completed clips, and how they were reached.

    Given frames are re-imposed before every step at that step's noise level, so that the hidden
    ones always grow beside the truth; in the result they are exact.

    Args:
        negative: text states and masks that text guidance leads away from; empty = no text.
        noise: standard normal, the start; also the noise of the re-imposed frames.
        guidance_scale, image_guidance_scale: 1 = off (and no extra evaluation). Image guidance is
            of pixels only: motion without given frames is zero, so it would multiply motion.
        eta: DDIM's: 0 = no noise is added in its steps, 1 = as much as DDPM adds.
        generator: for schedulers that add noise in their steps.
    """
    extra = step_options(scheduler, generator, eta)
    set_timesteps(scheduler, num_inference_steps, noise.device)
    # Numbers of the host, which then never waits for the device.
    levels = noise_levels(scheduler, torch.device("cpu")).tolist()
    scales = hasattr(scheduler, "scale_model_input")  # flow-match Euler has nothing to scale
    guidance = _Guidance(model, conditions, negative, guidance_scale, image_guidance_scale)
    given = conditions.given[:, None, :, None, None]
    latents = noise * float(getattr(scheduler, "init_noise_sigma", 1.0))
    seen, t, one = latents, noise.new_ones(len(noise)), noise.new_ones(())
    for index, (timestep, t_of_step) in enumerate(zip(scheduler.timesteps, levels, strict=True)):
        if getattr(callback, "interrupted", False):
            break
        # Some schedulers keep their latents larger than the network sees them.
        scale = scheduler.scale_model_input(one, timestep) if scales else one
        t = torch.full_like(t, t_of_step)
        imposed = objective.add_noise(conditions.clean, noise, t) / scale
        noisy = torch.where(given, imposed, latents)
        seen = noisy * scale
        output = guidance.output(model, objective, seen, t)
        latents = scheduler.step(output, timestep, noisy, **extra).prev_sample
        if callback is not None:
            changed = callback(index, t_of_step, latents)
            latents = changed if isinstance(changed, Tensor) else latents
    finished = torch.where(given, conditions.clean, latents)
    return Sampled(finished, seen, t, guidance.full)


class _Guidance:
    """Two guidance terms (as InstructPix2Pix): none → given frames → given frames and text.

    What there is to guide by is looked up once: to ask at every step would make the host wait.
    """

    def __init__(
        self, model: Any, conditions: Conditions, negative: Encoded, text_scale: float, scale: float
    ) -> None:
        has_text = any(bool(mask.any()) for mask in (*conditions.text_mask, *negative[1]))
        has_image = bool(conditions.given.any())
        self.text_scale, self.image_scale = text_scale, scale
        self.by_text = has_text and text_scale != 1.0
        self.by_image = has_image and scale != 1.0
        self.space = LatentSpace.of(model)
        self.full = _prepared(model, conditions)
        self.without_text = self.full.with_text(*negative) if has_text else self.full
        if self.by_image:
            self.nothing = _prepared(model, conditions.without_given().with_text(*negative))

    def output(self, model: Any, objective: Objective, noisy: Tensor, t: Tensor) -> Tensor:
        def output(conditions: Conditions) -> Tensor:
            with own_precision(model, noisy.device):
                prediction = model(noisy, t, conditions)
            return objective.model_output(prediction.float(), noisy, t)

        full = output(self.full)
        if not self.by_text and not self.by_image:
            return full
        without_text = full if self.without_text is self.full else output(self.without_text)
        guided = full
        if self.by_text:
            guided = without_text + self.text_scale * (full - without_text)
        if self.by_image:
            added = (self.image_scale - 1.0) * (without_text - output(self.nothing))
            added[:, self.space.pixels(added).shape[1] :] = 0.0
            guided = guided + added
        return guided


def _prepared(model: Any, conditions: Conditions) -> Conditions:
    """With what a DFGN makes of the given frames, which is the same in every step."""
    return model.prepare(conditions) if hasattr(model, "prepare") else conditions


def own_precision(model: Any, device: torch.device) -> AbstractContextManager[Any]:
    """A network of half precision computes under autocast: given pixels keep all their bits."""
    weight = next(iter(model.parameters()), None) if isinstance(model, nn.Module) else None
    if weight is None or weight.dtype not in (torch.bfloat16, torch.float16):
        return nullcontext()
    return torch.autocast(device.type, weight.dtype)


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
    callback: StepCallback | None = None,
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
