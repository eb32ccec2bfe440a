from __future__ import annotations

import json
from pathlib import Path

import pytest

from rdtf.errors import UserError
from rdtf.stickers import Budget, StickerError, encode_sticker, probe, read_sticker

from .samples import assert_same_clip, clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eleven frames, frame2 before frame10, in two formats; other files are no frames."""
    for index, frame in enumerate(clip(11).frames):
        still = clip(1, duration_ms=100).replace(frames=frame[None])
        still.save(tmp_path / f"frame{index}{'.png' if index % 2 else '.webp'}")
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".frame99.png").write_text("hidden")
    return tmp_path


def test_frames_in_natural_order(folder: Path):
    assert_same_clip(read_sticker(folder), clip(11, duration_ms=100))
    info = probe(folder)
    assert (info.format, info.num_frames, info.width, info.total_ms) == ("folder", 11, 16, 1100)


@pytest.mark.parametrize("value", [40, [40] * 11, {"durations_ms": [40] * 11}])
def test_durations_beside_the_frames(folder: Path, value: object):
    (folder / "durations.json").write_text(json.dumps(value))
    assert_same_clip(read_sticker(folder), clip(11, duration_ms=40))


@pytest.mark.parametrize("value", [[40], "fast", [1.5] * 11, [-1] * 11, {"a": 1}, None])
def test_wrong_durations(folder: Path, value: object):
    (folder / "durations.json").write_text(json.dumps(value))
    with pytest.raises(StickerError, match="must hold 11 durations"):
        read_sticker(folder)
    (folder / "durations.json").write_text("{")
    with pytest.raises(UserError, match=r"durations\.json"):
        read_sticker(folder)


def test_frames_of_different_sizes(folder: Path):
    clip(1, size=17, duration_ms=100).save(folder / "frame5.png")
    with pytest.raises(StickerError, match="16 x 16 and 17 x 17"):
        read_sticker(folder)


def test_an_animated_frame(folder: Path):
    clip(2).save(folder / "frame5.png")
    with pytest.raises(StickerError, match="itself animated"):
        read_sticker(folder)


def test_a_damaged_frame_is_named(folder: Path):
    (folder / "frame5.png").write_bytes(encode_sticker(clip(1), ".png")[:60])
    with pytest.raises(StickerError, match=r"frame5\.png: the PNG is cut off"):
        read_sticker(folder)


@pytest.mark.parametrize(
    "budget",
    [
        Budget(max_frames=10),
        Budget(max_canvas=15),
        Budget(max_total_pixels=11 * 256 - 1),
        Budget(max_duration_ms=1099),
        Budget(max_bytes=500),
    ],
)
def test_budgets_hold_for_the_whole_folder(folder: Path, budget: Budget):
    with pytest.raises(StickerError, match="limit"):
        read_sticker(folder, budget=budget)
