from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rdtf.stickers import decode_sticker
from rdtf.stickers.formats.gif import _delays_cs
from rdtf.stickers.sticker import whole_durations

from .samples import gif_bytes

durations = st.lists(st.integers(1, 3000), min_size=1, max_size=40)


@given(st.lists(st.floats(1.0, 3000.0), min_size=1, max_size=40))
def test_whole_durations_keep_the_total(exact_ms: list[float]):
    rounded = whole_durations(exact_ms)
    assert rounded.sum() == round(float(np.sum(exact_ms)))
    assert np.abs(rounded - exact_ms).max() < 1.001


def test_sixty_frames_a_second_stay_sixty():
    rounded = whole_durations([1000 / 60] * 60)
    assert rounded.sum() == 1000
    assert set(rounded.tolist()) == {16, 17}


def test_no_duration_is_the_browsers_default():
    assert whole_durations([0, 40, 0]).tolist() == [100, 40, 100]
    sticker = decode_sticker(gif_bytes([0, 1, 2, 30]))
    assert sticker.durations_ms.tolist() == [100, 100, 20, 300]


@given(durations)
def test_gif_delays_keep_the_total_to_10_ms(durations_ms: list[int]):
    delays = _delays_cs(np.asarray(durations_ms))
    assert delays.min() >= 2
    assert delays.sum() == max(round(sum(durations_ms) / 10), 2 * len(durations_ms))


@given(st.lists(st.integers(2, 300), min_size=1, max_size=40))
def test_gif_delays_are_exact_where_they_can_be(delays_cs: list[int]):
    assert _delays_cs(np.asarray(delays_cs) * 10).tolist() == delays_cs
