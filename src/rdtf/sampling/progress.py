"""Who hears of each sampling step: diffusers' progress bar and the caller's functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rdtf.errors import UserError
from rdtf.sampling.options import SamplingOptions


class StepWatch:
    """The sampling loop's callback over all stickers and windows of a call."""

    def __init__(self, pipeline: Any, options: SamplingOptions, bar: Any) -> None:
        self._pipeline, self._options, self._bar = pipeline, options, bar
        self._count = 0

    @property
    def interrupted(self) -> bool:
        """Whether the call is to end: what is there so far is the result."""
        return self._pipeline.interrupt

    def __call__(self, index: int, level: float, latents: Tensor) -> Tensor:
        """After step `index` of a window; the latents to go on with.

        A window that takes no sampling (a motion by name, or a prediction) counts as one step of
        level 0.
        """
        if self._options.callback is not None:
            self._options.callback(index, level, latents)
        if self._options.callback_on_step_end is not None:
            latents = self._told(self._options.callback_on_step_end, index, level, latents)
        self._count += 1
        self._bar.update()
        return latents

    def _told(self, callback: Any, index: int, level: float, latents: Tensor) -> Tensor:
        timestep = self._pipeline.scheduler.timesteps[index] if level else torch.zeros(())
        names = self._options.callback_on_step_end_tensor_inputs
        answer = callback(self._pipeline, self._count, timestep, dict.fromkeys(names, latents))
        if answer is not None and not isinstance(answer, dict):
            raise UserError("callback_on_step_end must give back a dictionary of tensors, or None")
        changed = (answer or {}).get("latents", latents)
        if not isinstance(changed, Tensor) or changed.shape != latents.shape:
            raise UserError(
                f"callback_on_step_end must give back latents of shape {list(latents.shape)}"
            )
        return changed
