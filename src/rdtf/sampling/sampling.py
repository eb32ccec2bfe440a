"""The sampling loop: noise → latents under a condition mask, with separate guidance scales."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rdtf.method.objective import Objective
from rdtf.sampling.options import StepCallback
from rdtf.sampling.schedulers import noise_levels, set_timesteps, step_options


@dataclass(frozen=True)
class Conditions:
    """What the denoiser is told besides the noisy latents.

    clean: `[B, C, F, h, w]`, read where given; given, valid: bool `[B, F]`;
    text, text_mask: per encoder `[B, T, D]` and bool `[B, T]`; negative_text, negative_mask: what
    text guidance leads away from, instead of no text; mean_duration_ms: `[B]`; motion_scale: see
    `DFGN.forward`; dtype: what the network's weights are. These tensors stay float32: a network of
    half precision computes under autocast, so that given pixels keep all their bits.
    """

    clean: Tensor
    given: Tensor
    valid: Tensor
    mean_duration_ms: Tensor
    text: list[Tensor] = field(default_factory=list)
    text_mask: list[Tensor] = field(default_factory=list)
    negative_text: list[Tensor] = field(default_factory=list)
    negative_mask: list[Tensor] = field(default_factory=list)
    motion_scale: float = 1.0
    dtype: torch.dtype = torch.float32
    _prepared: dict[bool, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def has_text(self) -> bool:
        """Whether there is text to guide by, or away from."""
        masks = (*self.text_mask, *self.negative_mask)
        return any(bool(mask.any()) for mask in masks)

    @property
    def has_image(self) -> bool:
        return bool(self.given.any())

    def predict(
        self,
        model: Callable[..., Any],
        noisy: Tensor,
        level: Tensor,
        *,
        text: bool = True,
        image: bool = True,
    ) -> Any:
        """The network's prediction with its text (or the negative one) and its given frames."""
        extra = {} if self.motion_scale == 1.0 else {"motion_scale": self.motion_scale}
        half = self.dtype in (torch.bfloat16, torch.float16)
        with torch.autocast(noisy.device.type, self.dtype) if half else nullcontext():
            return model(
                noisy,
                level,
                clean=self.clean,
                given=self.given if image else torch.zeros_like(self.given),
                valid=self.valid,
                text=self.text if text else self.negative_text,
                text_mask=self.text_mask if text else self.negative_mask,
                mean_duration_ms=self.mean_duration_ms,
                **extra,
                **self._constant(model, image),
            )

    def _constant(self, model: Callable[..., Any], image: bool) -> dict[str, Any]:
        """What a DFGN makes of the given frames is the same in every step: it is found once."""
        network: Any = getattr(model, "__self__", model)
        if not hasattr(network, "prepare"):
            return {}
        found_by, found = self._prepared.get(image, (None, {}))
        if found_by is not network:
            given = self.given if image else torch.zeros_like(self.given)
            found = network.prepare(
                clean=self.clean, given=given, valid=self.valid, motion_scale=self.motion_scale
            )
            self._prepared[image] = network, found
        return found


@dataclass(frozen=True)
class Sampled:
    """Finished latents `[B, C, F, h, w]`, and what the last evaluation saw: latents and level."""

    latents: Tensor
    last_noisy: Tensor
    last_level: Tensor


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
        noise: standard normal, the start; also the noise of the re-imposed frames.
        guidance_scale, image_guidance_scale: 1 = off (and no extra evaluation). Image guidance is
            of pixels only: motion without given frames is zero, so it would multiply motion.
        eta: DDIM's: 0 = no noise is added in its steps, 1 = as much as DDPM adds.
        generator: for schedulers that add noise in their steps.
        callback: called after each step with (index, noise level, latents); a tensor that it
            returns takes the latents' place.
    """
    extra = step_options(scheduler, generator, eta)
    set_timesteps(scheduler, num_inference_steps, noise.device)
    # Numbers of the host, which then never waits for the device.
    levels = noise_levels(scheduler, torch.device("cpu")).tolist()
    scales = hasattr(scheduler, "scale_model_input")  # flow-match Euler has nothing to scale
    motion_channels = int(getattr(model, "motion_channels", 0))
    guidance = _Guidance(guidance_scale, image_guidance_scale, conditions, motion_channels)
    given = conditions.given[:, None, :, None, None]
    latents = noise * float(getattr(scheduler, "init_noise_sigma", 1.0))
    seen, level, one = latents, noise.new_ones(len(noise)), noise.new_ones(())
    for index, (timestep, level_of_step) in enumerate(
        zip(scheduler.timesteps, levels, strict=True)
    ):
        if getattr(callback, "interrupted", False):
            break
        # Some schedulers keep their latents larger than the network sees them.
        scale = scheduler.scale_model_input(one, timestep) if scales else one
        level = torch.full_like(level, level_of_step)
        imposed = objective.add_noise(conditions.clean, noise, level) / scale
        noisy = torch.where(given, imposed, latents)
        seen = noisy * scale
        output = guidance.output(model, objective, conditions, seen, level)
        latents = scheduler.step(output, timestep, noisy, **extra).prev_sample
        if callback is not None:
            changed = callback(index, level_of_step, latents)
            latents = changed if isinstance(changed, Tensor) else latents
    return Sampled(torch.where(given, conditions.clean, latents), seen, level)


class _Guidance:
    """Two guidance terms (as InstructPix2Pix): none → given frames → given frames and text.

    What there is to guide by is looked up once: to ask at every step would make the host wait.
    """

    def __init__(
        self, text_scale: float, image_scale: float, conditions: Conditions, motion_channels: int
    ) -> None:
        self.text_scale, self.image_scale = text_scale, image_scale
        self.motion_channels = motion_channels
        self.has_text, self.has_image = conditions.has_text, conditions.has_image

    def output(
        self,
        model: nn.Module,
        objective: Objective,
        conditions: Conditions,
        noisy: Tensor,
        level: Tensor,
    ) -> Tensor:
        def output(*, text: bool, image: bool) -> Tensor:
            prediction = conditions.predict(model, noisy, level, text=text, image=image)
            return objective.model_output(prediction.float(), noisy, level)

        full = output(text=True, image=self.has_image)
        guide_text = self.has_text and self.text_scale != 1.0
        guide_image = self.has_image and self.image_scale != 1.0
        if not guide_text and not guide_image:
            return full
        without_text = output(text=False, image=self.has_image) if self.has_text else full
        guided = full
        if guide_text:
            guided = without_text + self.text_scale * (full - without_text)
        if guide_image:
            nothing = output(text=False, image=False)
            added = (self.image_scale - 1.0) * (without_text - nothing)
            added[:, added.shape[1] - self.motion_channels :] = 0.0
            guided = guided + added
        return guided
