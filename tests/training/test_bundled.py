"""Training on a bundle, on either side, and bringing the weights home."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures_bundles import BLOCK, encoder, summary
from rdtf.data.bundle import BundleSummary
from rdtf.errors import DataError, UserError
from rdtf.models.dfgn import DFGN
from rdtf.models.motion_dfgn import MotionDFGN
from rdtf.models.motion_predictor import MotionPredictor
from rdtf.models.recurrence import RecurrencePredictor
from rdtf.training.__main__ import main
from rdtf.training.bundled import (
    BundledConfig,
    _defaults,
    _set_up,
    fill_flows,
    train_on_bundle,
)
from rdtf.training.checkpoint import checkpoint_folders, load_latest
from rdtf.training.parts import WEIGHTS_FILE, join_parts

from .resident_parts import flow_table, small_store

__all__ = ["encoder", "summary"]
SMALL = ["--channels", "32,32", "--batch-size", "2", "--device", "cpu"]
PART_MB = {"motion": "1", "prediction": "2", "drawing": "1"}
NETWORKS: dict[str, Any] = {"motion": MotionDFGN, "prediction": MotionPredictor, "drawing": DFGN}


@pytest.fixture(scope="module")
def runs(summary: BundleSummary, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each kind, with its weights in parts."""
    found = {}
    for kind in NETWORKS:
        found[kind] = tmp_path_factory.mktemp("runs") / kind
        run = ["--out", str(found[kind]), "--steps", "2", "--parts", PART_MB[kind]]
        assert main([kind, str(summary.path), *run, *SMALL]) == 0
    return found


@pytest.mark.parametrize("kind", NETWORKS)
def test_weights_come_home_in_parts(kind, runs, tmp_path):
    run = runs[kind]
    parts = sorted((run / "parts").glob("*.safetensors"))
    assert len(parts) > 1 and all(path.stat().st_size <= 1e6 * int(PART_MB[kind]) for path in parts)
    joined = join_parts([run / "parts"], tmp_path / "joined")
    network = NETWORKS[kind].from_pretrained(joined)
    assert network.dtype == torch.float32
    component = NETWORKS[kind].from_pretrained(run / "component")
    own = {"_name_or_path"}
    configs = [{k: v for k, v in n.config.items() if k not in own} for n in (network, component)]
    assert configs[0] == configs[1]
    checkpoint = load_latest(run)
    assert checkpoint is not None
    average = checkpoint.load("ema-0")
    exact, half = component.state_dict(), network.state_dict()
    assert exact.keys() == half.keys() >= average.keys()
    assert all(torch.equal(exact[name], value) for name, value in average.items())
    assert all(torch.equal(exact[name].half().float(), half[name]) for name in exact)


@pytest.mark.parametrize("told", ["--steps", "--seconds"])
def test_a_length_below_zero_is_told(told, summary, tmp_path, capsys):
    run = ["recurrence", str(summary.path), "--out", str(tmp_path / "run"), told, "-5"]
    assert main(run) == 2
    assert f"{told[2:]} is -5" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_comes_back_is_trained_too(summary, tmp_path, capsys):
    out = tmp_path / "run"
    plan = ["recurrence", str(summary.path), "--out", str(out), "--channels", "32"]
    assert main([*plan, "--steps", "3", "--batch-size", "4", "--device", "cpu"]) == 0
    network = RecurrencePredictor.from_pretrained(out / "component")
    assert network.config_.width == 32
    assert any(bool(p.abs().sum() > 0) for p in network.layers[-1].parameters())


def test_parts_are_checked(runs, tmp_path):
    source = runs["motion"] / "parts"
    files = sorted(source.iterdir())
    with pytest.raises(DataError, match="is missing"):
        join_parts(
            [path for path in files if path.name != "weights-001.safetensors"], tmp_path / "x"
        )
    with pytest.raises(DataError, match=r"0 files called parts.json"):
        join_parts(files[1:], tmp_path / "x")
    save_file({"a": torch.zeros(1)}, tmp_path / "weights-001.safetensors")
    damaged = [tmp_path / p.name if p.name == "weights-001.safetensors" else p for p in files]
    with pytest.raises(DataError, match="is damaged"):
        join_parts(damaged, tmp_path / "x")
    with pytest.raises(UserError, match="taken"):
        join_parts(files, tmp_path)
    assert not (tmp_path / "x").exists()


def test_a_run_goes_on_from_its_folder(summary, runs, tmp_path, capsys):
    """In slices that end at once, then at a step's end; the result is that of one call."""
    out = tmp_path / "run"
    plan = ["motion", str(summary.path), "--out", str(out), *SMALL]
    assert main([*plan, "--steps", "2", "--slice", "0"]) == 0
    assert checkpoint_folders(out)[-1].name == "step-00000000"
    same = ["motion", str(summary.path), "--out", str(out), "--device", "cpu"]
    assert main(same) == 0  # what the run was begun with need not be said again
    whole = load_file(runs["motion"] / "component" / WEIGHTS_FILE)
    sliced = load_file(out / "component" / WEIGHTS_FILE)
    assert all(torch.equal(whole[name], sliced[name]) for name in whole)
    capsys.readouterr()
    assert main(same) == 0 and "finished at step 2" in capsys.readouterr().err
    assert main([*same, "--channels", "32,64"]) == 2
    assert main(["drawing", *same[1:]]) == 2
    errors = capsys.readouterr().err
    assert "channels (32, 32), not (32, 64)" in errors and "kind motion, not drawing" in errors


def test_a_signal_saves_and_ends_the_run(summary, tmp_path):
    config = BundledConfig("drawing", steps=10**6, batch_size=2, channels=(32,))
    term, alarm = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM)

    def terminate(number: int, frame: Any) -> None:
        if signal.getsignal(signal.SIGTERM) is not term:  # training listens
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGALRM, terminate)
    signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
    try:
        result = train_on_bundle(config, [summary.path], tmp_path, slice_seconds=60, device="cpu")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
    assert result.reason == "interrupted"
    assert checkpoint_folders(tmp_path)[-1].name == f"step-{result.step:08d}"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seconds", "0"], "--seconds, or --steps"),
        (["--steps", "1", "--channels", "20"], "multiples of 32"),
        (["--steps", "1", "--batch-size", "0"], "batch_size must be 1"),
        (["--steps", "1", "--weight", "cats"], "NAME=NUMBER"),
    ],
)
def test_what_makes_no_sense_is_one_line(arguments, told, summary, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["motion", str(summary.path), "--out", str(out), *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not (out / "run.json").exists()


def test_no_bundle_is_one_line(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["motion", str(tmp_path), "--out", str(out), "--steps", "1"]) == 2
    assert "holds no bundle" in capsys.readouterr().err


def test_flows_are_computed_once(tmp_path):
    first = flow_table(small_store())
    fill_flows(first, tmp_path / "flows.safetensors")
    assert torch.equal(load_file(tmp_path / "flows.safetensors")["flows"], first.flows)
    second = flow_table(small_store())
    second.fill = None  # type: ignore[method-assign]
    fill_flows(second, tmp_path / "flows.safetensors")
    assert torch.equal(second.flows, first.flows)


def test_a_gpu_is_set_up():
    """As far as it goes without one."""
    flags = [(torch.backends.cudnn, "benchmark"), (torch.backends.cudnn, "allow_tf32")]
    flags.append((torch.backends.cuda.matmul, "allow_tf32"))
    before = [getattr(place, name) for place, name in flags]
    try:
        _set_up(torch.device("cuda"), compiles=False)
        assert all(getattr(place, name) for place, name in flags)
    finally:
        for (place, name), value in zip(flags, before, strict=True):
            setattr(place, name, value)
    plan = _defaults("motion", torch.device("cuda"))
    assert plan["precision"] == "bf16" and plan["batch_size"] == 256 and plan["workers"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_far_side_needs_only_what_is_there(kind, summary, tmp_path):
    """Two slices with the bundle's own copy of the package, home, and loaded."""
    code = BLOCK + "from rdtf.training.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    run = [kind, str(summary.path), "--out", "RUN", "--steps", "40", "--parts", "5", *SMALL]
    for slice_seconds in ("8", "120"):
        done = subprocess.run(
            [sys.executable, "-c", code, *run, "--slice", slice_seconds],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PYTHONPATH": str(summary.path), "PATH": os.environ["PATH"]},
        )
        assert done.returncode == 0, done.stderr
    parts = [Path(tmp_path / line) for line in done.stdout.splitlines()]
    joined = join_parts([*parts, parts[0].parent / "parts.json"], tmp_path / "home")
    assert (joined / WEIGHTS_FILE).is_file()
    assert NETWORKS[kind].from_pretrained(joined).num_parameters() > 1e5
