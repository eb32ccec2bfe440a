from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import safe_open

from rdtf.data.caches import (
    ensure_latents_cache,
    ensure_pixels_cache,
    ensure_text_cache,
    reduce_premultiplied,
)
from rdtf.data.dataset import PreparedDataset
from rdtf.data.shards import RowWriter, open_rows
from rdtf.errors import DataError
from rdtf.models.representation import LearnedLatents, PixelPatches, RGBAAutoencoder
from rdtf.models.text import TextEncoder
from rdtf.training.config import override
from rdtf.training.loader import open_stores
from rdtf.training.presets import preset


@pytest.fixture
def copy(dataset: PreparedDataset, tmp_path: Path) -> PreparedDataset:
    return PreparedDataset(shutil.copytree(dataset.path, tmp_path / "copy"))


def file_times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_pixels_are_the_premultiplied_frames(copy):
    cache = ensure_pixels_cache(copy)
    for clip in copy.clips():
        frames = cache.frames(clip.index)
        expected = copy.read_sticker(clip.index).premultiplied() * 255
        assert frames.dtype == np.uint8 and frames.shape == (clip.num_frames, 32, 32, 4)
        assert np.abs(frames - expected).max() <= 0.5 + 1e-4


def test_smaller_pixels_are_area_means(copy):
    small, full = ensure_pixels_cache(copy, 8), ensure_pixels_cache(copy)
    assert small.canvas == 8
    blocks = full.rows.astype(float).reshape(-1, 8, 4, 8, 4, 4).mean(axis=(2, 4))
    assert np.abs(small.rows - blocks).max() <= 1
    uneven = ensure_pixels_cache(copy, 20)
    assert abs(uneven.rows.mean() - full.rows.mean()) < 1


@given(arrays(np.uint8, (1, 12, 12, 4)), st.sampled_from([1, 3, 5, 6, 7, 12]))
def test_reduced_colour_never_exceeds_alpha(frames, canvas):
    reduced = reduce_premultiplied(frames, canvas)
    assert reduced.shape == (1, canvas, canvas, 4)
    assert (reduced[..., :3] <= reduced[..., 3:]).all()


def test_a_canvas_larger_than_the_set_is_refused(dataset):
    with pytest.raises(DataError, match="prepared at 32 pixels, 64 are wanted"):
        ensure_pixels_cache(dataset, 64)


def test_a_cache_is_built_once_and_rebuilt_when_damaged(copy):
    ensure_pixels_cache(copy, 16)
    before = file_times(copy.path / "cache")
    expected = ensure_pixels_cache(copy, 16).rows.copy()
    assert file_times(copy.path / "cache") == before
    (path,) = copy.path.glob("cache/pixels-*/frames.safetensors")
    path.write_bytes(path.read_bytes()[:-5])
    assert np.array_equal(ensure_pixels_cache(copy, 16).rows, expected)
    assert file_times(copy.path / "cache") != before


def test_several_askers_build_one_cache(copy):
    results: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: results.append(ensure_pixels_cache(copy, 8).rows))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.array_equal(rows, results[0]) for rows in results)
    assert len(list(copy.path.glob("cache/pixels-*"))) == 1


def test_caches_go_to_the_user_where_the_set_cannot_be_written(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (copy.path / "cache").write_text("in the way")
    rows = ensure_pixels_cache(copy, 16).rows
    assert len(list((tmp_path / "home" / "rdtf").glob("pixels-*"))) == 1
    assert np.array_equal(ensure_pixels_cache(copy, 16).rows, rows)


def test_workers_build_the_same_pixels(copy, dataset):
    assert np.array_equal(
        ensure_pixels_cache(copy, 16, workers=2).rows, ensure_pixels_cache(dataset, 16).rows
    )


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_latents_are_what_the_representation_says(copy, batch_size):
    torch.manual_seed(0)
    latents = LearnedLatents(RGBAAutoencoder.create(channels=(8, 8, 8, 8), latent_channels=4))
    cache = ensure_latents_cache(copy, latents, batch_size=batch_size)
    pixels = ensure_pixels_cache(copy)
    for clip in copy.clips():
        frames = torch.from_numpy(pixels.frames(clip.index).copy()).permute(0, 3, 1, 2).float()
        mean, logvar = latents.encode(frames / 127.5 - 1)
        cached = cache.logvar(clip.index)
        assert logvar is not None and cached is not None
        assert cache.mean(clip.index).shape == (clip.num_frames, 4, 4, 4)
        np.testing.assert_allclose(cache.mean(clip.index), mean.numpy(), rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(cached, logvar.numpy(), rtol=2e-3, atol=2e-3)


def test_each_representation_has_its_own_latents(copy):
    patches = ensure_latents_cache(copy, PixelPatches(patch=4), 16)
    assert patches.logvar(0) is None
    assert patches.mean(0).shape[1:] == (64, 4, 4)
    assert patches.mean_rows.min() >= -1 and patches.mean_rows.max() <= 1
    ensure_latents_cache(copy, PixelPatches(patch=2), 16)
    assert len(list(copy.path.glob("cache/latents-*"))) == 2


class Elsewhere(PixelPatches):
    """Remembers where it was asked to encode, and brings the result home."""

    fingerprint = "elsewhere"

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, None]:
        self.asked_on = pixels.device.type
        return torch.zeros(len(pixels), 1, 4, 4), None


def test_latents_are_made_where_it_is_said(copy):
    """The meta device stands for a GPU."""
    representation = Elsewhere()
    ensure_latents_cache(copy, representation, 16, device="meta")
    assert representation.asked_on == "meta"


def test_text_is_encoded_where_it_is_said(copy):
    with pytest.raises(RuntimeError, match="meta"):  # whose states can't be brought home
        ensure_text_cache(copy, TextEncoder(), device="meta")


def test_a_training_set_is_cached_beside_the_gpu(copy):
    """By the device that trains; see above."""
    config = override(preset("nano"), {"canvas": 32})
    with pytest.raises(RuntimeError, match="meta"):
        open_stores(copy.path, config, torch.device("meta"))
    dataset, train_store, _ = open_stores(copy.path, config, torch.device("cpu"))
    assert len(train_store) == len(dataset.clips("train"))


def test_text_is_cached_for_every_caption_and_for_none(copy):
    encoder = TextEncoder()
    cache = ensure_text_cache(copy, encoder, batch_size=2)
    assert len(cache) == len(copy.captions()) + 1 and cache.width == encoder.width
    for caption in ["", *copy.captions()]:
        states, mask = encoder.encode([caption])
        own = states[0][mask[0]].numpy()
        assert caption in cache and cache.states(caption).shape == own.shape
        np.testing.assert_allclose(cache.states(caption), own, rtol=1e-2, atol=1e-2)
    assert cache.max_tokens == max(len(cache.states(text)) for text in copy.captions())
    with pytest.raises(DataError, match="not in the text cache"):
        cache.states("a caption of another set")


@given(st.lists(st.integers(0, 4), max_size=5), st.sampled_from(["uint8", "float16", "int64"]))
def test_row_files_are_safetensors(tmp_path_factory, counts, dtype):
    path = tmp_path_factory.mktemp("rows") / "x.safetensors"
    parts = [np.arange(count * 6).reshape(count, 2, 3).astype(dtype) for count in counts]
    with RowWriter(path, (2, 3), dtype) as writer:
        for part in parts:
            writer.append(part)
    expected = np.concatenate([np.zeros((0, 2, 3), dtype), *parts])
    assert np.array_equal(open_rows(path), expected)
    with safe_open(path, framework="np") as file:
        assert np.array_equal(file.get_tensor("rows"), expected)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 8, b"\x02" + bytes(7) + b"{}", np.random.default_rng(0).bytes(100)],
    ids=["empty", "endless header", "no tensors", "noise"],
)
def test_damaged_row_files_are_refused(tmp_path, data):
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        open_rows(tmp_path / "x.safetensors")
