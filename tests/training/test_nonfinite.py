"""A loss or gradient that is not finite: named, and never applied to the weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.numpy import load_file, save_file

from fixtures_runs import tiny_config
from rdtf.data.prepare import prepare
from rdtf.synthetic.characters import SyntheticStickers
from rdtf.training.checkpoint import load_latest
from rdtf.training.distributed import Ranks
from rdtf.training.logging import read_metrics
from rdtf.training.run import save_config
from rdtf.training.train import denoiser_trainer, train
from rdtf.training.trainer import NonFiniteLossError, Trainer

from .stores import MemoryStore

BAD_CLIP = 3


def trainer_of_a_spoiled_set(run: Path, **settings: object) -> Trainer:
    """Clip 3 of six holds NaN; it comes up in some steps and not in others."""
    config = tiny_config(
        **{"steps": 30, "save_every": 100, "data__flip_probability": 0, **settings}
    )
    run.mkdir(parents=True, exist_ok=True)
    save_config(run, config, "")
    store = MemoryStore((2, 4, 3, 4, 2, 3), salted=(BAD_CLIP,), salt=math.nan)
    return denoiser_trainer(config, store, run, quiet=True)


def parts(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Weights, averages and moments, copied."""
    tensors = {f"ema {k}": v for k, v in trainer.ema.state_tensors(Ranks())[0].items()}
    tensors |= trainer.model.state_dict() | trainer.optimizer.state_tensors(Ranks())
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def first_bad_step(trainer: Trainer) -> int:
    clips = [trainer.trainable.batches.order[p] for p in range(120)]
    return next(
        step
        for step in range(30)
        if any(clips[p] == BAD_CLIP for p in trainer.trainable.batches.positions(step))
    )


def test_the_run_stops_before_the_weights_are_spoiled(tmp_path):
    trainer = trainer_of_a_spoiled_set(tmp_path / "run")
    bad = first_bad_step(trainer)
    for _ in range(bad):
        trainer.train_one_step()
    curriculum = trainer.trainable.curriculum.state_dict()
    with pytest.raises(NonFiniteLossError, match=rf"at step {bad} on clips {BAD_CLIP};") as caught:
        trainer.train()
    assert "\n" not in str(caught.value) and "skip_nonfinite" in str(caught.value)
    assert all(torch.isfinite(value).all() for value in parts(trainer).values())
    assert load_latest(tmp_path / "run") is None
    assert trainer.trainable.curriculum.state_dict() == curriculum or bad > 0


def test_steps_are_skipped_if_allowed(tmp_path, capsys):
    trainer = trainer_of_a_spoiled_set(tmp_path / "run", skip_nonfinite=30)
    assert trainer.train().reason == "finished"
    rows = read_metrics(tmp_path / "run", "nonfinite")
    assert rows and all(row["clips"] == [str(BAD_CLIP)] for row in rows)
    assert "step skipped" in capsys.readouterr().err
    assert all(torch.isfinite(value).all() for value in parts(trainer).values())
    loaded = load_latest(tmp_path / "run")
    assert loaded is not None and loaded.step == 30


def test_too_many_in_a_row_stop_the_run_all_the_same(tmp_path):
    trainer = trainer_of_a_spoiled_set(tmp_path / "run", skip_nonfinite=2)
    trainer.trainable.batches.store = MemoryStore([4] * 6, salted=range(6), salt=math.nan)
    with pytest.raises(NonFiniteLossError, match="at step 2 "):
        trainer.train()


def test_a_sticker_with_spoiled_latents_is_named(tmp_path):
    """From the cached latents of a learned representation, through the whole of `train`."""
    stickers = SyntheticStickers(seed=0, count=6, max_frames=3)
    prepare(stickers, tmp_path / "set", canvas=32, max_frames=3, val_fraction=0, workers=0)
    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4,
    ).save_pretrained(tmp_path / "vae", safe_serialization=True)  # fmt: skip
    config = tiny_config(
        steps=12,
        representation__kind="public-autoencoder",
        representation__path=str(tmp_path / "vae"),
        objective__prediction="v",
        model__compose=False,
    )
    train(config, tmp_path / "set", tmp_path / "fine", stop_after=0, quiet=True)
    (cached,) = (tmp_path / "set" / "cache").glob("latents-*/mean.safetensors")
    rows = load_file(cached)
    ((name, values),) = rows.items()
    values = values.copy()
    values[0] = np.nan
    save_file({name: values}, cached)
    with pytest.raises(NonFiniteLossError, match=r"on clips 0 \(\S+\)"):
        train(config, tmp_path / "set", tmp_path / "run", quiet=True)
