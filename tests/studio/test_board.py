"""The film strip: what is given, and the request that comes of it."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures_service import moving_disc, still
from rdtf.errors import UserError
from rdtf.stickers import Sticker
from rdtf.studio.board import CHOICES, Board, thinned


@pytest.fixture
def board() -> Board:
    return Board(8, 16)


def test_a_still_is_frame_one_and_may_be_given_anywhere(board):
    board.start(still(16, 1))
    assert board.given == [True] + [False] * 7
    board.toggle(7)
    board.toggle(0)
    request = board.request(32)
    assert request.known.tolist() == [False] * 7 + [True]
    np.testing.assert_array_equal(request.frames[7], still(16, 1).frames[0])
    assert not request.frames[:7].any()


def test_a_clip_brings_its_frames_and_times(board):
    clip = moving_disc(16, 5).with_durations([10, 20, 30, 40, 50])
    board.start(clip)
    assert board.given == [True, False, True, False, True]
    request = board.request(32)
    assert request.durations_ms.tolist() == [10, 20, 30, 40, 50]
    np.testing.assert_array_equal(request.frames[[0, 2, 4]], clip.frames[[0, 2, 4]])
    assert not request.frames[[1, 3]].any()  # what is not given is not told


def test_nothing_given_is_a_request_at_the_canvas(board):
    assert board.request(32).frames.shape == (8, 32, 32, 4)


def test_slots_behind_a_clip_cannot_be_given(board):
    board.start(moving_disc(16, 3))
    board.set_length(5)
    assert not board.can_give(4)
    with pytest.raises(UserError, match="no picture"):
        board.toggle(4)
    board.put(4, still(30, 2))
    assert board.given[4]
    assert board.request(32).frames.shape == (5, 16, 16, 4)


@pytest.mark.parametrize("choice", CHOICES)
def test_usual_patterns(board, choice):
    board.start(moving_disc(16, 6))
    board.choose(choice)
    wanted = {
        "none": [],
        "first": [0],
        "ends": [0, 5],
        "every second": [0, 2, 4],
        "first half": [0, 1, 2],
        "last half": [3, 4, 5],
        "all": [0, 1, 2, 3, 4, 5],
    }
    assert np.flatnonzero(board.given).tolist() == wanted[choice]


def test_length_and_time(board):
    board.start(moving_disc(16, 6))
    board.set_length(4)
    board.set_duration(70)
    assert (board.num_frames, board.durations_ms) == (4, [70] * 4)
    for wrong in (0, 17, -3):
        with pytest.raises(UserError):
            board.set_length(wrong)
    with pytest.raises(UserError):
        board.set_duration(0)
    for wrong in (-1, 4):
        with pytest.raises(UserError, match="no frame"):
            board.toggle(wrong)


def test_a_long_clip_is_thinned_and_keeps_its_time():
    clip = moving_disc(16, 10).with_durations(list(range(10, 110, 10)))
    short = thinned(clip, 4)
    assert (short.num_frames, short.total_ms) == (4, clip.total_ms)
    np.testing.assert_array_equal(short.frames[0], clip.frames[0])


def test_clearing_keeps_length_and_time(board):
    board.start(Sticker(moving_disc(16, 3).frames, np.array([30, 40, 50])))
    board.clear()
    assert (board.num_given, board.durations_ms) == (0, [30, 40, 50])
