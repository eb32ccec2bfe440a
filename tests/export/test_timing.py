"""Times that platforms take and formats can show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdtf.stickers.export import ExportError, find_platform
from rdtf.stickers.export.prepare import (
    FrameMerger,
    _fill_up,
    _settle_frames,
    _settle_total,
    _TimeRules,
)

from .clips import ball

DURATIONS = st.lists(
    st.one_of(st.integers(1, 60), st.integers(1, 3000), st.just(33), st.just(16)),
    min_size=1,
    max_size=60,
)


def rules(platform: str) -> _TimeRules:
    return _TimeRules.of(find_platform(platform))


@pytest.mark.parametrize("platform", ["telegram", "whatsapp", "gif", "slack", "webp", "line"])
@given(durations=DURATIONS)
def test_frames_are_long_enough_and_the_total_stays(platform, durations):
    own = rules(platform)
    given_ms = np.asarray(durations)
    try:
        keep, times = _settle_frames(given_ms, own)
    except ExportError as error:
        assert error.reason == "duration" and given_ms.sum() < own.min_frame_ms + own.step_ms
        return
    assert abs(int(times.sum()) - int(given_ms.sum())) <= 5
    assert (np.diff(keep) > 0).all() and keep[0] == 0
    assert (times % own.step_ms == 0).all()
    assert len(times) == 1 or times.min() >= int(own.min_frame_ms)
    assert len(times) * own.min_frame_ms <= int(times.sum()) or len(times) == 1
    # A frame begins when it does in the clip, or as soon as the one before has had its time.
    starts, source = np.cumsum(times) - times, np.cumsum(given_ms) - given_ms
    late = starts - source[keep]
    assert (late >= -own.step_ms).all()
    for number in np.flatnonzero(late > own.step_ms):
        assert times[number - 1] <= float(own.min_frame_ms) + own.step_ms


def test_what_can_be_shown_is_not_touched():
    for platform, durations in (
        ("telegram", [33, 33, 34] * 30),
        ("telegram", [40] * 75),
        ("telegram", [80, 130, 90]),
        ("whatsapp", [8, 9, 10]),
        ("gif", [20, 30, 1000]),
        ("apng", [1, 2, 3]),
    ):
        keep, times = _settle_frames(np.asarray(durations), rules(platform))
        assert keep.tolist() == list(range(len(durations))) and times.tolist() == durations


def test_sixty_a_second_becomes_every_second_frame():
    sixty = np.diff(np.rint(np.arange(181) * 1000 / 60).astype(int))
    keep, times = _settle_frames(sixty, rules("telegram"))
    assert keep.tolist() == list(range(0, 180, 2))
    assert set(times.tolist()) <= {33, 34} and times.sum() == 3000


def test_thirty_and_a_bit_keeps_to_thirty():
    """Ninety frames of 33 ms are 30.3 a second."""
    keep, times = _settle_frames(np.full(90, 33), rules("telegram"))
    assert len(keep) == 89 and times.sum() == 2970


@pytest.mark.parametrize(
    ("total", "policy", "result"),
    [
        (2000, "refuse", 2000),
        (1995, "refuse", 2000),
        (2010, "refuse", 2000),
        (1500, "trim", 1000),
        (1500, "hold", 2000),
        (1300, "speed", 1000),
        (2700, "speed", 3000),
        (9000, "trim", 4000),
        (9000, "speed", 4000),
        (400, "hold", 1000),
        (400, "speed", 1000),
    ],
)
def test_whole_seconds(total, policy, result):
    clip = ball(10).with_durations(np.diff(np.rint(np.linspace(0, total, 11)).astype(int)))
    settled, change = _settle_total(clip, rules("line"), policy, "LINE")
    assert settled.total_ms == result
    assert bool(change) == (abs(result - total) > 10)


@pytest.mark.parametrize(("total", "policy"), [(800, "trim"), (9000, "hold"), (800, "refuse")])
def test_lengths_that_can_not_be_reached(total, policy):
    clip = ball(8).with_durations(total // 8)
    with pytest.raises(ExportError, match="exactly 1, 2, 3, 4 s") as caught:
        _settle_total(clip, rules("line"), policy, "LINE")
    assert caught.value.reason == "duration"


def test_trimming_cuts_the_frame_at_the_end():
    clip = ball(4).with_durations([1000, 1000, 1500, 1000])
    settled, change = _settle_total(clip, rules("telegram"), "trim", "Telegram")
    assert settled.durations_ms.tolist() == [1000, 1000, 1000]
    assert change == "cut from 4.5 s to 3 s"


@given(DURATIONS, st.integers(2, 20))
def test_frames_are_repeated_without_changing_a_moment(durations, least):
    times = np.asarray(durations)
    own = _TimeRules(None, 1, 1, rules("webp").min_frame_ms, least, None)
    try:
        indices, split = _fill_up(np.arange(len(times)), times, own)
    except ExportError as error:
        assert error.reason == "frames" and times.sum() < 20 * least
        return
    assert len(indices) == max(least, len(times)) and split.min() >= 1
    np.testing.assert_array_equal(np.bincount(indices, split), times)


def test_repeats_are_merged_first_and_the_first_frame_stays():
    clip = ball(6).select([0, 1, 1, 2, 3, 3, 4, 5]).with_durations([10, 20, 30, 40, 50, 60, 70, 80])
    merger = FrameMerger(clip)
    keep, times = merger.keep(6)
    np.testing.assert_array_equal(clip.frames[keep], ball(6).frames)
    assert times.tolist() == [10, 50, 40, 110, 70, 80]
    for count in range(1, 9):
        keep, times = merger.keep(count)
        assert len(keep) == count and keep[0] == 0 and times.sum() == 360
        assert set(keep) <= set(merger.keep(min(count + 1, 8))[0])
