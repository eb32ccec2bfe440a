"""An adapter in use by itself: tuned on a prepared training set, and sampled as a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from rdtf.data.dataset import PreparedDataset
from rdtf.errors import ConfigError, UserError
from rdtf.method.objective import build_objective
from rdtf.method.tasks import TASKS
from rdtf.models.representation import as_representation
from rdtf.models.text import TextEncoders
from rdtf.research.adapters.common import AdaptedUNet
from rdtf.research.adapters.customize_a_video import APPEARANCE
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
