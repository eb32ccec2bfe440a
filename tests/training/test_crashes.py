"""Killed, out of room, damaged: what was saved is still there.

Run as a program this file is the process that gets killed: see `_nursery`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from torch import Tensor

from rdtf.errors import CheckpointError
from rdtf.fileio import exchange
from rdtf.training.checkpoint import (
    Checkpoint,
    Retention,
    best_step,
    check,
    checkpoint_folders,
    load_latest,
    mark_best,
    save_checkpoint,
)
from rdtf.training.logging import read_metrics

STEMS = ("ema-0", "model", "optimizer")
ALL = Retention(last=0)


def contents(number: int, num_values: int = 60_000) -> dict[str, dict[str, Tensor]]:
    """What checkpoint `number` holds: nobody else holds the same."""
    generator = torch.Generator().manual_seed(number)
    return {
        stem: {name: torch.randn(num_values, generator=generator) for name in ("a", "b")}
        for stem in STEMS
    }


def save(run: Path, step: int, num_values: int = 60_000, retention: Retention = ALL) -> Path:
    return save_checkpoint(run, step, contents(step, num_values), {"number": step}, retention)


def assert_holds(checkpoint: Checkpoint, number: int, num_values: int = 60_000) -> None:
    assert checkpoint.state == {"number": number} and checkpoint.stems == STEMS
    for stem, tensors in contents(number, num_values).items():
        loaded = checkpoint.load(stem)
        assert loaded.keys() == tensors.keys()
        assert all(torch.equal(loaded[name], value) for name, value in tensors.items())


def latest(run: Path) -> Checkpoint:
    loaded = load_latest(run)
    assert loaded is not None
    return loaded


# ------------------------------------------------------------- the process that is killed


def _nursery() -> None:
    """For each line on stdin, `KIND RUN`, a child that saves until it is killed.

    torch is imported once for all of them.
    """
    for line in sys.stdin:
        kind, run = line.split(maxsplit=1)
        child = os.fork()
        if child == 0:
            _save_forever(kind, Path(run.strip()))
        os.waitpid(child, 0)
        _tell("dead")


def _save_forever(kind: str, run: Path) -> NoReturn:
    """Save step after step, or (`again`) the same step again and again with other contents."""
    _tell("child", os.getpid())
    loaded = load_latest(run)
    number = 0 if loaded is None else loaded.state["number"]
    while True:
        number += 1
        step = 7 if kind == "again" else number
        save_checkpoint(run, step, contents(number), {"number": number}, Retention(last=2, every=9))
        if number % 5 == 0:
            mark_best(run, step, 1 / number)
        _tell("saved", number)


def _tell(*words: object) -> None:
    print(*words, flush=True)


@pytest.fixture(scope="module")
def nursery() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()


def one_life(process: subprocess.Popen[str], kind: str, run: Path, seconds: float) -> int:
    """Kill a child so long after it has saved something; the last number that it had saved."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{kind} {run}\n")
    process.stdin.flush()
    child = int(process.stdout.readline().removeprefix("child "))
    last = int(process.stdout.readline().removeprefix("saved "))
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    while (line := process.stdout.readline()) != "dead\n":
        last = int(line.removeprefix("saved "))
    return last


def test_killed_at_any_moment(nursery, tmp_path):
    moments, last = random.Random(0), 0
    for _ in range(12):
        last = one_life(nursery, "next", tmp_path, moments.uniform(0, 0.2))
        folders = checkpoint_folders(tmp_path)
        assert [check(folder) for folder in folders] == [""] * len(folders)
        assert latest(tmp_path).step in (last, last + 1)
        assert_holds(latest(tmp_path), latest(tmp_path).step)
    best, newest = best_step(tmp_path), latest(tmp_path).step
    save(tmp_path, newest + 1, retention=Retention(last=1, every=9))
    kept = {newest + 1, *range(9, newest + 1, 9)} | ({best[0]} if best else set())
    assert newest >= 12 and steps_of(tmp_path) == sorted(kept)
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_killed_while_a_checkpoint_is_replaced(nursery, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system can't swap two names in one step")
    run, moments = tmp_path / "run", random.Random(1)
    for _ in range(8):
        last = one_life(nursery, "again", run, moments.uniform(0, 0.2))
        number = latest(run).state["number"]
        assert steps_of(run) == [7] and number in (last, last + 1)
        assert_holds(latest(run), number)


def steps_of(run: Path) -> list[int]:
    return [int(folder.name[5:]) for folder in checkpoint_folders(run)]


# ---------------------------------------------------------------------- the real program


def command(data: Path, run: Path, steps: int) -> list[str]:
    from fixtures_runs import tiny_arguments  # heavy, and not for the process that is killed above

    return [
        *(sys.executable, "-m", "rdtf.cli.main", "train", "nano", "--json"),
        *("--data", str(data), "--out", str(run), "--steps", str(steps)),
        *tiny_arguments(save_every=1, track="none", log_lines=False),
    ]


def run_until_killed(arguments: list[str], run: Path, moments: random.Random) -> int:
    """Kill the program while it saves, one to three checkpoints after it has begun to save.

    Returns the newest step that was there when it was killed.
    """
    root = run / "checkpoints"
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        before = max(steps_of(run), default=-1)
        wanted = before + moments.randint(1, 3)
        while max(steps_of(run), default=-1) < wanted and process.poll() is None:
            time.sleep(0.002)
        while not list(root.glob(".tmp-step-*")) and process.poll() is None:
            time.sleep(0.0005)
        time.sleep(moments.uniform(0, 0.03))
        newest = max(steps_of(run))
    finally:
        process.kill()
        _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    return newest


def logged(run: Path) -> list[tuple[object, ...]]:
    names = ("step", "loss", "grad_norm", "learning_rate", "quantile")
    return [tuple(row[name] for name in names) for row in read_metrics(run, "train")]


@pytest.mark.slow
def test_training_killed_twenty_times_while_saving(training_set, tmp_path):
    """It always goes on, never loses more than one interval, and ends as if nothing had been."""
    steps, run, moments = 120, tmp_path / "run", random.Random(3)
    arguments = command(training_set, run, steps)
    for _ in range(20):
        newest = run_until_killed(arguments, run, moments)
        assert latest(run).step >= newest
        assert len(read_metrics(run, "train")) <= latest(run).step + 1
    assert latest(run).step < steps
    subprocess.run(arguments, check=True, capture_output=True)
    whole = tmp_path / "whole"
    arguments = command(training_set, whole, steps)
    subprocess.run(arguments, check=True, capture_output=True)

    first, second = latest(run), latest(whole)
    assert first.step == second.step == steps and first.stems == second.stems
    for stem in first.stems:
        a, b = first.load(stem), second.load(stem)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a), stem
    for name in ("curriculum", "foresight", "ema_updates"):
        assert first.state[name] == second.state[name]
    assert logged(run) == logged(whole) and len(logged(run)) == steps
    assert not list((run / "checkpoints").glob(".*"))


def test_the_program_finds_no_room(training_set, tmp_path):
    from fixtures_runs import tiny_config
    from rdtf.training.train import train

    run = tmp_path / "run"
    train(tiny_config(steps=1), training_set, run, quiet=True)
    weights = run / "checkpoints" / "step-00000001" / "model.safetensors"
    limit = weights.stat().st_size - 1
    ran = subprocess.run(
        command(training_set, run, steps=3),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
    )
    (line,) = ran.stderr.splitlines()
    assert ran.returncode == 2 and line.startswith("rdtf: checkpoint of step 2 can't be saved in ")
    assert "File too large, it needs " in line and "make room" in line
    assert "the newest intact one is step-00000001" in line
    assert steps_of(run) == [1] and latest(run).step == 1
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000001"]


# ------------------------------------------------------------------------- out of room


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"/"
        for path in folder.rglob("*")
    }


def assert_refused(save: Callable[[], object], run: Path, newest: int) -> None:
    """Saving fails in one line that says all; what there was is as it was."""
    before = everything(run)
    with pytest.raises(CheckpointError) as caught:
        save()
    message = str(caught.value)
    assert "\n" not in message and f"can't be saved in {run / 'checkpoints'}" in message
    assert "it needs " in message and " are free" in message and "make room" in message
    assert f"the newest intact one is step-{newest:08d}" in message
    assert everything(run) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB and 40 files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=40", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_too_small(small_disk):
    save(small_disk, 1)
    assert_refused(lambda: save(small_disk, 2, num_values=200_000), small_disk, newest=1)
    assert_holds(latest(small_disk), 1)
    save(small_disk, 2, num_values=20_000)
    assert latest(small_disk).step == 2


def test_a_disk_that_takes_no_more_files(small_disk):
    """There are bytes left, so it is noticed only while writing."""
    save(small_disk, 1)
    blockers = [small_disk / f"file-{number}" for number in range(40)]
    with contextlib.suppress(OSError):
        for path in blockers:
            path.touch()
    blockers = [path for path in blockers if path.exists()]
    for path in blockers[:6]:  # a folder and five files make a checkpoint
        assert_refused(lambda: save(small_disk, 2), small_disk, newest=1)
        path.unlink()
    assert_holds(latest(small_disk), 1)
    save(small_disk, 2)
    assert_holds(latest(small_disk), 2)


@contextlib.contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """The kernel lets no file grow beyond it: the middle of writing fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_half_way(tmp_path):
    save(tmp_path, 3)
    damaged = save(tmp_path, 4)
    (damaged / "model.safetensors").write_bytes(b"")
    with largest_file(400_000):
        assert_refused(lambda: save(tmp_path, 5), tmp_path, newest=3)
    save(tmp_path, 5)
    assert_holds(latest(tmp_path), 5)


def test_no_room_for_the_first(tmp_path):
    with largest_file(400_000), pytest.raises(CheckpointError, match="there is none yet; make"):
        save(tmp_path, 1)
    assert list((tmp_path / "checkpoints").iterdir()) == []


# ----------------------------------------------------------------------------- damaged


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """A run with checkpoints of steps 4 and 6: the run, and the folder of the newer."""
    for step in (4, 6):
        save(tmp_path, step, num_values=500)
    return tmp_path, tmp_path / "checkpoints" / "step-00000006"


@contextlib.contextmanager
def damaged(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Path]:
    """What is done to `folder` in the block is noticed after it, and then undone."""
    shutil.copytree(folder, run / "copy")
    yield folder
    assert check(folder)
    loaded, told = latest(run), capsys.readouterr().err.splitlines()
    assert_holds(loaded, 4, num_values=500)
    assert len(told) == 1 and f"{folder.name} is damaged" in told[0] and "step-00000004" in told[0]
    shutil.rmtree(folder, ignore_errors=True)
    (run / "copy").rename(folder)
    assert_holds(latest(run), 6, num_values=500)


def test_any_byte(two, capsys):
    run, folder = two
    draws = random.Random(2)
    files = sorted(folder.iterdir())
    for draw in range(60):
        with damaged(run, folder, capsys):
            path = files[draw % len(files)]
            data = bytearray(path.read_bytes())
            data[draws.randrange(len(data))] ^= draws.randrange(1, 256)
            path.write_bytes(bytes(data))


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.99])
def test_cut_off(two, capsys, share):
    run, folder = two
    for name in sorted(path.name for path in folder.iterdir()):
        with damaged(run, folder, capsys):
            data = (folder / name).read_bytes()
            (folder / name).write_bytes(data[: int(len(data) * share)])


def test_a_file_is_gone(two, capsys):
    run, folder = two
    for name in sorted(path.name for path in folder.iterdir()):
        with damaged(run, folder, capsys):
            (folder / name).unlink()


def test_files_of_two_steps_are_swapped(two, capsys):
    run, folder = two
    for name in sorted(path.name for path in folder.iterdir()):
        with damaged(run, folder, capsys):
            shutil.copy(folder.with_name("step-00000004") / name, folder / name)
    with damaged(run, folder, capsys):
        shutil.rmtree(folder)
        shutil.copytree(folder.with_name("step-00000004"), folder)


def test_a_future_version(two):
    run, folder = two
    state = json.loads((folder / "state.json").read_text())
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "version": 99}))
    data = (folder / "state.json").read_bytes()
    manifest["state.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n")
    with pytest.raises(CheckpointError, match=r"newer rdtf \(format 99, .*update rdtf"):
        load_latest(run)


if __name__ == "__main__":
    _nursery()
