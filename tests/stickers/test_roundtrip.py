"""Every format keeps (frame, duration) pairs, repeated frames included."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from rdtf.stickers import Sticker, decode_sticker, encode_sticker, probe, read_sticker
from rdtf.stickers.formats import gif, png
from rdtf.stickers.formats.quantize import ColourTable

from .samples import assert_same_clip, clip, hard_edged, stickers, visible

EXACT = (".webp", ".png", ".apng")
ALL = (*EXACT, ".gif", ".webm")


def again(sticker: Sticker, suffix: str, **options: object) -> Sticker:
    return decode_sticker(encode_sticker(sticker, suffix, **options))


@pytest.mark.parametrize("suffix", EXACT)
@given(sticker=stickers())
def test_exact_formats(suffix: str, sticker: Sticker):
    result = again(sticker, suffix)
    assert_same_clip(result, sticker)
    assert result.loop_count == sticker.loop_count


@given(stickers(hard_alpha=True, duration_step_ms=10))
def test_gif_is_exact_for_few_colours_and_hard_edges(sticker: Sticker):
    result = again(sticker, ".gif")
    assert_same_clip(result, sticker)
    assert result.loop_count == sticker.loop_count


@given(stickers(max_colors=400))
def test_gif_keeps_frames_alpha_and_the_total(sticker: Sticker):
    result = again(sticker, ".gif")
    assert result.num_frames == sticker.num_frames
    assert abs(result.total_ms - sticker.total_ms) <= 5
    assert np.abs(result.durations_ms - sticker.durations_ms).max() <= 10
    np.testing.assert_array_equal(result.frames[..., 3] > 0, sticker.frames[..., 3] >= 128)


@given(stickers())
def test_webm_keeps_frames_durations_and_nearly_the_alpha(sticker: Sticker):
    result = again(sticker, ".webm", crf=4, speed=8)
    assert result.frames.shape == sticker.frames.shape
    assert result.durations_ms.tolist() == sticker.durations_ms.tolist()
    error = np.abs(result.frames[..., 3].astype(int) - sticker.frames[..., 3])
    assert error.mean() < 6


@pytest.mark.parametrize("suffix", ALL)
def test_a_clip_of_equal_frames_stays_animated(suffix: str, tmp_path):
    still = clip(1)
    sticker = still.select([0] * 8).with_durations([40, 40, 80, 40, 40, 120, 40, 40])
    path = sticker.save(tmp_path / f"same{suffix}")
    result = read_sticker(path)
    assert result.num_frames == 8
    assert result.durations_ms.tolist() == sticker.durations_ms.tolist()
    assert (result.frames == result.frames[0]).all()
    info = probe(path)
    assert (info.num_frames, info.width, info.height) == (8, 16, 16)
    assert info.total_ms == sticker.total_ms


@pytest.mark.parametrize("suffix", (".webp", ".png", ".gif"))
def test_other_readers_see_the_same(suffix: str):
    """Pillow's own reader agrees, frame by frame."""
    sticker = clip(6).select([0, 0, 1, 5, 5, 2]).with_durations([40, 60, 80, 100, 120, 400])
    hard = hard_edged(sticker)
    image = Image.open(io.BytesIO(encode_sticker(hard, suffix)))
    assert getattr(image, "n_frames", 1) == 6
    for index in range(6):
        image.seek(index)
        image.load()
        assert image.info["duration"] == hard.durations_ms[index]
        seen = np.asarray(image.convert("RGBA"))
        np.testing.assert_array_equal(visible(seen), visible(hard.frames[index]))


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("WEBP", {"lossless": True}),
        ("GIF", {"disposal": 2}),
        ("GIF", {"disposal": 1}),
        ("PNG", {}),
        ("PNG", {"disposal": 1, "blend": 0}),
        ("PNG", {"disposal": 2, "blend": 0}),
    ],
)
def test_files_of_other_writers_are_read(format: str, options: dict[str, object]):
    """What Pillow writes, with its partial frames and disposals, comes back."""
    random = np.random.default_rng(3)
    sticker = clip(5)
    frames = hard_edged(sticker).frames
    if options.get("disposal") == 1 and format == "GIF":
        frames[..., 3] = 255
    frames[2, 3:5, 3:9, :3] = random.integers(0, 256, 3)
    images = [Image.fromarray(visible(frame)) for frame in frames]
    stream = io.BytesIO()
    images[0].save(
        stream, format, save_all=True, append_images=images[1:], duration=[40, 50, 60, 70, 80],
        loop=0, **options,
    )  # fmt: skip
    result = decode_sticker(stream.getvalue())
    assert result.durations_ms.tolist() == [40, 50, 60, 70, 80]
    assert result.loop_count == 0
    np.testing.assert_array_equal(visible(result.frames), visible(frames))


@pytest.mark.parametrize("suffix", (".webp", ".png"))
def test_a_still_is_a_plain_picture(suffix: str):
    data = encode_sticker(clip(1, duration_ms=100), suffix)
    assert b"acTL" not in data and b"ANIM" not in data
    assert again(clip(1, duration_ms=100), suffix).is_still
    assert again(clip(1, duration_ms=70), suffix).durations_ms.tolist() == [70]


def test_quality_makes_webp_lossy_and_keeps_repeats():
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (2, 32, 32, 4), dtype=np.uint8)
    sticker = Sticker(frames, np.array([40, 40])).select([0, 0, 1, 1])
    assert len(encode_sticker(sticker, ".webp", quality=10)) < len(encode_sticker(sticker, ".webp"))
    result = again(sticker, ".webp", quality=10)
    assert result.num_frames == 4
    assert (result.frames[0] == result.frames[1]).all()
    assert (result.frames[2] != result.frames[1]).any()
    assert_same_clip(again(sticker, ".webp", lossless=True, quality=0), sticker)


def test_webp_exact_keeps_hidden_colours():
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 4), dtype=np.uint8)
    frames[:, :4, :, 3] = 0
    sticker = Sticker(frames, np.array([40, 40]))
    np.testing.assert_array_equal(again(sticker, ".webp", exact=True).frames, frames)


@given(stickers(max_colors=30))
def test_png_palette_is_exact_where_colours_fit(sticker: Sticker):
    indexed = png.encode_indexed(sticker, *ColourTable(sticker.frames).reduce(64))
    assert_same_clip(decode_sticker(indexed), sticker)


def test_png_palette_is_smaller_and_close():
    sticker = clip(6, size=48)
    small = png.encode_indexed(sticker, *ColourTable(sticker.frames).reduce(16))
    result = decode_sticker(small)
    assert len(small) < len(encode_sticker(sticker, ".png"))
    assert len(np.unique(result.frames.reshape(-1, 4), axis=0)) <= 16
    assert np.abs(result.premultiplied() - sticker.premultiplied()).mean() < 0.02


def test_gif_of_few_colours():
    ramp = np.linspace(0, 255, 64 * 64).astype(np.uint8).reshape(1, 64, 64)
    frames = np.stack([ramp, 255 - ramp, ramp // 2, np.full_like(ramp, 255)], axis=-1)
    sticker = Sticker(frames, np.array([100]))
    indices, palette = gif.reduced(ColourTable(sticker.frames), 8)
    result = decode_sticker(gif.encode_indexed(sticker, indices, [palette]))
    assert len(np.unique(result.frames.reshape(-1, 4), axis=0)) <= 7
    assert np.abs(result.frames.astype(int) - frames).mean() < 20


def test_webm_keeps_colour_next_to_transparency():
    frames = np.zeros((2, 32, 32, 4), np.uint8)
    frames[:, 9:23, 9:23] = (250, 200, 20, 255)
    result = again(Sticker(frames, np.array([50, 50])), ".webm", crf=10)
    shown = result.frames[:, 9:23, 9:23, :3].astype(int)
    assert np.abs(shown - (250, 200, 20)).max() < 16


def test_what_no_picture_of_an_animated_webp_covers_is_transparent():
    """As libwebp writes opaque shapes on nothing: no flag in the file says that there is alpha."""
    frames = np.zeros((2, 16, 16, 4), np.uint8)
    for index, frame in enumerate(frames):
        frame[4:8, 4 * index : 4 * index + 4] = (200, 40, 40, 255)
    first, second = map(Image.fromarray, frames)
    stream = io.BytesIO()
    first.save(stream, "WEBP", save_all=True, append_images=[second], lossless=True, method=0)
    np.testing.assert_array_equal(decode_sticker(stream.getvalue()).frames, frames)
