"""One run on one rank or on two: the same order, the same gradients, the same curriculum."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures_runs import tiny_config
from rdtf.training.checkpoint import Checkpoint, load_step
from rdtf.training.logging import read_metrics
from rdtf.training.run import load_pipeline
from rdtf.training.train import train

from .two_ranks import CONFIG, HALF, STEPS

SCRIPT = Path(__file__).with_name("two_ranks.py")


@pytest.fixture(scope="module")
def runs(training_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run `alone` on one rank, and its brothers on two (gloo, as several CPUs would)."""
    folder = tmp_path_factory.mktemp("ranks")
    train(tiny_config(**CONFIG), training_set, folder / "alone", quiet=True)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(str(SCRIPT), str(training_set), str(folder)),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return {
        f"{stem} {name}": value
        for stem in checkpoint.stems
        for name, value in checkpoint.load(stem).items()
    }


def assert_close(actual: Path, expected: Path, step: int = STEPS) -> None:
    """The same run but for the order in which floats were added.

    Adam's first steps are as long for a tiny gradient as for a large one, so rounding shows in
    weights whose gradient is next to nothing; losses, which are all of them together, stay.
    """
    first, second = tensors(load_step(actual, step)), tensors(load_step(expected, step))
    assert first.keys() == second.keys()
    for name, value in second.items():
        difference = (first[name].float() - value.float()).abs()
        assert difference.max() <= 6e-3 and difference.mean() <= 1e-4, name
    rows = zip(read_metrics(actual), read_metrics(expected), strict=True)
    for a, b in rows:
        assert (a["step"], a["kind"]) == (b["step"], b["kind"])
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-3)
        if a["kind"] == "train":
            assert a["clips"] == b["clips"] and a["loss_by_task"].keys() == b["loss_by_task"].keys()
            assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=5e-3)
            assert a["loss_by_task"] == pytest.approx(b["loss_by_task"], rel=5e-3)


def state(run: Path) -> dict[str, Any]:
    return load_step(run, STEPS).state


@pytest.mark.parametrize("name", ["ddp", "ddp-micro", "fsdp"])
def test_the_first_gradient_is_the_same(runs, name):
    """1 × 4, 2 × 2 and 2 × 1 accumulated twice. Adam's first moment is a tenth of the gradient."""
    actual, expected = (
        load_step(run, 1).load("optimizer") for run in (runs / name, runs / "alone")
    )
    moments = [key for key in expected if key.endswith(":exp_avg")]
    scale = max(float(expected[key].abs().max()) for key in moments)
    for key in moments:
        torch.testing.assert_close(
            actual[key],
            expected[key],
            rtol=1e-3,
            atol=1e-5 * scale,
            msg=lambda m, k=key: f"{k}: {m}",
        )


@pytest.mark.parametrize("name", ["ddp", "ddp-micro", "fsdp"])
def test_ranks_train_the_run_of_one(runs, name):
    assert_close(runs / name, runs / "alone")


@pytest.mark.parametrize("name", ["ddp", "ddp-micro", "fsdp"])
def test_the_curriculum_saw_the_same(runs, name):
    for key in ("losses", "signals"):
        actual, expected = (state(run)["curriculum"][key] for run in (runs / name, runs / "alone"))
        assert actual == pytest.approx(expected, rel=5e-3)
    pending, expected = (state(run)["pending"] for run in (runs / name, runs / "alone"))
    for key in ("tasks", "clips", "levels"):
        assert pending[key] == expected[key]


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_resuming_on_as_many_ranks_is_exact(runs, kind):
    whole = tensors(load_step(runs / kind, STEPS))
    resumed = tensors(load_step(runs / f"{kind}-resumed", STEPS))
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name


def test_what_one_rank_saved_two_go_on_from(runs):
    assert_close(runs / "fsdp-from-one", runs / "alone")


def test_what_shards_saved_one_rank_goes_on_from(runs, training_set, tmp_path):
    shutil.copytree(runs / "fsdp", tmp_path / "run")
    for step in range(HALF + 1, STEPS + 1):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step-{step:08d}")
    assert train(tiny_config(**CONFIG), training_set, tmp_path / "run", quiet=True).step == STEPS
    assert_close(tmp_path / "run", runs / "alone")


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_the_pipeline_is_whole(runs, name):
    actual = load_pipeline(runs / name / "pipeline").denoiser.state_dict()
    expected = load_step(runs / name, STEPS)
    averages = expected.load(f"ema-{expected.state['ema_index']}")
    for key, value in averages.items():
        assert torch.equal(actual[key], value), key


def test_one_rank_writes_for_all(runs):
    for name in ("ddp", "fsdp"):
        rows = read_metrics(runs / name, "train")
        assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert not (runs / "refused").exists()
