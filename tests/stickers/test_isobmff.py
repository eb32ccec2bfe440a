"""AVIF and MP4: frames, durations and alpha come back; what is damaged is one line."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, features

from rdtf.errors import StickerError
from rdtf.stickers import Budget, decode_sticker, probe
from rdtf.stickers.formats.video import encode_video, to_planes

DURATIONS_MS = [40, 80, 120, 40, 40]


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """A square of 24 moves over 92 x 64, straight RGBA uint8 [5, 64, 92, 4]."""
    made = np.zeros((5, 64, 92, 4), np.uint8)
    for index, frame in enumerate(made):
        frame[20:44, 10 + 10 * index : 34 + 10 * index] = (200, 90, 30, 255)
    return made


@pytest.fixture(scope="module")
def mp4(frames: np.ndarray) -> bytes:
    pytest.importorskip("av")
    opaque = [np.where(frame[..., 3:] > 0, frame, 255) for frame in frames]
    planes = (to_planes(frame)[:3] for frame in opaque)
    return encode_video(planes, np.array(DURATIONS_MS), "mp4", "libx264", {"crf": "12"})


@pytest.fixture(scope="module")
def avif(frames: np.ndarray) -> bytes:
    pytest.importorskip("av")
    if not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    first, *others = map(Image.fromarray, frames)
    stream = io.BytesIO()
    first.save(stream, "AVIF", save_all=True, append_images=others, duration=DURATIONS_MS)
    return stream.getvalue()


def test_an_animated_avif_keeps_alpha_and_time(avif, frames):
    sticker = decode_sticker(avif)
    assert sticker.durations_ms.tolist() == DURATIONS_MS
    assert np.abs(sticker.frames[..., 3].astype(int) - frames[..., 3]).max() <= 8
    assert np.abs(sticker.frames[2, 32, 42, :3].astype(int) - (200, 90, 30)).max() < 20


def test_a_still_avif_is_one_frame(frames):
    if not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    stream = io.BytesIO()
    Image.fromarray(frames[0]).save(stream, "AVIF")
    sticker = decode_sticker(stream.getvalue())
    assert sticker.is_still and sticker.frames[0, 0, 0, 3] == 0


def test_an_mp4_is_read_opaque(mp4, frames, tmp_path):
    sticker = decode_sticker(mp4)
    assert sticker.durations_ms.tolist() == DURATIONS_MS and (sticker.frames[..., 3] == 255).all()
    for number, frame in enumerate(sticker.frames):
        assert np.abs(frame[32, 22 + 10 * number, :3].astype(int) - (200, 90, 30)).max() < 20
    (tmp_path / "x.gif").write_bytes(mp4)  # whatever its name
    info = probe(tmp_path / "x.gif")
    assert (info.format, info.num_frames, info.width, info.height) == ("mp4", 5, 92, 64)


@pytest.mark.parametrize("kind", ["mp4", "avif"])
def test_what_is_damaged_or_over_budget_is_one_line(kind, request):
    data = request.getfixturevalue(kind)
    for broken in (data[: len(data) // 2], data[:64], data[:8] + bytes(len(data) - 8)):
        with pytest.raises(StickerError) as caught:
            decode_sticker(broken)
        assert "\n" not in str(caught.value)
    with pytest.raises(StickerError, match="max_frames"):
        decode_sticker(data, budget=Budget(max_frames=4))
    with pytest.raises(StickerError, match="max_total_pixels"):
        decode_sticker(data, budget=Budget(max_total_pixels=92 * 64 * 4))
