from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures_bundles import BLOCK, encoder, summary
from fixtures_runs import training_set
from models.encoders import save_tiny_bert, save_tiny_t5
from rdtf.data.bundle import (
    MANIFEST_FILE,
    BundleSummary,
    encode_frame,
    read_text,
    write_bundle,
    write_text,
)
from rdtf.data.clip_store import Bundle, StoredClip
from rdtf.data.dataset import PreparedDataset
from rdtf.errors import DataError, UserError
from rdtf.models.text import TextEncoder
from rdtf.stickers.canvas import premultiply

__all__ = ["encoder", "summary", "training_set"]


@pytest.fixture
def bundle(summary: BundleSummary, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(summary.path, tmp_path / "copy")


def psnr_db(first: np.ndarray, second: np.ndarray) -> float:
    error = np.square(premultiply(first) - premultiply(second)).mean()
    return float(-10 * np.log10(max(error, 1e-10)))


# ------------------------------------------------------------------------------ round trip


def test_clips_come_back(summary, training_set, tmp_path):
    dataset = PreparedDataset(training_set)
    clips = dataset.clips("train")
    store = Bundle.find([summary.path]).store(tmp_path / "store", workers=0)
    assert len(store.clips) == len(clips) == summary.num_clips
    assert summary.num_frames == len(store.frames)
    for stored, clip in zip(store.clips, clips, strict=True):
        assert stored.durations_ms == clip.durations_ms and stored.captions == clip.captions
        assert stored.concept == clip.concept and stored.source == (clip.source or "")
        found = store.frames[stored.start : stored.start + stored.count]
        assert psnr_db(found, dataset.read_frames(clip.index)) > 28
    held_out = {clip.concept for clip in dataset.clips("val")}
    assert held_out and not held_out & {clip.concept for clip in store.clips}


def test_the_bundle_tells_its_size_and_what_was_lost(summary):
    files = [path for path in summary.path.rglob("*") if path.is_file()]
    assert summary.num_bytes == sum(path.stat().st_size for path in files)
    manifest = json.loads((summary.path / MANIFEST_FILE).read_text())
    assert len(manifest["files"]) == len(files) - 1  # itself
    assert sum(summary.files.values()) == sum(f["num_bytes"] for f in manifest["files"].values())
    assert 0 <= summary.lossless_share < 1 and 28 < (summary.lossy_psnr_db or 0) < 60


def test_flat_frames_are_without_loss_and_shaded_ones_short():
    flat = np.zeros((64, 64, 4), np.uint8)
    flat[8:40, 8:40] = (200, 30, 60, 255)
    data, error = encode_frame(flat)
    assert error is None and len(data) < 500
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 4)).astype(np.uint8)
    noise[..., 3] = 255
    data, error = encode_frame(noise)
    assert error is not None and 0 < error < 0.2


def test_frames_are_decoded_once(bundle):
    store = Bundle.find([bundle]).store(workers=0)
    marked = bundle / "store" / "frames.npy"
    before = marked.stat()
    assert np.array_equal(Bundle.find([bundle]).store(workers=0).frames, store.frames)
    assert marked.stat().st_mtime_ns == before.st_mtime_ns


def test_parts_travel_one_by_one(training_set, encoder, summary, tmp_path):
    limit = summary.num_bytes + 64_000 - summary.files["frames"] // 2
    parted = write_bundle(
        [training_set], tmp_path / "parted", canvas=32, encoder=encoder, part_bytes=limit, workers=0
    )
    assert len(parted.parts) > 1
    for part in parted.parts:
        assert sum(f.stat().st_size for f in part.rglob("*") if f.is_file()) <= limit
    moved = [
        shutil.copytree(part, tmp_path / f"elsewhere-{number}")
        for number, part in enumerate(parted.parts)
    ]
    whole = Bundle.find([summary.path]).store(tmp_path / "one", workers=0)
    joined = Bundle.find(moved).store(tmp_path / "two", workers=0)
    assert np.array_equal(whole.frames, joined.frames) and whole.clips == joined.clips
    assert np.array_equal(Bundle.find([parted.path]).store(workers=0).frames, whole.frames)
    with pytest.raises(DataError, match="incomplete: part-2"):
        Bundle.find(moved[:1])
    with pytest.raises(DataError, match="different bundles"):
        Bundle.find([moved[0], summary.path])


# ---------------------------------------------------------------------------------- mistakes


def test_a_damaged_bundle_is_refused(bundle):
    frames = bundle / "frames-000.bin"
    data = bytearray(frames.read_bytes())
    data[len(data) // 2] ^= 255
    frames.write_bytes(data)
    with pytest.raises(DataError, match=r"frames-000.bin has changed"):
        Bundle.find([bundle]).store(workers=0)
    assert not (bundle / "store").exists()
    frames.write_bytes(data[:-1])
    with pytest.raises(DataError, match=r"frames-000.bin is missing"):
        Bundle.find([bundle])
    (bundle / MANIFEST_FILE).unlink()
    with pytest.raises(DataError, match="no bundle is named"):
        Bundle.find([])
    with pytest.raises(DataError, match="holds no bundle"):
        Bundle.find([bundle])


def test_what_makes_no_sense_is_refused(training_set, encoder, summary, tmp_path):
    def bundled(out: Path, **options: object) -> None:
        write_bundle([training_set], out, encoder=encoder, workers=0, **options)  # pyright: ignore

    with pytest.raises(UserError, match="multiple of 16"):
        bundled(tmp_path / "x", canvas=40)
    with pytest.raises(UserError, match="too small"):
        bundled(tmp_path / "x", canvas=32, part_bytes=100_000)
    with pytest.raises(UserError, match="--overwrite"):
        bundled(summary.path, canvas=32)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="taken"):
        bundled(tmp_path / "mine", canvas=32, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


# --------------------------------------------------------------------------------------- text


@pytest.mark.parametrize("save", [save_tiny_bert, save_tiny_t5], ids=["bert", "t5"])
def test_the_encoder_says_the_same_of_words_that_occur(save, tmp_path):
    encoder = TextEncoder(str(save(tmp_path / "full")))
    clips = [StoredClip(0, 1, (80,), ("a red cat", "cats"), "waving")]
    write_text(encoder, clips, tmp_path / "small")
    tokenizer, model = read_text(tmp_path / "small")
    texts = ["a red cat waving", "cats", "red"]
    expected, mask = encoder.encode(texts)
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    found = model(**tokens).last_hidden_state
    assert torch.allclose(found[mask], expected[mask], atol=5e-3)
    assert all(value.dtype == torch.float32 for value in model.parameters())
    # "dog" does not occur: it reads as the unknown token, here and there.
    dog, unknown = (model(**tokenizer([t], return_tensors="pt"))[0] for t in ("dog", "zebra"))
    assert torch.equal(dog, unknown)


# --------------------------------------------------------------------------------- far side


def test_training_on_bundles_imports_nothing_that_a_rented_machine_lacks(summary):
    """From the copy in the bundle, so that it lacks nothing either."""
    code = (
        BLOCK
        + """
sys.modules["transformers"] = None  # only where text is encoded
import importlib, pkgutil
import rdtf, rdtf.models, rdtf.stickers, rdtf.synthetic
names = ["rdtf.training.recurrence", "rdtf.training.trainables", "rdtf.training.bundled"]
names += ["rdtf.training.__main__", "rdtf.data.clip_store"]
for package in (rdtf.models, rdtf.synthetic):
    names += [f"{package.__name__}.{m.name}" for m in pkgutil.iter_modules(package.__path__)]
for name in names:
    importlib.import_module(name)
print(len(names), rdtf.__file__)
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(summary.path), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    count, file = done.stdout.split()
    assert int(count) > 20 and file == str(summary.path / "rdtf" / "__init__.py")
