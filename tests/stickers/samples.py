"""Small stickers and files for the tests of this folder, and how to compare them."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from rdtf.stickers import Sticker

HARD_ALPHA = (0, 255)


def clip(num_frames: int = 3, size: int = 16, duration_ms: int = 80) -> Sticker:
    """A soft disc that moves to the right."""
    rows, columns = np.indices((size, size))
    frames = np.zeros((num_frames, size, size, 4), np.uint8)
    for index, frame in enumerate(frames):
        distance = np.hypot(rows - size / 2, columns - size / 4 - index)
        frame[..., :3] = (200, 60 + 10 * index, 30)
        frame[..., 3] = np.clip((size / 4 - distance) * 100 + 128, 0, 255)
    return Sticker(frames, np.full(num_frames, duration_ms))


def visible(frames: np.ndarray) -> np.ndarray:
    """The frames without the colours that no one sees."""
    return np.where(frames[..., 3:] > 0, frames, 0)


def hard_edged(sticker: Sticker) -> Sticker:
    """Every pixel opaque, or transparent and black."""
    opaque = sticker.frames[..., 3:] > 127
    frames = np.where(opaque, sticker.frames | np.array([0, 0, 0, 255], np.uint8), np.uint8(0))
    return sticker.replace(frames=frames)


def assert_same_clip(actual: Sticker, expected: Sticker) -> None:
    """Equal (frame, duration) pairs."""
    assert actual.durations_ms.tolist() == expected.durations_ms.tolist()
    np.testing.assert_array_equal(visible(actual.frames), visible(expected.frames))


@st.composite
def stickers(
    draw: st.DrawFn, *, hard_alpha: bool = False, duration_step_ms: int = 1, max_colors: int = 40
) -> Sticker:
    """Clips of 1 to 12 small frames out of at most 3 pictures, so that many frames repeat."""
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    pictures = _pictures(draw, height, width, hard_alpha, max_colors)
    order = draw(st.lists(st.integers(0, len(pictures) - 1), min_size=1, max_size=12))
    steps = st.integers(20 // duration_step_ms, 3000 // duration_step_ms)
    durations = draw(st.lists(steps, min_size=len(order), max_size=len(order)))
    loop_count = draw(st.integers(0, 3))
    return Sticker(pictures[order], np.asarray(durations) * duration_step_ms, loop_count)


def _pictures(
    draw: st.DrawFn, height: int, width: int, hard_alpha: bool, max_colors: int
) -> np.ndarray:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    colors = random.integers(0, 256, (draw(st.integers(1, max_colors)), 4), dtype=np.uint8)
    if hard_alpha:
        colors[:, 3] = random.choice(HARD_ALPHA, len(colors))
    elif draw(st.booleans()):
        colors[:, 3] = random.choice((0, 1, 127, 255), len(colors))
    num_pictures = draw(st.integers(1, 3))
    return colors[random.integers(0, len(colors), (num_pictures, height, width))]


def lottie(**changes: Any) -> dict[str, Any]:
    """A red square that moves to the right: 100 x 100, half a second at 30 frames a second."""
    still = {key: {"a": 0, "k": value} for key, value in _TRANSFORM.items()}
    moving = [
        {"t": 0, "s": [30, 50, 0], "e": [70, 50, 0], "i": _EASE, "o": _EASE},
        {"t": 15, "s": [70, 50, 0]},
    ]
    layer = {
        "ty": 4,
        "ind": 1,
        "ks": {**still, "p": {"a": 1, "k": moving}},
        "ip": 0,
        "op": 15,
        "st": 0,
        "shapes": [{"ty": "gr", "it": [_RECTANGLE, _RED, {"ty": "tr", **still}]}],
    }
    return {
        "v": "5.5.2", "w": 100, "h": 100, "fr": 30, "ip": 0, "op": 15, "assets": [],
        "layers": [layer], **changes,
    }  # fmt: skip


def lottie_bytes(**changes: Any) -> bytes:
    return json.dumps(lottie(**changes)).encode()


_TRANSFORM = {"o": 100, "r": 0, "p": [0, 0, 0], "a": [0, 0, 0], "s": [100, 100, 100]}
_EASE = {"x": [0.5], "y": [0.5]}
_RECTANGLE = {
    "ty": "rc",
    "p": {"a": 0, "k": [0, 0]},
    "s": {"a": 0, "k": [40, 40]},
    "r": {"a": 0, "k": 0},
}
_RED = {"ty": "fl", "c": {"a": 0, "k": [1, 0, 0, 1]}, "o": {"a": 0, "k": 100}}


def gif_bytes(delays_cs: Sequence[int], *, size: tuple[int, int] = (1, 1)) -> bytes:
    """A hand-made GIF of one-pixel pictures, the last colour of a palette of two."""
    head = b"GIF89a" + struct.pack("<HHBBB", *size, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    pictures = [
        struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 0, delay, 0, 0)
        + struct.pack("<BHHHHB", 0x2C, 0, 0, 1, 1, 0)
        + b"\x02\x02\x4c\x01\x00"  # clear, index 1, end, in 3-bit codes
        for delay in delays_cs
    ]
    return head + b"".join(pictures) + b";"


def webp_bomb(num_frames: int, side: int) -> bytes:
    """An animated WebP of few bytes that asks for `num_frames` canvases of side x side."""
    stream = io.BytesIO()
    Image.new("RGBA", (side, side), (90, 10, 200, 255)).save(stream, "WEBP", lossless=True)
    pixels = stream.getvalue()[12:]
    side_bytes = (side - 1).to_bytes(3, "little") * 2
    frame = bytes(6) + side_bytes + (40).to_bytes(3, "little") + b"\x02" + pixels
    chunks = [b"VP8X" + struct.pack("<II", 10, 0x12) + side_bytes]
    chunks.append(b"ANIM" + struct.pack("<IIH", 6, 0, 0))
    chunks += [b"ANMF" + struct.pack("<I", len(frame)) + frame] * num_frames
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body
