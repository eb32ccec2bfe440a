"""The sampling loop: noise → latents under a condition mask, with separate guidance scales."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rdtf.method.objective import Objective

StepCallback = Callable[[int, float, Tensor], None]


@dataclass(frozen=True)
class Conditions:
    """What the denoiser is told besides the noisy latents.

    clean: `[B, C, F, h, w]`, read where given; given, valid: bool `[B, F]`;
    text, text_mask: per encoder `[B, T, D]` and bool `[B, T]`; mean_duration_ms: `[B]`;
    motion_scale: see `DFGN.forward`.
    """

    clean: Tensor
    given: Tensor
    valid: Tensor
    mean_duration_ms: Tensor
    text: list[Tensor] = field(default_factory=list)
    text_mask: list[Tensor] = field(default_factory=list)
    motion_scale: float = 1.0
    _prepared: dict[bool, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def has_text(self) -> bool:
        return any(bool(mask.any()) for mask in self.text_mask)

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
        """The network's prediction with or without its text and its given frames."""
        extra = {} if self.motion_scale == 1.0 else {"motion_scale": self.motion_scale}
        return model(
            noisy,
            level,
            clean=self.clean,
            given=self.given if image else torch.zeros_like(self.given),
            valid=self.valid,
            text=self.text if text else [],
            text_mask=self.text_mask if text else [],
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
    generator: torch.Generator | None = None,
    callback: StepCallback | None = None,
) -> Sampled:
    """Latents `[B, C, F, h, w]` of the completed clips, and how they were reached.

    Given frames are re-imposed before every step at that step's noise level, so that the hidden
    ones always grow beside the truth; in the result they are exact.

    Args:
        noise: standard normal, the start; also the noise of the re-imposed frames.
        guidance_scale, image_guidance_scale: 1 = off (and no extra evaluation).
        generator: for schedulers that add noise in their steps.
        callback: called after each step with (index, noise level, latents).
    """
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": generator} if takes_generator else {}
    _set_timesteps(scheduler, num_inference_steps, noise.device)
    steps = float(scheduler.config.num_train_timesteps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # or it searches for the timestep, and the host waits
    guidance = _Guidance(guidance_scale, image_guidance_scale, conditions)
    given = conditions.given[:, None, :, None, None]
    latents = noise * float(getattr(scheduler, "init_noise_sigma", 1.0))
    level = noise.new_ones(len(noise))
    noisy = latents
    for index, timestep in enumerate(scheduler.timesteps):
        level = (timestep.float() / steps).expand(len(noise)).to(noise.device)
        imposed = objective.add_noise(conditions.clean, noise, level)
        noisy = torch.where(given, imposed, latents)
        output = guidance.output(model, objective, conditions, noisy, level)
        latents = scheduler.step(output, timestep, noisy, **extra).prev_sample
        if callback is not None:
            callback(index, float(level[0]), latents)
    return Sampled(torch.where(given, conditions.clean, latents), noisy, level)


def _set_timesteps(scheduler: Any, steps: int, device: torch.device) -> None:
    """N noise levels from 1 down to 1/N, before the scheduler's shift.

    Left alone, the flow scheduler spaces them down to .001: the last evaluation would see nearly
    finished latents and be wasted.
    """
    takes_sigmas = "sigmas" in inspect.signature(scheduler.set_timesteps).parameters
    if takes_sigmas and "FlowMatch" in type(scheduler).__name__:
        sigmas = [1 - index / steps for index in range(steps)]
        scheduler.set_timesteps(sigmas=sigmas, device=device)
    else:
        scheduler.set_timesteps(steps, device=device)


class _Guidance:
    """Two guidance terms (as InstructPix2Pix): none → given frames → given frames and text.

    What there is to guide by is looked up once: to ask at every step would make the host wait.
    """

    def __init__(self, text_scale: float, image_scale: float, conditions: Conditions) -> None:
        self.text_scale, self.image_scale = text_scale, image_scale
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
            return objective.model_output(prediction, noisy, level)

        full = output(text=self.has_text, image=self.has_image)
        guide_text = self.has_text and self.text_scale != 1.0
        guide_image = self.has_image and self.image_scale != 1.0
        if not guide_text and not guide_image:
            return full
        without_text = output(text=False, image=self.has_image) if self.has_text else full
        guided = without_text + self.text_scale * (full - without_text)
        if guide_image:
            nothing = output(text=False, image=False)
            guided = guided + (self.image_scale - 1.0) * (without_text - nothing)
        return guided
