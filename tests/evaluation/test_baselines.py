from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdtf.errors import ConfigError
from rdtf.evaluation.baselines import (
    BASELINES,
    is_continued,
    linear_blend,
    nearest_frame,
    way_back,
)
from rdtf.stickers import Sticker

from .drawings import moving_ball


def grey_ramp(num_frames: int) -> Sticker:
    """Opaque frames whose grey is 10 times their index, each held longer than the one before."""
    frames = np.full((num_frames, 2, 3, 4), 255, np.uint8)
    frames[..., :3] = 10 * np.arange(num_frames)[:, None, None, None]
    return Sticker(frames, 10 * np.arange(1, num_frames + 1))


def greys(sticker: Sticker) -> list[int]:
    return sticker.frames[:, 0, 0, 0].tolist()


def test_nearest_repeats_and_prefers_the_earlier_on_a_tie():
    ramp = grey_ramp(8)
    assert greys(nearest_frame(ramp, [0, 2, 6])) == [0, 0, 20, 20, 20, 60, 60, 60]
    assert greys(nearest_frame(ramp, [7])) == [70] * 8


def test_blend_rebuilds_a_ramp_and_holds_beyond_the_ends():
    ramp = grey_ramp(8)
    assert greys(linear_blend(ramp, [0, 7])) == greys(ramp)
    assert greys(linear_blend(ramp, [2, 5])) == [20, 20, 20, 30, 40, 50, 50, 50]
    assert greys(linear_blend(ramp, [5, 2])) == [20, 20, 20, 30, 40, 50, 50, 50]


def test_way_back_plays_what_is_given_back_and_forth():
    ramp = grey_ramp(9)
    assert greys(way_back(ramp, [0, 1, 2])) == [0, 10, 20, 10, 0, 10, 20, 10, 0]
    assert greys(way_back(ramp, [6, 7, 8])) == [80, 70, 60, 70, 80, 70, 60, 70, 80]
    continued = [is_continued(known) for known in ([0, 1], [2, 3, 4], [0, 2], [3])]
    assert continued == [True, True, False, False]


def test_blend_is_premultiplied():
    """Half of red and half of nothing is half-transparent red, not dark red."""
    frames = np.zeros((3, 1, 1, 4), np.uint8)
    frames[0] = [255, 0, 0, 255]
    frames[2] = [0, 255, 0, 0]
    middle = linear_blend(Sticker(frames, np.full(3, 100)), [0, 2]).frames[1, 0, 0]
    assert np.abs(middle.astype(int) - [255, 0, 0, 128]).max() <= 1  # rounding


@settings(max_examples=30, deadline=None)
@given(known=st.sets(st.integers(0, 6), min_size=1, max_size=6), name=st.sampled_from([*BASELINES]))
def test_given_frames_are_untouched_and_hidden_ones_never_read(known: set[int], name: str):
    truth = moving_ball(7, size=32)
    unknown = sorted(set(range(7)) - known)
    other = truth.frames.copy()
    other[unknown] = 99
    result = BASELINES[name](truth, sorted(known))
    again = BASELINES[name](truth.replace(frames=other), sorted(known))
    assert np.array_equal(result.frames, again.frames)
    assert np.array_equal(result.frames[sorted(known)], truth.frames[sorted(known)])
    assert np.array_equal(result.durations_ms, truth.durations_ms)


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_given_is_refused(name: str):
    with pytest.raises(ConfigError, match="at least one given frame"):
        BASELINES[name](moving_ball(), [])
