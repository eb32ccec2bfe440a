"""`--dry-run`: FLOPs are those of the real model, one step is measured, text and values agree."""

from __future__ import annotations

import json
import shlex

import pytest
import torch
import tyro
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fixtures_runs import tiny_config
from rdtf.data.dataset import PreparedDataset
from rdtf.models.conditions import Conditions
from rdtf.models.latents import MOTION_CHANNELS
from rdtf.training.config import TrainConfig, from_dict, to_dict
from rdtf.training.cost import (
    describe_run,
    measure_step,
    training_flops,
)
from rdtf.training.presets import build_models

CPU = torch.device("cpu")


def inputs(config: TrainConfig, frames: int) -> tuple[object, ...]:
    """Random clips with captions of full length, as the denoiser takes them."""
    side = config.canvas // config.representation.patch
    channels = 4 * config.representation.patch**2
    motion = MOTION_CHANNELS if config.model.compose and config.model.motion != "none" else 0
    conditions = Conditions(
        clean=torch.randn(1, channels, frames, side, side),
        given=torch.zeros(1, frames, dtype=torch.bool),  # all frames are to be made
        valid=torch.ones(1, frames, dtype=torch.bool),
        text=[torch.randn(1, config.text.max_tokens, 384)],
        text_mask=[torch.ones(1, config.text.max_tokens, dtype=torch.bool)],
    )
    return torch.randn(1, channels + motion, frames, side, side), torch.rand(1), conditions


@pytest.mark.parametrize("settings", [{}, {"model__temporal_layer": "conv3d"}])
@pytest.mark.parametrize("frames", [1, 4, 7])
def test_flops_are_those_of_the_real_model(settings, frames):
    config = tiny_config(**settings)
    model = build_models(config)[0]
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(*inputs(config, frames))
    assert training_flops(config, frames) == 3 * counter.get_total_flops()
    assert training_flops(config, frames, batch=6) == 18 * counter.get_total_flops()


def test_backward_is_twice_the_forward():
    config = tiny_config()
    model = build_models(config)[0]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(*inputs(config, 4)).square().sum().backward()
    assert training_flops(config, 4) == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_a_config_read_from_a_file_has_costs_too():
    config = tiny_config()
    read = from_dict(TrainConfig, json.loads(json.dumps(to_dict(config))))
    assert training_flops(read, 3) == training_flops(config, 3)


def test_a_measured_step_takes_nobodys_random_numbers():
    config = tiny_config(batch_size=4, engine__gradient_checkpointing=True)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    step = measure_step(config, CPU)
    assert torch.equal(torch.rand(3), expected)
    assert step["seconds"] > 0 and step["memory_bytes"] > 1e6 and step["clips"] == 1


def test_values_and_text_say_the_same():
    config = tiny_config(batch_size=4, steps=30)
    values = describe_run(config, device=CPU)
    assert json.loads(json.dumps(values))["config"]["canvas"] == config.canvas
    assert sum(values["parameters_by_part"].values()) == values["parameters"]
    assert values["training_flops_per_step"] == training_flops(config, config.max_frames, 4)
    assert values["state_bytes"] == 5 * 4 * values["parameters"]
    assert (values["steps"], values["samples"]) == (30, 120)
    assert values["seconds"] == pytest.approx(30 * values["seconds_per_step"])
    assert values["seconds_per_step"] == values["measured"]["seconds"]

    text = values["text"]
    assert f"Parameters: {values['parameters'] / 1e6:.1f} M" in text
    assert "peak of one step, 1 clip at a time (measured)" in text
    assert "120 (4 a step)" in text and "all clips 4 frames long" in text


def test_settings_are_printed_as_options():
    config = tiny_config(optimizer__ema_decays=(0.9, 0.99), engine__offload_ema=True)
    text = describe_run(config, device=CPU)["text"].split("\n\n")[0]
    words = shlex.split(text.removeprefix("Settings"))
    assert len(words) > 100
    assert tyro.cli(TrainConfig, args=words) == config


def test_what_is_too_large_for_a_cpu_is_not_run():
    values = describe_run(tiny_config(canvas=4096), device=CPU)
    assert values["measured"] is None and values["seconds"] is None
    assert "too large for this CPU" in values["text"]


def test_with_data_the_passes_over_it_are_told(training_set):
    values = describe_run(tiny_config(), training_set, device=CPU)
    clips = PreparedDataset(training_set).clips("train")
    stills = [clip for clip in clips if clip.num_frames == 1]
    assert 0 < len(stills) < len(clips)
    assert values["data"] == {"clips": len(clips), "stills": len(stills)}
    assert f"{len(clips)} clips, {len(stills)} stills; 0.571 passes" in values["text"]
