"""Adapters in this package's own training step and sampler, on its own batches."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rdtf.method.objective import ObjectiveConfig, build_objective
from rdtf.method.tasks import TASKS
from rdtf.models.conditions import Conditions
from rdtf.research.adapters import ADAPTERS, AdaptedUNet
from rdtf.sampling.sampling import sample
from rdtf.training.batches import Batch, BatchBuilder, pack, unpack
from rdtf.training.config import ModelConfig, OptimizerConfig, TrainConfig
from rdtf.training.distributed import Ranks
from rdtf.training.optimizer import Optimizer
from rdtf.training.presets import build_scheduler
from rdtf.training.step import Denoising, train_step

from .networks import CHANNELS, SIZE, TEXT_WIDTH, tiny_adapter

OBJECTIVES = {
    "eps on the paper's schedule": ObjectiveConfig("ddpm", "eps"),
    "velocity in rectified flow": ObjectiveConfig("flow", "v"),
}
every_adapter = pytest.mark.parametrize("name", sorted(ADAPTERS))
every_objective = pytest.mark.parametrize("objective", sorted(OBJECTIVES))
CPU = torch.device("cpu")


class TinyStore:
    """Clips of random latents, some of them single images; captions of one to three tokens."""

    num_frames = np.array([1, 2, 3, 4, 4, 4, 3, 2])
    text_widths = (TEXT_WIDTH,)

    def stored(self, clip: int, frames: np.ndarray, flip: bool) -> dict[str, np.ndarray]:
        draw = np.random.default_rng(clip)
        shape = (int(self.num_frames[clip]), CHANNELS, SIZE, SIZE)
        return {"mean": draw.standard_normal(shape, dtype=np.float32)[frames]}

    def to_latents(self, stored: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        return stored["mean"].float(), None

    def durations_ms(self, clip: int) -> np.ndarray:
        return np.full(self.num_frames[clip], 80)

    def text(self, clip: int, choice: float) -> list[Tensor]:
        return [torch.full((1 + clip % 3, TEXT_WIDTH), 0.1 * clip)]


def run_config(objective: str) -> TrainConfig:
    return TrainConfig(
        max_frames=4,
        batch_size=8,
        steps=10,
        objective=OBJECTIVES[objective],
        model=ModelConfig(compose=False),
    )


def batches_of(config: TrainConfig, step: int) -> list[Batch]:
    store = TinyStore()
    builder = BatchBuilder(store, config, build_objective(config.objective))
    weights = dict.fromkeys(TASKS, 1.0)
    # As they come, not sorted by length: clips of several lengths in one batch.
    first = step * config.batch_size
    samples = [builder.sample(first + row, weights) for row in range(config.batch_size)]
    return [unpack(pack(samples, store.text_widths), store, CPU)]


class Driver:
    """Steps of one adapter, as a trainer makes them."""

    def __init__(self, adapter: AdaptedUNet, config: TrainConfig) -> None:
        self.adapter, self.config = adapter, config
        named = dict(adapter.named_parameters())
        self.optimizer = Optimizer(named, OptimizerConfig(learning_rate=1e-3))

    def step(self, batches: list[Batch]) -> Any:
        objective: Any = SimpleNamespace(objective=build_objective(self.config.objective))
        result = train_step(
            Denoising(self.adapter, objective, self.config),
            self.optimizer,
            batches,
            max_grad_norm=1.0,
            autocast=contextlib.nullcontext(),
            ranks=Ranks(),
        )
        return result.fetch()


@every_adapter
@every_objective
def test_training_step_lowers_the_loss_and_leaves_the_base_alone(name, objective):
    """Clips of several lengths and every task in a batch; each stage in turn."""
    config = run_config(objective)
    adapter = tiny_adapter(name, awake=False)
    before = {key: value.clone() for key, value in adapter.named_parameters()}
    batches = batches_of(config, 0)
    assert len({count for batch in batches for count in batch.info.num_frames}) > 1
    driver = Driver(adapter, config)
    for stage in adapter.stages:
        adapter.begin(stage)
        measured = [driver.step(batches) for _ in range(4)]
        assert all(step.finite for step in measured)
        losses = [step.loss for step in measured]
        assert losses[-1] < losses[0]
    own = set(adapter.adapter_parameters().values())
    for key, parameter in adapter.named_parameters():
        if parameter not in own:
            assert parameter.equal(before[key]), key
    assert any(not p.equal(before[key]) for key, p in adapter.named_parameters() if p in own)


@every_adapter
def test_given_frames_do_not_count(name):
    """The loss of the paper's first-frame adapter is on the other frames; so it is on all."""
    config = run_config("eps on the paper's schedule")
    adapter = tiny_adapter(name)
    adapter.begin(adapter.stages[-1])
    adapter.eval()  # full fine-tuning has dropout
    (batch,) = batches_of(config, 1)
    told = batch.conditions
    assert told.given.any()
    objective = build_objective(config.objective)
    noisy = objective.add_noise(told.clean, batch.noise, batch.t)
    errors = (adapter(noisy, batch.t, told) - batch.noise).square()
    hidden = (told.valid & ~told.given)[:, None, :, None, None].expand_as(errors)
    expected = float(errors[hidden].detach().mean())
    measured = Driver(adapter, config).step([batch])
    assert measured.loss == pytest.approx(expected, rel=1e-4)


TASKS_AT_SAMPLING = {
    "text": [False, False, False, False],
    "still and text": [True, False, False, False],
    "interpolation": [True, False, True, False],
    "prediction": [True, True, False, False],
}


@every_adapter
@pytest.mark.parametrize(
    ("task", "objective"), zip(TASKS_AT_SAMPLING, sorted(OBJECTIVES) * 2, strict=True)
)
def test_sampling(name, task, objective):
    """With both guidance terms; given frames come back exactly."""
    adapter = tiny_adapter(name)
    adapter.begin("sampling")
    config = run_config(objective)
    given = torch.tensor([TASKS_AT_SAMPLING[task]])
    generator = torch.Generator().manual_seed(2)
    shape = (1, CHANNELS, 4, SIZE, SIZE)
    clean = torch.randn(shape, generator=generator)
    told = Conditions(
        clean=torch.where(given[:, None, :, None, None], clean, 0.0),
        given=given,
        valid=torch.ones_like(given),
        mean_duration_ms=torch.tensor([100.0]),
        text=[torch.randn(1, 2, TEXT_WIDTH, generator=generator)],
        text_mask=[torch.ones(1, 2, dtype=torch.bool)],
    )
    model: Any = adapter
    out = sample(
        model,
        build_objective(config.objective),
        build_scheduler(config),
        told,
        torch.randn(shape, generator=generator),
        num_inference_steps=3,
        guidance_scale=2.0,
        image_guidance_scale=1.5,
    )
    assert out.shape == shape and out.isfinite().all()
    assert out[:, :, given[0]].equal(clean[:, :, given[0]])


def test_pre_training_then_adapting(tmp_path):
    """The comparison's way: a base trained on text to video, saved, loaded, adapted."""
    from rdtf.research.adapters import FullFineTuning, SimDA, load_base

    from .networks import tiny_base

    config = run_config("velocity in rectified flow")
    pretraining = FullFineTuning(tiny_base("image"))
    driver = Driver(pretraining, config)
    builder = BatchBuilder(TinyStore(), config, build_objective(config.objective))
    for step in range(2):
        packed = builder.step_batches(step, {**dict.fromkeys(TASKS, 0.0), "t2v": 1.0})
        batches = [unpack(batch, TinyStore(), CPU) for batch in packed]
        assert not any(batch.conditions.given.any() for batch in batches)
        assert driver.step(batches).finite
    pretraining.save(tmp_path)
    adapter = SimDA(load_base("image", tmp_path))
    assert Driver(adapter, config).step(batches_of(config, 0)).finite
