from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from benchmarks.mutations import originals
from webdataset.compat import WebDataset

from rdtf.data.dataset import PreparedDataset
from rdtf.data.filters import FilterOptions
from rdtf.data.keyframes import decode_frames, encode_frames
from rdtf.data.prepare import prepare
from rdtf.errors import DataError, UserError
from rdtf.stickers import Sticker, encode_sticker
from rdtf.stickers.formats.gif import _blocks
from rdtf.synthetic.characters import SyntheticStickers

from .stickers import lottie, moving_square, save_gif, save_webp, soft_disc, write_rows


def clip_by_file(dataset: PreparedDataset, name: str):
    return next(clip for clip in dataset.clips() if clip.file.endswith(name))


def test_every_sticker_is_in_the_set_or_in_the_list_of_skipped(dataset):
    files = {clip.file for clip in dataset.clips()}
    rows = [json.loads(line) for line in (dataset.path / "skipped.jsonl").open()]
    assert files == {
        "pack/moving/red_square.gif",
        "pack/moving/green_square.webp",
        "pack/moving/slide.json",
        "pack/still/disc.webp",
        "pack/still/wide.webp",
    }
    assert {(row["file"], row["kind"]) for row in rows} == {
        ("pack/captions.jsonl:3", "caption line"),
        ("pack/captions.jsonl:4", "caption line"),
        ("pack/still/broken.webp", "unreadable"),
        ("pack/still/disc_copy.webp", "duplicate"),
        ("pack/still/nothing.webp", "empty"),
    }
    assert sum(dataset.head["skipped"].values()) == len(rows)


def test_frames_come_back_exactly(dataset):
    square = clip_by_file(dataset, "red_square.gif")
    assert np.array_equal(dataset.read_frames(square.index), moving_square(6))
    assert square.durations_ms == (100,) * 6
    disc = clip_by_file(dataset, "disc.webp")
    expected = np.where(soft_disc()[..., 3:] > 0, soft_disc(), np.uint8(0))
    assert np.array_equal(dataset.read_frames(disc.index), expected)


def test_aspect_is_kept_on_a_transparent_canvas(dataset):
    frame = dataset.read_frames(clip_by_file(dataset, "wide.webp").index)[0]
    assert frame.shape == (32, 32, 4)
    assert frame[:8, :, 3].max() == 0 and frame[-8:, :, 3].max() == 0
    assert frame[8:24, :, 3].max() == 255


def test_lottie_becomes_key_frames_of_the_same_length(dataset):
    clip = clip_by_file(dataset, "slide.json")
    sticker = dataset.read_sticker(clip.index)
    assert (clip.native_frames, clip.num_frames, clip.total_ms) == (30, 8, 1000)
    alpha = sticker.frames[..., 3].astype(float)
    centers = (alpha.sum(axis=1) * np.arange(32)).sum(axis=1) / alpha.sum(axis=(1, 2))
    assert (np.diff(centers) > 0).all()
    assert sticker.frames[0][16, round(centers[0])].tolist() == [255, 0, 0, 255]


def test_shards_are_plain_webdatasets(dataset):
    shards = [str(dataset.path / shard["file"]) for shard in dataset.head["shards"]]
    samples = {sample["__key__"]: sample for sample in WebDataset(shards, shardshuffle=False)}
    assert set(samples) == {clip.id for clip in dataset.clips()}
    for clip in dataset.clips():
        sample = samples[clip.id]
        about = json.loads(sample["json"])
        assert about["captions"] == list(clip.captions)
        assert about["split"] == clip.split and clip.location.shard.startswith(
            f"shards/{clip.split}-"
        )
        frames = decode_frames(sample["webp"], len(about["durations_ms"]), 32, "sample")
        assert np.array_equal(frames, dataset.read_frames(clip.index))


def test_the_result_depends_on_the_input_and_not_on_the_workers(sticker_folder, tmp_path):
    summaries = [
        prepare(sticker_folder, tmp_path / str(workers), canvas=32, workers=workers)
        for workers in (0, 2)
    ]
    first, second = (tmp_path / "0", tmp_path / "2")
    assert summaries[0].fingerprint == summaries[1].fingerprint
    for path in (path for path in first.rglob("*") if path.is_file()):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()


def test_options_and_content_change_the_fingerprint(sticker_folder, tmp_path, dataset):
    fewer = prepare(sticker_folder, tmp_path / "a", canvas=32, max_frames=4, workers=0)
    smaller = prepare(sticker_folder, tmp_path / "b", canvas=24, max_frames=4, workers=0)
    assert len({dataset.fingerprint, fewer.fingerprint, smaller.fingerprint}) == 3


def test_variants_of_one_concept_are_on_one_side(tmp_path):
    rows = []
    for concept in range(12):
        for variant in range(3):
            name = f"{concept}-{variant}.webp"
            save_webp(tmp_path / "in" / name, soft_disc(16, (concept * 20, variant * 90, 7)))
            rows.append({"file": name, "caption": name, "concept": f"concept {concept}"})
    write_rows(tmp_path / "in" / "rows.jsonl", rows)
    summary = prepare(tmp_path / "in", tmp_path / "out", canvas=16, val_fraction=0.3, workers=0)
    clips = PreparedDataset(tmp_path / "out").clips()
    assert summary.num_clips == len(clips) == 36
    assert len({(clip.concept, clip.split) for clip in clips}) == 12
    assert set(summary.splits) == {"train", "val"} and min(summary.splits.values()) > 0


def test_little_motion_is_skipped_on_request_and_stills_are_not(tmp_path):
    blink = np.repeat(soft_disc(64), 2, axis=0)
    blink[1, 30, 30] = (0, 0, 0, 255)
    save_webp(tmp_path / "in" / "blink.webp", blink)
    save_webp(tmp_path / "in" / "disc.webp", soft_disc(64, (9, 9, 9)))
    save_gif(tmp_path / "in" / "square.gif", moving_square(4))
    kept = prepare(tmp_path / "in", tmp_path / "all", canvas=32, workers=0)
    assert kept.num_clips == 3
    limit = FilterOptions(min_motion=0.05)
    some = prepare(tmp_path / "in", tmp_path / "some", canvas=32, filters=limit, workers=0)
    assert some.num_clips == 2 and some.skipped == {"nearly still": 1}


def test_duplicates_stay_on_request(tmp_path):
    for name in ("a", "b"):
        save_webp(tmp_path / "in" / f"{name}.webp", soft_disc())
    assert prepare(tmp_path / "in", tmp_path / "one", canvas=32).num_clips == 1
    assert prepare(tmp_path / "in", tmp_path / "two", canvas=32, duplicates="keep").num_clips == 2


def test_synthetic_stickers_are_an_input_too(tmp_path):
    stickers = SyntheticStickers(seed=3, count=6)
    summary = prepare(stickers, tmp_path / "out", canvas=32, val_fraction=0.3, workers=0)
    dataset = PreparedDataset(tmp_path / "out")
    assert summary.num_clips == 6 and all(clip.captions for clip in dataset.clips())
    drawn = SyntheticStickers(seed=3, count=6, canvas=32)
    for clip in dataset.clips():
        number = int(clip.file.removeprefix("synthetic/"))
        assert clip.concept == drawn.describe(number).concept
        pictures = iter([frame.tobytes() for frame in drawn[number].frames])
        # Each is found after the one before it: a subsequence.
        assert all(frame.tobytes() in pictures for frame in dataset.read_frames(clip.index))


def test_an_existing_set_is_replaced_only_on_request(sticker_folder, tmp_path):
    out = tmp_path / "out"
    first = prepare(sticker_folder, out, canvas=32, workers=0)
    (out / "cache").mkdir()
    with pytest.raises(UserError, match="--overwrite"):
        prepare(sticker_folder, out, canvas=16, workers=0)
    assert PreparedDataset(out).fingerprint == first.fingerprint
    second = prepare(sticker_folder, out, canvas=16, workers=0, overwrite=True)
    assert PreparedDataset(out).fingerprint == second.fingerprint != first.fingerprint
    assert not (out / "cache").exists()


def test_other_folders_are_never_replaced(sticker_folder, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="something else"):
        prepare(sticker_folder, tmp_path, overwrite=True)
    with pytest.raises(UserError, match="is a file"):
        prepare(sticker_folder, tmp_path / "thesis.txt", overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_what_lies_beside_a_set_is_never_deleted(sticker_folder, tmp_path):
    prepare(sticker_folder, tmp_path / "out", canvas=16, workers=0)
    (tmp_path / "out" / "run").mkdir()
    with pytest.raises(UserError, match="holds run beside a training set"):
        prepare(sticker_folder, tmp_path / "out", canvas=16, workers=0, overwrite=True)
    assert (tmp_path / "out" / "run").is_dir()


def test_a_set_among_the_stickers_is_not_read_again(tmp_path):
    folder = tmp_path / "in"
    save_webp(folder / "x.webp", soft_disc())
    with tarfile.open(folder / "more.tar.gz", "w:gz") as archive:
        archive.add(save_webp(tmp_path / "y.webp", moving_square(3)), "y.webp")
    first = prepare(folder, tmp_path / "set", canvas=16, workers=0)
    (tmp_path / "set").rename(folder / "set")
    again = prepare(folder, tmp_path / "set", canvas=16, workers=0)
    assert first.fingerprint == again.fingerprint and first.num_clips == again.num_clips == 2


@pytest.mark.parametrize(
    ("source", "out", "told"),
    [
        ("pack", "pack/DATA", "output .*pack/DATA lies inside of the input"),
        ("pack", "pack", "output .*pack lies inside of the input"),
        ("pack/x.webp", "pack", "input .*x.webp lies inside of the output"),
        ("pack/../pack", "pack/a/../b", "lies inside of the input"),
    ],
)
def test_inputs_and_outputs_lie_apart(tmp_path, source, out, told):
    save_webp(tmp_path / "pack" / "x.webp", soft_disc())
    with pytest.raises(UserError, match=told):
        prepare(tmp_path / source, tmp_path / out, canvas=16, workers=0)
    assert [path.name for path in tmp_path.rglob("*")] == ["pack", "x.webp"]


def test_nothing_is_left_behind_when_nothing_can_be_used(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="no sticker found"):
        prepare(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "x.gif").write_bytes(b"GIF89a")
    with pytest.raises(UserError, match="none of the 1 stickers can be used"):
        prepare(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    "options",
    [
        {"canvas": 4},
        {"canvas": 100_000},
        {"max_frames": 0},
        {"max_frames": 100_000},
        {"keyframe_method": "random"},
        {"val_fraction": 1.5},
        {"filters": FilterOptions(min_motion=-1)},
        {"workers": -2},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(sticker_folder, tmp_path, options):
    named = {"keyframe_method": "method", "filters": "min_motion"}
    (name,) = options
    with pytest.raises(UserError, match=named.get(name, name)):
        prepare(sticker_folder, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_encoded_frames_are_exact_with_soft_edges():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, 24, 24, 4), dtype=np.uint8)
    frames[..., 3] *= rng.random((5, 24, 24)) > 0.5
    frames[frames[..., 3] == 0] = 0
    data = encode_frames(frames, [10, 20, 30, 40, 50])
    assert np.array_equal(decode_frames(data, 5, 24, "clip"), frames)
    with pytest.raises(DataError, match="holds 5 frames"):
        decode_frames(data, 4, 24, "clip")
    with pytest.raises(DataError, match="damaged"):
        decode_frames(data[:200], 5, 24, "clip")


@pytest.mark.parametrize("num_frames", [2, 3, 6])
def test_opaque_shapes_on_nothing_keep_nothing_transparent(num_frames):
    """libwebp stores the boxes that change: all of them opaque, so that it names no alpha."""
    frames = moving_square(6, 64)[:num_frames]
    data = encode_frames(frames, [100] * num_frames)
    assert np.array_equal(decode_frames(data, num_frames, 64, "clip"), frames)


def test_decoded_frames_have_no_hidden_colour():
    frames = np.full((3, 24, 24, 4), 200, np.uint8)
    frames[..., 3] = np.random.default_rng(1).integers(0, 2, (3, 24, 24)) * 255
    decoded = decode_frames(encode_frames(frames, [10, 10, 10]), 3, 24, "clip")
    assert np.array_equal(decoded, np.where(frames[..., 3:] > 0, frames, 0))


def test_what_needs_too_much_memory_costs_one_file(tmp_path):
    """900 frames of 512 x 512 pixels in a file of 1 MB: within the budget, beyond a worker."""
    picture = np.full((2, 512, 512, 4), 255, np.uint8)
    picture[1, :, :256] = (200, 40, 40, 255)
    data = encode_sticker(Sticker(picture, np.array([40, 40])), ".gif")
    parts = [data[start:end] for kind, start, end in _blocks(data, "gif") if kind != b";"]
    start = len(data) - 1 - sum(map(len, parts[-4:]))  # two control blocks and pictures
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "long.gif").write_bytes(data[:start] + data[start:-1] * 450 + b";")
    save_webp(tmp_path / "in" / "disc.webp", soft_disc())
    summary = prepare(tmp_path / "in", tmp_path / "out", canvas=16, workers=1)
    assert summary.num_clips == 1 and summary.skipped == {"memory": 1}


def test_every_format_becomes_a_clip(tmp_path):
    """GIF, WebP, APNG, PNG, JPEG, AVIF, Lottie, tgs, WebM and MP4 in one folder."""
    (tmp_path / "in").mkdir()
    for number, (suffix, data) in enumerate(originals()):
        (tmp_path / "in" / f"{number} thing{suffix}").write_bytes(data)
    summary = prepare(tmp_path / "in", tmp_path / "out", canvas=32, duplicates="keep", workers=0)
    assert summary.num_clips == len(originals()) and not summary.skipped
    suffixes = {clip.file.rpartition(".")[2] for clip in PreparedDataset(tmp_path / "out").clips()}
    expected = {"gif", "webp", "apng", "png", "jpg", "json", "tgs", "webm", "mp4"}
    assert suffixes - {"avif"} == expected


def test_real_stickers(real_stickers: Path, tmp_path):
    names = ["animated/noto_1f192.tgs", "animated/noto_1f44b.tgs", "animated/pet_crab_red_walk.gif"]
    files = [real_stickers / name for name in names if (real_stickers / name).is_file()]
    summary = prepare(files, tmp_path / "out", canvas=64, workers=0)
    assert summary.num_clips == len(files) and not summary.skipped
    for clip in PreparedDataset(tmp_path / "out").clips():
        assert 2 <= clip.num_frames <= 16


def test_a_damaged_tgs_is_told_in_words(tmp_path):
    packed = bytearray(gzip.compress(json.dumps(lottie()).encode()))
    packed[30:60] = bytes(30)
    save_webp(tmp_path / "in" / "disc.webp", soft_disc())
    (tmp_path / "in" / "bad.tgs").write_bytes(bytes(packed))
    prepare(tmp_path / "in", tmp_path / "out", canvas=16, workers=0)
    (row,) = map(json.loads, (tmp_path / "out" / "skipped.jsonl").open())
    assert row["reason"].startswith("the .tgs is damaged (Error -3")


def test_what_of_a_lottie_is_not_drawn_is_named(tmp_path):
    (tmp_path / "in").mkdir()
    blurred = lottie()
    blurred["layers"][0]["ef"] = [{"ty": 29}]
    (tmp_path / "in" / "blur.json").write_text(json.dumps(blurred))
    summary = prepare(tmp_path / "in", tmp_path / "out", canvas=16, workers=0)
    assert summary.not_drawn == {"effects": 1}
    clip = PreparedDataset(tmp_path / "out").clips()[0]
    assert clip.attributes["not_drawn"] == ["effects"]


def test_a_folder_of_frames_is_one_animated_clip(tmp_path):
    for number, frame in enumerate(moving_square(6)):
        save_webp(tmp_path / "in" / "cat waving" / f"{number:04d}.webp", frame[None])
    summary = prepare(tmp_path / "in", tmp_path / "out", canvas=32, workers=0)
    assert (summary.num_clips, summary.num_animated) == (1, 1)
    clip = PreparedDataset(tmp_path / "out").clips()[0]
    assert clip.captions == ("cat waving",) and clip.total_ms == 600
