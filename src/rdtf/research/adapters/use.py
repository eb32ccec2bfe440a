"""An adapter in use by itself: tuned on a prepared training set, and sampled as a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdtf.data.dataset import PreparedDataset
from rdtf.errors import ConfigError, UserError
from rdtf.method.loss import frame_weights, masked_error_sum
from rdtf.method.objective import Objective, build_objective
from rdtf.method.tasks import TASKS
from rdtf.models.conditions import Conditions
from rdtf.models.representation import as_representation
from rdtf.models.text import TextEncoders
from rdtf.research.adapters.common import AdaptedUNet
from rdtf.research.adapters.customize_a_video import APPEARANCE, MOTION, CustomizeAVideo
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.training.batches import BatchBuilder, unpack
from rdtf.training.config import TrainConfig
from rdtf.training.device import autocast, resolve_precision
from rdtf.training.distributed import Ranks
from rdtf.training.loader import PreparedStore
from rdtf.training.optimizer import Optimizer
from rdtf.training.presets import build_autoencoder, build_scheduler
from rdtf.training.step import learning_rate, train_step

# Every task with a given frame: what text alone asks for, the base knows.
GIVEN_TASKS: Mapping[str, float] = {task: float(task != "t2v") for task in TASKS}
TEXT_ONLY: Mapping[str, float] = {task: float(task == "t2v") for task in TASKS}


def tune(
    adapter: AdaptedUNet,
    data: Path | str,
    config: TrainConfig,
    *,
    task_weights: Mapping[str, float] = GIVEN_TASKS,
    device: torch.device | str = "cpu",
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, list[float]]:
    """Train each stage of an adapter for `config.steps` steps; it is left ready for sampling.

    Args:
        adapter: on a base that reads the latents and text states which `config` names.
        data: a prepared training set.
        config: canvas, frames, representation, text encoders, objective, batch size, steps and
            optimizer; what concerns the denoiser is not read.
        task_weights: how often each task is drawn. Customize-A-Video's first stage learns looks
            and is told nothing but the text.

    Returns:
        The loss of every step, by stage.

    Raises:
        UserError: the set can't be used, or the loss is no number.
    """
    device = torch.device(device)
    adapter.to(device)
    objective = build_objective(config.objective)
    representation = as_representation(build_autoencoder(config).to(device))
    text = TextEncoders(config.text.encoders, config.text.max_tokens)
    store = PreparedStore(
        PreparedDataset(Path(data)),
        config,
        "train",
        representation=representation,
        text_encoders=text,
        device=device,
    )
    _check_fits(adapter, representation.latent_channels, store.text_widths)
    builder = BatchBuilder(store, config, objective)
    losses: dict[str, list[float]] = {}
    for number, stage in enumerate(adapter.stages):
        adapter.begin(stage)
        weights = TEXT_ONLY if stage == APPEARANCE else task_weights
        optimizer = Optimizer(adapter, config.optimizer)
        losses[stage] = []
        for step in range(config.steps):
            optimizer.set_learning_rate(learning_rate(config.optimizer, step, config.steps))
            packed = builder.step_batches(number * config.steps + step, weights)
            result = train_step(
                adapter,
                objective,
                optimizer,
                [unpack(batch, store, device) for batch in packed],
                max_grad_norm=config.optimizer.max_grad_norm,
                given_frame_weight=config.given_frame_weight,
                autocast=autocast(resolve_precision(config.engine.precision, device), device),
                ranks=Ranks(device=device),
            ).fetch()
            if not result.finite:
                raise UserError(
                    f"{adapter.name} diverged at step {step} of stage {stage}: its loss is no "
                    "number; lower optimizer.learning_rate"
                )
            losses[stage].append(result.loss)
            if (step + 1) % config.engine.log_every == 0:
                say(f"{adapter.name} {stage} step {step + 1}/{config.steps} loss {result.loss:.4f}")
    adapter.begin("sampling")
    return losses


def sticker_pipeline(adapter: AdaptedUNet, config: TrainConfig) -> StickerPipeline:
    """A pipeline over an adapter: `pipe("a cat", image=…)`, `interpolate`, `predict`, `fill`.

    It is not saved as a whole: keep the weights with `adapter.save`, and the config.

    Args:
        config: what the adapter was tuned with.
    """
    autoencoder = build_autoencoder(config)
    representation = as_representation(autoencoder)
    text = TextEncoders(config.text.encoders, config.text.max_tokens)
    _check_fits(adapter, representation.latent_channels, text.widths)
    adapter.begin("sampling")
    denoiser: Any = adapter
    # What the pipeline asks of a denoiser about itself.
    denoiser.config_ = SimpleNamespace(
        latent_size=config.canvas // representation.downsampling,
        max_frames=config.max_frames,
        prediction=config.objective.prediction,
        compose=False,
    )
    return StickerPipeline(adapter, autoencoder, text, build_scheduler(config))


def _check_fits(adapter: AdaptedUNet, latent_channels: int, text_widths: tuple[int, ...]) -> None:
    """Whether the base reads these latents and these token states."""
    base: Any = adapter.base
    if base.config.in_channels != latent_channels:
        raise ConfigError(
            f"the base of {adapter.name} reads latents of {base.config.in_channels} channels, "
            f"this representation has {latent_channels}; set representation.kind and .path to its "
            "own autoencoder"
        )
    width = base.config.cross_attention_dim
    if any(other != width for other in text_widths):
        raise ConfigError(
            f"the base of {adapter.name} reads text states of width {width}, text.encoders gives "
            f"{', '.join(map(str, text_widths))}; name the encoder that it was trained with"
        )


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
