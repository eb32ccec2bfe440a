from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rdtf.models.matching import match, warp

SIDE, FINEST = 64, 32  # pixels, cells
CELL = 2 / FINEST  # in halves of the canvas


def texture(height: int, width: int, seed: int = 0, channels: int = 3) -> Tensor:
    """A random picture with details of all sizes in [-1, 1], `[channels, height, width]`."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.zeros(1, channels, height, width)
    for grain in (4, 8, 16):
        noise = torch.randn(1, channels, height // grain, width // grain, generator=generator)
        picture += F.interpolate(noise, size=(height, width), mode="bicubic")
    return (picture[0] / 2).tanh()


def moved_pair(right: int, down: int, seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Tensor:
    """A view of a picture and the view after it moved by so many pixels, `[1, 2, 3, H, W]`."""
    height, width = size
    picture = texture(height + 64, width + 64, seed)
    before = picture[:, 32 : 32 + height, 32 : 32 + width]
    after = picture[:, 32 - down : 32 - down + height, 32 - right : 32 - right + width]
    return torch.stack([before, after])[None]


def offsets(*pairs: tuple[float, float]) -> Tensor:
    return torch.tensor(pairs)


# ------------------------------------------------------------------ motion


@settings(max_examples=20)
@given(
    right=st.integers(-6, 6),
    down=st.integers(-6, 6),
    times=st.sampled_from([(-1, 1), (-1, 2), (-3, 1), (-2, 2)]),
    seed=st.integers(0, 99),
)
def test_even_motion_is_found(right, down, times, seed):
    """Within half a cell for the frame between, a little away from the edges."""
    flow, _ = match(moved_pair(right, down, seed), offsets(times), FINEST)
    assert flow.shape == (1, 2, 2, FINEST, FINEST)
    motion = torch.tensor([right, down]) * 2 / SIDE
    whole = times[1] - times[0]
    inside = slice(8, -8)
    for reference in range(2):
        expected = motion * times[reference] / whole
        error = flow[0, reference, :, inside, inside] - expected[:, None, None]
        assert error.norm(dim=0).max() < 0.5 * CELL


@pytest.mark.parametrize("size", [(64, 48), (48, 96)])
def test_canvas_need_not_be_square(size):
    flow, _ = match(moved_pair(4, -2, 0, size), offsets((-1, 1)), size[1] // 2)
    assert flow.shape[-2:] == (size[0] // 2, size[1] // 2)
    motion = torch.tensor([4 * 2 / size[1], -2 * 2 / size[0]])
    found = flow[0, 1, :, 6:-6, 6:-6].flatten(1).median(dim=1).values
    torch.testing.assert_close(found, motion / 2, rtol=0, atol=0.5 * 2 / min(size))


def test_beyond_the_references_motion_goes_on():
    """Two frames behind the second of two neighbours: seen from there both lie behind."""
    flow, _ = match(moved_pair(2, 0, 1), offsets((-2, -1)), FINEST)
    inside = flow[0, :, 0, 10:-10, 10:-10].flatten(1).median(dim=1).values
    expected = torch.tensor([-2.0, -1.0]) * 2 * 2 / SIDE
    torch.testing.assert_close(inside, expected, rtol=0, atol=0.5 * CELL)


def test_what_moved_agrees_and_what_changed_does_not():
    pair = moved_pair(3, 0, 2)
    other = torch.stack([pair[0, 0], texture(SIDE, SIDE, 77)])[None]
    _, alike = match(pair, offsets((-1, 1)), FINEST)
    _, unlike = match(other, offsets((-1, 1)), FINEST)
    assert alike.shape == (1, 1, FINEST, FINEST) and (alike >= 0).all()
    assert alike.mean() < 0.5 * unlike.mean()


@given(offset=st.integers(-8, 8), seed=st.integers(0, 9))
@settings(max_examples=10)
def test_equal_offsets_have_no_motion(offset, seed):
    flow, _ = match(moved_pair(3, 2, seed), offsets((offset, offset)), FINEST)
    assert not flow.any()


@given(times=st.sampled_from([(-1, 1), (-1, 4), (-3, 2)]), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_what_stands_still_stays(times, seed):
    still = texture(SIDE, SIDE, seed).expand(1, 2, -1, -1, -1)
    flow, _ = match(still, offsets(times), FINEST)
    assert flow.abs().max() < 0.5 * CELL and flow.abs().mean() < 0.1 * CELL


@pytest.mark.parametrize("times", [(-1, 1), (-1, 3), (1, 2)])
def test_flat_colours_do_not_move(times):
    flat = torch.tensor([0.3, -0.8])[None, :, None, None, None].expand(1, 2, 3, SIDE, SIDE)
    flow, disagreement = match(flat, offsets(times), FINEST)
    assert flow.abs().max() < 1e-5
    torch.testing.assert_close(disagreement, torch.full_like(disagreement, 1.1))


def test_pairs_of_a_batch_are_matched_each_by_itself():
    pairs = torch.cat([moved_pair(4, 0, 1), moved_pair(-2, 3, 2), moved_pair(0, 0, 3)])
    times = offsets((-1, 1), (-1, 3), (-2, -1))
    flow, disagreement = match(pairs, times, FINEST)
    order = torch.tensor([2, 0, 1])
    shuffled, disagreement_shuffled = match(pairs[order], times[order], FINEST)
    torch.testing.assert_close(shuffled, flow[order], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(disagreement_shuffled, disagreement[order], rtol=1e-4, atol=1e-6)
    alone, _ = match(pairs[1:2], times[1:2], FINEST)
    torch.testing.assert_close(alone[0], flow[1], rtol=1e-4, atol=1e-6)


def test_no_gradient_is_kept():
    pair = moved_pair(1, 1, 0).requires_grad_()
    assert not any(found.requires_grad for found in match(pair, offsets((-1, 1)), FINEST))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 34), (36, 36)])
def test_any_size(size):
    pair = torch.randn(2, 2, 1, *size)
    flow, disagreement = match(pair, offsets((-1, 1), (0, 0)), size[1])
    assert flow.shape == (2, 2, 2, *size) and disagreement.shape == (2, 1, *size)
    assert flow.isfinite().all() and disagreement.isfinite().all()


# ------------------------------------------------------------------ warping


def test_no_flow_moves_nothing():
    pictures = torch.randn(2, 3, 4, 10, 14)
    warped = warp(pictures, torch.zeros(2, 3, 2, 5, 7))
    torch.testing.assert_close(warped, pictures, rtol=1e-5, atol=1e-5)


@given(right=st.integers(-4, 4), down=st.integers(-4, 4))
def test_flow_is_in_halves_of_the_canvas(right, down):
    """A pixel of a canvas of 10 by 14 is a fifth of half its height and a seventh of half its
    width; beyond the edge its own colour goes on."""
    picture = torch.randn(1, 2, 10, 14)
    flow = torch.tensor([right / 7, down / 5])[None, :, None, None].expand(1, 2, 10, 14)
    warped = warp(picture, flow)
    rows = (torch.arange(10) + down).clamp(0, 9)
    columns = (torch.arange(14) + right).clamp(0, 13)
    expected = picture[:, :, rows][..., columns]
    torch.testing.assert_close(warped, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size, finest", [((64, 64), 32), ((16, 16), 64), ((48, 96), 32)])
def test_without_contents_the_shapes_are_the_same(size, finest):
    """What it costs is counted on the meta device."""
    pair = moved_pair(2, 0, 0, size)
    found = match(pair, offsets((-1, 1)), finest)
    shapes = match(pair.to("meta"), offsets((-1, 1)).to("meta"), finest)
    assert [part.shape for part in found] == [part.shape for part in shapes]
    assert all(part.is_meta for part in shapes)
