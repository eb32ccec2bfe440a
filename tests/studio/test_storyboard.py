"""The storyboard: the task, what it starts from, and the request that comes of it."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures_service import moving_disc, still
from rdtf.app.studio.storyboard import TASKS, Storyboard
from rdtf.errors import UserError


@pytest.fixture
def storyboard() -> Storyboard:
    return Storyboard(8, 64)


def test_a_still_is_frame_one_and_may_be_given_anywhere(storyboard):
    storyboard.start([still(16, 1)])
    assert [slot.given for slot in storyboard.slots()] == [True] + [False] * 7
    storyboard.set_given(7)
    storyboard.set_given(0)
    request = storyboard.request(32)
    assert request.known.tolist() == [False] * 7 + [True]
    np.testing.assert_array_equal(request.frames[7], still(16, 1).frames[0])
    assert not request.frames[:7].any()


def test_animate_loops_unless_told_otherwise(storyboard):
    assert storyboard.loop
    storyboard.set_task("smooth2")
    assert not storyboard.loop
    storyboard.set_loop(True)
    storyboard.set_task("animate")
    storyboard.set_loop(False)
    storyboard.set_task("smooth2")
    assert storyboard.loop


def test_two_stills_are_a_way_from_one_to_the_other(storyboard):
    """In a loop the way back takes its share, so the second still stands in the middle."""
    storyboard.start([still(16, 1), still(20, 2)])
    assert np.flatnonzero(storyboard.request(32).known).tolist() == [0, 4]
    storyboard.set_loop(False)
    request = storyboard.request(32)
    assert np.flatnonzero(request.known).tolist() == [0, 7]
    assert (request.frames[0] != request.frames[7]).any()
    storyboard.set_length(10, 80)
    assert np.flatnonzero(storyboard.request(32).known).tolist() == [0, 9]


@pytest.mark.parametrize("count", [2, 9, 70])
def test_a_dropped_clip_keeps_every_frame(count):
    """It is smoothed, not thinned; a result that would be too long is refused, in words."""
    storyboard, clip = Storyboard(8, 240), moving_disc(16, count)
    clip = clip.with_durations(range(20, 20 + count))
    assert "all of them are kept" in storyboard.start([clip])
    assert storyboard.task == "smooth2"
    request = storyboard.request(32)
    assert request.num_frames == 2 * count - 1
    np.testing.assert_array_equal(request.frames[request.known], clip.frames)
    assert request.durations_ms.sum() == clip.total_ms
    assert [slot.given for slot in storyboard.slots()] == request.known.tolist()
    storyboard.set_task("smooth3")
    if count < 80:
        assert storyboard.request(32).num_frames == 3 * count - 2
    storyboard.max_frames = count
    with pytest.raises(UserError, match="the limit is"):
        storyboard.request(32)


def test_extend_adds_frames_at_either_end(storyboard):
    storyboard.start([moving_disc(16, 3)])
    storyboard.set_task("extend")
    storyboard.set_extension(before=1, after=2)
    assert storyboard.request(32).known.tolist() == [False, True, True, True, False, False]
    storyboard.set_extension(0, 0)
    with pytest.raises(UserError, match="how many frames"):
        storyboard.request(32)


def test_fix_makes_the_pressed_frames_again(storyboard):
    clip = moving_disc(16, 4)
    storyboard.start([clip])
    storyboard.set_task("fix")
    with pytest.raises(UserError, match="click the frames"):
        storyboard.request(32)
    storyboard.set_given(1)
    request = storyboard.request(32)
    assert request.known.tolist() == [True, False, True, True]
    assert not request.frames[1].any()  # what is made again is not told
    assert storyboard.slots()[1].picture is not None  # but still shown
    storyboard.make_again({0, 1, 2, 3})
    with pytest.raises(UserError, match="keep at least one"):
        storyboard.request(32)
    storyboard.put(2, still(40, 5))
    assert storyboard.slots()[2].given
    assert storyboard.request(32).frames.shape == (4, 16, 16, 4)


def test_animate_takes_the_first_frame_of_a_clip_only_when_told(storyboard):
    clip = moving_disc(16, 4)
    storyboard.start([clip])
    storyboard.set_task("animate")
    assert np.flatnonzero(storyboard.request(32).known).tolist() == [0]
    storyboard.set_task("smooth2")
    assert storyboard.request(32).known.sum() == 4  # the clip is still there


@pytest.mark.parametrize("task", [task for task in TASKS if task != "animate"])
def test_a_task_without_its_clip_says_so(storyboard, task):
    storyboard.set_task(task)
    assert storyboard.slots() == []
    with pytest.raises(UserError, match="needs a clip"):
        storyboard.request(32)


def test_nothing_given_is_a_request_at_the_canvas(storyboard):
    assert storyboard.request(32).frames.shape == (8, 32, 32, 4)


def test_wrong_numbers_are_refused_and_change_nothing(storyboard):
    storyboard.start([still(16, 1)])
    for frames, frame_ms in ((0, 100), (999, 100), (-3, 100), (8, 0)):
        with pytest.raises(UserError):
            storyboard.set_length(frames, frame_ms)
    for index in (-1, 8):
        with pytest.raises(UserError, match="no frame"):
            storyboard.set_given(index)
    assert (storyboard.num_frames, storyboard.frame_ms) == (8, 100)
    with pytest.raises(UserError, match="one clip"):
        storyboard.start([still(16, 1), moving_disc(16, 2)])


def test_clearing_keeps_task_length_and_time(storyboard):
    storyboard.start([still(16, 1)])
    storyboard.set_length(5, 40)
    storyboard.clear()
    assert (storyboard.num_frames, storyboard.frame_ms, storyboard.stills) == (5, 40, {})
