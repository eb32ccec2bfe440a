"""An adapter in use: tuned on a prepared set or on one clip, and sampled as a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rdtf.data.dataset import PreparedDataset
from rdtf.errors import ConfigError
from rdtf.method.objective import Objective, build_objective
from rdtf.method.tasks import TASKS
from rdtf.models.conditions import Conditions
from rdtf.models.representation import as_representation
from rdtf.models.text import TextEncoders
from rdtf.research.adapters.common import SAMPLING, AdaptedUNet
from rdtf.research.adapters.customize_a_video import APPEARANCE, CustomizeAVideo
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.training.batches import Batch, BatchBuilder, SampleInfo
from rdtf.training.config import EngineConfig, OptimizerConfig, TrainConfig, plain_engine
from rdtf.training.distributed import Ranks
from rdtf.training.loader import PreparedStore
from rdtf.training.presets import build_autoencoder, build_scheduler
from rdtf.training.step import Denoising, Measured
from rdtf.training.trainer import Trainer

# Every task with a given frame: what text alone asks for, the base knows.
GIVEN_TASKS: Mapping[str, float] = {task: float(task != "t2v") for task in TASKS}
TEXT_ONLY: Mapping[str, float] = {task: float(task == "t2v") for task in TASKS}
_CROP_SHARE = (0.33, 0.67)  # of the sides, at random; the best of the Customize-A-Video paper
Say = Callable[[str], None]


# ------------------------------------------------------------------ training


class Tuning(Denoising):
    """The stages of an adapter, one after the other; the loss of every step is kept.

    Args:
        adapter: on its device.
        config: as of `Denoising`; its steps are those of each stage.
        tasks: stage → how often each task is drawn.
    """

    def __init__(
        self,
        adapter: AdaptedUNet,
        batches: Any,
        config: TrainConfig,
        device: torch.device,
        tasks: Mapping[str, Mapping[str, float]],
        say: Say = lambda text: None,
    ) -> None:
        super().__init__(adapter, batches, config, Ranks(device=device))
        self.optimizer = replace(config.optimizer, ema_decays=())
        self.engine = plain_engine(config.engine, log_every=0)
        self.stages, self.lengths = adapter.stages, (config.steps,) * len(adapter.stages)
        self.label, self.advice = adapter.name, "lower optimizer.learning_rate"
        self.tasks, self.say, self.stage = tasks, say, ""
        self.losses: dict[str, list[float]] = {}

    def begin(self, stage: str, step: int) -> None:
        self.network.begin(stage)
        self.stage, self.losses[stage] = stage, []
        super().begin(stage, step)

    def parameters(self) -> dict[str, nn.Parameter]:
        own = self.network.adapter_parameters()
        return {name: value for name, value in own.items() if value.requires_grad}

    def tensors(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.network.adapter_parameters().items()}

    def request(self, step: int, progress: float) -> tuple[int, Mapping[str, float]]:
        return step, self.tasks[self.stage]

    def observe(self, measured: Measured) -> None:
        losses = self.losses[self.stage]
        losses.append(measured.loss)
        if len(losses) % self.config.engine.log_every == 0:
            steps = self.lengths[self.stages.index(self.stage)]
            name = f"{self.network.name} {self.stage}"
            self.say(f"{name} step {len(losses)}/{steps} loss {measured.loss:.4f}")

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "losses": self.losses}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.losses = {stage: list(losses) for stage, losses in state["losses"].items()}

    def train(self, run: Path | str | None) -> dict[str, list[float]]:
        """To the end, or until a signal comes; then the adapter is ready for sampling."""
        folder = None if run is None else Path(run)
        trainer = Trainer(self, folder, ranks=self.ranks, quiet=True)
        trainer.train()
        trainer.look_back()
        self.network.begin(SAMPLING)
        return self.losses


def tune(
    adapter: AdaptedUNet,
    data: Path | str,
    config: TrainConfig,
    *,
    task_weights: Mapping[str, float] = GIVEN_TASKS,
    run: Path | str | None = None,
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
        run: a folder for checkpoints; the same call goes on from there, bit for bit.

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
    tasks = {s: TEXT_ONLY if s == APPEARANCE else task_weights for s in adapter.stages}
    builder = BatchBuilder(store, config, objective)
    return Tuning(adapter, builder, config, device, tasks, say).train(run)


def learn_motion(
    adapter: CustomizeAVideo,
    objective: Objective,
    clean: Tensor,
    *,
    prompt: tuple[list[Tensor], list[Tensor]] = ([], []),
    steps: tuple[int, int] = (200, 400),
    learning_rate: float = 5e-4,
    seed: int = 0,
    run: Path | str | None = None,
) -> dict[str, list[float]]:
    """Train absorber and temporal LoRA on one clip; the adapter is left ready for sampling.

    Args:
        clean: the clip's latents, `[1, C, F, h, w]`; the absorber sees random crops of it.
        prompt: token states and masks as `AdaptedUNet.forward` takes them.
        steps: of the appearance and of the motion stage. The paper's own numbers, and its learning
            rate, are not known.
        run: a folder for checkpoints; the same call goes on from there, bit for bit.

    Returns:
        The loss of every step, by stage.
    """
    return _OneClip(adapter, objective, clean, prompt, steps, learning_rate, seed).train(run)


class _OneClip(Tuning):
    """Customize-A-Video on a single clip."""

    def __init__(
        self,
        adapter: CustomizeAVideo,
        objective: Objective,
        clean: Tensor,
        prompt: tuple[list[Tensor], list[Tensor]],
        steps: Sequence[int],
        learning_rate: float,
        seed: int,
    ) -> None:
        config = TrainConfig(
            seed=seed,
            optimizer=OptimizerConfig(learning_rate=learning_rate, warmup_steps=0, decay_share=0.0),
            engine=EngineConfig(precision="fp32"),
        )
        batches = SimpleNamespace(objective=objective, store=None)
        super().__init__(adapter, batches, config, clean.device, {})
        self.clean, self.prompt, self.lengths = clean, prompt, tuple(steps)

    def request(self, step: int, progress: float) -> Any:
        before = self.lengths[0] if self.stage != APPEARANCE else 0
        return self.stages.index(self.stage), step - before

    def build(self, request: Any) -> list[Batch]:
        draw = np.random.default_rng([self.seed, *request])
        seen = crop(self.clean, draw) if request[0] == 0 else self.clean
        return [_one_clip(seen, self.objective, self.prompt, draw)]

    def to_device(self, packed: Any) -> list[Batch]:
        return packed


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
