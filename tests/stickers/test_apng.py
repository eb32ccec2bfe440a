"""APNGs of other writers: hidden default pictures, blending, odd delays, palettes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rdtf.stickers import StickerError, decode_sticker, encode_sticker

from .samples import assert_same_clip, clip, visible


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def apng(
    frames: list[np.ndarray], delays: list[tuple[int, int]], dispose: int, blend: int
) -> bytes:
    """A minimal writer of whole frames: RGBA, no filters."""
    height, width = frames[0].shape[:2]
    parts = [b"\x89PNG\r\n\x1a\n"]
    parts.append(chunk(b"IHDR", struct.pack(">II5B", width, height, 8, 6, 0, 0, 0)))
    parts.append(chunk(b"acTL", struct.pack(">II", len(frames), 2)))
    sequence = 0
    for index, (frame, delay) in enumerate(zip(frames, delays, strict=True)):
        place = struct.pack(">5I", sequence, width, height, 0, 0)
        parts.append(chunk(b"fcTL", place + struct.pack(">HHBB", *delay, dispose, blend)))
        data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in frame))
        sequence += 1
        if index == 0:
            parts.append(chunk(b"IDAT", data))
            continue
        parts.append(chunk(b"fdAT", struct.pack(">I", sequence) + data))
        sequence += 1
    return b"".join([*parts, chunk(b"IEND", b"")])


def pixel(*rgba: int) -> np.ndarray:
    return np.full((2, 3, 4), rgba, np.uint8)


def test_half_transparent_frames_are_drawn_over():
    """On a transparent canvas nothing is lost; on an opaque one it is the mean."""
    half = pixel(200, 0, 0, 128)
    cleared = decode_sticker(apng([half, half], [(1, 10)] * 2, dispose=1, blend=1))
    assert (cleared.frames == half).all()
    blue_then_half = [pixel(0, 0, 200, 255), half]
    kept = decode_sticker(apng(blue_then_half, [(1, 10)] * 2, dispose=0, blend=1))
    assert kept.frames[1, 0, 0].tolist() == [100, 0, 100, 255]
    restored = decode_sticker(apng(blue_then_half, [(1, 10)] * 2, dispose=2, blend=1))
    assert (restored.frames[1] == half).all()


def test_fractional_delays_keep_the_total():
    frames = [pixel(index, 0, 0, 255) for index in range(30)]
    sticker = decode_sticker(apng(frames, [(1, 30)] * 30, dispose=0, blend=0))
    assert sticker.total_ms == 1000
    assert sticker.loop_count == 2
    # A denominator of 0 means hundredths, a numerator of 0 means nothing: 100 ms.
    odd = decode_sticker(apng(frames[:2], [(7, 0), (0, 50)], dispose=0, blend=0))
    assert odd.durations_ms.tolist() == [70, 100]


def test_a_hidden_default_picture_is_left_out():
    sticker = clip(3, duration_ms=50)
    images = [Image.fromarray(frame) for frame in visible(sticker.frames)]
    stream = io.BytesIO()
    Image.new("RGBA", images[0].size, "red").save(
        stream, "PNG", save_all=True, append_images=images, default_image=True, duration=50, loop=0
    )
    assert_same_clip(decode_sticker(stream.getvalue()), sticker)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_kind_of_pixel(mode: str):
    picture = Image.fromarray(visible(clip(1).frames)[0]).convert(mode)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    expected = np.asarray(picture.convert("RGBA"))
    np.testing.assert_array_equal(decode_sticker(stream.getvalue()).frames[0], expected)


def test_a_transparent_colour_is_transparent():
    stream = io.BytesIO()
    picture = Image.new("RGB", (4, 4), (9, 9, 9))
    picture.putpixel((1, 2), (200, 0, 0))
    picture.save(stream, "PNG", transparency=(9, 9, 9))
    frame = decode_sticker(stream.getvalue()).frames[0]
    assert frame[2, 1].tolist() == [200, 0, 0, 255]
    assert frame[..., 3].sum() == 255


def test_more_frames_than_promised():
    data = encode_sticker(clip(3), ".png")
    at = data.index(b"acTL") - 4
    changed = data[:at] + chunk(b"acTL", struct.pack(">II", 4, 0)) + data[at + 20 :]
    with pytest.raises(StickerError, match="3 of 4 frames"):
        decode_sticker(changed)


def test_a_frame_outside_the_canvas():
    data = encode_sticker(clip(2), ".png")
    at = data.rindex(b"fcTL") + 4
    content = bytearray(data[at : at + 26])
    content[4:8] = struct.pack(">I", 17)
    changed = data[: at - 8] + chunk(b"fcTL", bytes(content)) + data[at + 30 :]
    with pytest.raises(StickerError, match="outside the canvas"):
        decode_sticker(changed)


def test_an_animation_that_browsers_do_not_play_is_a_still():
    """acTL behind the pixels, no fcTL, or no frames promised."""
    data = encode_sticker(clip(3), ".png")
    at = data.index(b"acTL") - 4
    control, rest = data[at : at + 20], data[:at] + data[at + 20 :]
    end = rest.index(b"IEND") - 4
    none_promised = data[:at] + chunk(b"acTL", struct.pack(">II", 0, 0)) + data[at + 20 :]
    parts = [data[:8]]
    position = 8
    while position < len(data):
        size = 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] not in (b"fcTL", b"fdAT"):
            parts.append(data[position : position + size])
        position += size
    for strange in (rest[:end] + control + rest[end:], none_promised, b"".join(parts)):
        still = decode_sticker(strange)
        assert still.is_still
        np.testing.assert_array_equal(visible(still.frames), visible(clip(3).frames[:1]))
