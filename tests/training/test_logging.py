from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures_runs import tiny_config
from rdtf.errors import ConfigError
from rdtf.training.logging import Tracker, check_trackers, read_metrics

TRACKERS = ("tensorboard", "trackio", "wandb")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "cat-run"
    folder.mkdir()
    return folder


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    path = tmp_path / "sheet.png"
    Image.fromarray(np.full((8, 12, 4), 200, np.uint8)).save(path)
    return path


def log_steps(
    run: Path,
    resume_step: int | None,
    steps: range,
    names: str = "none",
    sheet: Path | None = None,
) -> None:
    """A stretch of training as its tracker sees it: validation and a sheet at even steps."""
    tracker = Tracker(run, resume_step, names, tiny_config())
    for step in steps:
        tracker.log(step, "train", {"loss": 1 / step, "loss_by_family": {"generation": 2.0}})
        if step % 2 == 0:
            tracker.log(step, "validation", {"loss": 0.5})
            if sheet is not None:
                tracker.log_image(step, "samples", sheet)
    tracker.close()


# ------------------------------------------------------------------------ JSON lines


def test_rows(run):
    log_steps(run, None, range(1, 3))
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "kind": "train", "loss": 1.0, "loss_by_family": {"generation": 2.0}},
        {"step": 2, "kind": "train", "loss": 0.5, "loss_by_family": {"generation": 2.0}},
        {"step": 2, "kind": "validation", "loss": 0.5},
    ]
    assert [row["step"] for row in read_metrics(run, "validation")] == [2]


def test_resuming_drops_what_comes_again(run):
    log_steps(run, None, range(1, 6))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "ki')  # the power went
    log_steps(run, 3, range(4, 8))
    assert [row["step"] for row in read_metrics(run, "train")] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["step"] for row in read_metrics(run, "validation")] == [2, 4, 6]
    log_steps(run, None, range(1, 2))
    assert [row["step"] for row in read_metrics(run)] == [1]


def test_other_ranks_write_nothing(run, sheet):
    tracker = Tracker(run, None, "auto", tiny_config(), enabled=False)
    tracker.log(1, "train", {"loss": 1.0})
    tracker.log_image(1, "samples", sheet)
    tracker.close()
    assert not list(run.iterdir())


def test_auto_needs_nothing_installed(run, capsys):
    log_steps(run, None, range(1, 3), names="auto")
    assert len(read_metrics(run)) == 3
    installed = importlib.util.find_spec("tensorboard") is not None
    assert (run / "tensorboard").is_dir() == installed
    assert capsys.readouterr().out == ""


def test_an_unknown_tracker(run):
    with pytest.raises(ConfigError, match="'mlflow' is unknown; choose from auto, none, tensor"):
        Tracker(run, None, "mlflow")
    assert not list(run.iterdir())


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed(name, run):
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    with pytest.raises(ConfigError, match=f"install it with: pip install {name}"):
        Tracker(run, None, name)
    assert not list(run.iterdir())


def test_names():
    assert check_trackers("none") == check_trackers("") == []


# ------------------------------------------------------------------------ TensorBoard


def board_steps(run: Path, tag: str) -> list[int]:
    accumulator = "tensorboard.backend.event_processing.event_accumulator"
    events = importlib.import_module(accumulator).EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    kind = "images" if tag in events.Tags()["images"] else "scalars"
    found = events.Images(tag) if kind == "images" else events.Scalars(tag)
    return [event.step for event in found]


def test_tensorboard_shows_no_step_twice(run, sheet):
    pytest.importorskip("tensorboard")
    log_steps(run, None, range(1, 6), "tensorboard", sheet)
    log_steps(run, 2, range(3, 5), "tensorboard", sheet)
    log_steps(run, 2, range(3, 8), "tensorboard", sheet)
    assert board_steps(run, "train/loss") == [1, 2, 3, 4, 5, 6, 7]
    assert board_steps(run, "train/loss_by_family/generation") == [1, 2, 3, 4, 5, 6, 7]
    assert board_steps(run, "samples") == [2, 4, 6]


def test_a_tracker_that_fails_does_not_end_the_run(run, capsys):
    pytest.importorskip("tensorboard")
    tracker = Tracker(run, None, "tensorboard")
    tracker.log_image(1, "samples", run / "no.png")
    assert "tracker tensorboard failed and gets nothing from now on" in capsys.readouterr().err
    tracker.log(1, "train", {"loss": 1.0})
    tracker.close()
    assert [row["step"] for row in read_metrics(run)] == [1]
    assert not capsys.readouterr().err


# ------------------------------------------------------------------------ services


def test_trackio_goes_on_with_its_run(run, sheet, tmp_path, monkeypatch, capsys):
    pytest.importorskip("trackio")
    storage = pytest.importorskip("trackio.sqlite_storage")
    for module in (storage, pytest.importorskip("trackio.utils")):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    log_steps(run, None, range(1, 6), "trackio", sheet)
    log_steps(run, 2, range(3, 5), "trackio", sheet)
    log_steps(run, 2, range(3, 8), "trackio", sheet)
    rows = storage.SQLiteStorage.get_logs("rdtf", "cat-run")
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["step"] for row in rows if "validation/loss" in row] == [2, 4, 6]
    assert [row["step"] for row in rows if "samples" in row] == [2, 4, 6]
    assert not capsys.readouterr().out  # results are printed there, and nothing else


def in_a_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """wandb reads its environment once in the life of a process."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    path = str(Path(__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r})\n{code}"],
        env={**known, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def test_wandb_offline_goes_on_with_its_run(run, sheet, tmp_path):
    pytest.importorskip("wandb")
    code = f"""
from pathlib import Path
from training.test_logging import log_steps
run, sheet = Path({str(run)!r}), Path({str(sheet)!r})
log_steps(run, None, range(1, 6), "wandb", sheet)
log_steps(run, 2, range(3, 8), "wandb", sheet)
"""
    ended = in_a_process(code, WANDB_MODE="offline", HOME=str(tmp_path))
    assert ended.returncode == 0 and not ended.stdout
    known = json.loads((run / "trackers.json").read_text())["wandb"]
    assert known["sent"] == 5
    parts = sorted((run / "wandb").glob("offline-run-*"))
    assert len(parts) == 2 and all(known["id"] in part.name for part in parts)
    pictures = [path.name for path in run.glob("wandb/offline-run-*/files/media/images/*")]
    assert sorted(name.split("_")[1] for name in pictures) == ["2", "4", "6"]


def test_wandb_without_login_says_what_to_do(run, tmp_path):
    pytest.importorskip("wandb")
    code = f"""
from pathlib import Path
from rdtf.training.logging import Tracker
Tracker(Path({str(run)!r}), None, "wandb")
"""
    ended = in_a_process(code, HOME=str(tmp_path), NETRC=str(tmp_path / "netrc"))
    last = ended.stderr.splitlines()[-1]
    assert "ConfigError: tracker wandb can't start" in last and "login" in last
    assert not (run / "metrics.jsonl").exists()
