"""Diffusion objectives: rectified flow (default), and eps or v on the paper's DDPM schedule.

An objective knows three things: how to noise clean latents, what the loss compares, and how a
network output becomes what a diffusers scheduler expects. Noise level `t` runs from 0 (clean)
to 1 (noise); for the DDPM objectives `t` is the timestep over their number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from rdtf.errors import ConfigError

if TYPE_CHECKING:  # settings are read without torch
    from torch import Tensor


@dataclass(frozen=True)
class ObjectiveConfig:
    """Which objective, what the network predicts, and how t is drawn."""

    kind: Literal["flow", "ddpm"] = "flow"
    """Rectified flow, or the paper's scaled-linear schedule."""
    prediction: Literal["x", "v", "eps"] = "x"
    """Clean latents, velocity, or noise (ddpm only)."""
    logit_mean: float = 0.8
    """Logit-normal density of t (flow)."""
    logit_std: float = 1.2
    """The same."""
    shift: float = 1.0
    """Moves t up for larger canvases, as in diffusers' flow schedulers."""
    min_level: float = 0.5
    """x-prediction weighs its error by (min_level / max(t, min_level))²: the velocity's error,
    x error / t, with a floor. Where frames are given, what is decided at high noise (where things
    go) matters more than the last touch, so the floor is high."""
    num_train_timesteps: int = 1000
    """Timesteps of the schedule."""
    beta_start: float = 0.00085
    """First beta (ddpm)."""
    beta_end: float = 0.012
    """Last beta (ddpm)."""


class Objective(Protocol):
    """What training and sampling need to know about a diffusion process."""

    config: ObjectiveConfig

    def draw_t(self, generator: np.random.Generator) -> float: ...

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor: ...

    def target(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor: ...

    def loss_weight(self, t: Tensor) -> Tensor: ...

    def model_output(self, prediction: Tensor, noisy: Tensor, t: Tensor) -> Tensor: ...


def _per_sample(t: Tensor, like: Tensor) -> Tensor:
    return t.to(like.dtype).view(-1, *[1] * (like.ndim - 1))


class _FlowObjective:
    """Rectified flow: x_t = (1 − t)·x_0 + t·ε, velocity v = ε − x_0, logit-normal t."""

    def __init__(self, config: ObjectiveConfig) -> None:
        if config.prediction not in ("x", "v"):
            raise ConfigError(f"flow predicts 'x' or 'v', not {config.prediction!r}")
        self.config = config

    def draw_t(self, generator: np.random.Generator) -> float:
        """A noise level in (0, 1), logit-normal, then shifted."""
        logit = generator.normal(self.config.logit_mean, self.config.logit_std)
        t = 1.0 / (1.0 + np.exp(-logit))
        return float(self.config.shift * t / (1 + (self.config.shift - 1) * t))

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        t = _per_sample(t, clean)
        return (1 - t) * clean + t * noise

    def target(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return clean if self.config.prediction == "x" else noise - clean

    def loss_weight(self, t: Tensor) -> Tensor:
        """Weight per sample `[B]`: makes the x-loss the v-loss (v error = x error / t), floored."""
        if self.config.prediction == "v":
            return t.new_ones(t.shape)
        return (self.config.min_level / t.clamp(min=self.config.min_level)).square()

    def model_output(self, prediction: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """Velocity, as diffusers' flow-match schedulers expect it."""
        if self.config.prediction == "v":
            return prediction
        return (noisy - prediction) / _per_sample(t, noisy).clamp(min=1e-4)


class _DDPMObjective:
    """The paper's process: scaled-linear betas 0.00085 → 0.012 over 1000 steps; eps, v or x."""

    def __init__(self, config: ObjectiveConfig) -> None:
        if config.prediction not in ("x", "v", "eps"):
            raise ConfigError(f"ddpm predicts 'eps', 'v' or 'x', not {config.prediction!r}")
        import torch

        self.config = config
        roots = np.linspace(
            config.beta_start**0.5, config.beta_end**0.5, config.num_train_timesteps
        )
        cumulative = np.cumprod(1.0 - roots**2)
        self._alphas_cumprod = torch.from_numpy(cumulative.astype(np.float32))

    def draw_t(self, generator: np.random.Generator) -> float:
        """A uniformly drawn timestep over the number of timesteps, in [0, 1)."""
        steps = self.config.num_train_timesteps
        return float(generator.integers(steps)) / steps

    def _alpha_sigma(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        index = (t * self.config.num_train_timesteps).round().long()
        index = index.clamp(0, self.config.num_train_timesteps - 1)
        alpha_squared = self._alphas_cumprod.to(like.device)[index]
        return (
            _per_sample(alpha_squared.sqrt(), like),
            _per_sample((1 - alpha_squared).sqrt(), like),
        )

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self._alpha_sigma(t, clean)
        return alpha * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self._alpha_sigma(t, clean)
        if self.config.prediction == "eps":
            return noise
        return clean if self.config.prediction == "x" else alpha * noise - sigma * clean

    def loss_weight(self, t: Tensor) -> Tensor:
        return t.new_ones(t.shape)

    def model_output(self, prediction: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """eps, v or x as predicted: the scheduler's `prediction_type` says which."""
        return prediction


def build_objective(config: ObjectiveConfig) -> Objective:
    """The objective named by `config.kind`."""
    return _FlowObjective(config) if config.kind == "flow" else _DDPMObjective(config)
