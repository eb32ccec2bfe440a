from __future__ import annotations

import math
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdtf.sampling.windows import Window, plan_windows

clips = st.lists(st.booleans(), min_size=1, max_size=40)
windows = st.integers(1, 16)


def steps(
    known: list[bool], window: int, loop: bool = False
) -> list[tuple[Window, dict[int, bool]]]:
    """Every planned window, and what of its slots is known before it is filled."""
    done, planned = list(known), []
    for step in plan_windows(known, window, loop):
        planned.append((step, {slot: done[slot % len(done)] for slot in step.slots}))
        for slot in step.make:
            assert not done[slot % len(done)]
            done[slot % len(done)] = True
    assert all(done)
    return planned


def runs(slots: dict[int, bool]) -> list[tuple[bool, list[int]]]:
    """Neighbouring slots of a window that are all known, or all unknown."""
    return [(known, list(run)) for known, run in groupby(slots, key=lambda slot: slots[slot])]


@given(known=clips, window=windows, loop=st.booleans())
def test_every_window_fits_the_model_and_adds_frames(known, window, loop):
    for step, slots in steps(known, window, loop):
        assert 1 <= len(step.slots) <= window
        assert list(step.slots) == sorted(set(step.slots)) and step.slots[0] >= 0
        assert loop or step.slots[-1] < len(known)
        assert step.make and set(step.make) <= set(step.slots)
        unknown = [slot % len(known) for slot, is_known in slots.items() if not is_known]
        assert len(unknown) == len(set(unknown))  # or one frame would be made twice, differently


@given(known=clips.filter(any), window=st.integers(2, 16), loop=st.booleans())
def test_every_window_sees_something_that_is_known(known, window, loop):
    assert all(any(slots.values()) for _, slots in steps(known, window, loop))


@given(
    known=clips.filter(lambda known: sum(known) > 1), window=st.integers(3, 16), loop=st.booleans()
)
def test_what_lies_between_two_given_frames_is_made_by_a_window_that_sees_both(known, window, loop):
    for step, slots in steps(known, window, loop):
        for is_known, run in runs(slots):
            if is_known:
                continue
            before = run[0] == step.slots[0]
            after = run[-1] == step.slots[-1]
            # Only where a clip that is no loop has nothing there at all may an end be missing.
            assert not before or (not loop and not any(known[: run[0]]))
            assert not after or (not loop and not any(known[run[-1] :]))


@given(length=st.integers(2, 60), window=st.integers(3, 16), data=st.data())
def test_a_loop_is_closed_by_its_own_beginning(length, window, data):
    """From nothing or one frame: half of it freely, then windows that see both ends of a gap.

    A loop of two needs no second act: wherever its second frame is, it comes back from there.
    """
    known = [False] * length
    if data.draw(st.booleans()):
        known[data.draw(st.integers(0, length - 1))] = True
    first, *rest = steps(known, window, loop=True)
    if length > 2:
        assert len(first[0].make) <= math.ceil(len(first[0].slots) / 2)
    for step, slots in rest:
        ends = slots[step.slots[0]], slots[step.slots[-1]]
        assert ends == (True, True)


@given(length=st.integers(1, 60), window=windows)
def test_from_nothing_it_starts_the_clip_and_goes_on_by_half_windows(length, window):
    planned = steps([False] * length, window)
    assert planned[0][0].slots == tuple(range(min(window, length)))
    new_per_window = window - window // 2
    assert len(planned) <= 1 + math.ceil(max(length - window, 0) / new_per_window)


@given(known=clips.filter(lambda known: not all(known)))
def test_clip_that_fits_takes_one_window(known):
    everything = tuple(range(len(known)))
    unknown = tuple(slot for slot in everything if not known[slot])
    assert list(plan_windows(known, len(known))) == [Window(everything, unknown)] or (
        len(known) <= 2  # no room for both ends of a gap: then there is no gap with two ends
    )
    assert list(plan_windows(known, 99)) == [Window(everything, unknown)]


@given(known=clips, window=windows, loop=st.booleans())
def test_plan_leaves_its_input_alone(known, window, loop):
    before = list(known)
    list(plan_windows(known, window, loop))
    assert known == before


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ("xxxxx", []),
        ("xxxx......", ["2345 45", "4567 67", "6789 89"]),
        ("......xxxx", ["4567 45", "2345 23", "0123 01"]),
        ("x.x.x.x.", ["4567 57", "2345 3", "0123 1"]),
        ("x.......x", ["0368 36", "0123 12", "3456 45", "5678 7"]),
    ],
    ids=["all known", "what comes after", "what came before", "every second", "long gap"],
)
def test_plans_of_windows_of_four(known, expected):
    plan = plan_windows([letter == "x" for letter in known], 4)
    assert [f"{digits(step.slots)} {digits(step.make)}" for step in plan] == expected


def digits(slots: tuple[int, ...]) -> str:
    return "".join(map(str, slots))


def test_plan_of_a_loop():
    """Eight frames, one given, in windows of eight: three freely, then four that lead back."""
    first, second = plan_windows([True] + [False] * 7, 8, loop=True)
    assert first == Window((0, 1, 2, 3, 4, 5, 6, 7), (1, 2, 3))
    assert second == Window((2, 3, 4, 5, 6, 7, 8, 9), (4, 5, 6, 7))


def test_a_slot_is_shown_until_the_next_one():
    durations_ms = [10, 20, 30, 40]
    assert Window((1, 2, 3, 4), ()).durations_ms(durations_ms) == [20, 30, 40, 10]
    assert Window((0, 2, 4), ()).durations_ms(durations_ms) == [30, 70, 70]
    assert Window((3,), ()).durations_ms(durations_ms) == [40]
