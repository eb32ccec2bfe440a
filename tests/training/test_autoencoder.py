from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fixtures_runs import tiny_config
from rdtf.data.caches import ensure_pixels_cache
from rdtf.data.dataset import PreparedDataset
from rdtf.errors import CheckpointError, ConfigError, DataError, UserError
from rdtf.models.representation import LearnedLatents, RGBAAutoencoder
from rdtf.training.autoencoder import AutoencoderConfig, train_autoencoder
from rdtf.training.checkpoint import load_latest
from rdtf.training.run import load_pipeline
from rdtf.training.train import train

TINY = AutoencoderConfig(canvas=32, steps=4, batch_size=4, channels=(8, 16), latent_channels=4)


@pytest.fixture(scope="module")
def trained(training_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("autoencoder") / "ae"
    train_autoencoder(replace(TINY, steps=60), training_set, out, quiet=True)
    return out


def test_frames_come_back_better_with_training(training_set, trained, tmp_path):
    first = train_autoencoder(replace(TINY, steps=1), training_set, tmp_path / "ae", quiet=True)
    last = train_autoencoder(replace(TINY, steps=60), training_set, trained, quiet=True)
    assert (first.step, last.step) == (1, 60)
    assert last.psnr_db > first.psnr_db + 1 and last.alpha_error < first.alpha_error / 2


def test_the_folder_is_what_the_class_reads(training_set, trained):
    model = RGBAAutoencoder.from_pretrained(trained, use_safetensors=True, low_cpu_mem_usage=False)
    representation = LearnedLatents(model)
    assert (representation.latent_channels, representation.downsampling) == (4, 2)
    dataset = PreparedDataset(training_set)
    rows = np.array(ensure_pixels_cache(dataset, 32).rows[:32])
    pixels = torch.from_numpy(rows).permute(0, 3, 1, 2).float() / 127.5 - 1
    mean, logvar = representation.encode(pixels)
    assert mean.shape == (32, 4, 16, 16) and logvar is not None and logvar.shape == mean.shape
    assert 0.5 < float(mean.std()) < 2
    assert representation.decode(mean).shape == pixels.shape
    assert sorted(path.name for path in trained.iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "training",
        "training.json",
    ]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = load_latest(folder / "training")
    assert checkpoint is not None
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    return weights | {f"moment {key}": t for key, t in checkpoint.load("optimizer").items()}


def test_stopped_and_resumed_is_the_same_bit_for_bit(training_set, tmp_path):
    config = replace(TINY, steps=12)
    train_autoencoder(config, training_set, tmp_path / "whole", quiet=True)
    parts, seconds = tmp_path / "parts", 0.0
    while train_autoencoder(config, training_set, parts, stop_after=seconds, quiet=True).step < 12:
        assert (parts / "config.json").is_file()
        seconds += 0.1
    expected, actual = tensors(tmp_path / "whole"), tensors(parts)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


def test_one_that_is_told_its_time_ends_with_it(training_set, tmp_path):
    config = replace(TINY, steps=10**6)
    first = train_autoencoder(config, training_set, tmp_path, max_seconds=1e-9, quiet=True)
    assert first.step == 0
    again = train_autoencoder(config, training_set, tmp_path, quiet=True)  # it remembers
    assert again.step == 0
    fewer = replace(TINY, steps=3)
    more = train_autoencoder(fewer, training_set, tmp_path, max_seconds=math.inf, quiet=True)
    assert more.step == 3


def test_a_finished_one_stays_as_it_is(training_set, tmp_path):
    first = train_autoencoder(TINY, training_set, tmp_path / "ae", quiet=True)
    before = tensors(tmp_path / "ae")
    again = train_autoencoder(TINY, training_set, tmp_path / "ae", quiet=True)
    assert (again.step, again.psnr_db) == (first.step, first.psnr_db)
    assert all(torch.equal(value, before[name]) for name, value in tensors(tmp_path / "ae").items())


@pytest.mark.parametrize("change", [{"latent_channels": 8}, {"seed": 1}, {"channels": (8, 8)}])
def test_other_settings_are_refused(training_set, trained, change):
    with pytest.raises(CheckpointError, match="other settings"):
        train_autoencoder(replace(TINY, steps=60, **change), training_set, trained, quiet=True)


def test_a_damaged_one_is_named(training_set, tmp_path):
    out = tmp_path / "ae"
    train_autoencoder(replace(TINY, steps=1), training_set, out, quiet=True)
    (file,) = (out / "training").glob("checkpoints/*/optimizer.safetensors")
    file.write_bytes(b"{")
    with pytest.raises(CheckpointError, match=f"autoencoder {out} is damaged"):
        train_autoencoder(replace(TINY, steps=1), training_set, out, quiet=True)
    (out / "training.json").write_text("[]")
    with pytest.raises(CheckpointError, match="is damaged"):
        train_autoencoder(replace(TINY, steps=1), training_set, out, quiet=True)


def test_one_of_an_older_version_is_named(tmp_path):
    (tmp_path / "training.json").write_text(json.dumps({"step": 7, "config": {}}))
    with pytest.raises(CheckpointError, match="can't be trained on"):
        train_autoencoder(TINY, tmp_path, tmp_path, quiet=True)


def test_what_else_is_in_the_folder_is_never_replaced(training_set, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for out in (tmp_path, tmp_path / "thesis.txt", tmp_path / "thesis.txt" / "ae", training_set):
        with pytest.raises(UserError):
            train_autoencoder(TINY, training_set, out, quiet=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert len(PreparedDataset(training_set)) > 0


@pytest.mark.parametrize(
    "settings",
    [{"canvas": 31}, {"canvas": 0}, {"steps": 0}, {"batch_size": 0}, {"seed": -1}],
    ids=str,
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        replace(TINY, **settings)


def test_a_folder_that_is_no_training_set(tmp_path):
    with pytest.raises(DataError, match="holds no training set"):
        train_autoencoder(TINY, tmp_path, tmp_path / "ae", quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_denoiser_on_its_latents(training_set, trained, tmp_path):
    """From stickers to frames through both trained networks."""
    config = tiny_config(
        steps=2, representation__kind="rgba-autoencoder", representation__path=str(trained)
    )
    assert train(config, training_set, tmp_path / "run", quiet=True).step == 2
    pipeline = load_pipeline(tmp_path / "run" / "pipeline")
    dataset = PreparedDataset(training_set)
    moving = next(clip for clip in dataset.clips() if clip.num_frames >= 3)
    sticker = dataset.read_sticker(moving.index)
    filled = pipeline.fill(sticker, [0, 2], num_inference_steps=2)
    assert np.array_equal(filled.frames[[0, 2]], sticker.frames[[0, 2]])
    assert json.loads((tmp_path / "run/pipeline/model_index.json").read_text())["autoencoder"] == [
        "rdtf.models.representation",
        "RGBAAutoencoder",
    ]
