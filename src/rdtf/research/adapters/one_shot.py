"""One-shot motion transfer: Customize-A-Video on a single clip, start to end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rdtf.errors import ConfigError
from rdtf.method.loss import frame_weights, masked_error_sum
from rdtf.method.objective import Objective
from rdtf.models.conditions import Conditions
from rdtf.research.adapters.customize_a_video import APPEARANCE, MOTION, CustomizeAVideo


@dataclass(frozen=True)
class OneShotConfig:
    """How long and how fast. The paper's own numbers are not known; these are ours.

    appearance_steps, motion_steps: optimizer steps of each stage.
    learning_rate: AdamW, constant.
    crop_share: the absorber sees a random crop of this share of the sides, drawn from the range
        (the paper's best: 0.33–0.67); (1, 1) = whole frames.
    """

    appearance_steps: int = 200
    motion_steps: int = 400
    learning_rate: float = 5e-4
    crop_share: tuple[float, float] = (0.33, 0.67)
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.crop_share
        if not 0 < low <= high <= 1:
            raise ConfigError(f"crop_share is {self.crop_share}; it must be a range within (0, 1]")


@dataclass(frozen=True)
class Prompt:
    """Token states and mask as `AdaptedUNet.forward` takes them, for one clip."""

    text: list[Tensor]
    text_mask: list[Tensor]


def learn_motion(
    adapter: CustomizeAVideo,
    objective: Objective,
    clean: Tensor,
    *,
    prompt: Prompt | None = None,
    appearance_prompt: Prompt | None = None,
    config: OneShotConfig | None = None,
) -> dict[str, list[float]]:
    """Train absorber and temporal LoRA on one clip; the adapter is left ready for sampling.

    Args:
        clean: the clip's latents, `[1, C, F, h, w]`.
        prompt: what happens in it.
        appearance_prompt: what it looks like and nothing of what moves; None = `prompt`.

    Returns:
        The loss of every step, by stage.
    """
    config = config or OneShotConfig()
    prompt = prompt or Prompt([], [])
    plan = {
        APPEARANCE: (config.appearance_steps, appearance_prompt or prompt),
        MOTION: (config.motion_steps, prompt),
    }
    losses: dict[str, list[float]] = {}
    for number, (stage, (steps, words)) in enumerate(plan.items()):
        adapter.begin(stage)
        optimizer = torch.optim.AdamW(adapter.trainable_parameters(), lr=config.learning_rate)
        losses[stage] = []
        for step in range(steps):
            draw = np.random.default_rng([config.seed, number, step])
            seen = crop(clean, config.crop_share, draw) if stage == APPEARANCE else clean
            loss = _loss(adapter, objective, seen, words, draw)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses[stage].append(float(loss.detach()))
    adapter.begin("sampling")
    return losses


def crop(clean: Tensor, share: tuple[float, float], draw: np.random.Generator) -> Tensor:
    """A random window of all frames; its sides are a drawn share of the clip's."""
    ratio = draw.uniform(*share)
    height, width = (max(1, round(side * ratio)) for side in clean.shape[-2:])
    top = int(draw.integers(clean.shape[-2] - height + 1))
    left = int(draw.integers(clean.shape[-1] - width + 1))
    return clean[..., top : top + height, left : left + width]


def _loss(
    adapter: CustomizeAVideo,
    objective: Objective,
    clean: Tensor,
    words: Prompt,
    draw: np.random.Generator,
) -> Tensor:
    """Mean squared error of one noised clip, of which nothing is given."""
    noise = torch.from_numpy(draw.standard_normal(tuple(clean.shape), dtype=np.float32))
    noise = noise.to(clean.device)
    t = torch.full((len(clean),), objective.draw_t(draw), device=clean.device)
    valid = torch.ones(len(clean), clean.shape[2], dtype=torch.bool, device=clean.device)
    given = torch.zeros_like(valid)
    told = Conditions(
        clean=clean, given=given, valid=valid, text=words.text, text_mask=words.text_mask
    )
    prediction = adapter(objective.add_noise(clean, noise, t), t, told)
    target = objective.target(clean, noise, t)
    errors, counts = masked_error_sum(prediction, target, frame_weights(valid, given))
    return (errors * objective.loss_weight(t)).sum() / counts.sum()
