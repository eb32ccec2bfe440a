from __future__ import annotations

import contextlib
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.networks import TEXT_WIDTH, tiny_dfgn
from rdtf.method.dual_mask import denoiser_input
from rdtf.method.loss import blend_error, frame_weights, masked_error_sum, motion_errors
from rdtf.method.objective import ObjectiveConfig, build_objective
from rdtf.method.tasks import TASKS, draw_task
from rdtf.training.batches import Batch, Sample, pack, unpack
from rdtf.training.config import TrainConfig
from rdtf.training.distributed import Ranks
from rdtf.training.step import Denoising, Measured, batch_errors, elements_per_sample, train_step

OBJECTIVES = [
    ObjectiveConfig(),
    ObjectiveConfig(prediction="v"),
    ObjectiveConfig("ddpm", prediction="eps"),
]


def mask(text: str) -> torch.Tensor:
    """`"1101"` → bool `[1, 4]`."""
    return torch.tensor([[letter == "1" for letter in text]])


# ------------------------------------------------------------------ what the denoiser sees


def test_layout_of_the_input():
    noisy, clean = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 5, 6)
    given_frames = torch.tensor([[True, False, False, True], [False, True, False, False]])
    seen = denoiser_input(noisy, clean, given_frames)
    assert seen.shape == (2, 3 + 3 + 1, 4, 5, 6)
    assert torch.equal(seen[:, :3], noisy)
    for row, frame in np.ndindex(2, 4):
        is_given = bool(given_frames[row, frame])
        expected = clean[row, :, frame] if is_given else torch.zeros(3, 5, 6)
        assert torch.equal(seen[row, 3:6, frame], expected)
        assert torch.equal(seen[row, 6, frame], torch.full((5, 6), float(is_given)))


def test_hidden_frame_and_given_frame_of_zeros_differ():
    noisy, zeros = torch.randn(1, 2, 3, 4, 4), torch.zeros(1, 2, 3, 4, 4)
    hidden = denoiser_input(noisy, zeros, mask("000"))
    assert not torch.equal(hidden, denoiser_input(noisy, zeros, mask("010")))


def test_hidden_frames_are_cut_and_not_multiplied():
    seen = denoiser_input(
        torch.zeros(1, 1, 2, 1, 1), torch.full((1, 1, 2, 1, 1), torch.nan), mask("00")
    )
    assert not seen.any()


# ------------------------------------------------------------------ what counts


def test_loss_mask():
    valid, given_frames = mask("1110"), mask("0100")
    assert frame_weights(valid, given_frames).tolist() == [[1, 0, 1, 0]]
    assert frame_weights(valid, given_frames, 0.25).tolist() == [[1, 0.25, 1, 0]]


@given(
    frames=st.integers(1, 6),
    channels=st.integers(1, 3),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    data=st.data(),
)
def test_sum_and_count_are_those_of_the_elements(frames, channels, size, data):
    weights = torch.tensor([[data.draw(st.sampled_from([0.0, 0.5, 1.0])) for _ in range(frames)]])
    prediction, target = torch.randn(2, 1, channels, frames, *size).double()
    error, count = masked_error_sum(prediction, target, weights)
    elements = (prediction.float() - target.float()) ** 2 * weights[:, None, :, None, None]
    torch.testing.assert_close(error, elements.sum().view(1), rtol=1e-4, atol=1e-5)
    assert float(count) == float(weights.sum()) * channels * size[0] * size[1]


def test_sample_weight_scales_the_error_and_not_the_count():
    prediction, target = torch.randn(2, 2, 3, 4, 2, 2)
    weights = torch.ones(2, 4)
    plain, count = masked_error_sum(prediction, target, weights)
    scaled, same_count = masked_error_sum(prediction, target, weights, torch.tensor([0.0, 3.0]))
    torch.testing.assert_close(scaled, plain * torch.tensor([0.0, 3.0]))
    assert torch.equal(count, same_count)


@pytest.mark.parametrize("content", [1e30, float("nan"), float("inf")])
def test_padding_reaches_neither_the_loss_nor_its_gradient(content):
    weights = torch.tensor([[1.0, 1.0, 0.0]])
    clean_prediction, target = torch.randn(2, 1, 2, 3, 2, 2)
    results = []
    for value in (0.0, content):
        prediction = clean_prediction.clone()
        dirty = target.clone()
        dirty[:, :, 2] = value
        prediction[:, :, 2] = value
        prediction.requires_grad_()
        error, _ = masked_error_sum(prediction, dirty, weights)
        error.sum().backward()
        assert prediction.grad is not None
        results.append((error.detach(), prediction.grad))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


# ------------------------------------------------------------------ through a network


def sample(num_frames: int, seed: int = 0, task: str | None = None) -> Sample:
    random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    return Sample(
        stored={"latents": torch.randn(num_frames, 16, 4, 4, generator=generator)},
        noise_key=seed,
        posterior_key=seed,
        t=float(random.random()),
        draw=draw_task(num_frames, dict.fromkeys([task] if task else TASKS, 1.0), random),
        text=[torch.randn(2 + seed % 3, TEXT_WIDTH, generator=generator)] if seed % 2 else [],
        mean_duration_ms=100.0,
        clip=seed,
        position=seed,
    )


class Latents:
    """A store of latents as they are."""

    def to_latents(self, stored):
        return stored["latents"], None


def collate(samples: list[Sample]) -> Batch:
    return unpack(pack(samples, (TEXT_WIDTH,)), Latents(), torch.device("cpu"))


CLIPS = [sample(num_frames, seed) for seed, num_frames in enumerate([2, 7, 1, 4])]


@pytest.fixture(scope="module")
def network():
    return tiny_dfgn()


def spoiled(batch: Batch, content: float) -> Batch:
    """The batch with `content` in all padded slots."""
    told = batch.conditions
    padding = ~told.valid[:, None, :, None, None]
    return replace(
        batch,
        conditions=replace(told, clean=told.clean.masked_fill(padding, content)),
        noise=batch.noise.masked_fill(padding, content),
    )


@pytest.mark.parametrize("config", OBJECTIVES, ids=lambda c: f"{c.kind}-{c.prediction}")
def test_losses_do_not_depend_on_padding(network, config):
    objective = build_objective(config)
    with torch.no_grad():
        together = batch_errors(network, objective, collate(CLIPS))
        dirty = batch_errors(network, objective, spoiled(collate(CLIPS), torch.nan))
        alone = [batch_errors(network, objective, collate([clip])) for clip in CLIPS]
    torch.testing.assert_close(dirty, together, rtol=0, atol=0)
    for index, values in enumerate(together):
        torch.testing.assert_close(
            values, torch.cat([parts[index] for parts in alone]), rtol=1e-4, atol=1e-3
        )


def test_clips_weigh_by_their_hidden_frames():
    """Two frames of one clip and seven of another: nine frames, given ones not counted."""
    long, short = sample(7, 1, "t2v"), sample(2, 2, "t2v")
    elements = 16 * 4 * 4
    assert elements_per_sample(collate([long, short]), 0.0).sum() == 9 * elements
    still_given = sample(2, 3, "i2v")
    assert elements_per_sample(collate([still_given]), 0.0).sum() == elements
    assert elements_per_sample(collate([still_given]), 0.5).sum() == 1.5 * elements


def test_given_frames_cost_nothing_by_default(network):
    clip = sample(4, 3, "post_frame_prediction")
    objective = build_objective(ObjectiveConfig(prediction="v"))
    batch = collate([clip])
    told = batch.conditions
    hidden = ~told.given[:, None, :, None, None]
    # Another target at given frames: noise is not read there, except as part of the noisy input.
    with torch.no_grad():
        prediction = torch.zeros_like(told.clean)
        target = objective.target(told.clean, batch.noise, batch.t)
        weights = frame_weights(told.valid, told.given)
        error, _ = masked_error_sum(prediction, target, weights)
        _, errors, _ = batch_errors(network, objective, batch)
        _, with_given, _ = batch_errors(network, objective, batch, given_frame_weight=1.0)
    torch.testing.assert_close(error.sum(), (target * hidden).square().sum())
    assert with_given > errors


class Descent:
    """Plain gradient descent: a step as long as the gradient, so that gradients compare."""

    def __init__(self, network: torch.nn.Module) -> None:
        self._sgd = torch.optim.SGD(network.parameters(), lr=0.1)

    def step(self, skip: torch.Tensor) -> None:
        if not skip:
            self._sgd.step()

    def zero_grad(self) -> None:
        self._sgd.zero_grad()


def stepped(batches: list[Batch]) -> tuple[list[torch.Tensor], Measured]:
    """Weights after one step of plain gradient descent, and what the step measured."""
    network = tiny_dfgn().train()
    objective: Any = SimpleNamespace(objective=build_objective(ObjectiveConfig()))
    optimizer: Any = Descent(network)
    result = train_step(
        Denoising(network, objective, TrainConfig()),
        optimizer,
        batches,
        max_grad_norm=1e9,
        autocast=contextlib.nullcontext(),
        ranks=Ranks(),
    )
    return [parameter.detach() for parameter in network.parameters()], result.fetch()


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3), (1, 1, 1, 1)])
def test_micro_batches_descend_the_gradient_of_the_whole(sizes):
    """Though their clips, and so their element counts, differ."""
    starts = np.cumsum([0, *sizes])
    parts = [collate(CLIPS[a:b]) for a, b in pairwise(starts)]
    whole, expected = stepped([collate(CLIPS)])
    split, result = stepped(parts)
    torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-5)
    assert result.loss == pytest.approx(expected.loss, rel=1e-5)
    assert result.losses == pytest.approx(expected.losses, rel=1e-4)
    assert result.tasks == expected.tasks


def test_step_survives_anything_in_the_padding():
    expected, _ = stepped([collate(CLIPS)])
    actual, _ = stepped([spoiled(collate(CLIPS), torch.nan)])
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_step_with_a_loss_that_is_no_number_is_not_taken():
    batch = collate(CLIPS)
    told = batch.conditions
    told.clean[1, 0, ~told.given[1] & told.valid[1]] = torch.nan
    weights, measured = stepped([batch])
    assert not measured.finite and measured.culprits == [1]
    torch.testing.assert_close(
        weights, [p.detach() for p in tiny_dfgn().parameters()], rtol=0, atol=0
    )


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), num_frames=st.integers(1, 5))
def test_every_sample_has_something_to_learn(seed, num_frames):
    told = collate([sample(num_frames, seed)]).conditions
    assert frame_weights(told.valid, told.given).sum() >= 1


# ------------------------------------------------------------------ how much there is to do


def test_blending_the_given_frames_leaves_what_does_not_move_alone():
    clean = torch.randn(1, 2, 1, 3, 3).expand(-1, -1, 4, -1, -1).clone()
    every = mask("1111")
    torch.testing.assert_close(blend_error(clean, mask("1000"), every), torch.zeros(1))
    # With nothing given the blend is zero, and all of the clip is wrong.
    torch.testing.assert_close(blend_error(clean, mask("0000"), every), clean.square().mean()[None])
    clean[:, :, 1:] += 2.0
    torch.testing.assert_close(blend_error(clean, mask("1000"), every), torch.full((1,), 4.0))


def test_motion_counts_in_extrapolated_frames_and_relative_to_its_size():
    target = torch.zeros(1, 2, 4, 3, 3)
    target[:, :, 3] = 3.0
    prediction = torch.full_like(target, 3.0)
    prediction[:, :, 0] = torch.nan  # given
    prediction[:, :, 2] = torch.nan  # between given frames
    prediction[:, :, 3] = 1.0
    relative, wrong, count = motion_errors(prediction, target, mask("1101"), mask("1111"))
    assert count == 0 and wrong == 0 and relative == 0
    relative, wrong, count = motion_errors(prediction, target, mask("1110"), mask("1111"))
    assert (count, wrong) == (18, 18 * 4.0)
    torch.testing.assert_close(relative, wrong / (9.0 + 1.0))
