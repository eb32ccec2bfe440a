"""The commands and Python blocks of docs/make.md and docs/studio.md, run word for word."""

from __future__ import annotations

import gzip
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest

from cli.conftest import Rdtf
from fixtures_service import moving_disc, still
from rdtf.stickers import Sticker
from stickers.samples import lottie_bytes

ROOT = Path(__file__).resolve().parents[2]
MAKE, STUDIO = ((ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("make", "studio"))


def commands_of(text: str) -> list[str]:
    """The lines of a page's shell blocks, fenced or indented."""
    fenced = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    indented = re.findall(r"^    ((?:rdtf|pip) .*)$", text, re.M)
    return [*"".join(fenced).splitlines(), *indented]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_run: Path) -> Path:
    """A working folder with the files that the pages name."""
    still(40, 1).save(tmp_path / "cat.png")
    still(48, 2).save(tmp_path / "dog.png")
    moving_disc(40, 8).save(tmp_path / "wave.gif")
    moving_disc(40, 3).save(tmp_path / "keys.gif")
    (tmp_path / "wave.tgs").write_bytes(_tgs())
    (tmp_path / "keys.txt").write_text("a-key-of-mine-0001\n")
    (tmp_path / "RUN").symlink_to(tiny_run)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _tgs() -> bytes:
    return gzip.compress(lottie_bytes(w=512, h=512, op=6))


def test_python_of_make(folder):
    blocks = re.findall(r"^```python\n(.*?)^```", MAKE, re.M | re.S)
    for block in blocks:
        names: dict[str, object] = {}
        exec(block, names)
        assert Sticker.load("cat.webp").frames.tobytes() == names["loop"].frames.tobytes()
        assert len(names["several"]) == 4
        assert len(names["each"]) == 2
    assert blocks


@pytest.mark.slow
@pytest.mark.parametrize("line", commands_of(MAKE))
def test_commands_of_make(line: str, folder: Path, rdtf: Rdtf):
    """With the model that ships."""
    program, *words = shlex.split(line, comments=True)
    assert program == "rdtf"
    ended = rdtf(*words)
    assert ended.status == 0, ended.err
    out = folder / words[words.index("-o") + 1]
    assert any(out.iterdir()) if out.is_dir() else Sticker.load(out).num_frames > 1


@pytest.mark.slow
@pytest.mark.parametrize("line", commands_of(STUDIO))
def test_commands_of_studio(line: str, folder: Path):
    program, *words = shlex.split(line)
    if program == "pip":
        assert words == ["install", "rdtf[studio]"]
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        assert "studio" in project["optional-dependencies"]
        return
    assert program == "rdtf"
    with socket.socket() as port:
        if port.connect_ex(("127.0.0.1", 7860)) == 0:
            pytest.skip("port 7860 is in use")
    process = subprocess.Popen(
        [sys.executable, "-m", "rdtf.cli.main", *words],
        env={**os.environ, "HOME": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert ":7860" in process.stderr.readline()
        with httpx.Client(base_url="http://127.0.0.1:7860", timeout=60) as client:
            status = 401 if "--api-key-file" in words else 200
            assert client.get("/config").status_code == status  # of the page
            assert client.get("/v1/videos").status_code == status
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
