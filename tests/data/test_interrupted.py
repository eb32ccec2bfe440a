"""A preparation that is killed goes on, on any engine, and ends with the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from rdtf.data.prepare import prepare
from rdtf.errors import UserError
from rdtf.synthetic.characters import SyntheticStickers

from .stickers import save_webp, soft_disc

PROGRAM = """
import sys
from pathlib import Path
from rdtf.data.prepare import prepare
if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]), canvas=16, workers=int(sys.argv[3]))
"""


def start(folder: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(out), str(workers)]
    return subprocess.Popen(command, env=os.environ | path)


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
    out = tmp_path_factory.mktemp("whole") / "set"
    prepare(many, out, canvas=16, workers=0)
    return content(out)


def slices(work: Path) -> int:
    try:
        with sqlite3.connect(f"file:{work / 'work.sqlite'}?mode=ro", uri=True) as database:
            return database.execute("SELECT count(DISTINCT slice) FROM clips").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_a_killed_run_goes_on(many, whole, tmp_path):
    out = tmp_path / "set"
    process = start(many, out, 0)
    while process.poll() is None and slices(tmp_path / "set.work") == 0:
        pass
    process.kill()
    process.wait()
    assert not out.exists() and slices(tmp_path / "set.work") == 1
    with pytest.raises(UserError, match="unfinished work of another command"):
        prepare(many, out, canvas=24, workers=0)
    prepare(many, out, canvas=16, workers=0)
    assert content(out) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.slow
def test_ten_kills_at_random_moments(many, whole, tmp_path):
    out, moments = tmp_path / "set", random.Random(0)
    kills = 0
    while kills < 10:
        process = start(many, out, 2)
        try:
            process.wait(timeout=moments.uniform(0.5, 4.0))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    if not out.exists():
        prepare(many, out, canvas=16, workers=2)
    assert content(out) == whole and not (tmp_path / "set.work").exists()


@pytest.mark.slow
def test_ray_makes_the_same_bytes(many, whole, tmp_path):
    ray = pytest.importorskip("ray")
    try:
        prepare(many, tmp_path / "set", canvas=16, engine="ray")
        stickers = SyntheticStickers(seed=1, count=8)
        prepare(stickers, tmp_path / "drawn", canvas=32, engine="ray")
    finally:
        ray.shutdown()
    prepare(stickers, tmp_path / "here", canvas=32, workers=0)
    assert content(tmp_path / "set") == whole
    assert content(tmp_path / "drawn") == content(tmp_path / "here")
