from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import fsspec
import numpy as np
import pytest

from rdtf.data.caches import ensure_pixels_cache
from rdtf.data.dataset import PreparedDataset
from rdtf.errors import DataError


@pytest.fixture
def copy(dataset: PreparedDataset, tmp_path: Path) -> Path:
    """A training set that a test may damage."""
    return Path(shutil.copytree(dataset.path, tmp_path / "copy"))


def edit_head(folder: Path, change: Callable[[dict], object]) -> None:
    head = json.loads((folder / "dataset.json").read_text())
    change(head)
    (folder / "dataset.json").write_text(json.dumps(head))


def test_clips_are_counted_by_split(dataset):
    train, val = dataset.clips("train"), dataset.clips("val")
    assert len(train) + len(val) == len(dataset) == len(dataset.clips()) == 5
    assert [clip.index for clip in [*train, *val]] == list(range(5))
    assert dataset.num_frames == sum(clip.num_frames for clip in dataset.clips())
    assert dataset.frame_offsets.tolist()[0] == 0 and len(dataset.frame_offsets) == 6
    assert len({clip.id for clip in dataset.clips()}) == 5


def test_a_sticker_comes_with_what_is_known_about_it(dataset):
    index = next(clip.index for clip in dataset.clips() if clip.concept == "square")
    sticker = dataset.read_sticker(index)
    assert sticker.captions == ("red square", "a square moves")
    assert (sticker.license, sticker.source) == ("CC0-1.0", "pack/moving")
    assert sticker.metadata["emotion"] == "calm"
    assert sticker.total_ms == dataset.clip(index).total_ms == 600


def test_captions_are_listed_once(dataset):
    captions = dataset.captions()
    assert len(set(captions)) == len(captions)
    assert {"red square", "green square", "blue disc"} <= set(captions)


def test_it_travels_to_other_processes(dataset):
    with ProcessPoolExecutor(1, get_context("spawn")) as other_process:
        frames = other_process.submit(dataset.read_frames, 0).result()
    assert np.array_equal(frames, dataset.read_frames(0))


def test_a_moved_set_still_opens(copy, dataset):
    moved = PreparedDataset(copy)
    moved.verify()
    assert moved.fingerprint == dataset.fingerprint


def test_a_missing_set_is_named(tmp_path):
    with pytest.raises(DataError, match="holds no training set"):
        PreparedDataset(tmp_path)


def test_another_version_is_refused(copy):
    edit_head(copy, lambda head: head.update(version=99))
    with pytest.raises(DataError, match="version 99"):
        PreparedDataset(copy)


def test_damaged_json_is_refused(copy):
    (copy / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="JSON"):
        PreparedDataset(copy)


@pytest.mark.parametrize("key", ["canvas", "shards", "fingerprint", "splits", "made"])
def test_a_missing_entry_is_refused(copy, key):
    edit_head(copy, lambda head: head.pop(key))
    with pytest.raises(DataError, match="damaged"):
        PreparedDataset(copy)


def test_a_changed_row_is_refused(copy):
    path = copy / "clips.jsonl"
    path.write_text(path.read_text().replace("red square", "red circle"))
    with pytest.raises(DataError, match="does not fit"):
        PreparedDataset(copy)


def test_a_shard_that_is_cut_off_or_missing_is_refused(copy):
    shard = next((copy / "shards").glob("train-*.tar"))
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(DataError, match="missing or cut off"):
        PreparedDataset(copy)
    shard.unlink()
    with pytest.raises(DataError, match="missing or cut off"):
        PreparedDataset(copy)


def test_a_shard_outside_of_the_set_is_refused(copy):
    edit_head(copy, lambda head: head["shards"][0].update(file="../secret.tar"))
    with pytest.raises(DataError, match="lies elsewhere"):
        PreparedDataset(copy)


def test_changed_pixels_are_found(copy, dataset):
    clip = dataset.clips("train")[0]
    shard = copy / clip.location.shard
    data = bytearray(shard.read_bytes())
    middle = clip.location.offset + clip.location.num_bytes // 2
    data[clip.location.offset : middle] = bytes(middle - clip.location.offset)
    shard.write_bytes(data)
    damaged = PreparedDataset(copy)
    with pytest.raises(DataError, match="has changed"):
        damaged.verify()
    with pytest.raises(DataError, match=clip.id):
        damaged.read_frames(clip.index)


def test_unknown_split_is_refused(dataset):
    with pytest.raises(DataError, match="unknown"):
        dataset.clips("test")


def test_a_set_without_an_index_is_read_as_it_is(copy, dataset):
    """As earlier versions wrote it."""
    (copy / "index.npy").unlink()
    edit_head(copy, lambda head: [head.pop(key) for key in ("index_sha256", "stages")])
    old = PreparedDataset(copy)
    assert list(old.clips()) == list(dataset.clips())
    assert np.array_equal(old.frame_offsets, dataset.frame_offsets)
    path = copy / "clips.jsonl"
    path.write_text(path.read_text().replace('"durations_ms": [', '"durations_ms": [0, ', 1))
    with pytest.raises(DataError, match="does not fit"):
        PreparedDataset(copy)


def test_a_changed_index_is_refused(copy):
    data = bytearray((copy / "index.npy").read_bytes())
    data[-1] ^= 1
    (copy / "index.npy").write_bytes(bytes(data))
    with pytest.raises(DataError, match="has changed"):
        PreparedDataset(copy)


def test_clips_are_told_apart_by_concept_and_difficulty(dataset):
    clips = dataset.clips()
    names: dict[int, set[str]] = {}
    for clip, key in zip(clips, clips.concepts.tolist(), strict=True):
        names.setdefault(key, set()).add(clip.concept)
    assert all(len(same) == 1 for same in names.values()) and len(names) == len(
        {clip.concept for clip in clips}
    )
    assert clips.difficulty.shape == (len(clips),)
    hardest, easiest = clips[int(clips.difficulty.argmax())], clips[int(clips.difficulty.argmin())]
    assert hardest.num_frames > easiest.num_frames and hardest.motion > easiest.motion


def test_a_set_elsewhere_is_read_where_it_is(copy, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fsspec.filesystem("memory").put(str(dataset.path), "/bucket/set", recursive=True)
    for address in ("memory://bucket/set", Path("memory://bucket/set")):
        remote = PreparedDataset(address)
        remote.verify()
        assert remote.fingerprint == dataset.fingerprint
        assert np.array_equal(remote.read_frames(3), dataset.read_frames(3))
    assert not list(remote.path.rglob("*.tar"))  # clips stay where they are
    pixels = ensure_pixels_cache(remote, workers=0)
    assert np.array_equal(pixels.rows, ensure_pixels_cache(PreparedDataset(copy), workers=0).rows)
    fsspec.filesystem("memory").rm("/bucket/set/shards", recursive=True)
    with pytest.raises(DataError, match="can't be read"):
        remote.read_frames(3)
