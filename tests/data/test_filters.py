from __future__ import annotations

import textwrap

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from rdtf.data.filters import (
    REASONS,
    FilterOptions,
    check,
    normalise,
    num_letters,
    statistics,
    thumbnails,
)
from rdtf.data.keyframes import choose_key_frames
from rdtf.stickers.canvas import on_background
from rdtf.synthetic.characters import SyntheticStickers

from .stickers import moving_square, soft_disc

OPTIONS = FilterOptions()
CUT = FilterOptions(cut_background=True)


def reason(frames: np.ndarray, options: FilterOptions = OPTIONS) -> str | None:
    return check(frames, [100] * len(frames), options)


def opaque(frames: np.ndarray, rgb: tuple[int, int, int]) -> np.ndarray:
    """`frames` over one colour, uint8 [F,H,W,4]."""
    pixels = on_background(frames, rgb)
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)


def checkered(frames: np.ndarray, field: int, light: int = 255, dark: int = 204) -> np.ndarray:
    """`frames` over a checkerboard that is part of the picture."""
    rows, columns = np.indices(frames.shape[1:3]) // field
    board = np.where((rows + columns) % 2, dark, light)[..., None]
    alpha = frames[..., 3:] / 255
    pixels = np.rint(frames[..., :3] * alpha + board * (1 - alpha)).astype(np.uint8)
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)


def written(text: str, side: int = 128) -> np.ndarray:
    """A text in lines on a disc, uint8 [1,H,W,4]."""
    image = Image.fromarray(soft_disc(side)[0])
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(side / 9)
    middle = (side / 2, side / 2)
    draw.multiline_text(
        middle, textwrap.fill(text, 14), "white", font, "mm", stroke_width=1, stroke_fill="black"
    )
    return np.asarray(image)[None]


def dot(side: int) -> np.ndarray:
    """A white square on a transparent canvas, uint8 [1,128,128,4]."""
    frames = np.zeros((1, 128, 128, 4), np.uint8)
    frames[:, 50 : 50 + side, 50 : 50 + side] = 255
    return frames


def breathing(depth: float) -> np.ndarray:
    """A disc that gets a little lighter and back."""
    shades = [20 + round(depth * step) for step in (0, 1, 2, 1)]
    return np.concatenate([soft_disc(64, (shade, 160, 220)) for shade in shades])


LONG_TEXT = "when you forget to save your work and the power goes out"
DROPPED = {
    "blank": np.zeros((2, 32, 32, 4), np.uint8),
    "extreme aspect": np.pad(
        np.full((1, 8, 100, 4), 200, np.uint8), ((0, 0), (46, 46), (9, 9), (0, 0))
    ),
    "too little information": dot(6),
    "nearly still": breathing(0.5),
    "text-heavy": written(LONG_TEXT),
}
KEPT = {
    "a still": soft_disc(64),
    "a clip that moves": moving_square(6, 64),
    "a long thing": np.pad(
        np.full((1, 20, 100, 4), 200, np.uint8), ((0, 0), (40, 40), (9, 9), (0, 0))
    ),
    "a small thing": dot(20),
    "a clip that breathes": breathing(20),
    "a word": written("wow"),
}


@pytest.mark.parametrize("expected", DROPPED)
def test_what_is_dropped_and_why(expected):
    assert reason(DROPPED[expected]) == expected
    assert set(DROPPED) == set(REASONS)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept(name):
    assert reason(KEPT[name]) is None


def test_blank_is_one_colour_too():
    assert reason(np.full((3, 40, 40, 4), 255, np.uint8)) == "blank"


def test_limits_are_options():
    loose = FilterOptions(min_motion=0, max_aspect=99, min_entropy=0, max_letters=999)
    for name, frames in DROPPED.items():
        assert reason(frames, loose) == ("blank" if name == "blank" else None)


def test_synthetic_stickers_pass():
    stickers = SyntheticStickers(0, 12, 96, 6)
    assert [reason(stickers[index].frames) for index in range(12)] == [None] * 12


@pytest.mark.parametrize("side", [128, 320])
def test_letters_are_counted_without_reading_them(side):
    letters = len(LONG_TEXT.replace(" ", ""))
    assert 0.6 * letters <= num_letters(written(LONG_TEXT, side)[0]) <= 1.4 * letters


def test_statistics_follow_the_clip():
    durations_ms = [100, 50, 200, 100, 30, 20]
    moving, still = moving_square(6, 64), soft_disc(64)
    values = statistics(moving, durations_ms)
    small = thumbnails(moving)
    keys = choose_key_frames(small.reshape(6, -1), durations_ms, 1)
    assert values["motion"] == pytest.approx(keys.motion)
    assert values["length"] == 6
    assert values == statistics(moving, durations_ms, small)
    assert statistics(still, [100])["motion"] == 0
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 4), dtype=np.uint8)
    assert values["entropy"] < statistics(still, [100])["entropy"]
    assert statistics(still, [100])["entropy"] < statistics(noise, [100])["entropy"] <= 10


# ------------------------------------------------------------------------- backgrounds


@pytest.mark.parametrize(
    "painted",
    [
        opaque(soft_disc(64), (255, 255, 255)),
        opaque(soft_disc(64), (0, 0, 0)),
        checkered(soft_disc(64), 8),
        checkered(soft_disc(64), 5, 153, 102),
    ],
    ids=["white", "black", "checkerboard", "dark checkerboard"],
)
def test_backgrounds_are_cut_to_alpha_with_a_soft_edge(painted):
    wanted = soft_disc(64)[0]
    cut = normalise(painted, CUT)[0]
    assert np.abs(cut[..., 3].astype(int) - wanted[..., 3]).mean() < 2.5
    assert ((cut[..., 3] > 20) & (cut[..., 3] < 235)).any()
    assert np.abs(cut[cut[..., 3] > 200][:, :3].astype(int) - [20, 160, 220]).max() < 40
    np.testing.assert_array_equal(normalise(painted, OPTIONS), painted)


def test_backgrounds_survive_jpeg():
    import io

    buffer = io.BytesIO()
    Image.fromarray(checkered(soft_disc(96), 8)[0, ..., :3]).save(buffer, "JPEG", quality=70)
    pixels = np.asarray(Image.open(buffer).convert("RGBA"))[None]
    cut = normalise(pixels, CUT)[0]
    assert np.abs(cut[..., 3].astype(int) - soft_disc(96)[0, ..., 3]).mean() < 6


@pytest.mark.parametrize(
    "frames",
    [
        soft_disc(64),
        opaque(soft_disc(64), (200, 60, 60)),
        opaque(soft_disc(64)[:, 16:48, 16:48], (255, 255, 255)),
        np.full((1, 32, 32, 4), 255, np.uint8),
        np.concatenate([opaque(soft_disc(64), (255, 255, 255)), opaque(soft_disc(64), (0, 0, 0))]),
        checkered(soft_disc(64), 40),
    ],
    ids=["transparent", "red", "to the border", "nothing else", "changing", "four fields"],
)
def test_what_is_no_background_stays(frames):
    np.testing.assert_array_equal(normalise(frames, CUT), frames)
