"""docs/gallery.py, with a tiny model: pictures that fit, a page that names what it shows."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures_runs import tiny_run, training_set
from rdtf.data.dataset import PreparedDataset
from rdtf.evaluation.metrics import motion_magnitude, on_white
from rdtf.stickers import Sticker

__all__ = ["tiny_run", "training_set"]
ROOT = Path(__file__).resolve().parents[2]
SHEETS = {"interpolation", "prediction", "image-text", "failures"}


@pytest.fixture
def gallery(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("gallery")


def still_to_moving(count: int) -> list[Sticker]:
    """Opaque clips of four frames that get brighter, clip `i` by `i` levels a frame."""
    clips = []
    for speed in range(count):
        frames = np.full((4, 8, 8, 4), 255, np.uint8)
        frames[..., :3] = 10 + speed * np.arange(4)[:, None, None, None]
        clips.append(Sticker(frames, np.full(4, 100), metadata={"id": f"clip {speed}"}))
    return clips


def test_pictures_and_a_page(gallery, tiny_run, training_set, tmp_path):
    out = tmp_path / "images"
    options = ["--out", str(out), "--count", "2", "--steps", "2"]
    gallery.main([str(tiny_run), str(training_set), *options])
    files = {path.name: path for path in out.iterdir()}
    assert set(files) == {"gallery.webp", *(f"gallery-{name}.webp" for name in SHEETS)}
    assert all(path.stat().st_size <= gallery.MAX_BYTES for path in files.values())
    with Image.open(files["gallery.webp"]) as picture:
        assert getattr(picture, "n_frames", 1) > 1
    with Image.open(files["gallery-interpolation.webp"]) as picture:
        assert picture.width > 6 * 96 and picture.height > 4 * 96
    text = (tmp_path / "gallery.md").read_text("utf-8")
    assert set(re.findall(r"\]\(images/([\w.-]+)\)", text)) == set(files)
    held_out = {clip.id for clip in PreparedDataset(training_set).clips("val")}
    named = re.findall(r"^\| (\S+) \|", text.replace("\\", ""), re.M)
    assert set(named) - {"clip"} <= held_out
    assert gallery.RULE in text and "seed 0" in text and "dB" in text
    first = {path.name: path.read_bytes() for path in files.values()}
    gallery.main([str(tiny_run), str(training_set), *options])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def test_clips_are_chosen_by_their_rank(gallery):
    clips = still_to_moving(12)
    shuffled = [clips[i] for i in np.random.default_rng(0).permutation(12)]

    def ranks(count: int, place: float) -> list[int]:
        chosen = gallery.chosen_clips(shuffled, "interpolation", count, place)
        motion = [motion_magnitude(on_white(clip)) for clip in chosen]
        assert motion == sorted(motion)
        return [clips.index(clip) for clip in chosen]

    assert ranks(4, 0.0) == [0, 3, 6, 9]
    assert ranks(4, 0.5) == [1, 4, 7, 10]
    assert ranks(99, 0.9) == list(range(12))
    assert gallery.chosen_clips(clips, "interpolation", 0, 0.5) == []
    short = [clip.select([0, 1]) for clip in clips]
    assert gallery.chosen_clips(short, "interpolation", 4, 0.5) == []


def test_pictures_are_made_to_fit(gallery, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    path = gallery.write_small([Image.fromarray(noise)], tmp_path / "new" / "noise.webp")
    assert 10_000 < path.stat().st_size <= gallery.MAX_BYTES


def test_texts_are_no_markup(gallery):
    assert gallery._plain("a [x](y) | *b*\n<i>") == r"a \[x\](y) \| \*b\* &lt;i&gt;"
