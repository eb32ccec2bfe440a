from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdtf.stickers import Sticker, StickerError

from .samples import assert_same_clip, clip, stickers, visible


def test_fields_are_normalised():
    frames = np.zeros((2, 3, 4, 4), np.uint8)
    sticker = Sticker(frames, np.array([40, 50], np.uint16), captions="a cat")  # type: ignore[arg-type]
    assert (sticker.num_frames, sticker.height, sticker.width, sticker.total_ms) == (2, 3, 4, 90)
    assert sticker.durations_ms.dtype == np.int64
    assert sticker.captions == ("a cat",)
    assert sticker.frames is frames
    assert sticker.metadata == {}
    assert "2 frames, 4 x 3" in repr(sticker)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((2, 3, 4, 3), np.uint8)}, "must be"),
        ({"frames": np.zeros((2, 3, 4, 4), np.float32)}, "uint8"),
        ({"frames": np.zeros((0, 3, 4, 4), np.uint8)}, "none empty"),
        ({"frames": [[1]]}, "uint8"),
        ({"durations_ms": [10]}, "1 durations"),
        ({"durations_ms": [10, 0]}, "at least 1 ms"),
        ({"durations_ms": [10.5, 1.0]}, "integers"),
        ({"durations_ms": [[1, 2]]}, "integers"),
        ({"loop_count": -1}, ">= 0"),
        ({"loop_count": 1.5}, "integer"),
        ({"captions": (1, 2)}, "texts"),
    ],
)
def test_wrong_fields_are_refused(change: dict[str, object], message: str):
    fields = {"frames": np.zeros((2, 3, 4, 4), np.uint8), "durations_ms": [10, 20], **change}
    with pytest.raises(StickerError, match=message):
        Sticker(**fields)  # type: ignore[arg-type]


def test_it_travels_to_other_processes():
    sticker = clip().replace(captions=("a disc",), metadata={"id": 3})
    with ProcessPoolExecutor(1, get_context("spawn")) as other_process:
        again = other_process.submit(Sticker.select, sticker, range(sticker.num_frames)).result()
    assert_same_clip(again, sticker)
    assert (again.captions, again.metadata) == (("a disc",), {"id": 3})


@given(stickers())
def test_premultiplied_and_back_is_exact_where_visible(sticker: Sticker):
    premultiplied = sticker.premultiplied()
    assert premultiplied.dtype == np.float32
    assert (premultiplied[..., :3] <= premultiplied[..., 3:] + 1e-6).all()
    again = Sticker.from_premultiplied(premultiplied, sticker.durations_ms)
    np.testing.assert_array_equal(again.frames, visible(sticker.frames))


@given(st.integers(0, 2**32 - 1))
def test_from_premultiplied_keeps_what_viewers_composite(seed: int):
    values = np.random.default_rng(seed).random((2, 5, 6, 4))
    values[..., :3] *= values[..., 3:]
    again = Sticker.from_premultiplied(values, 100).premultiplied()
    assert np.abs(again - values).max() <= 0.501 / 255


def test_from_premultiplied_clips_what_networks_overshoot():
    values = np.array([1.3, -0.2, 0.9, 0.5]).reshape(1, 1, 1, 4)
    sticker = Sticker.from_premultiplied(values, [30], captions=("x",))
    assert sticker.frames.ravel().tolist() == [255, 0, 255, 128]
    assert sticker.captions == ("x",)
    with pytest.raises(StickerError, match="not finite"):
        Sticker.from_premultiplied(values * np.nan, 30)
    with pytest.raises(StickerError, match=r"\[F, H, W, 4\]"):
        Sticker.from_premultiplied(values[0], 30)


def test_select_takes_durations_along():
    sticker = clip(4).with_durations([10, 20, 30, 40])
    chosen = sticker.select([2, 0, 0, -1])
    assert chosen.durations_ms.tolist() == [30, 10, 10, 40]
    np.testing.assert_array_equal(chosen.frames[3], sticker.frames[3])
    with pytest.raises(StickerError, match="frame 4 does not exist"):
        sticker.select([1, 4])
    with pytest.raises(StickerError, match="no frames selected"):
        sticker.select([])


def test_with_durations_takes_one_for_all():
    assert clip(3).with_durations(25).durations_ms.tolist() == [25, 25, 25]
    with pytest.raises(StickerError, match="2 durations"):
        clip(3).with_durations([1, 2])


def test_on_background_composites():
    frames = np.array([[[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 128]]]], np.uint8)
    shown = Sticker(frames, [10]).on_background((0, 0, 255))  # type: ignore[arg-type]
    assert shown.tolist() == [[[[200, 0, 0], [0, 0, 255], [100, 0, 127]]]]
    with pytest.raises(StickerError, match="background"):
        clip().on_background((0, 0, 300))


@given(stickers(), st.integers(1, 40), st.integers(1, 40))
def test_fit_canvas_keeps_the_aspect_and_invents_nothing(sticker: Sticker, height: int, width: int):
    fitted = sticker.fit_canvas((height, width))
    assert fitted.frames.shape == (sticker.num_frames, height, width, 4)
    assert fitted.durations_ms.tolist() == sticker.durations_ms.tolist()
    drawn = sticker.replace(frames=np.full_like(sticker.frames, 255)).fit_canvas((height, width))
    outside = drawn.frames[..., 3] == 0
    assert not fitted.frames[outside].any()


def test_fit_canvas_centres_on_transparency():
    wide = Sticker(np.full((1, 2, 8, 4), 255, np.uint8), np.array([10]))
    alpha = wide.fit_canvas(8).frames[0, ..., 3]
    assert (alpha[3:5] == 255).all() and not alpha[:3].any() and not alpha[5:].any()


def test_fit_canvas_enlarges_pixel_art_by_whole_pixels():
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (2, 8, 8, 4), dtype=np.uint8)
    frames[..., 3] = random.choice((0, 255), (2, 8, 8))
    larger = Sticker(frames, np.array([10, 10])).fit_canvas(24)
    np.testing.assert_array_equal(
        visible(larger.frames), visible(frames.repeat(3, axis=1).repeat(3, axis=2))
    )


def test_fit_canvas_lets_no_hidden_colour_out():
    frames = np.zeros((1, 8, 8, 4), np.uint8)
    frames[..., 1] = 255  # green, but transparent
    frames[:, 2:6, 2:6] = (255, 0, 0, 255)
    smaller = Sticker(frames, np.array([10])).fit_canvas(5).frames
    shown = smaller[smaller[..., 3] > 0]
    assert len(shown) and (shown[:, :3] == (255, 0, 0)).all()


def test_fit_canvas_to_its_own_size_is_free():
    sticker = clip()
    assert sticker.fit_canvas(16) is sticker
    with pytest.raises(StickerError, match="at least 1 x 1"):
        sticker.fit_canvas(0)


def test_load_and_save_go_through_files(tmp_path):
    sticker = clip()
    assert_same_clip(Sticker.load(sticker.save(tmp_path / "new" / "disc.webp")), sticker)
