from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

from rdtf.errors import ConfigError
from rdtf.method.objective import ObjectiveConfig, build_objective
from rdtf.models.conditions import Conditions
from rdtf.research.adapters import FrameSimilarityPrior, sample_with_prior
from rdtf.research.adapters.i2v_adapter import _gaussian_blur
from rdtf.sampling.sampling import sample

from .networks import Clips, clips, tiny_adapter

DDPM = ObjectiveConfig("ddpm", "eps")
FLOW = ObjectiveConfig("flow", "v")


def ddim() -> Any:
    return DDIMScheduler(
        beta_start=DDPM.beta_start,
        beta_end=DDPM.beta_end,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


SCHEDULERS = {
    "ddim": (DDPM, ddim),
    "dpm": (DDPM, lambda: DPMSolverMultistepScheduler.from_config(ddim().config)),
    "flow": (FLOW, FlowMatchEulerDiscreteScheduler),
}


def conditions(batch: Clips) -> Conditions:
    return batch.conditions


class FirstLook(torch.nn.Module):
    """The adapter, remembering at which level and from what the sampling began."""

    def __init__(self, adapter: torch.nn.Module) -> None:
        super().__init__()
        self.adapter = adapter
        self.levels: list[float] = []
        self.starts: list[torch.Tensor] = []

    def forward(self, noisy: torch.Tensor, t: torch.Tensor, conditions: Any) -> torch.Tensor:
        self.levels.append(float(t[0]))
        self.starts.append(noisy)
        return self.adapter(noisy, t, conditions)


def run(kind: str, prior: FrameSimilarityPrior, batch: Clips, steps: int = 5) -> Any:
    config, scheduler = SCHEDULERS[kind]
    model = FirstLook(tiny_adapter("i2v-adapter").eval())
    generator = torch.Generator().manual_seed(0)
    out = sample_with_prior(
        model,
        build_objective(config),
        scheduler(),
        conditions(batch),
        batch.noisy,
        prior,
        num_inference_steps=steps,
        generator=generator,
    )
    return out, model


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("start_t", [1.0, 0.6])
def test_result_keeps_the_given_frame_and_starts_where_it_says(kind, start_t):
    batch = clips([[True, False, False]])
    out, model = run(kind, FrameSimilarityPrior(start_t), batch)
    assert out[:, :, 0].equal(batch.clean[:, :, 0]) and out.isfinite().all()
    assert model.levels == sorted(model.levels, reverse=True)
    assert model.levels[0] <= start_t + 1e-6
    assert len(model.levels) == (5 if start_t == 1.0 else 3)


@pytest.mark.parametrize("start_t", [1.0, 0.8, 0.3])
def test_levels_of_a_flow_are_evenly_spaced(start_t):
    """As without the prior: the last of them is one step above zero."""
    _, model = run("flow", FrameSimilarityPrior(start_t), clips([[True, False]]), steps=10)
    count = round(10 * start_t)
    assert model.levels == pytest.approx([(count - n) / 10 for n in range(count)], abs=1e-3)


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_start_is_the_noised_degraded_still(kind):
    """Without blur: what the objective makes of the still at that level, at every hidden frame."""
    batch = clips([[False, True, False]])
    _, model = run(kind, FrameSimilarityPrior(0.6, blur_share=0.0), batch)
    objective = build_objective(SCHEDULERS[kind][0])
    still = batch.clean[:, :, 1:2].expand_as(batch.clean)
    level = torch.tensor([model.levels[0]])
    hidden = [0, 2]
    torch.testing.assert_close(
        model.starts[0][:, :, hidden],
        objective.add_noise(still, batch.noisy, level)[:, :, hidden],
    )


class Knows(torch.nn.Module):
    """Predicts the clean clip without a fault."""

    def __init__(self, clean: torch.Tensor) -> None:
        super().__init__()
        self.clean = clean

    def forward(self, *_: Any) -> torch.Tensor:
        return self.clean


@pytest.mark.parametrize("start_t", [1.0, 0.6, 0.3])
def test_late_start_takes_the_steps_of_its_own_levels(start_t):
    """With a perfect estimate every step lies on the line to the clean clip, which it reaches."""
    batch = clips([[True, False, False]])
    out = sample_with_prior(
        Knows(batch.clean),
        build_objective(ObjectiveConfig("flow", "x")),
        SCHEDULERS["flow"][1](),
        conditions(batch),
        batch.noisy,
        FrameSimilarityPrior(start_t),
        num_inference_steps=6,
        generator=torch.Generator().manual_seed(0),
    )
    torch.testing.assert_close(out, batch.clean, rtol=0, atol=0.01)


def test_without_given_frames_it_is_plain_sampling():
    batch = clips([[False, False, False]])
    out, _ = run("ddim", FrameSimilarityPrior(1.0), batch)
    plain = sample(
        tiny_adapter("i2v-adapter").eval(),  # pyright: ignore
        build_objective(DDPM),
        ddim(),
        conditions(batch),
        batch.noisy,
        num_inference_steps=5,
        generator=torch.Generator().manual_seed(0),
    )
    assert out.equal(plain)
    with pytest.raises(ConfigError, match="start late"):
        run("ddim", FrameSimilarityPrior(0.6), batch)


def test_each_frame_starts_from_the_given_one_that_is_nearest():
    batch = clips([[True, False, False, True]])
    degraded = FrameSimilarityPrior(blur_share=0.0).degrade(batch.clean, batch.given)
    assert degraded.equal(batch.clean[:, :, [0, 0, 3, 3]])


def test_blur_share_is_the_share_of_blurred_elements():
    batch = clips([[True, False]], size=(32, 32))
    blurred = _gaussian_blur(batch.clean, 9, 18.0)[:, :, 0]
    for share in (0.0, 0.3, 1.0):
        prior = FrameSimilarityPrior(blur_share=share)
        degraded = prior.degrade(batch.clean, batch.given, torch.Generator().manual_seed(1))
        taken = degraded[:, :, 1].eq(blurred).float().mean()
        assert float(taken) == pytest.approx(share, abs=0.03)
        assert (degraded[:, :, 1].eq(blurred) | degraded[:, :, 1].eq(batch.clean[:, :, 0])).all()


@pytest.mark.parametrize("size", [(64, 64), (4, 5), (1, 3)])
def test_blur_keeps_flat_and_smooths_the_rest(size):
    flat = torch.full((1, 2, 2, *size), 0.7)
    torch.testing.assert_close(_gaussian_blur(flat, 9, 18.0), flat)
    noise = torch.randn(1, 2, 2, *size, generator=torch.Generator().manual_seed(0))
    assert _gaussian_blur(noise, 9, 18.0).var() < noise.var()


@pytest.mark.parametrize(
    "setting",
    [
        {"start_t": 0.0},
        {"start_t": 1.1},
        {"blur_share": -0.1},
        {"kernel_size": 4},
        {"sigma": 0.0},
    ],
)
def test_impossible_priors_are_refused(setting):
    with pytest.raises(ConfigError):
        FrameSimilarityPrior(**setting)
