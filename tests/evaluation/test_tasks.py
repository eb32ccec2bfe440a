from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdtf.errors import ConfigError
from rdtf.evaluation.tasks import EVALUATION_TASKS, evaluation_tasks, hidden_frames


def test_patterns_of_eight_frames():
    assert evaluation_tasks(8) == {
        "interpolation": (0, 2, 4, 6, 7),
        "interpolation_3": (0, 3, 6, 7),
        "interpolation_open": (0, 2, 4, 6),
        "post_frame_prediction": (0, 1, 2, 3),
        "pre_frame_prediction": (4, 5, 6, 7),
        "it2v": (0,),
    }


def test_short_clips_drop_what_is_degenerate():
    assert evaluation_tasks(1) == {}
    # Two frames have nothing between them, and of three the last is the second of every 2nd.
    assert set(evaluation_tasks(2)) == set(EVALUATION_TASKS[3:])
    assert set(evaluation_tasks(3)) == set(EVALUATION_TASKS) - {"interpolation_open"}


@given(num_frames=st.integers(1, 64))
def test_every_task_gives_and_hides(num_frames: int):
    for known in evaluation_tasks(num_frames).values():
        hidden = hidden_frames(num_frames, known)
        assert known and hidden
        assert sorted([*known, *hidden]) == list(range(num_frames))


@given(num_frames=st.integers(2, 64))
def test_interpolation_has_a_given_frame_on_both_sides(num_frames: int):
    tasks = evaluation_tasks(num_frames)
    for name in {"interpolation", "interpolation_3"} & set(tasks):
        assert tasks[name][0] == 0 and tasks[name][-1] == num_frames - 1


@pytest.mark.parametrize(
    ("known", "message"),
    [([8], "frame 8"), ([-1], "frame -1"), ([2, 2], "twice"), (range(8), "all 8 frames")],
)
def test_impossible_known_frames_are_refused(known, message):
    with pytest.raises(ConfigError, match=message):
        hidden_frames(8, known)
