"""Frames above the canvas where the model lies elsewhere than the frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rdtf.models.warp import Composition
from rdtf.sampling.large import LargeFrames, PixelArt, _composed_large
from rdtf.sampling.requests import ClipRequest
from rdtf.stickers import Sticker

CANVAS, SIDE = 8, 32


def composition(**options: Any) -> Composition:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator).to(**options)

    return Composition(
        flow=draw(1, 2, 2, 4, 4) / 8,
        weights=draw(1, 3, CANVAS, CANVAS).softmax(dim=1),
        share=draw(1),
        added=draw(1, 4, CANVAS, CANVAS) / 8,
        interpolated=torch.ones(1, dtype=torch.bool, device=options.get("device")),
    )


def test_a_composition_elsewhere_is_applied_to_frames_on_the_host():
    """The meta device stands for a GPU: both refuse tensors that lie on the host."""
    elsewhere = composition(device="meta")
    references, small = torch.zeros(2, 4, SIDE, SIDE), torch.zeros(2, 4, CANVAS, CANVAS)
    large = _composed_large(elsewhere, references, small, torch.zeros(1, 4, CANVAS, CANVAS))
    assert (large.shape, large.dtype) == ((4, SIDE, SIDE), torch.float32)
    assert large.device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_composition_of_any_type_makes_a_frame(dtype):
    rng = np.random.default_rng(0)
    large = LargeFrames(rng.integers(0, 256, (3, SIDE, SIDE, 4), dtype=np.uint8))
    before = large.frames.copy()
    small = rng.integers(0, 256, (3, CANVAS, CANVAS, 4), dtype=np.uint8)
    pair = np.array([0, 2])
    large.compose(1, pair, composition(dtype=dtype), small[pair], small[1:2])
    assert np.array_equal(large.frames[pair], before[pair])
    assert not np.array_equal(large.frames[1], before[1])


# ----------------------------------------------------------------------- pixel art


def sprite(block: int, side: int = 16) -> Sticker:
    """A face of hard blocks, which moves by one block a frame."""
    small = np.zeros((side, side, 4), np.uint8)
    small[4:13, 3:12] = (250, 210, 60, 255)
    small[6:8, 5:7] = small[6:8, 9:11] = (20, 20, 30, 255)
    small[10:11, 6:10] = (240, 110, 120, 255)
    frames = [np.roll(small, step, axis=1).repeat(block, 0).repeat(block, 1) for step in (0, 2)]
    return Sticker(np.stack(frames), np.array([100, 100]))


@pytest.mark.parametrize("block", [1, 2, 4, 10])
def test_made_frames_of_pixel_art_have_the_colours_of_the_given_ones(pipeline, block):
    clip = sprite(block)
    made = pipeline.interpolate(clip, 2, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(made.frames[::2], clip.frames)
    colours = {tuple(color) for color in clip.frames.reshape(-1, 4).tolist()}
    assert {tuple(color) for color in made.frames[1].reshape(-1, 4).tolist()} <= colours
    assert made.frames[1, ..., 3].any()


def test_soft_and_photographic_pictures_are_no_pixel_art():
    def is_pixel_art(clip: Sticker) -> bool:
        return PixelArt.of(ClipRequest.fill(clip, [0], 2)) is not None

    assert is_pixel_art(sprite(1)) and is_pixel_art(sprite(10))
    assert not is_pixel_art(sprite(10).fit_canvas(130))  # edges beside the grid: mixed colours
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (1, 32, 32, 4), dtype=np.uint8)
    photo[..., 3] = 255
    assert not is_pixel_art(Sticker(photo, np.array([100])))
    soft = sprite(1).frames.copy()
    soft[0, 4, 4, 3] = 128
    assert not is_pixel_art(Sticker(soft, np.array([100, 100])))
