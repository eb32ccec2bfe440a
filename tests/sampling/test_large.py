"""Frames above the canvas where the model lies elsewhere than the frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rdtf.models.warp import Composition
from rdtf.sampling.large import LargeFrames, composed_large

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
    large = composed_large(elsewhere, references, small, torch.zeros(1, 4, CANVAS, CANVAS))
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
