from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rdtf.errors import ConfigError
from rdtf.method.objective import ObjectiveConfig, build_objective
from rdtf.research.adapters import (
    CustomizeAVideo,
    learn_motion,
)
from rdtf.research.adapters.customize_a_video import _lora_parameters
from rdtf.research.adapters.use import crop

from .networks import CHANNELS, TEXT_WIDTH, clips, perturb, tiny_adapter, tiny_base

NAME = "customize-a-video"


def awake() -> Any:
    return tiny_adapter(NAME)


# ------------------------------------------------------------------ where the adapters sit


def test_absorber_is_within_the_frame_and_motion_is_over_time():
    base = awake().base
    absorber, motion = _lora_parameters(base, "appearance"), _lora_parameters(base, "motion")
    assert absorber and all(".attentions." in path for path in absorber)
    assert motion and all(".temp_attentions." in path for path in motion)
    for parameters in (absorber, motion):
        kinds = {path.split(".lora_")[0].split("attn")[1].split(".", 1)[1] for path in parameters}
        assert kinds == {"to_q", "to_k", "to_v", "to_out.0"}


def test_rank_must_be_positive():
    with pytest.raises(ConfigError, match="rank"):
        CustomizeAVideo(tiny_base("video"), rank=0)


# ------------------------------------------------------------------ the stages


def test_appearance_stage_sees_single_images():
    """Layers over time are bypassed: frames neither see each other nor have an order."""
    adapter, batch = awake(), clips([[False] * 3])
    adapter.begin("appearance")
    out = batch.through(adapter)
    order = [2, 0, 1]
    shuffled = batch.replace(noisy=batch.noisy[:, :, order])
    torch.testing.assert_close(shuffled.through(adapter), out[:, :, order], rtol=1e-4, atol=1e-5)
    other = batch.noisy.clone()
    other[:, :, 0] += 1
    change = batch.replace(noisy=other).through(adapter) - out
    assert not change[:, :, 1:].any() and change[:, :, 0].any()


def test_time_comes_back_in_the_motion_stage():
    adapter, batch = awake(), clips([[False] * 3])
    adapter.begin("motion")
    expected = batch.through(adapter)
    adapter.begin("appearance")
    assert (batch.through(adapter) - expected).abs().max() > 1e-3
    adapter.begin("motion")
    assert batch.through(adapter).equal(expected)


def test_absorber_is_frozen_in_the_motion_stage_and_dropped_at_sampling():
    adapter, batch = awake(), clips([[False] * 3])
    absorber = _lora_parameters(adapter.base, "appearance").values()
    adapter.begin("motion")
    assert not any(parameter.requires_grad for parameter in absorber)
    trained = batch.through(adapter)
    adapter.begin("sampling")
    dropped = batch.through(adapter)
    assert (dropped - trained).abs().max() > 1e-4
    perturb(absorber)
    assert batch.through(adapter).equal(dropped)


def test_over_a_set_the_absorber_stays():
    adapter, batch = tiny_adapter(NAME, keep_appearance=True), clips([[False] * 3])
    adapter.begin("motion")
    expected = batch.through(adapter)
    adapter.begin("sampling")
    torch.testing.assert_close(batch.through(adapter), expected, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------ one clip, start to end


def test_one_shot_learns_the_clip_and_is_ready_to_sample(tmp_path):
    generator = torch.Generator().manual_seed(1)
    clean = torch.randn(1, CHANNELS, 3, 8, 8, generator=generator)
    prompt = ([torch.randn(1, 2, TEXT_WIDTH)], [torch.ones(1, 2, dtype=torch.bool)])
    adapter: Any = tiny_adapter(NAME, awake=False)
    objective = build_objective(ObjectiveConfig("ddpm", "eps"))
    frozen = {name: p.clone() for name, p in adapter.base.named_parameters() if "lora" not in name}
    options: Any = {"prompt": prompt, "steps": (6, 6), "learning_rate": 3e-3}
    losses = learn_motion(adapter, objective, clean, **options)
    assert {stage: len(values) for stage, values in losses.items()} == {
        "appearance": 6,
        "motion": 6,
    }
    assert adapter.stage == "sampling"
    for part in ("appearance", "motion"):
        learnt = _lora_parameters(adapter.base, part)
        assert all(p.any() for path, p in learnt.items() if "lora_B" in path)
    for name, parameter in adapter.base.named_parameters():
        assert "lora" in name or parameter.equal(frozen[name])
    again: Any = tiny_adapter(NAME, awake=False)
    assert learn_motion(again, objective, clean, **options) == losses
    for steps in ((6, 2), (6, 6)):  # gone on from its folder
        part: Any = tiny_adapter(NAME, awake=False)
        found = learn_motion(part, objective, clean, **{**options, "steps": steps}, run=tmp_path)
    assert found == losses


def test_crop_is_a_window_of_all_frames():
    clean = torch.arange(64.0).view(1, 1, 1, 8, 8).expand(1, 1, 3, -1, -1)
    for seed in range(20):
        window = crop(clean, np.random.default_rng(seed))
        height, width = window.shape[-2:]
        assert height == width and 3 <= height <= 5 and window.shape[2] == 3
        corner = window[0, 0, 0]
        assert corner.diff(dim=1).eq(1).all() and corner.diff(dim=0).eq(8).all()
