"""The board: the task, what it starts from, and the request that comes of it."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures_service import moving_disc, still
from rdtf.app.studio.board import TASKS, Board
from rdtf.errors import UserError


@pytest.fixture
def board() -> Board:
    return Board(8, 64)


def test_a_still_is_frame_one_and_may_be_given_anywhere(board):
    board.start([still(16, 1)])
    assert [slot.given for slot in board.slots()] == [True] + [False] * 7
    board.press(7)
    board.press(0)
    request = board.request(32)
    assert request.known.tolist() == [False] * 7 + [True]
    np.testing.assert_array_equal(request.frames[7], still(16, 1).frames[0])
    assert not request.frames[:7].any()


def test_animate_loops_unless_told_otherwise(board):
    assert board.loop
    board.set_task("smooth2")
    assert not board.loop
    board.set_loop(True)
    board.set_task("animate")
    board.set_loop(False)
    board.set_task("smooth2")
    assert board.loop


def test_two_stills_are_a_way_from_one_to_the_other(board):
    """In a loop the way back takes its share, so the second still stands in the middle."""
    board.start([still(16, 1), still(20, 2)])
    assert np.flatnonzero(board.request(32).known).tolist() == [0, 4]
    board.set_loop(False)
    request = board.request(32)
    assert np.flatnonzero(request.known).tolist() == [0, 7]
    assert (request.frames[0] != request.frames[7]).any()
    board.set_length(10, 80)
    assert np.flatnonzero(board.request(32).known).tolist() == [0, 9]


@pytest.mark.parametrize("count", [2, 9, 70])
def test_a_dropped_clip_keeps_every_frame(count):
    """It is smoothed, not thinned; a result that would be too long is refused, in words."""
    board, clip = Board(8, 240), moving_disc(16, count)
    clip = clip.with_durations(range(20, 20 + count))
    assert "all of them are kept" in board.start([clip])
    assert board.task == "smooth2"
    request = board.request(32)
    assert request.num_frames == 2 * count - 1
    np.testing.assert_array_equal(request.frames[request.known], clip.frames)
    assert request.durations_ms.sum() == clip.total_ms
    assert [slot.given for slot in board.slots()] == request.known.tolist()
    board.set_task("smooth3")
    if count < 80:
        assert board.request(32).num_frames == 3 * count - 2
    board.max_frames = count
    with pytest.raises(UserError, match="the most here"):
        board.request(32)


def test_extend_adds_frames_at_either_end(board):
    board.start([moving_disc(16, 3)])
    board.set_task("extend")
    board.set_extension(before=1, after=2)
    assert board.request(32).known.tolist() == [False, True, True, True, False, False]
    board.set_extension(0, 0)
    with pytest.raises(UserError, match="how many frames"):
        board.request(32)


def test_fix_makes_the_pressed_frames_again(board):
    clip = moving_disc(16, 4)
    board.start([clip])
    board.set_task("fix")
    with pytest.raises(UserError, match="click the frames"):
        board.request(32)
    board.press(1)
    request = board.request(32)
    assert request.known.tolist() == [True, False, True, True]
    assert not request.frames[1].any()  # what is made again is not told
    assert board.slots()[1].picture is not None  # but still shown
    board.make_again({0, 1, 2, 3})
    with pytest.raises(UserError, match="keep at least one"):
        board.request(32)
    board.put(2, still(40, 5))
    assert board.slots()[2].given
    assert board.request(32).frames.shape == (4, 16, 16, 4)


def test_animate_takes_the_first_frame_of_a_clip_only_when_told(board):
    clip = moving_disc(16, 4)
    board.start([clip])
    board.set_task("animate")
    assert np.flatnonzero(board.request(32).known).tolist() == [0]
    board.set_task("smooth2")
    assert board.request(32).known.sum() == 4  # the clip is still there


@pytest.mark.parametrize("task", [task for task in TASKS if task != "animate"])
def test_a_task_without_its_clip_says_so(board, task):
    board.set_task(task)
    assert board.slots() == []
    with pytest.raises(UserError, match="needs a clip"):
        board.request(32)


def test_nothing_given_is_a_request_at_the_canvas(board):
    assert board.request(32).frames.shape == (8, 32, 32, 4)


def test_wrong_numbers_are_refused_and_change_nothing(board):
    board.start([still(16, 1)])
    for frames, frame_ms in ((0, 100), (999, 100), (-3, 100), (8, 0)):
        with pytest.raises(UserError):
            board.set_length(frames, frame_ms)
    for index in (-1, 8):
        with pytest.raises(UserError, match="no frame"):
            board.press(index)
    assert (board.num_frames, board.frame_ms) == (8, 100)
    with pytest.raises(UserError, match="one clip"):
        board.start([still(16, 1), moving_disc(16, 2)])


def test_clearing_keeps_task_length_and_time(board):
    board.start([still(16, 1)])
    board.set_length(5, 40)
    board.clear()
    assert (board.num_frames, board.frame_ms, board.stills) == (5, 40, {})
