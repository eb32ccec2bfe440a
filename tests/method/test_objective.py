from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rdtf.errors import ConfigError
from rdtf.method.objective import ObjectiveConfig, build_objective
from rdtf.training.config import ModelConfig, TrainConfig
from rdtf.training.presets import build_scheduler

SHAPE = (4, 3, 2, 5, 5)
CLEAN = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


def objective(kind: str, prediction: str, **changes):
    return build_objective(ObjectiveConfig(kind, prediction, **changes))


def levels(*values: float) -> torch.Tensor:
    return torch.tensor(values)


def draws(config: ObjectiveConfig, count: int = 4000) -> np.ndarray:
    built, random = build_objective(config), np.random.default_rng(0)
    return np.array([built.draw_t(random) for _ in range(count)])


# ------------------------------------------------------------------ rectified flow


def test_flow_goes_straight_from_clean_to_noise():
    flow = objective("flow", "v")
    noisy = flow.add_noise(CLEAN, NOISE, levels(0, 1, 0.25, 0.5))
    torch.testing.assert_close(noisy[0], CLEAN[0])
    torch.testing.assert_close(noisy[1], NOISE[1])
    torch.testing.assert_close(noisy[2], 0.75 * CLEAN[2] + 0.25 * NOISE[2])


def test_flow_targets():
    level = levels(0.1, 0.4, 0.7, 1)
    assert torch.equal(objective("flow", "x").target(CLEAN, NOISE, level), CLEAN)
    torch.testing.assert_close(objective("flow", "v").target(CLEAN, NOISE, level), NOISE - CLEAN)


def test_exact_predictions_of_x_and_v_are_one_velocity():
    level = levels(0.01, 0.4, 0.7, 1)
    for prediction in ("x", "v"):
        flow = objective("flow", prediction)
        noisy = flow.add_noise(CLEAN, NOISE, level)
        velocity = flow.model_output(flow.target(CLEAN, NOISE, level), noisy, level)
        torch.testing.assert_close(velocity, NOISE - CLEAN, rtol=1e-3, atol=1e-3)


def test_x_prediction_is_finite_without_noise():
    flow, level = objective("flow", "x"), levels(0, 0, 0, 0)
    assert flow.model_output(CLEAN + 0.01, CLEAN, level).isfinite().all()


def test_weighted_x_loss_is_the_velocity_loss_down_to_the_floor():
    flow = objective("flow", "x", min_level=0.3)
    level = levels(0.3, 0.5, 0.8, 1)
    guess = CLEAN + 0.1 * NOISE
    noisy = flow.add_noise(CLEAN, NOISE, level)
    velocity_error = (flow.model_output(guess, noisy, level) - (NOISE - CLEAN)).square()
    ratio = (guess - CLEAN).square().sum(dim=(1, 2, 3, 4)) * flow.loss_weight(level)
    ratio = ratio / velocity_error.sum(dim=(1, 2, 3, 4))
    torch.testing.assert_close(ratio, ratio[0].expand(4), rtol=1e-3, atol=0)
    floor = flow.loss_weight(levels(0, 0.1, 0.3))
    torch.testing.assert_close(floor, floor[-1].expand(3))
    assert (objective("flow", "v").loss_weight(level) == 1).all()


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 0.5)])
def test_levels_are_logit_normal(mean, std):
    drawn = draws(ObjectiveConfig(logit_mean=mean, logit_std=std))
    assert ((drawn > 0) & (drawn < 1)).all()
    logits = np.log(drawn / (1 - drawn))
    assert logits.mean() == pytest.approx(mean, abs=5 * std / np.sqrt(len(drawn)))
    assert logits.std() == pytest.approx(std, rel=0.06)
    assert np.mean(np.abs(logits - mean) < std) == pytest.approx(0.683, abs=0.04)


@given(shift=st.floats(1.01, 10))
def test_shift_moves_levels_up(shift):
    plain, moved = (draws(ObjectiveConfig(shift=value), 50) for value in (1.0, shift))
    assert (moved > plain).all() and (moved < 1).all()
    np.testing.assert_allclose(moved, shift * plain / (1 + (shift - 1) * plain))


# ------------------------------------------------------------------ the paper's schedule


@pytest.mark.parametrize("prediction", ["eps", "v", "x"])
def test_schedule_is_that_of_the_sampler(prediction):
    """At each of the 1000 timesteps, and with the meaning that the scheduler gives a target."""
    ddpm = objective("ddpm", prediction)
    config = TrainConfig(objective=ddpm.config, model=ModelConfig(compose=False))
    scheduler = build_scheduler(config)
    timesteps = torch.arange(1000)
    level = timesteps / 1000
    clean, noise = torch.randn(2, 1000, 3)
    noisy = ddpm.add_noise(clean, noise, level)
    expected = scheduler.add_noise(clean, noise, timesteps)
    torch.testing.assert_close(noisy, expected, rtol=1e-4, atol=1e-5)

    target = ddpm.target(clean, noise, level)
    assert torch.equal(ddpm.model_output(target, noisy, level), target)
    scheduler.set_timesteps(50)
    for timestep in (1, 401, 981):
        row = slice(timestep, timestep + 1)
        found = scheduler.step(target[row], timestep, noisy[row]).pred_original_sample
        torch.testing.assert_close(found, clean[row], rtol=1e-3, atol=1e-3)


def test_ddpm_goes_from_almost_clean_to_almost_noise():
    noisy = objective("ddpm", "eps").add_noise(CLEAN, NOISE, levels(0, 0.999, 1, 0.5))
    torch.testing.assert_close(noisy[0], CLEAN[0], rtol=0, atol=0.15)
    torch.testing.assert_close(noisy[1], NOISE[1], rtol=0, atol=0.3)
    # Level 1 is beyond the last timestep and means the last.
    last = objective("ddpm", "eps").add_noise(CLEAN, NOISE, levels(0, 0, 0.999, 0))
    torch.testing.assert_close(noisy[2], last[2])


def test_targets_are_three_names_of_one_thing():
    """v = α·ε − σ·x, with α and σ read off what they do to clean latents and to noise."""
    level, zero = levels(0.0, 0.2, 0.5, 0.999), torch.zeros(SHAPE)
    eps, v, x = (objective("ddpm", name) for name in ("eps", "v", "x"))
    alpha = eps.add_noise(torch.ones(SHAPE), zero, level)
    sigma = eps.add_noise(zero, torch.ones(SHAPE), level)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(SHAPE))
    assert torch.equal(eps.target(CLEAN, NOISE, level), NOISE)
    assert torch.equal(x.target(CLEAN, NOISE, level), CLEAN)
    velocity = v.target(CLEAN, NOISE, level)
    torch.testing.assert_close(velocity, alpha * NOISE - sigma * CLEAN)
    noisy = v.add_noise(CLEAN, NOISE, level)
    torch.testing.assert_close(alpha * noisy - sigma * velocity, CLEAN, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sigma * noisy + alpha * velocity, NOISE, rtol=1e-4, atol=1e-4)


def test_timesteps_are_drawn_evenly():
    drawn = draws(ObjectiveConfig("ddpm", "eps"))
    timesteps = drawn * 1000
    np.testing.assert_allclose(timesteps, timesteps.round())
    assert timesteps.min() >= 0 and timesteps.max() <= 999
    counts, _ = np.histogram(drawn, bins=10, range=(0, 1))
    assert (np.abs(counts - 400) < 100).all()


# ------------------------------------------------------------------ both


@pytest.mark.parametrize(
    ("kind", "prediction", "message"),
    [
        ("flow", "eps", "flow predicts 'x' or 'v', not 'eps'"),
        ("ddpm", "score", "not 'score'"),
    ],
)
def test_unknown_objectives(kind, prediction, message):
    with pytest.raises(ConfigError, match=message):
        objective(kind, prediction)


@given(kind=st.sampled_from(["flow", "ddpm"]), seed=st.integers(0, 2**32 - 1))
def test_draw_is_a_function_of_its_generator(kind, seed):
    built = objective(kind, "x")
    one, two = (built.draw_t(np.random.default_rng(seed)) for _ in range(2))
    assert one == two and 0 <= one < 1
