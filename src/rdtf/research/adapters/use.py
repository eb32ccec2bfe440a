"""An adapter in use: tuned on a prepared set or on one clip, and sampled as a pipeline.

`Stage` is the training loop of all research code: adapters here, every method of the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rdtf.data.dataset import PreparedDataset
from rdtf.errors import ConfigError, UserError
from rdtf.method.objective import Objective, build_objective
from rdtf.method.tasks import TASKS
from rdtf.models.conditions import Conditions
from rdtf.models.representation import as_representation
from rdtf.models.text import TextEncoders
from rdtf.randomness import Purpose, noise_key
from rdtf.research.adapters.common import AdaptedUNet
from rdtf.research.adapters.customize_a_video import APPEARANCE, MOTION, CustomizeAVideo
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.training.batches import Batch, BatchBuilder, SampleInfo, unpack
from rdtf.training.config import EngineConfig, OptimizerConfig, TrainConfig
from rdtf.training.device import autocast, resolve_precision
from rdtf.training.distributed import Ranks
from rdtf.training.loader import PreparedStore
from rdtf.training.optimizer import Optimizer
from rdtf.training.presets import build_autoencoder, build_scheduler
from rdtf.training.step import StepResult, learning_rate, train_step

# Every task with a given frame: what text alone asks for, the base knows.
GIVEN_TASKS: Mapping[str, float] = {task: float(task != "t2v") for task in TASKS}
TEXT_ONLY: Mapping[str, float] = {task: float(task == "t2v") for task in TASKS}
_CROP_SHARE = (0.33, 0.67)  # of the sides, at random; the best of the Customize-A-Video paper
Say = Callable[[str], None]


# ------------------------------------------------------------------ training


class Stage:
    """The training of one stage: a network's loss, and the optimizer of what the stage trains.

    Args:
        network: in its stage already.
        objective: what the network predicts.
        config: optimizer, its schedule over `config.steps`, precision, seed, weights of the loss.
        parameters: a module with the parameters to train; None = all of the network's.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        config: TrainConfig,
        device: torch.device,
        *,
        parameters: nn.Module | None = None,
    ) -> None:
        self.network, self.objective = network, objective
        self.config, self.device = config, device
        self.precision = resolve_precision(config.engine.precision, device)
        self.optimizer = Optimizer(network if parameters is None else parameters, config.optimizer)

    def step(
        self, batches: list[Batch], number: int, in_stage: int, scale: float = 1.0
    ) -> StepResult:
        """One update; `number` seeds dropout, `in_stage` sets the rate, times `scale`."""
        config = self.config
        rate = learning_rate(config.optimizer, in_stage, config.steps)
        self.optimizer.set_learning_rate(rate * scale)
        # Dropout is torch's own; seeded by the step, it is the same when a run goes on later.
        torch.manual_seed(noise_key(config.seed, Purpose.DROPOUT, number, 1))
        return train_step(
            self.network,
            self.objective,
            self.optimizer,
            batches,
            max_grad_norm=config.optimizer.max_grad_norm,
            given_frame_weight=config.given_frame_weight,
            relative_loss_floor=config.relative_loss_floor,
            autocast=autocast(self.precision, self.device),
            ranks=Ranks(device=self.device),
        )

    def run(
        self,
        batches: Callable[[int], list[Batch]],
        name: str,
        first: int = 0,
        say: Say = lambda text: None,
    ) -> list[float]:
        """`config.steps` steps on `batches(number)`, numbered from `first`; the loss of each.

        Raises:
            UserError: a non-finite loss.
        """
        losses, steps = [], self.config.steps
        for step in range(steps):
            result = self.step(batches(first + step), first + step, step).fetch()
            if not result.finite:
                raise UserError(
                    f"{name} diverged at step {step}: its loss is non-finite; lower "
                    "optimizer.learning_rate"
                )
            losses.append(result.loss)
            if (step + 1) % self.config.engine.log_every == 0:
                say(f"{name} step {step + 1}/{steps} loss {result.loss:.4f}")
        return losses


def tune(
    adapter: AdaptedUNet,
    data: Path | str,
    config: TrainConfig,
    *,
    task_weights: Mapping[str, float] = GIVEN_TASKS,
    device: torch.device | str = "cpu",
    say: Say = lambda text: None,
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
        UserError: the set can't be used, or the loss is non-finite.
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
    for number, name in enumerate(adapter.stages):
        adapter.begin(name)
        weights = TEXT_ONLY if name == APPEARANCE else task_weights

        def batches(step: int, weights: Mapping[str, float] = weights) -> list[Batch]:
            return [unpack(b, store, device) for b in builder.step_batches(step, weights)]

        stage = Stage(adapter, objective, config, device)
        first = number * config.steps
        losses[name] = stage.run(batches, f"{adapter.name} {name}", first, say)
    adapter.begin("sampling")
    return losses


def learn_motion(
    adapter: CustomizeAVideo,
    objective: Objective,
    clean: Tensor,
    *,
    prompt: tuple[list[Tensor], list[Tensor]] = ([], []),
    steps: tuple[int, int] = (200, 400),
    learning_rate: float = 5e-4,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Train absorber and temporal LoRA on one clip; the adapter is left ready for sampling.

    Args:
        clean: the clip's latents, `[1, C, F, h, w]`; the absorber sees random crops of it.
        prompt: token states and masks as `AdaptedUNet.forward` takes them.
        steps: of the appearance and of the motion stage. The paper's own numbers, and its learning
            rate, are not known.

    Returns:
        The loss of every step, by stage.
    """
    losses: dict[str, list[float]] = {}
    for number, (name, count) in enumerate(zip((APPEARANCE, MOTION), steps, strict=True)):
        adapter.begin(name)
        config = TrainConfig(
            steps=count,
            seed=seed,
            optimizer=OptimizerConfig(learning_rate=learning_rate, warmup_steps=0, decay_share=0.0),
            engine=EngineConfig(precision="fp32"),
        )

        def batches(step: int, number: int = number) -> list[Batch]:
            draw = np.random.default_rng([seed, number, step])
            seen = crop(clean, draw) if number == 0 else clean
            return [_one_clip(seen, objective, prompt, draw)]

        stage = Stage(adapter, objective, config, clean.device)
        losses[name] = stage.run(batches, f"{adapter.name} {name}")
    adapter.begin("sampling")
    return losses


def crop(clean: Tensor, draw: np.random.Generator) -> Tensor:
    """A random window of all frames; its sides are a drawn share of the clip's."""
    ratio = draw.uniform(*_CROP_SHARE)
    height, width = (max(1, round(side * ratio)) for side in clean.shape[-2:])
    top = int(draw.integers(clean.shape[-2] - height + 1))
    left = int(draw.integers(clean.shape[-1] - width + 1))
    return clean[..., top : top + height, left : left + width]


def _one_clip(
    clean: Tensor,
    objective: Objective,
    prompt: tuple[list[Tensor], list[Tensor]],
    draw: np.random.Generator,
) -> Batch:
    """A noised clip of which nothing is given."""
    noise = torch.from_numpy(draw.standard_normal(tuple(clean.shape), dtype=np.float32))
    t, frames = objective.draw_t(draw), clean.shape[2]
    valid = torch.ones(1, frames, dtype=torch.bool, device=clean.device)
    told = Conditions(
        clean=clean, given=torch.zeros_like(valid), valid=valid, text=prompt[0], text_mask=prompt[1]
    )
    return Batch(
        info=SampleInfo(tasks=("t2v",), clips=(0,), positions=(0,), t=(t,), num_frames=(frames,)),
        conditions=told,
        noise=noise.to(clean.device),
        motion_noise=noise[:, :0],
        t=torch.full((1,), t, device=clean.device),
    )


# ------------------------------------------------------------------ sampling


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
