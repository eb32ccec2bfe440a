"""A preparation that is killed goes on, on any engine, and ends with the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from rdtf.data.prepare import prepare
from rdtf.errors import UserError
from rdtf.synthetic.characters import SyntheticStickers

from .stickers import save_webp, soft_disc

# The real command; small shards and slices, so that there are many moments to be killed at.
PROGRAM = """
import sys
import rdtf.data.stages as stages
from rdtf.cli.main import main
stages.MAX_SHARD_CLIPS, stages._SLICE_CLIPS = 10, 32
if __name__ == "__main__":
    main(["data", "prepare", *sys.argv[1:], "--duplicates", "exact", "--keep-all"])
"""
CANVAS = ("--canvas", "64")


def start(folder: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(out), *CANVAS, *options]
    nothing = subprocess.DEVNULL
    return subprocess.Popen(command, env=os.environ | path, stdout=nothing, stderr=nothing)


def content(out: Path) -> dict[str, str]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More stickers than a slice holds, a few of them broken or alike."""
    folder = tmp_path_factory.mktemp("many") / "pile"
    for number in range(400):
        color = (number % 256, 7 * number % 256, 200 if number < 390 else 0)
        save_webp(folder / f"{number}.webp", soft_disc(12, color))
    (folder / "5.webp").write_bytes(b"RIFF")
    (folder / "8.webp").write_bytes((folder / "7.webp").read_bytes())
    return folder


@pytest.fixture(scope="module")
def whole(many: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an undisturbed run makes, caches of the preset included."""
    out = tmp_path_factory.mktemp("whole") / "set"
    assert start(many, out).wait() == 0
    return content(out)


def slices(work: Path) -> int:
    try:
        with sqlite3.connect(f"file:{work / 'work.sqlite'}?mode=ro", uri=True) as database:
            return database.execute("SELECT count(DISTINCT slice) FROM clips").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def kill_when(process: subprocess.Popen[bytes], moment: Callable[[], bool]) -> bool:
    """SIGKILL at that moment; False if the process came to its end before."""
    while process.poll() is None:
        if moment():
            process.kill()
            process.wait()
            return True
    assert process.returncode == 0
    return False


def test_a_killed_run_goes_on(many, tmp_path):
    out = tmp_path / "set"
    process = start(many, out, "--workers", "0", "--preset", "none")
    assert kill_when(process, lambda: slices(tmp_path / "set.work") > 0)
    assert not out.exists() and slices(tmp_path / "set.work") >= 1
    with pytest.raises(UserError, match="unfinished work of another command"):
        prepare(many, out, canvas=24, workers=0)
    assert start(many, out, "--workers", "0", "--preset", "none").wait() == 0
    assert start(many, tmp_path / "other", "--workers", "0", "--preset", "none").wait() == 0
    assert content(out) == content(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "set"]


def moments(out: Path, chance: random.Random) -> list[Callable[[], bool]]:
    """Ten: while slices, shards, and caches are being written, and any."""
    work = out.with_name(f"{out.name}.work")
    begun = time.monotonic()

    def after(seconds: float) -> Callable[[], bool]:
        return lambda: time.monotonic() - begun > seconds

    def exists(folder: Path, pattern: str) -> Callable[[], bool]:
        return lambda: any(folder.glob(pattern))

    shards = work / "set" / "shards"
    return [
        after(chance.uniform(0.1, 1.5)),
        exists(work / "pixels", ".tmp-*"),
        lambda: slices(work) > chance.randrange(1, 6),
        exists(shards, ".tmp-train-00000[2-9]*"),
        exists(work / "rows", "*-00001*"),
        exists(shards, "val-*"),
        exists(work / "set", "index.npy"),
        exists(out, "dataset.json"),
        exists(out / "cache", ".tmp-*"),
        exists(out / "cache", "[a-z]*"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["pool", "ray"])
def test_ten_kills_at_random_moments(many, whole, tmp_path, engine):
    """Also in the middle of writing; each run goes on from where the last one was killed."""
    if engine == "ray" and find_spec("ray") is None:
        pytest.skip("no Ray here")
    kills = 0
    for number in range(10):
        chance = random.Random(number)
        out = tmp_path / f"set-{number // 5}"  # two sets: some moments come once only
        moment = moments(out, chance)[(2 * number + number // 5) % 10]
        kills += not content_is_whole(out) and kill_when(
            start(many, out, "--engine", engine), moment
        )
    for number in range(2):
        out = tmp_path / f"set-{number}"
        if not out.exists() or out.with_name(f"{out.name}.work").exists():
            assert start(many, out, "--engine", engine).wait() == 0
        assert content(out) == whole and not out.with_name(f"{out.name}.work").exists()
    assert kills >= 8


def content_is_whole(out: Path) -> bool:
    return out.exists() and not out.with_name(f"{out.name}.work").exists()


@pytest.mark.slow
def test_ray_makes_the_same_bytes(many, whole, tmp_path):
    ray = pytest.importorskip("ray")
    stickers = SyntheticStickers(seed=1, count=8)
    try:
        prepare(stickers, tmp_path / "drawn", canvas=32, engine="ray")
    finally:
        ray.shutdown()
    prepare(stickers, tmp_path / "here", canvas=32, workers=0)
    assert content(tmp_path / "drawn") == content(tmp_path / "here")
    assert start(many, tmp_path / "set", "--engine", "ray").wait() == 0
    assert content(tmp_path / "set") == whole
