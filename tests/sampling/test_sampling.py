from __future__ import annotations

import importlib
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from models.networks import random_clip, stacked, tiny_dfgn
from rdtf.method.objective import Objective, ObjectiveConfig, build_objective
from rdtf.models.conditions import Conditions
from rdtf.models.latents import MOTION_CHANNELS
from rdtf.sampling.sampling import sample
from rdtf.training.config import ModelConfig, TrainConfig
from rdtf.training.presets import build_scheduler

FLOW_X, FLOW_V = ObjectiveConfig("flow", "x"), ObjectiveConfig("flow", "v")
DDPM = [ObjectiveConfig("ddpm", prediction) for prediction in ("eps", "v", "x")]


@dataclass
class Oracle:
    """A denoiser that knows the answer, and notes what it was told."""

    truth: Tensor
    objective: Objective
    told: list[tuple[bool, bool]] = field(default_factory=list)
    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __call__(self, noisy: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        has_text = any(bool(mask.any()) for mask in conditions.text_mask)
        self.told.append((has_text, bool(conditions.given.any())))
        self.seen.append((noisy, t))
        # The noise that, added to the truth, makes what is seen.
        zeros, ones = torch.zeros_like(noisy), torch.ones_like(noisy)
        signal = self.objective.add_noise(self.truth, zeros, t)
        noise = (noisy - signal) / self.objective.add_noise(zeros, ones, t)
        return self.objective.target(self.truth, noise, t)


def scheduler_of(config: ObjectiveConfig) -> Any:
    return build_scheduler(TrainConfig(objective=config, model=ModelConfig(compose=False)))


def conditions(given: list[bool], seed: int = 0) -> Conditions:
    clip = random_clip(given, seed=seed)
    clean = torch.where(clip.given[:, None, :, None, None], clip.clean, 0.0)
    return replace(clip.conditions, clean=clean)


def noise_like(conditions: Conditions, seed: int = 9) -> Tensor:
    return torch.randn(conditions.clean.shape, generator=torch.Generator().manual_seed(seed))


def sampled(
    model: Any, config: ObjectiveConfig, told: Conditions, steps: int = 4, **options: Any
) -> Tensor:
    """With the scheduler that belongs to the objective, unless one is named."""
    scheduler = options.pop("scheduler", None) or scheduler_of(config)
    noise = options.pop("noise", noise_like(told))
    objective = build_objective(config)
    return sample(model, objective, scheduler, told, noise, num_inference_steps=steps, **options)


def recovered(config: ObjectiveConfig, steps: int, scheduler: Any = None) -> tuple[Tensor, Tensor]:
    """What comes out with a perfect denoiser, and the truth."""
    told = conditions([True, False, False])
    truth = torch.randn(told.clean.shape, generator=torch.Generator().manual_seed(4))
    told = replace(told, clean=torch.where(told.given[:, None, :, None, None], truth, 0.0))
    oracle = Oracle(truth, build_objective(config))
    return sampled(oracle, config, told, steps, scheduler=scheduler), truth


# ------------------------------------------------------------------ schedulers


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("prediction", ["x", "v"])
def test_exact_flow_prediction_leads_to_the_clean_latents(prediction, shift, steps):
    out, truth = recovered(ObjectiveConfig("flow", prediction, shift=shift), steps)
    torch.testing.assert_close(out, truth, rtol=1e-4, atol=1e-4)


MULTISTEP_FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
FLOW_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "Euler, shifted": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "Euler, stochastic": ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}),
    "Euler, Karras": ("FlowMatchEulerDiscreteScheduler", {"use_karras_sigmas": True}),
    "Heun": ("FlowMatchHeunDiscreteScheduler", {}),
    "DPM-Solver++": ("DPMSolverMultistepScheduler", MULTISTEP_FLOW),
    "DPM-Solver++, single": ("DPMSolverSinglestepScheduler", MULTISTEP_FLOW),
    "UniPC": ("UniPCMultistepScheduler", MULTISTEP_FLOW),
}


def exchanged(config: ObjectiveConfig, kind: str, options: dict[str, Any]) -> Any:
    """As users exchange schedulers: by the config of the one that the model has."""
    own = scheduler_of(config).config
    return getattr(importlib.import_module("diffusers"), kind).from_config(own, **options)


@pytest.mark.parametrize("steps", [4, 9])
@pytest.mark.parametrize("name", FLOW_SCHEDULERS)
def test_flow_schedulers_can_be_exchanged(name, steps):
    out, truth = recovered(FLOW_X, steps, exchanged(FLOW_X, *FLOW_SCHEDULERS[name]))
    torch.testing.assert_close(out, truth, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("config", DDPM, ids=lambda config: config.prediction)
@pytest.mark.parametrize("steps", [5, 50])
def test_exact_ddpm_prediction_leads_to_the_clean_latents(config, steps):
    """Up to the noise of timestep 0, where the paper's DDIM ends: 3 % of what it started from."""
    out, truth = recovered(config, steps)
    torch.testing.assert_close(out, truth, rtol=0, atol=0.15)
    error, mask = (out - truth)[:, :, 1:], torch.tensor([False, True, True])
    assert 0.02 < error.std() < 0.04
    start = noise_like(conditions([True, False, False]))[:, :, mask]
    assert torch.corrcoef(torch.stack([error.flatten(), start.flatten()]))[0, 1] > 0.95


#: And how near they come; DDIM and those that end as it does stop at the noise of timestep 0.
DDPM_SCHEDULERS: dict[str, float] = {
    "DDIMScheduler": 0.15,
    "DDPMScheduler": 0.15,
    "PNDMScheduler": 0.15,
    "DPMSolverMultistepScheduler": 1e-3,
    "DPMSolverSinglestepScheduler": 1e-3,
    "UniPCMultistepScheduler": 1e-3,
    "EulerDiscreteScheduler": 1e-3,
    "EulerAncestralDiscreteScheduler": 1e-3,
    "HeunDiscreteScheduler": 1e-3,
    "LMSDiscreteScheduler": 1e-3,
    "KDPM2DiscreteScheduler": 1e-3,
}


@pytest.mark.parametrize("config", DDPM[:2], ids=lambda config: config.prediction)
@pytest.mark.parametrize("kind", DDPM_SCHEDULERS)
def test_ddpm_schedulers_can_be_exchanged(kind, config):
    out, truth = recovered(config, 10, exchanged(config, kind, {}))
    torch.testing.assert_close(out, truth, rtol=0, atol=DDPM_SCHEDULERS[kind])


@pytest.mark.parametrize("kind", ["DPMSolverMultistepScheduler", "EulerDiscreteScheduler"])
def test_schedulers_of_a_predicted_picture(kind):
    config = DDPM[2]
    out, truth = recovered(config, 10, exchanged(config, kind, {}))
    torch.testing.assert_close(out, truth, rtol=0, atol=1e-3)


# ------------------------------------------------------------------ given frames


@pytest.mark.parametrize("config", [FLOW_V, DDPM[0]], ids=lambda config: config.kind)
@pytest.mark.parametrize("given", [[True, False, True], [False, True, False], [True] * 3])
def test_given_frames_come_back_exactly(config, given):
    told = conditions(given)
    network = tiny_dfgn(compose=False, prediction=config.prediction)
    out = sampled(network, config, told)
    assert out.shape == told.clean.shape and out.isfinite().all()
    mask = told.given[0]
    assert torch.equal(out[:, :, mask], told.clean[:, :, mask])
    if not all(given):
        assert (out[:, :, ~mask] - told.clean[:, :, ~mask]).abs().max() > 0.1


@pytest.mark.parametrize("config", [FLOW_X, DDPM[0]], ids=lambda config: config.kind)
def test_given_frames_are_re_imposed_at_every_noise_level(config):
    """Even beside a denoiser that would lead them elsewhere."""
    told, objective = conditions([True, False, True]), build_objective(config)
    oracle = Oracle(torch.zeros_like(told.clean), objective)
    noise = noise_like(told)
    sampled(oracle, config, told, steps=5, noise=noise)
    assert len(oracle.seen) == 5
    for noisy, level in oracle.seen:
        expected = objective.add_noise(told.clean, noise, level)
        torch.testing.assert_close(noisy[:, :, ::2], expected[:, :, ::2])


def test_hidden_content_of_the_conditions_is_not_read():
    told, network = conditions([True, False, False]), tiny_dfgn()
    hidden = ~told.given[:, None, :, None, None]
    spoiled = replace(told, clean=told.clean.masked_fill(hidden, torch.nan))
    assert torch.equal(sampled(network, FLOW_X, spoiled), sampled(network, FLOW_X, told))


def test_padding_changes_nothing():
    told, network = conditions([True, False, False]), tiny_dfgn()
    noise = noise_like(told)
    longer = random_clip([True, False, False]).padded(2, 5.0)
    padded = replace(told, clean=longer.clean, given=longer.given, valid=longer.valid)
    noise_padded = torch.cat([noise, torch.ones_like(noise[:, :, :2])], dim=2)
    out = sampled(network, FLOW_X, padded, noise=noise_padded)[:, :, :3]
    torch.testing.assert_close(
        out, sampled(network, FLOW_X, told, noise=noise), atol=1e-4, rtol=1e-4
    )


def test_clips_of_a_batch_do_not_meet():
    one, two = random_clip([True, False], seed=1), random_clip([False, False], seed=2)
    both = stacked(one, two)
    network, noise = tiny_dfgn(), both.noisy

    def completed(clip: Any, noise: Tensor) -> Tensor:
        return sampled(network, FLOW_X, clip.conditions, noise=noise)

    together = completed(both, noise)
    torch.testing.assert_close(together[:1], completed(one, noise[:1]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together[1:], completed(two, noise[1:]), atol=1e-4, rtol=1e-4)


# ------------------------------------------------------------------ guidance


def calls(told: Conditions, **scales: float) -> list[tuple[bool, bool]]:
    """What the denoiser is told in a single step: (text, given frames) of every evaluation."""
    oracle = Oracle(torch.zeros_like(told.clean), build_objective(FLOW_X))
    sampled(oracle, FLOW_X, told, steps=1, **scales)
    return oracle.told


WITHOUT_TEXT = {"text": [], "text_mask": []}
BOTH, IMAGE, TEXT, NOTHING = (True, True), (False, True), (True, False), (False, False)


def test_no_guidance_is_one_evaluation_a_step():
    told = conditions([True, False])
    assert calls(told) == [BOTH]
    oracle = Oracle(torch.zeros_like(told.clean), build_objective(FLOW_X))
    sampled(oracle, FLOW_X, told, steps=6)
    assert oracle.told == [BOTH] * 6


def test_guidance_asks_for_no_more_than_it_needs():
    both, text_only = conditions([True, False]), conditions([False, False])
    image_only = replace(both, **cast(Any, WITHOUT_TEXT))
    assert calls(both, guidance_scale=2.0) == [BOTH, IMAGE]
    assert calls(both, image_guidance_scale=2.0) == [BOTH, IMAGE, NOTHING]
    assert calls(both, guidance_scale=2.0, image_guidance_scale=2.0) == [BOTH, IMAGE, NOTHING]
    # A guidance for what is not there costs nothing.
    assert calls(text_only, guidance_scale=2.0, image_guidance_scale=2.0) == [TEXT, NOTHING]
    assert calls(image_only, guidance_scale=2.0) == [IMAGE]
    assert calls(image_only, image_guidance_scale=2.0) == [IMAGE, NOTHING]
    assert calls(replace(text_only, **cast(Any, WITHOUT_TEXT)), guidance_scale=3.0) == [NOTHING]


@pytest.mark.parametrize("text_scale", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("image_scale", [0.0, 1.0, 3.0])
def test_scales_multiply_what_text_and_given_frames_add(text_scale, image_scale):
    """With a velocity to which given frames add 1 and text adds 4, in one step to clean."""

    def velocity(noisy: Tensor, _: Tensor, told: Conditions) -> Tensor:
        return torch.full_like(noisy, float(told.given.any()) + 4.0 * bool(told.text))

    told = conditions([True, False])
    scales = {"guidance_scale": text_scale, "image_guidance_scale": image_scale}
    out = sampled(velocity, FLOW_V, told, steps=1, **scales)
    expected = noise_like(told) - (image_scale + 4.0 * text_scale)
    torch.testing.assert_close(out[:, :, 1], expected[:, :, 1])


@pytest.mark.parametrize("prediction", ["x", "v"])
def test_image_guidance_leaves_motion_alone(prediction):
    """Without given frames predicted motion is 0: the scale would be a factor of it."""
    told = conditions([True, False, False])
    clean = torch.nn.functional.pad(told.clean, [0] * 6 + [0, MOTION_CHANNELS])
    told = replace(told, clean=clean)
    network = tiny_dfgn(motion="alone") if prediction == "x" else _MovingVelocity()
    config = ObjectiveConfig("flow", prediction)
    plain, guided = (
        sampled(network, config, told, steps=1, image_guidance_scale=scale) for scale in (1.0, 3.0)
    )
    pixels = told.clean.shape[1] - MOTION_CHANNELS
    assert torch.equal(plain[:, pixels:], guided[:, pixels:])
    assert plain[:, pixels:, 1:].abs().max() > 0.1
    assert (plain - guided)[:, :pixels, 1:].abs().max() > 1e-3


class _MovingVelocity:
    """Predicts something for pixels and motion alike, if frames are given."""

    motion_channels = MOTION_CHANNELS
    config = SimpleNamespace(patch=2)

    def __call__(self, noisy: Tensor, _: Tensor, told: Conditions) -> Tensor:
        return noisy * float(told.given.any()) + 1.0


@pytest.fixture(scope="module")
def network():
    return tiny_dfgn()


def test_both_guidances_change_the_result(network):
    told = conditions([True, False, False])
    plain = sampled(network, FLOW_X, told)
    by_text = sampled(network, FLOW_X, told, guidance_scale=3.0)
    by_image = sampled(network, FLOW_X, told, image_guidance_scale=3.0)
    for one, other in ((by_text, plain), (by_image, plain), (by_text, by_image)):
        assert (one - other)[:, :, 1:].abs().max() > 1e-3
    # Given frames are beyond guidance.
    assert torch.equal(by_text[:, :, :1], told.clean[:, :, :1])
    assert torch.equal(by_image[:, :, :1], told.clean[:, :, :1])


def test_guidance_of_zero_is_no_text(network):
    told = conditions([True, False])
    silent = replace(told, **cast(Any, WITHOUT_TEXT))
    torch.testing.assert_close(
        sampled(network, FLOW_X, told, guidance_scale=0.0),
        sampled(network, FLOW_X, silent),
        atol=1e-4,
        rtol=1e-4,
    )


# ------------------------------------------------------------------ the loop


def test_same_noise_same_result(network):
    told = conditions([True, False, False])
    first = sampled(network, FLOW_X, told)
    assert torch.equal(sampled(network, FLOW_X, told), first)
    other = sampled(network, FLOW_X, told, noise=noise_like(told, seed=10))
    assert (other - first)[:, :, 1:].abs().max() > 1e-3


def test_scheduler_can_be_used_again(network):
    told, scheduler = conditions([True, False]), scheduler_of(FLOW_X)
    first = sampled(network, FLOW_X, told, scheduler=scheduler)
    sampled(network, FLOW_X, told, steps=7, scheduler=scheduler)
    assert torch.equal(sampled(network, FLOW_X, told, scheduler=scheduler), first)


def test_callback_sees_every_step_from_noise_to_clean(network):
    seen: list[tuple[int, float, torch.Size]] = []
    told = conditions([True, False])
    sampled(
        network,
        FLOW_X,
        told,
        steps=5,
        callback=lambda index, level, latents: seen.append((index, level, latents.shape)),
    )
    assert [index for index, _, _ in seen] == [0, 1, 2, 3, 4]
    levels = [level for _, level, _ in seen]
    assert levels == sorted(levels, reverse=True) and levels[0] == pytest.approx(1.0)
    assert {shape for _, _, shape in seen} == {told.clean.shape}


def test_sampling_leaves_no_graph(network):
    assert not sampled(network, FLOW_X, conditions([True, False])).requires_grad
