from __future__ import annotations

import sys

import numpy as np
import pytest

from rdtf.errors import ConfigError
from rdtf.evaluation.baselines import (
    OPTICAL_FLOW,
    linear_blend,
    nearest_frame,
    optical_flow,
    optical_flow_rows,
)
from rdtf.evaluation.metrics import score_hidden

from .drawings import moving_ball


def test_without_opencv_there_is_no_such_row(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert optical_flow_rows() == {}


@pytest.fixture
def cv2():
    return pytest.importorskip("cv2")


def test_what_moves_evenly_is_moved_to_its_place(cv2):
    assert optical_flow_rows() == {OPTICAL_FLOW: optical_flow}
    truth = moving_ball(9, 64, step=2.0)
    known = [0, 4, 8]
    flow, blend = (
        score_hidden(truth, f(truth, known), known) for f in (optical_flow, linear_blend)
    )
    assert flow["psnr"] > blend["psnr"] + 6
    assert flow["line_distance"] < 0.3 * blend["line_distance"]
    assert flow["alpha_mae"] < 0.5 * blend["alpha_mae"]


def test_given_frames_stay_hidden_ones_are_not_read_and_the_ends_repeat(cv2):
    truth = moving_ball(7, 32)
    known = [4, 2]
    other = truth.frames.copy()
    other[[0, 1, 3, 5, 6]] = 99
    result = optical_flow(truth, known)
    again = optical_flow(truth.replace(frames=other), known)
    assert np.array_equal(result.frames, again.frames)
    assert np.array_equal(result.frames[known], truth.frames[known])
    beyond = [0, 1, 5, 6]
    near = nearest_frame(truth, known).premultiplied()[beyond]
    assert np.abs(result.premultiplied()[beyond] - near).max() < 1e-6


def test_the_number_of_threads_does_not_matter_and_stays(cv2):
    truth, before, made = moving_ball(3, 64), cv2.getNumThreads(), []
    for threads in (1, 2):
        cv2.setNumThreads(threads)
        made.append(optical_flow(truth, [0, 2]).frames)
        assert cv2.getNumThreads() == threads
    cv2.setNumThreads(before)
    assert np.array_equal(*made)


def test_nothing_given_is_refused(cv2):
    assert "cv2" in sys.modules
    with pytest.raises(ConfigError, match="at least one given frame"):
        optical_flow(moving_ball(), [])
