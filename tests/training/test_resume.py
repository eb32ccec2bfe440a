"""Stopping changes nothing: a run that was stopped and resumed is the run that was not."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures_runs import tiny_arguments, tiny_config
from rdtf.data.prepare import prepare
from rdtf.errors import CheckpointError, ConfigError, UserError
from rdtf.synthetic.characters import SyntheticStickers
from rdtf.training.checkpoint import Checkpoint, checkpoint_folders, load_latest, load_step
from rdtf.training.config import TrainConfig
from rdtf.training.loader import LEAD_STEPS, open_stores
from rdtf.training.logging import read_metrics
from rdtf.training.run import load_pipeline, locked
from rdtf.training.train import denoiser_trainer, train
from rdtf.training.trainer import Trainer, TrainResult
from rdtf.training.validation import validation_hook

STEPS = 5
EXACT = {
    "steps": STEPS,
    "batch_size": 4,
    "micro_batch_size": 2,
    "curriculum__mode": "adaptive",
    "curriculum__easy_until": 0.6,
    "data__sampling": "concepts",
    "save_every": 2,
    "optimizer__ema_decays": (0.998, 0.9),
}
_UNLIKE = ("seconds", "startup_seconds", "config")
_CLOCKED = ("seconds", "clips_per_second", "memory_bytes", "eta_seconds")


class StopAt:
    """A hook that sends this process the signal that a scheduler or a user would send."""

    def __init__(self, *steps: int, number: int = signal.SIGTERM) -> None:
        self.steps, self.number = steps, number

    def __call__(self, trainer: Trainer) -> None:
        if trainer.step in self.steps:
            os.kill(os.getpid(), self.number)


def run_once(config: TrainConfig, data: Path, run: Path, stop: StopAt | None = None) -> TrainResult:
    """One start of the program: everything is read from `run` again."""
    _, store, val = open_stores(data, config)
    hooks: tuple[Any, ...] = ((4, validation_hook(val, clips_per_task=1)),)
    if stop is not None:
        hooks += ((1, stop),)
    return denoiser_trainer(config, store, run, hooks=hooks, quiet=True).train()


def rows(run: Path) -> list[dict[str, Any]]:
    """What was logged, but for how long it took."""
    return [{k: v for k, v in row.items() if k not in _CLOCKED} for row in read_metrics(run)]


def state(checkpoint: Checkpoint) -> dict[str, Any]:
    return {k: v for k, v in checkpoint.state.items() if k not in _UNLIKE}


def assert_same_run(actual: Path, expected: Path) -> None:
    """Bit for bit: weights, averages, moments, curriculum, and every logged number."""
    first, second = load_latest(actual), load_latest(expected)
    assert first is not None and second is not None
    assert first.step == second.step and state(first) == state(second)
    assert first.stems == second.stems
    for part in first.stems:
        a, b = first.load(part), second.load(part)
        assert a.keys() == b.keys()
        for name in a:
            assert torch.equal(a[name], b[name]), f"{part} {name}"
    assert rows(actual) == rows(expected)


@pytest.fixture(scope="module")
def uninterrupted(training_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    result = run_once(tiny_config(**EXACT), training_set, run)
    assert (result.step, result.reason) == (STEPS, "finished")
    return run


# -------------------------------------------------------------------------- exactness


def test_stopped_at_every_step(uninterrupted, training_set, tmp_path):
    config, everywhere = tiny_config(**EXACT), StopAt(*range(STEPS + 1))
    ends = []
    while not ends or ends[-1].reason != "finished":
        ends.append(run_once(config, training_set, tmp_path, everywhere))
    # One more: the last signal comes when all steps are made, and is told as what it is.
    assert [end.step for end in ends] == [*range(STEPS + 1), STEPS]
    assert {end.reason for end in ends[:-1]} == {"interrupted"}
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.parametrize(
    ("step", "number"), [(1, signal.SIGTERM), (2, signal.SIGINT), (4, signal.SIGTERM)]
)
def test_stopped_once(uninterrupted, training_set, tmp_path, step, number):
    config = tiny_config(**EXACT)
    first = run_once(config, training_set, tmp_path, StopAt(step, number=number))
    assert (first.step, first.reason) == (step, "interrupted")
    assert run_once(config, training_set, tmp_path).reason == "finished"
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.slow
def test_a_hundred_steps_in_pieces_with_other_workers(training_set, tmp_path):
    """Through several epochs, stopped at odd places, loaded by 0, 2 and 4 processes in turn."""
    settings = {**EXACT, "steps": 100, "save_every": 30, "optimizer__decay_share": 0.3}
    run_once(tiny_config(**settings), training_set, tmp_path / "whole")
    pieces = tmp_path / "pieces"
    for workers, stop in ((2, 13), (0, 50), (4, 51), (1, 88), (0, None)):
        config = tiny_config(**settings, num_workers=workers)
        run_once(config, training_set, pieces, None if stop is None else StopAt(stop))
    assert_same_run(pieces, tmp_path / "whole")


@pytest.mark.parametrize("workers", [0, 2])
def test_another_number_of_workers_goes_on_exactly(uninterrupted, training_set, tmp_path, workers):
    run_once(tiny_config(**EXACT, num_workers=2 - workers), training_set, tmp_path, StopAt(3))
    run_once(tiny_config(**EXACT, num_workers=workers), training_set, tmp_path)
    assert_same_run(tmp_path, uninterrupted)


def test_time_is_up_and_the_same_call_goes_on(training_set, tmp_path):
    config = tiny_config(**EXACT, validate_every=4)
    assert train(config, training_set, tmp_path / "whole", quiet=True).reason == "finished"
    parts = tmp_path / "parts"
    for _ in range(2):
        stopped = train(config, training_set, parts, stop_after=0, quiet=True)
        assert (stopped.step, stopped.reason) == (0, "time is up")
        assert load_pipeline(parts / "pipeline").max_frames == config.max_frames
    assert train(config, training_set, parts, quiet=True).reason == "finished"
    assert_same_run(parts, tmp_path / "whole")


def test_a_run_that_is_told_its_time_ends_its_schedule_then(training_set, tmp_path):
    """In several calls, of which only the first is told."""
    # Getting ready counts, so the time is measured in it: however busy the machine, most is left.
    started = time.monotonic()
    train(tiny_config(steps=1), training_set, tmp_path / "first", quiet=True)
    ready = time.monotonic() - started
    seconds, steps = 1 + 6 * ready, 40_000
    config = tiny_config(steps=steps, optimizer__warmup_steps=200, curriculum__mode="static")
    tmp_path = tmp_path / "run"
    ends = [train(config, training_set, tmp_path, max_seconds=seconds, stop_after=0, quiet=True)]
    assert (ends[0].step, ends[0].reason) == (0, "time is up")
    while ends[-1].reason != "finished":
        stop_after = 0.5 * seconds
        ends.append(train(config, training_set, tmp_path, stop_after=stop_after, quiet=True))
    assert len(ends) > 2
    rows = read_metrics(tmp_path, "train")
    assert [row["step"] for row in rows] == list(range(1, ends[-1].step + 1))
    passed = [0.0, *(row["progress"] for row in rows)]
    assert passed == sorted(passed) and passed[-2] < passed[-1]
    # The schedule ends with the time, unless getting ready for a last call takes all that is left.
    assert passed[-1] == 1.0 or ends[-1].step == ends[-2].step
    peak, begun = config.optimizer.learning_rate, {end.step for end in ends}
    for step, row in enumerate(rows):
        if any(step - LEAD_STEPS <= first <= step + 1 for first in begun):
            continue  # getting ready took its share of the time between these two
        warmup = min(max((step + 1) / 200, passed[step] / 0.1), 1.0)
        left = 1 - max(step / steps, passed[step])
        expected = peak * warmup * min(left / config.optimizer.decay_share, 1.0)
        assert row["learning_rate"] == pytest.approx(expected)
        # Weights of the next step; they were settled so many steps before.
        settled = passed[max(step + 1 - LEAD_STEPS, 0)]
        expected = 0.1 + 0.8 * max((step + 1) / steps, settled)
        assert row["task_weights"]["generation"] == pytest.approx(expected)
    assert train(config, training_set, tmp_path, quiet=True).step == ends[-1].step


def test_a_look_that_the_time_does_not_allow_is_left_out(training_set, tmp_path):
    """Getting ready and the first validation are part of the time that a run is given."""
    config = tiny_config(steps=2, validate_every=1, sample_every=1)
    first = train(config, training_set, tmp_path, max_seconds=1e-9, quiet=True)
    assert (first.step, first.reason) == (0, "finished")
    assert read_metrics(tmp_path, "validation") == []
    assert load_latest(tmp_path) is not None
    assert train(config, training_set, tmp_path, max_seconds=math.inf, quiet=True).step == 2
    assert [row["step"] for row in read_metrics(tmp_path, "validation")] == [0, 1, 2]


def test_a_signal_during_a_look_is_told_and_the_look_is_made_later(training_set, tmp_path):
    config = tiny_config(**EXACT)
    _, store, val = open_stores(training_set, config)

    def start(run: Path, *stops: int) -> TrainResult:
        hooks = ((1, StopAt(*stops)), (1, validation_hook(val, clips_per_task=1)))
        return denoiser_trainer(config, store, run, hooks=hooks, quiet=True).train()

    assert start(tmp_path / "whole").reason == "finished"
    for step in (0, 2, STEPS):
        ended = start(tmp_path / "parts", step)
        assert (ended.step, ended.reason) == (step, "interrupted")
        assert all(row["step"] < step for row in read_metrics(tmp_path / "parts", "validation"))
    assert start(tmp_path / "parts").reason == "finished"
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_a_run_can_be_given_more_time_or_none_at_all(training_set, tmp_path):
    config = tiny_config(steps=3)
    first = train(config, training_set, tmp_path, max_seconds=1e-9, quiet=True)
    assert (first.step, first.reason) == (0, "finished")
    assert train(config, training_set, tmp_path, max_seconds=1e-9, quiet=True).step == 0
    assert train(config, training_set, tmp_path, max_seconds=math.inf, quiet=True).step == 3


@pytest.mark.parametrize("seconds", [0, -1, math.nan])
def test_no_time_is_refused(training_set, tmp_path, seconds):
    with pytest.raises(ConfigError, match=r"max_seconds is .*more than 0"):
        train(tiny_config(), training_set, tmp_path, max_seconds=seconds, quiet=True)


def test_lost_steps_are_made_again(uninterrupted, training_set, tmp_path):
    """A crash after step 5 was logged but only step 4 saved: the same numbers, each once."""
    shutil.copytree(uninterrupted, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000005")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "kind": "tr')
    assert run_once(tiny_config(**EXACT), training_set, tmp_path / "run").step == STEPS
    assert_same_run(tmp_path / "run", uninterrupted)


def test_a_run_that_never_saved_starts_over(uninterrupted, training_set, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert run_once(tiny_config(**EXACT), training_set, tmp_path / "run").step == STEPS
    assert_same_run(tmp_path / "run", uninterrupted)


def test_a_second_signal_ends_at_once(training_set, tmp_path):
    config = tiny_config(**EXACT)
    before = signal.getsignal(signal.SIGINT)  # a job in the background ignores it

    def twice(trainer: Trainer) -> None:
        if trainer.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    store = open_stores(training_set, config)[1]
    with pytest.raises(KeyboardInterrupt):
        denoiser_trainer(config, store, tmp_path, hooks=((1, twice),), quiet=True).train()
    loaded = load_latest(tmp_path)
    assert loaded is not None and loaded.step == 2
    assert signal.getsignal(signal.SIGINT) is before


# --------------------------------------------------------------------- finished, longer


def test_a_finished_run_does_nothing_more(training_set, tmp_path):
    config = tiny_config(steps=2, validate_every=1)
    train(config, training_set, tmp_path, quiet=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").rglob("*")}
    logged = (tmp_path / "metrics.jsonl").read_text()
    result = train(config, training_set, tmp_path, quiet=True)
    assert (result.step, result.reason) == (2, "finished")
    assert (tmp_path / "metrics.jsonl").read_text() == logged
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").rglob("*")}
    assert after == before


def test_a_finished_run_can_be_given_more_steps(training_set, tmp_path):
    train(tiny_config(steps=2), training_set, tmp_path, quiet=True)
    result = train(tiny_config(steps=4, log_every=2), training_set, tmp_path, quiet=True)
    assert (result.step, result.reason) == (4, "finished")
    assert [row["step"] for row in read_metrics(tmp_path, "train")] == [1, 2, 4]


# ----------------------------------------------------------------------------- refused


@pytest.fixture
def short_run(training_set: Path, tmp_path: Path) -> Path:
    train(tiny_config(steps=2, save_every=1), training_set, tmp_path / "run", quiet=True)
    return tmp_path / "run"


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "tensorboard" not in path.parts
    }


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"seed": 1}, "seed"),
        ({"batch_size": 6}, "batch_size"),
        ({"model__channels": (16, 24)}, "model.channels"),
        ({"optimizer__betas": (0.8, 0.99)}, "optimizer.betas"),
        ({"curriculum__mode": "none"}, "curriculum.mode"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_config_is_refused_in_one_line(short_run, training_set, changes, name):
    before = files(short_run)
    with pytest.raises(ConfigError, match=f"was started with {name} = .*use another") as caught:
        train(tiny_config(steps=2, save_every=1, **changes), training_set, short_run, quiet=True)
    assert "\n" not in str(caught.value)
    assert files(short_run) == before


def test_other_data_is_refused(short_run, tmp_path):
    before = files(short_run)
    stickers = SyntheticStickers(seed=9, count=6, max_frames=6)
    prepare(stickers, tmp_path / "other", canvas=32, max_frames=6, workers=0)
    with pytest.raises(ConfigError, match="trained on other data"):
        train(tiny_config(steps=2, save_every=1), tmp_path / "other", short_run, quiet=True)
    assert files(short_run) == before


def test_a_second_trainer_is_refused(short_run, training_set):
    before = files(short_run)
    with (
        locked(short_run),
        pytest.raises(ConfigError, match="being trained by another process"),
    ):
        train(tiny_config(steps=4, save_every=1), training_set, short_run, quiet=True)
    assert files(short_run) == before
    assert train(tiny_config(steps=4, save_every=1), training_set, short_run, quiet=True).step == 4


def test_a_run_folder_below_a_file(training_set, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"run folder .* can't be made"):
        train(tiny_config(), training_set, tmp_path / "file" / "run", quiet=True)


# ----------------------------------------------------------------------------- damaged


def damage(folder: Path, how: str) -> None:
    path = folder / "optimizer.safetensors"
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-9] if how == "truncated" else data[:-9] + b"?" + data[-8:])


@pytest.mark.parametrize("how", ["flipped", "truncated", "missing"])
def test_a_damaged_newest_checkpoint_is_passed_over_and_mended(
    uninterrupted, training_set, tmp_path, capsys, how
):
    shutil.copytree(uninterrupted, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "step-00000005"
    damage(newest, how)
    assert run_once(tiny_config(**EXACT), training_set, tmp_path / "run").step == STEPS
    warning = capsys.readouterr().err.splitlines()
    assert len(warning) == 1 and "step-00000005 is damaged" in warning[0]
    assert_same_run(tmp_path / "run", uninterrupted)
    assert load_step(tmp_path / "run", STEPS).step == STEPS
    assert not capsys.readouterr().err


def test_all_checkpoints_damaged(short_run, training_set):
    for folder in checkpoint_folders(short_run):
        damage(folder, "flipped")
    for use in (
        lambda: train(tiny_config(steps=2, save_every=1), training_set, short_run, quiet=True),
        lambda: load_pipeline(short_run),
    ):
        with pytest.raises(CheckpointError, match="no intact checkpoint"):
            use()


def test_a_checkpoint_of_another_architecture(short_run, training_set):
    """The config was edited, or the checkpoints were moved here from another run."""
    other = tiny_config(steps=2, save_every=1, model__channels=(16, 24))
    head = json.loads((short_run / "config.json").read_text())
    head["config"]["model"]["channels"] = [16, 24]
    (short_run / "config.json").write_text(json.dumps(head))
    for use in (
        lambda: train(other, training_set, short_run, quiet=True),
        lambda: load_pipeline(short_run),
    ):
        with pytest.raises(CheckpointError, match="of another model"):
            use()


# ------------------------------------------------------------------------ the program


def test_sigterm_saves_and_the_same_command_resumes(training_set, tmp_path):
    run = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "rdtf.cli.main", "train", "nano", "--json"),
        *("--data", str(training_set), "--out", str(run), "--steps", "100000"),
        *tiny_arguments(save_every=1000),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None and len(read_metrics(run)) < 3:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 75, errors
    result = json.loads(output)
    assert result["reason"] == "interrupted" and result["step"] >= 3
    lines = errors.splitlines()  # no terminal: one line per interval, and nothing else
    assert len(lines) == result["step"] and lines[2].startswith("step 3/100000  6 clips  loss ")
    loaded = load_latest(run)
    assert loaded is not None and loaded.step == result["step"]
    assert load_pipeline(run / "pipeline").max_frames == 4
    resumed = subprocess.run(
        [*command, "--stop-after", "0"], capture_output=True, text=True, check=True
    )
    assert json.loads(resumed.stdout)["step"] == result["step"]
    assert [row["step"] for row in read_metrics(run)] == list(range(1, result["step"] + 1))
