"""Runs that start from the weights of a model."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from fixtures_runs import tiny_config
from rdtf.errors import CheckpointError, ConfigError
from rdtf.models.loading import load_weights_of
from rdtf.sampling.pipeline import SHIPPED_MODEL, StickerPipeline
from rdtf.training.config import override
from rdtf.training.presets import build_models, load_warm_start, warm_start_config
from rdtf.training.train import train


def weights_of(run):
    return load_file(run / "pipeline" / "denoiser" / "diffusion_pytorch_model.safetensors")


def test_starts_as_the_model_that_it_starts_from(tiny_run, training_set, tmp_path):
    config = warm_start_config(tiny_config(steps=1, optimizer__learning_rate=0.0), str(tiny_run))
    train(config, training_set, tmp_path / "run", quiet=True)
    before, after = weights_of(tiny_run), weights_of(tmp_path / "run")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_model_without_motion_latents_learns_them(training_set, tmp_path):
    """What it knows it keeps; motion, and how it composes by it, are new."""
    tiny_run = tmp_path / "without"
    train(tiny_config(steps=1, model__motion="none"), training_set, tiny_run, quiet=True)
    config = warm_start_config(tiny_config(), str(tiny_run))
    config = override(config, {"model.motion": "alone", "steps": 2})
    model, *_ = build_models(config)
    fresh = {name: values.clone() for name, values in model.state_dict().items()}
    load_warm_start(model, str(tiny_run))
    old, grown = weights_of(tiny_run), model.state_dict()
    kept = {name for name in old if torch.equal(grown[name], old[name])}
    new = {name for name in fresh if torch.equal(grown[name], fresh[name])}
    assert {name for name in old if not name.startswith("composer.")} - kept == {"conv_in.weight"}
    assert {name for name in fresh if name.startswith(("composer.", "conv_motion"))} <= new
    seen = old["conv_in.weight"].shape[1]
    assert torch.equal(grown["conv_in.weight"][:, :seen], old["conv_in.weight"])
    assert not grown["conv_in.weight"][:, seen:].any()

    train(config, training_set, tmp_path / "run", quiet=True)
    pipeline = StickerPipeline.from_pretrained(tmp_path / "run" / "pipeline")
    assert pipeline.denoiser.motion_channels == 2


def test_the_model_that_ships_is_a_start():
    config = warm_start_config(tiny_config(), "shipped")
    model, *_ = build_models(config)
    load_warm_start(model, "shipped")
    shipped = load_weights_of(SHIPPED_MODEL / "denoiser")
    weights = model.state_dict()
    assert all(torch.equal(weights[name], shipped[name]) for name in shipped)


def test_there_must_be_a_model(tmp_path):
    with pytest.raises(CheckpointError, match="no saved model"):
        warm_start_config(tiny_config(), str(tmp_path))


def test_only_pixels_can_be_started_from(tiny_run, tmp_path):
    import json
    import shutil

    shutil.copytree(tiny_run / "pipeline", tmp_path / "latents")
    path = tmp_path / "latents" / "denoiser" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "latent_channels": 8, "patch": 1}))
    with pytest.raises(ConfigError, match="only pixel models"):
        warm_start_config(tiny_config(), str(tmp_path / "latents"))
