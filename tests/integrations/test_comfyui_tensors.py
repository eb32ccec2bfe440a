"""Between ComfyUI's tensors and stickers."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rdtf.errors import UserError
from rdtf.stickers import Sticker

from .comfyui import PACK


def _load() -> object:
    spec = importlib.util.spec_from_file_location("rdtf_comfyui_tensors", PACK / "tensors.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tensors = _load()


def noise(num_frames: int, size: tuple[int, int], seed: int = 0) -> Sticker:
    """All colours and opacities, also colours behind full transparency."""
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, *size, 4), dtype=np.uint8)
    frames[:, 0, 0, 3], frames[:, -1, -1, 3] = 0, 255
    return Sticker(frames, list(range(40, 40 + num_frames)))


sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(st.integers(1, 5), sizes, st.integers(0, 99))
def test_there_and_back_is_exact(num_frames, size, seed):
    sticker = noise(num_frames, size, seed)
    image, mask = tensors.tensors_from_sticker(sticker)
    assert image.shape == (num_frames, *size, 3) and mask.shape == (num_frames, *size)
    assert image.dtype == mask.dtype == torch.float32
    back = tensors.sticker_from_tensors(image, mask, sticker.durations_ms.tolist())
    assert np.array_equal(back.frames, sticker.frames)
    assert np.array_equal(back.durations_ms, sticker.durations_ms)


@given(sizes, st.integers(0, 99))
def test_there_and_back_premultiplied_shows_the_same(size, seed):
    sticker = noise(2, size, seed)
    image, mask = tensors.tensors_from_sticker(sticker, "premultiplied")
    assert (image <= 1 - mask[..., None] + 1e-6).all()
    back = tensors.sticker_from_tensors(image, mask, 50, "premultiplied")
    assert np.array_equal(back.frames[..., 3], sticker.frames[..., 3])
    np.testing.assert_allclose(back.premultiplied(), sticker.premultiplied(), atol=1.01 / 255)


def test_one_is_transparent_and_zero_is_opaque():
    sticker = noise(1, (4, 4))
    image, mask = tensors.tensors_from_sticker(sticker)
    assert mask[0, 0, 0] == 1 and mask[0, -1, -1] == 0
    assert tensors.sticker_from_tensors(image, torch.ones(1, 4, 4), 9).frames[..., 3].max() == 0
    assert tensors.sticker_from_tensors(image, torch.zeros(1, 4, 4), 9).frames[..., 3].min() == 255


def test_faint_red_either_way():
    """Straight red keeps its full value; premultiplied it comes at a fifth of it."""
    faint = torch.full((1, 2, 2), 0.8)
    red = torch.tensor([1.0, 0, 0]).expand(1, 2, 2, 3)
    for image, alpha in ((red, "straight"), (red / 5, "premultiplied")):
        frames = tensors.sticker_from_tensors(image, faint, 50, alpha).frames
        assert frames[0, 0, 0].tolist() == [255, 0, 0, 51]


def test_the_mask_of_a_picture_without_transparency_has_its_own_size():
    sticker = tensors.sticker_from_tensors(torch.rand(3, 5, 7, 3), torch.zeros(1, 64, 64), 50)
    assert (sticker.frames[..., 3] == 255).all() and sticker.num_frames == 3


def test_without_a_mask_the_fourth_channel_counts():
    image = torch.rand(2, 5, 7, 4)
    frames = tensors.sticker_from_tensors(image, None, 50).frames
    assert np.array_equal(frames, (image * 255).round().byte().numpy())
    assert (tensors.sticker_from_tensors(image[..., :3], None, 50).frames[..., 3] == 255).all()


def test_one_mask_for_all_frames_or_one_picture():
    mask = torch.rand(5, 7)
    frames = tensors.sticker_from_tensors(torch.rand(2, 5, 7, 3), mask, 50).frames
    assert np.array_equal(frames[0, ..., 3], frames[1, ..., 3])


def test_values_beyond_the_range_are_clipped():
    image = torch.full((1, 2, 2, 3), 1.7)
    frames = tensors.sticker_from_tensors(image, torch.full((1, 2, 2), -0.3), 50).frames
    assert (frames == 255).all()


@pytest.mark.parametrize(
    ("image", "mask", "durations", "message"),
    [
        (torch.zeros(2, 4, 4), None, 50, "image must be"),
        (torch.zeros(0, 4, 4, 3), None, 50, "image must be"),
        (torch.zeros(2, 4, 4, 2), None, 50, "image must be"),
        (torch.zeros(3, 4, 4, 3), torch.zeros(2, 4, 4), 50, "mask must be"),
        (torch.full((1, 4, 4, 3), float("nan")), None, 50, "not finite"),
        (torch.zeros(1, 4, 4, 3), torch.full((1, 4, 4), float("nan")), 50, "not finite"),
        (torch.zeros(2, 4, 4, 3), None, [50], "2 frames came with 1 durations"),
        (torch.zeros(1, 4, 4, 3), None, 0, "at least 1 ms"),
    ],
)
def test_what_does_not_fit(image, mask, durations, message):
    with pytest.raises(UserError, match=message):
        tensors.sticker_from_tensors(image, mask, durations)


def test_positions():
    assert tensors.positions_from_text(" 0, 3,7 ") == [0, 3, 7]
    for text in ("", "0;2", "a,b", "1,,2"):
        with pytest.raises(UserError, match="commas between"):
            tensors.positions_from_text(text)
