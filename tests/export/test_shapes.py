"""Trimming, borders and strokes."""

from __future__ import annotations

import numpy as np
import pytest

from rdtf.stickers import Sticker, StickerError
from rdtf.stickers.export import ExportOptions, outline, trim_to_content
from rdtf.stickers.export.edit import WHITE, outline_frame

from .clips import ball


def disc(size: int = 96, radius: float = 20.0) -> Sticker:
    rows, columns = np.indices((size, size)) + 0.5
    distance = np.hypot(rows - size / 2, columns - size / 2)
    frame = np.zeros((size, size, 4), np.uint8)
    frame[..., :3] = (200, 30, 30)
    frame[..., 3] = np.rint(np.clip(radius - distance + 0.5, 0, 1) * 255)
    return Sticker(frame[None], np.array([100]))


def test_trim_keeps_all_that_is_ever_visible():
    frames = np.zeros((2, 30, 40, 4), np.uint8)
    frames[0, 5:10, 6:9] = 255
    frames[1, 20, 30] = (0, 0, 0, 1)
    trimmed = trim_to_content(Sticker(frames, np.array([50, 60])))
    assert (trimmed.height, trimmed.width) == (16, 25)
    np.testing.assert_array_equal(trimmed.frames, frames[:, 5:21, 6:31])
    assert trimmed.durations_ms.tolist() == [50, 60]


def test_trim_leaves_nothing_visible_alone():
    empty = Sticker(np.zeros((2, 5, 6, 4), np.uint8), np.array([50, 60]))
    assert trim_to_content(empty) is empty


def test_pad_and_trim_are_inverse():
    clip = trim_to_content(ball())
    padded = ExportOptions(pad=7).apply(clip)[0]
    assert (padded.height, padded.width) == (clip.height + 14, clip.width + 14)
    np.testing.assert_array_equal(trim_to_content(padded).frames, clip.frames)
    with pytest.raises(StickerError, match="border"):
        ExportOptions(pad=-1)


@pytest.mark.parametrize("width", [1.0, 2.5, 8.0])
def test_a_stroke_has_its_width_all_around(width):
    """The area of the stroked disc is that of the larger disc, to the antialiasing."""
    plain = disc()
    stroked = plain.replace(frames=outline_frame(plain.frames[0], width, WHITE)[None])
    area = stroked.frames[0, ..., 3].sum() / 255
    assert area == pytest.approx(np.pi * (20 + width) ** 2, rel=0.01)
    rows, columns = np.indices((96, 96)) + 0.5
    distance = np.hypot(rows - 48, columns - 48)
    ideal = np.clip(20 + width - distance + 0.5, 0, 1)
    error = np.abs(stroked.frames[0, ..., 3] / 255 - ideal)
    assert error.max() < 0.45 and error.mean() < 0.004


def test_a_stroke_is_smooth_white_and_behind():
    plain = disc()
    stroked = outline(plain, 4)
    assert (stroked.height, stroked.width) == (104, 104)
    alpha = stroked.frames[0, ..., 3]
    assert len(np.unique(alpha)) > 12  # antialiased
    inner = stroked.frames[0, 4:-4, 4:-4]
    opaque = plain.frames[0, ..., 3] == 255
    np.testing.assert_array_equal(inner[opaque], plain.frames[0][opaque])
    assert stroked.frames[0, 52, 52 + 22].tolist() == [255, 255, 255, 255]
    assert outline(plain, 4, (0, 90, 0)).frames[0, 52, 52 + 22].tolist() == [0, 90, 0, 255]
    # The soft edge of the picture mixes with the stroke and leaves no gap.
    edge = (inner[..., 3] < 255) & (plain.frames[0, ..., 3] > 0)
    assert not edge.any()


def test_a_soft_shadow_gets_no_stroke():
    plain = disc()
    frames = plain.frames.copy()
    frames[0, 60:90, 60:90, 3] = np.maximum(frames[0, 60:90, 60:90, 3], 50)
    assert outline_frame(frames[0], 4, WHITE)[85, 85, 3] == 50


def test_nothing_to_stroke():
    empty = Sticker(np.zeros((1, 5, 6, 4), np.uint8), np.array([50]))
    assert (
        not outline(empty, 3).frames.any(axis=-1).any()
        or outline(empty, 3).frames[..., 3].max() == 0
    )
    assert outline(disc(), 0).frames.shape == disc().frames.shape
    for width in (-1, 999, float("nan")):
        with pytest.raises(StickerError, match="outline"):
            ExportOptions(outline_px=width)
