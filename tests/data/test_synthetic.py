"""Synthetic stickers: the same everywhere, varied, transparent, moving."""

from __future__ import annotations

import collections
import gzip
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdtf.errors import ConfigError
from rdtf.stickers import Sticker, read_sticker
from rdtf.synthetic.characters import KINDS, MOTIONS, Attributes, SyntheticStickers

ROOT = Path(__file__).resolve().parents[2]
INDICES = (0, 7, 123, 999_999)
COUNT = 400


def fingerprint(sticker: Sticker) -> str:
    parts = (
        sticker.frames.tobytes(),
        sticker.durations_ms.tobytes(),
        repr((sticker.captions, sticker.loop_count)).encode(),
        json.dumps(dict(sticker.metadata), sort_keys=True).encode(),
    )
    return hashlib.sha256(b"|".join(parts)).hexdigest()


def fingerprints(seed: int) -> list[str]:
    stickers = SyntheticStickers(seed, canvas=48)
    return [fingerprint(stickers[index]) for index in INDICES]


@pytest.fixture(scope="module")
def described() -> list[Attributes]:
    stickers = SyntheticStickers(seed=5)
    return [stickers.describe(index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def drawn() -> list[Sticker]:
    return list(SyntheticStickers(seed=11, count=120, canvas=64))


# --- reproducible -------------------------------------------------------------------------------


def test_the_same_in_another_process() -> None:
    code = "from tests.data.test_synthetic import fingerprints; print(*fingerprints(3))"
    command = [sys.executable, "-c", code]
    search = os.pathsep.join([str(ROOT / "src"), str(ROOT), *sys.path])
    environment = {**os.environ, "PYTHONPATH": search, "PYTHONHASHSEED": "1"}
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert output.stdout.split() == fingerprints(3)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_forked_process_can_draw_after_its_parent_did() -> None:
    expected = fingerprints(4)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(fingerprints, (4,)).get(timeout=60) == expected


def test_independent_of_order_and_count() -> None:
    forward, backward = SyntheticStickers(1, canvas=32), SyntheticStickers(1, 50, canvas=32)
    there = [fingerprint(forward[index]) for index in range(12)]
    back = [fingerprint(backward[index]) for index in reversed(range(12))]
    assert there == back[::-1]


def test_seeds_and_indices_give_different_stickers() -> None:
    prints = [
        fingerprint(SyntheticStickers(seed, canvas=32)[i]) for seed in (0, 1) for i in range(40)
    ]
    assert len(set(prints)) == len(prints)


def test_describe_agrees_with_the_sticker(drawn: list[Sticker]) -> None:
    stickers = SyntheticStickers(seed=11, canvas=64)
    for index, sticker in enumerate(drawn):
        about = stickers.describe(index)
        assert dict(sticker.metadata) == about.as_dict()
        assert sticker.captions == about.captions
        assert tuple(sticker.durations_ms) == about.durations_ms
        assert sticker.num_frames == about.num_frames
        assert sticker.metadata["concept"] == f"{about.kind}:{about.motion}"
        assert json.loads(json.dumps(sticker.metadata)) == sticker.metadata


# --- a sequence ---------------------------------------------------------------------------------


def test_length_iteration_and_bounds() -> None:
    stickers = SyntheticStickers(seed=2, count=3, canvas=32)
    assert len(stickers) == 3
    assert [s.metadata["index"] for s in stickers] == [0, 1, 2]
    assert fingerprint(stickers[int(np.int64(1))]) == fingerprint(stickers[np.int64(1)])
    for index in (-1, 3, 10**9):
        with pytest.raises(IndexError):
            stickers[index]
        with pytest.raises(IndexError):
            stickers.describe(index)


@pytest.mark.parametrize("wrong", [{"count": -1}, {"canvas": 4}, {"max_frames": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SyntheticStickers(**wrong)


# --- variety ------------------------------------------------------------------------------------


def test_variety_of_attributes(described: list[Attributes]) -> None:
    assert len({about.kind for about in described}) == len(KINDS) >= 12
    assert len({about.motion for about in described} - {"still"}) == len(MOTIONS) >= 16
    assert len({about.colour for about in described}) >= 15
    assert len({about.expression for about in described}) >= 10
    assert len({about.prop for about in described}) >= 12
    assert {about.style for about in described} == {"outline", "flat", "soft"}
    for flag in ("border", "shadow", "loops"):
        assert 0.1 * COUNT < sum(getattr(about, flag) for about in described) < COUNT


def test_lengths_have_a_mode_in_the_middle_and_a_long_tail(described: list[Attributes]) -> None:
    lengths = collections.Counter(about.num_frames for about in described)
    assert set(lengths) <= set(range(1, 17))
    assert 0.01 < lengths[1] / COUNT < 0.12
    assert 6 <= lengths.most_common(1)[0][0] <= 10
    assert sum(lengths[n] for n in range(12, 17)) > 0.04 * COUNT
    assert all((about.motion == "still") == (about.num_frames == 1) for about in described)


def test_low_and_often_uneven_frame_rates(described: list[Attributes]) -> None:
    animated = [about for about in described if about.num_frames > 1]
    shortest = [min(about.durations_ms) for about in animated]
    assert min(shortest) >= 1000 / 15 and max(shortest) <= 1000 / 4
    assert all(len(about.durations_ms) == about.num_frames for about in animated)
    uneven = sum(len(set(about.durations_ms)) > 1 for about in animated)
    assert 0.2 < uneven / len(animated) < 0.8


@pytest.mark.parametrize("max_frames", [1, 2, 3, 5, 8])
def test_max_frames_is_obeyed(max_frames: int) -> None:
    stickers = SyntheticStickers(seed=6, max_frames=max_frames)
    lengths = {stickers.describe(index).num_frames for index in range(80)}
    assert lengths == set(range(1, max_frames + 1))


# --- pictures -----------------------------------------------------------------------------------


def test_transparent_around_an_opaque_subject(drawn: list[Sticker]) -> None:
    for sticker in drawn:
        alpha = sticker.frames[..., 3]
        assert (alpha == 0).mean() > 0.1
        assert (alpha > 200).any(axis=0).mean() > 0.1
        assert ((alpha > 0) & (alpha < 255)).any()


def test_the_subject_fills_the_canvas(drawn: list[Sticker]) -> None:
    sizes = []
    for sticker in drawn:
        seen = sticker.frames[..., 3].max(axis=0) > 60
        height, width = (np.ptp(np.flatnonzero(axis)) for axis in (seen.max(1), seen.max(0)))
        sizes.append(max(height, width) / 64)
    assert min(sizes) > 0.5
    assert np.median(sizes) > 0.75


def test_animated_stickers_move(drawn: list[Sticker]) -> None:
    for sticker in drawn:
        if sticker.num_frames > 1:
            pixels = sticker.premultiplied()
            changed = np.abs(pixels - pixels[:1]).max(axis=(0, 3)) > 0.25
            assert changed.mean() > 0.003, sticker.metadata["concept"]


@pytest.mark.parametrize("motion", sorted(MOTIONS))
def test_every_motion_shows_different_poses(motion: str) -> None:
    stickers = SyntheticStickers(seed=8, canvas=48)
    index = next(i for i in range(5000) if stickers.describe(i).motion == motion)
    frames = stickers[index].frames
    assert len({frame.tobytes() for frame in frames}) >= min(3, (len(frames) + 1) // 2)


@pytest.mark.parametrize("canvas", [32, 64, 128, 256])
def test_canvases_show_the_same_drawing(canvas: int) -> None:
    sticker = SyntheticStickers(seed=9, canvas=canvas)[4]
    small = SyntheticStickers(seed=9, canvas=32)[4]
    assert sticker.frames.shape == (small.num_frames, canvas, canvas, 4)
    ratio = canvas // 32
    blocks = sticker.premultiplied().reshape(-1, 32, ratio, 32, ratio, 4).mean(axis=(2, 4))
    assert np.abs(blocks - small.premultiplied()).mean() < 0.02


@settings(max_examples=25)
@given(
    seed=st.integers(-(2**63), 2**63),
    index=st.integers(0, 10**12),
    max_frames=st.integers(1, 16),
)
def test_any_sticker_is_valid(seed: int, index: int, max_frames: int) -> None:
    sticker = SyntheticStickers(seed, 10**12 + 1, canvas=32, max_frames=max_frames)[index]
    assert 1 <= sticker.num_frames <= max_frames
    assert sticker.frames.shape[1:] == (32, 32, 4) and sticker.frames.dtype == np.uint8
    assert (sticker.durations_ms >= 50).all()
    assert 2 <= len(sticker.captions) <= 4
    assert sticker.frames[..., 3].max() > 180
    assert sticker.frames[..., 3].min() == 0


# --- as a vector file ---------------------------------------------------------------------------


def test_lottie_document_is_a_readable_tgs(tmp_path) -> None:
    stickers = SyntheticStickers(seed=10, canvas=64)
    index = next(i for i in range(100) if stickers.describe(i).num_frames == 6)
    path = tmp_path / "sticker.tgs"
    path.write_bytes(gzip.compress(json.dumps(stickers.lottie(index)).encode()))
    assert path.stat().st_size < 64 * 1024
    read, made = read_sticker(path, lottie_size=64), stickers[index]
    assert abs(read.total_ms - made.total_ms) <= 2 * 1000 / 60
    error = np.abs(read.premultiplied()[0] - made.premultiplied()[0]).mean()
    assert error < 0.02
