"""The frame-similarity prior of I2V-Adapter (arXiv 2312.16693, §3.3): where sampling starts.

At high noise, a noised first frame is much like the noised frames that follow it. So sampling may
start at a level t0 < T from the given frame, degraded and then noised to t0: few steps are left in
which large changes can happen, and the still's layout is kept. Two numbers trade stability for
motion: t0, and how much of the still is replaced by a blurred copy of it.

The paper's text and its formula disagree on which way its p mixes. Its Table 2 shows more motion
for larger p, so `blur_share` is named for what it does: the share of latent elements, drawn at
random, that come from the blurred copy. (Table 2, t0 = T: p .1/.5/.9 have flow scores .69/.80/.99;
p = 1: t0 = .6/.8/1 have .14/.27/.84.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rdtf.errors import ConfigError
from rdtf.method.objective import Objective
from rdtf.models.conditions import Conditions
from rdtf.research.adapters.clips import nearest_given
from rdtf.sampling.sampling import sample
from rdtf.sampling.schedulers import set_timesteps


@dataclass(frozen=True)
class FrameSimilarityPrior:
    """How sampling starts.

    start_level: t0 / T in (0, 1]. At 1 only what the schedule leaves of the signal at its last
        step tells the start from noise: a little on the DDPM schedule, nothing in rectified flow.
    blur_share: share of elements from the blurred copy, in [0, 1].
    kernel_size, sigma: the blur in latent cells; defaults as in the official inference code, for
        latents of 64 × 64. The kernel is cut to what smaller latents allow.
    """

    start_level: float = 1.0
    blur_share: float = 0.5
    kernel_size: int = 9
    sigma: float = 18.0

    def __post_init__(self) -> None:
        if not 0 < self.start_level <= 1:
            raise ConfigError(f"start_level is {self.start_level}; it must be in (0, 1]")
        if not 0 <= self.blur_share <= 1:
            raise ConfigError(f"blur_share is {self.blur_share}; it must be in [0, 1]")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0 or self.sigma <= 0:
            raise ConfigError(
                f"kernel_size must be odd and sigma positive, not {self.kernel_size}, {self.sigma}"
            )

    def degrade(
        self, clean: Tensor, given: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """For every frame the nearest given one, degraded: `[B, C, F, h, w]`."""
        index = nearest_given(given)[:, None, :, None, None].expand_as(clean)
        frames = clean.gather(2, index)
        device = clean.device if generator is None else generator.device
        draw = torch.rand(clean.shape, generator=generator, device=device).to(clean.device)
        blurred = gaussian_blur(frames, self.kernel_size, self.sigma)
        return torch.where(draw < self.blur_share, blurred, frames)


def gaussian_blur(frames: Tensor, kernel_size: int, sigma: float) -> Tensor:
    """Blur each channel of each frame of `[B, C, F, h, w]`, mirrored at the edges."""
    flat = frames.flatten(0, 2)[:, None]
    for axis in (2, 3):
        radius = min(kernel_size // 2, flat.shape[axis] - 1)
        offsets = torch.arange(-radius, radius + 1, device=flat.device, dtype=flat.dtype)
        weights = (-0.5 * (offsets / sigma).square()).exp()
        weights = weights / weights.sum()
        edge = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        shape = (1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)
        flat = F.conv2d(F.pad(flat, edge, mode="reflect"), weights.view(shape))
    return flat[:, 0].view_as(frames)


class _LateStart:
    """A scheduler that leaves out its steps above a noise level, as image-to-image does."""

    def __init__(self, scheduler: Any, start_level: float) -> None:
        self._scheduler = scheduler
        self._start_level = start_level
        self.init_noise_sigma = 1.0  # the start is already at its level
        self.timesteps: Any = None
        self.skipped = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        set_timesteps(self._scheduler, num_inference_steps, device)
        timesteps = self._scheduler.timesteps
        limit = self._start_level * float(self._scheduler.config.num_train_timesteps)
        above = int((timesteps > limit + 1e-4).sum())
        self.skipped = min(above, len(timesteps) - 1)
        self.timesteps = timesteps[self.skipped :]
        self.set_begin_index(0)

    def set_begin_index(self, index: int) -> None:
        """Where to begin among the steps that are left."""
        if hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(self.skipped + index)

    @property
    def first_level(self) -> float:
        return float(self.timesteps[0]) / float(self._scheduler.config.num_train_timesteps)


def sample_with_prior(
    model: Any,
    objective: Objective,
    scheduler: Any,
    conditions: Conditions,
    noise: Tensor,
    prior: FrameSimilarityPrior,
    *,
    num_inference_steps: int,
    generator: torch.Generator | None = None,
    **sampling: Any,
) -> Tensor:
    """`rdtf.sampling.sampling.sample`, started from the given frames; same result.

    Args:
        num_inference_steps: steps of the whole schedule; those above `start_level` are left out.
        sampling: guidance scales and callback, see `sample`.

    Raises:
        ConfigError: a clip without given frames, and a start below full noise.
    """
    late = _LateStart(scheduler, prior.start_level)
    late.set_timesteps(num_inference_steps, device=noise.device)
    exists = conditions.given.any(dim=1)
    if late.skipped and not bool(exists.all()):
        raise ConfigError("a clip without given frames can't start late: set start_level to 1")
    level = torch.full((len(noise),), late.first_level, device=noise.device)
    degraded = prior.degrade(conditions.clean, conditions.given, generator)
    start = objective.add_noise(degraded, noise, level)
    # What the sampler noises the given frames with stays plain noise.
    hidden = (exists[:, None] & ~conditions.given)[:, None, :, None, None]
    start = torch.where(hidden, start, noise)
    return sample(
        model,
        objective,
        late,
        conditions,
        start,
        num_inference_steps=num_inference_steps,
        generator=generator,
        **sampling,
    )
