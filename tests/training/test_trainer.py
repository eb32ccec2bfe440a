from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image

from fixtures_runs import CANVAS, tiny_config
from rdtf.data.prepare import prepare
from rdtf.errors import CheckpointError, ConfigError, DataError
from rdtf.method.tasks import FAMILIES, TASKS
from rdtf.stickers import Sticker
from rdtf.synthetic.characters import SyntheticStickers
from rdtf.training.batches import unpack
from rdtf.training.checkpoint import best_step, checkpoint_folders
from rdtf.training.distributed import Ranks
from rdtf.training.loader import open_stores
from rdtf.training.logging import read_metrics
from rdtf.training.run import load_config, load_pipeline
from rdtf.training.step import batch_errors
from rdtf.training.train import denoiser_trainer, train
from rdtf.training.trainer import Hook, Trainer
from rdtf.training.validation import validation_hook

from .stores import MemoryStore

# ------------------------------------------------------------------ what a run leaves


@pytest.fixture(scope="module")
def shown_run(training_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 6 steps that validates, samples and saves along the way."""
    run = tmp_path_factory.mktemp("shown") / "run"
    config = tiny_config(validate_every=4, sample_every=4, save_every=2, keep_checkpoints=2)
    result = train(config, training_set, run, quiet=True)
    assert (result.step, result.reason) == (6, "finished")
    return run


def test_the_resolved_config_is_saved(shown_run):
    config = load_config(shown_run)
    assert config == tiny_config(validate_every=4, sample_every=4)
    assert json.loads((shown_run / "config.json").read_text())["config"]["steps"] == 6


def test_a_config_with_settings_of_before_loads_and_its_run_goes_on(training_set, tmp_path):
    train(tiny_config(steps=1), training_set, tmp_path, quiet=True)
    values = json.loads((tmp_path / "config.json").read_text())
    values["config"]["optimizer"] |= {"name": "adamw", "muon_momentum": 0.95}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert load_config(tmp_path) == tiny_config(steps=1)
    assert train(tiny_config(steps=2), training_set, tmp_path, quiet=True).step == 2


def test_metrics_hold_every_step_once(shown_run):
    rows = read_metrics(shown_run, "train")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["clips"] for row in rows] == [2, 4, 6, 8, 10, 12]
    for row in rows:
        assert np.isfinite(row["loss"]) and row["grad_norm"] > 0
        assert set(row["task_weights"]) == set(FAMILIES) >= set(row["loss_by_family"])


def test_validation_and_samples_come_at_the_start_on_time_and_at_the_end(shown_run):
    rows = read_metrics(shown_run, "validation")
    assert [row["step"] for row in rows] == [0, 4, 6]
    assert len(rows[0]["by_level"]) == 12 and all(np.isfinite(row["loss"]) for row in rows)
    sheets = sorted(path.name for path in (shown_run / "samples").iterdir())
    assert sheets == ["first-batch.png", *(f"step-{step:08d}.png" for step in (0, 4, 6))]
    for name in sheets:
        with Image.open(shown_run / "samples" / name) as sheet:
            assert min(sheet.size) > CANVAS


def test_the_newest_checkpoints_are_kept(shown_run):
    assert [folder.name for folder in checkpoint_folders(shown_run)] == [
        "step-00000004",
        "step-00000006",
    ]


def test_the_report_stands_alone_and_draws_the_curves(shown_run):
    page = (shown_run / "report.html").read_text("utf-8")
    for title in ("Training loss", "Held-out error by family", "Curriculum"):
        assert title in page
    assert "<script" not in page and not re.search(r'(src|href)="(?!data:|#)', page)


def test_the_pipeline_is_that_of_the_averaged_weights(shown_run):
    saved, from_run = load_pipeline(shown_run / "pipeline"), load_pipeline(shown_run)
    weights = from_run.denoiser.state_dict()
    for name, value in saved.denoiser.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_the_pipeline_holds_no_copy_of_the_text_encoder(shown_run):
    files = [path for path in (shown_run / "pipeline").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2 * 2**20
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_nothing_is_left_over(shown_run):
    assert sorted(path.name for path in shown_run.iterdir() if path.name != "tensorboard") == [
        ".lock",
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "pipeline",
        "report.html",
        "samples",
    ]


# --------------------------------------------------------------------------- learning


@pytest.fixture(scope="module")
def few_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("few") / "set"
    stickers = SyntheticStickers(seed=0, count=5, max_frames=4)
    prepare(stickers, out, canvas=CANVAS, max_frames=4, val_fraction=0, workers=0)
    return out


class FixedBatches:
    """A hook: the error on 16 samples of fixed clips, tasks and noise."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def __call__(self, trainer: Trainer) -> None:
        weights = dict.fromkeys(TASKS, 1.0)
        error = count = 0.0
        for step in range(1000, 1004):
            for packed in trainer.trainable.batches.step_batches(step, weights):
                batch = unpack(packed, trainer.trainable.batches.store, trainer.device)
                _, errors, counts = batch_errors(trainer.model, trainer.trainable.objective, batch)
                error, count = error + float(errors.sum()), count + float(counts.sum())
        self.losses.append(error / count)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model__temporal_layer": "conv3d", "curriculum__mode": "linear"},
        {"model__compose": False, "objective__prediction": "v", "curriculum__mode": "none"},
        {"model__compose": False, "objective__prediction": "eps", "objective__kind": "ddpm"},
        {"micro_batch_size": 2, "optimizer__ema_decays": (0.9, 0.99)},
    ],
    ids=["default", "conv3d", "velocity", "eps", "accumulation"],
)
def test_the_loss_falls(few_clips, tmp_path, settings):
    config = tiny_config(**{"batch_size": 4, "steps": 50, "save_every": 50, **settings})
    _, store, _ = open_stores(few_clips, config)
    held = FixedBatches()
    trainer = denoiser_trainer(config, store, tmp_path, hooks=((50, held),), quiet=True)
    trainer.train()
    rows = read_metrics(tmp_path, "train")
    first, last = (np.mean([row["loss"] for row in part]) for part in (rows[:10], rows[-10:]))
    assert last < first
    assert held.losses[-1] < 0.99 * held.losses[0]


def test_gradient_checkpointing_changes_no_weight(training_set, tmp_path):
    weights = []
    for name in ("plain", "checkpointed"):
        config = tiny_config(steps=2, gradient_checkpointing=name == "checkpointed")
        store = open_stores(training_set, config)[1]
        trainer = denoiser_trainer(config, store, tmp_path / name, quiet=True)
        trainer.train()
        weights.append(trainer.model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-6)


def test_half_precision_keeps_weights_and_moments_whole(tmp_path):
    config = tiny_config(steps=2, precision="bf16", data__subclip_probability=0.0)
    trainer = denoiser_trainer(config, MemoryStore([4] * 5), tmp_path, quiet=True)
    assert trainer.train().reason == "finished"
    tensors = [*trainer.model.parameters(), *trainer.optimizer.state_tensors(Ranks()).values()]
    assert all(t.dtype == torch.float32 and t.isfinite().all() for t in tensors)
    assert all(np.isfinite(row["loss"]) for row in read_metrics(tmp_path, "train"))


def test_the_same_command_elsewhere_gives_the_same_run(training_set, tmp_path):
    for name in ("a", "b"):
        train(tiny_config(steps=3, seed=5), training_set, tmp_path / name, quiet=True)
    first, second = (
        (tmp_path / name / "checkpoints/step-00000003/model.safetensors").read_bytes()
        for name in ("a", "b")
    )
    assert first == second


def test_validation_is_the_same_whenever_it_is_asked(training_set, tmp_path):
    """Its randomness is its own: only the weights move it."""
    losses = []
    for rate in (0.0, 1e-2):
        config = tiny_config(steps=2, optimizer__learning_rate=rate)
        _, store, val = open_stores(training_set, config)
        hooks = ((1, validation_hook(val, clips_per_task=1)),)
        denoiser_trainer(config, store, tmp_path / str(rate), hooks=hooks, quiet=True).train()
        losses.append([row["loss"] for row in read_metrics(tmp_path / str(rate), "validation")])
    frozen, moved = losses
    assert len(frozen) == len(moved) == 3
    assert len(set(frozen)) == 1 and len(set(moved)) == 3 and moved[0] == frozen[0]


def validate(trainer: Trainer, hook: Hook) -> dict[str, Any]:
    with torch.no_grad():
        hook(trainer)
    return read_metrics(trainer.run, "validation")[-1]


def test_a_run_that_learns_motion_is_validated_by_motion(training_set, tmp_path):
    """By the error of pixels the best average and checkpoint would be those that stand still."""
    config = tiny_config(learn="motion", model__motion="alone", curriculum__leave_out=("it2v",))
    _, store, val = open_stores(training_set, config)
    trainer = denoiser_trainer(config, store, tmp_path, quiet=True)
    hook = validation_hook(val, clips_per_task=1)
    first = validate(trainer, hook)
    # Nothing is given in t2v, so nothing moves.
    assert set(first["by_task"]) == set(TASKS) - {"t2v", "it2v"}
    for parameter in trainer.model.composer.parameters():  # draws pixels, and they are not learned
        parameter.data.normal_(std=0.1)
    assert validate(trainer, hook)["loss"] == first["loss"]
    trainer.model.conv_motion.bias.data.fill_(0.3)
    assert validate(trainer, hook)["loss"] != first["loss"]


def test_validation_measures_the_loss_that_is_descended(training_set, tmp_path):
    config = tiny_config(relative_loss_floor=0.02)
    _, store, val = open_stores(training_set, config)
    trainer = denoiser_trainer(config, store, tmp_path, quiet=True)
    relative = validate(trainer, validation_hook(val, clips_per_task=1))
    trainer.trainable.config = replace(config, relative_loss_floor=1.0)
    other = validate(trainer, validation_hook(val, clips_per_task=1))
    assert relative["loss"] > other["loss"]
    assert relative["by_task"] == other["by_task"]  # errors are of pixels as they are


def test_a_best_loss_of_an_older_version_is_not_compared(training_set, tmp_path):
    config = tiny_config(steps=1, validate_every=1)
    train(config, training_set, tmp_path, quiet=True)
    state = tmp_path / "checkpoints" / "step-00000001" / "state.json"
    values = json.loads(state.read_text())
    values["state"].pop("best_measure", None)
    values["state"]["best_loss"] = 1e-9
    state.write_text(json.dumps(values))
    manifest = state.with_name("MANIFEST.json")
    rows = json.loads(manifest.read_text())
    content = state.read_bytes()
    rows["state.json"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest.write_text(json.dumps(rows, indent=2) + "\n")
    best = tmp_path / "checkpoints" / "best.json"
    best.write_text('{"step": 1, "loss": 1e-9}')
    train(tiny_config(steps=2, validate_every=1), training_set, tmp_path, quiet=True)
    assert best_step(tmp_path) == (2, json.loads(best.read_text())["loss"])


# ------------------------------------------------------------------------ other inputs


def test_stills_alone_can_be_trained_on(tmp_path):
    grid = np.indices((CANVAS, CANVAS)).sum(axis=0).astype(np.uint8)
    for index in range(4):
        frame = np.stack([grid * 3, grid + 40 * index, grid * 2, grid * 0 + 255], axis=-1)
        Sticker(frame[None], np.array([100])).save(tmp_path / "in" / f"still {index}.png")
    prepare(tmp_path / "in", tmp_path / "set", canvas=CANVAS, val_fraction=0.3, workers=0)
    result = train(tiny_config(steps=2), tmp_path / "set", tmp_path / "run", quiet=True)
    assert result.reason == "finished"
    tasks = read_metrics(tmp_path / "run", "train")[-1]["loss_by_family"]
    assert set(tasks) == {"generation"}


def test_a_public_autoencoder_can_be_trained_on(training_set, tmp_path):
    torch.manual_seed(0)
    autoencoder = AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4,
    )  # fmt: skip
    autoencoder.save_pretrained(tmp_path / "vae", safe_serialization=True)
    config = tiny_config(
        steps=2,
        representation__kind="public-autoencoder",
        representation__path=str(tmp_path / "vae"),
        objective__kind="ddpm",
        objective__prediction="eps",
        model__compose=False,
    )
    assert train(config, training_set, tmp_path / "run", quiet=True).step == 2
    pipeline = load_pipeline(tmp_path / "run" / "pipeline")
    assert pipeline.canvas == CANVAS
    assert pipeline("a cat", num_frames=2, num_inference_steps=2).num_frames == 2


@pytest.mark.parametrize("settings", [{"canvas": 30}, {"representation__patch": 3}])
def test_a_canvas_that_does_not_fit_is_refused(training_set, tmp_path, settings):
    with pytest.raises(ConfigError, match="multiple of"):
        train(tiny_config(**settings), training_set, tmp_path / "run", quiet=True)


def test_a_config_that_cannot_be_built_does_not_claim_the_folder(training_set, tmp_path):
    with pytest.raises(ConfigError, match="flow predicts"):
        train(
            tiny_config(objective__prediction="eps", model__compose=False),
            training_set,
            tmp_path,
            quiet=True,
        )
    assert train(tiny_config(steps=1), training_set, tmp_path, quiet=True).step == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"text__encoders": ("/no/such/encoder",)},
        {"text__encoders": ("",)},
        {"representation__kind": "rgba-autoencoder", "representation__path": "nowhere"},
    ],
    ids=["encoder", "no encoder", "autoencoder"],
)
def test_models_that_are_not_there_are_named(training_set, tmp_path, settings):
    with pytest.raises(ConfigError, match=r"text encoder|representation\.path"):
        train(tiny_config(**settings), training_set, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_training_set(tmp_path):
    with pytest.raises(DataError, match="holds no training set"):
        train(tiny_config(), tmp_path / "nothing", tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_another_config_is_no_run(training_set, tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["Bert"]}')
    with pytest.raises(CheckpointError, match="no run directory"):
        train(tiny_config(), training_set, tmp_path, quiet=True)
    with pytest.raises(CheckpointError, match="no run directory"):
        load_pipeline(tmp_path)
