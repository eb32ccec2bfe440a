from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdtf.inference.windows import plan_windows

clips = st.lists(st.booleans(), min_size=1, max_size=40)
windows = st.integers(1, 16)


def steps(known: list[bool], window: int) -> list[tuple[int, int, list[bool]]]:
    """Every planned window with what is known before it is filled; all are known at the end."""
    done, planned = list(known), []
    for start, stop in plan_windows(known, window):
        planned.append((start, stop, list(done)))
        done[start:stop] = [True] * (stop - start)
    assert all(done)
    return planned


@given(known=clips, window=windows)
def test_every_window_lies_in_the_clip_and_adds_frames(known, window):
    for start, stop, done in steps(known, window):
        assert 0 <= start < stop <= len(known)
        assert stop - start == min(window, len(known))
        assert not all(done[start:stop])


@given(known=clips.filter(any), window=st.integers(2, 16))
def test_every_window_sees_something_that_is_known(known, window):
    for start, stop, done in steps(known, window):
        assert any(done[start:stop])


@given(known=clips, window=windows)
def test_no_other_window_with_half_its_frames_known_adds_more(known, window):
    for start, stop, done in steps(known, window):
        size = stop - start
        others = [done[s : s + size] for s in range(len(done) - size + 1)]
        adds = [size - sum(other) for other in others if sum(other) >= size // 2]
        if max(adds, default=0) > 0:
            assert sum(done[start:stop]) >= size // 2
            assert size - sum(done[start:stop]) == max(adds)


@given(length=st.integers(1, 60), window=windows)
def test_from_nothing_it_starts_the_clip_and_goes_on_by_half_windows(length, window):
    planned = steps([False] * length, window)
    assert planned[0][0] == 0
    new_per_window = window - window // 2
    assert len(planned) <= 1 + math.ceil(max(length - window, 0) / new_per_window)


@given(known=clips.filter(lambda known: not all(known)))
def test_clip_that_fits_takes_one_window(known):
    assert list(plan_windows(known, len(known))) == [(0, len(known))]
    assert list(plan_windows(known, 99)) == [(0, len(known))]


@given(known=clips, window=windows)
def test_plan_leaves_its_input_alone(known, window):
    before = list(known)
    list(plan_windows(known, window))
    assert known == before


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([True] * 5, []),
        ([True] * 4 + [False] * 6, [(2, 6), (4, 8), (6, 10)]),
        ([False] * 6 + [True] * 4, [(4, 8), (2, 6), (0, 4)]),
        ([True, False] * 4, [(0, 4), (4, 8)]),
    ],
    ids=["all known", "what comes after", "what came before", "every second"],
)
def test_plans_of_windows_of_four(known, expected):
    assert list(plan_windows(known, 4)) == expected
