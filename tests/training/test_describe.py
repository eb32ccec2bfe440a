from __future__ import annotations

import json
import re

import pytest
import torch

from fixtures_runs import tiny_config
from rdtf.data.dataset import PreparedDataset
from rdtf.training.config import TrainConfig, override
from rdtf.training.costs import memory_estimate, state_memory, training_flops
from rdtf.training.describe import describe_run

CPU = torch.device("cpu")


def section(text: str, title: str) -> list[str]:
    """The lines below a heading."""
    block = next(block for block in text.split("\n\n") if block.startswith(title))
    return [line.strip() for line in block.splitlines()[1:]]


def test_values_and_text_say_the_same():
    config = tiny_config(batch_size=4, steps=30)
    values = describe_run(config, device=CPU)
    assert json.loads(json.dumps(values))["config"]["canvas"] == config.canvas
    assert sum(values["parameters_by_part"].values()) == values["parameters"]
    assert values["training_flops_per_clip"] == training_flops(config, config.max_frames)
    assert values["memory_bytes"]["weights"] == 4 * values["parameters"]
    parts = {name: size for name, size in values["memory_bytes"].items() if name != "total"}
    assert sum(parts.values()) == values["memory_bytes"]["total"]
    assert (values["steps"], values["samples"]) == (30, 120)
    assert values["seconds"] == pytest.approx(30 * values["seconds_per_step"])

    text = values["text"]
    assert f"Parameters: {values['parameters'] / 1e6:.1f} M" in text
    assert "Memory for 4 clips at a time, fp32" in text
    assert "samples        120 (4 a step)" in text
    assert values["time_is_measured"] and values["time_source"] in text


def test_settings_are_printed_as_set_takes_them():
    config = tiny_config(optimizer__ema_decays=(0.9, 0.99), engine__offload_ema=True)
    rows = section(describe_run(config, device=CPU)["text"], "Settings")
    assert len(rows) > 50
    pairs = [re.split(r" {2,}", row, maxsplit=1) for row in rows]
    settings = {name: value for name, value, *_ in ([*pair, ""] for pair in pairs)}
    assert override(TrainConfig(), settings) == config


def test_a_small_card_that_is_enough():
    values = describe_run(tiny_config(), device=CPU)
    assert values["lean"] is None and "A card of 8 GB is enough." in values["text"]


def test_what_to_lower_for_a_small_card():
    config = tiny_config(canvas=256, batch_size=64)
    values = describe_run(config, device=CPU)
    assert values["memory_bytes"]["total"] > 8e9 > values["lean"]["total"]
    line = next(line for line in values["text"].splitlines() if "For a card of 8 GB" in line)
    lean = override(config, dict(re.findall(r"(engine\.\w+)=(\w+)", line)))
    assert lean.engine.gradient_checkpointing and lean.engine.offload_ema
    clips = lean.engine.micro_batch_size
    assert 1 < clips < 64 and clips == values["lean"]["settings"]["engine.micro_batch_size"]
    estimate = memory_estimate(lean, clips, config.max_frames)
    assert 0.5 * values["lean"]["total"] < estimate.total <= 1.01 * values["lean"]["total"]


def test_a_small_card_that_is_never_enough():
    config = tiny_config(canvas=4096, gradient_checkpointing=True)
    values = describe_run(config, device=CPU)
    assert values["lean"] is None and "Too much for a card of 8 GB" in values["text"]
    assert values["hardware_flops_per_clip"] == values["training_flops_per_clip"] * 4 // 3
    assert "with recomputing (gradient checkpointing)" in values["text"]
    assert not values["time_is_measured"] and "reckoned" in values["text"]


def test_ranks_share_a_step():
    config = tiny_config(batch_size=4, engine__parallel="fsdp")
    values = describe_run(config, device=CPU, world_size=2)
    assert values["micro_batch_size"] == 2 and "each of 2 ranks" in values["text"]
    assert values["memory_bytes"]["weights"] == state_memory(config).weights // 2
    assert "gathered blocks (FSDP)" in values["text"]


def test_with_data_the_time_is_that_of_its_clips(training_set):
    config = tiny_config(data__still_share=0.5)
    values = describe_run(config, training_set, device=CPU)
    clips = PreparedDataset(training_set).clips("train")
    stills = [clip for clip in clips if clip.num_frames == 1]
    assert 0 < len(stills) < len(clips)
    assert (values["data"]["clips"], values["data"]["stills"]) == (len(clips), len(stills))
    shortest, longest = training_flops(config, 1), training_flops(config, config.max_frames)
    assert shortest < values["data"]["mean_flops"] < 0.5 * (shortest + longest) + 1
    assert f"{len(clips)} clips, {len(stills)} of them stills" in values["text"]
    assert "clips as long as in the data" in values["text"]
    assert "every clip taken as 4 frames long" in describe_run(config, device=CPU)["text"]
