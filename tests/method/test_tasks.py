from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdtf.method.tasks import (
    FAMILIES,
    FAMILY,
    MIN_FRAMES,
    TASKS,
    TaskDraw,
    condition_mask,
    draw_task,
)
from rdtf.randomness import Purpose, stream

EVEN = dict.fromkeys(TASKS, 1.0)
lengths, seeds = st.integers(1, 16), st.integers(0, 2**32 - 1)


def masks(task: str, num_frames: int, count: int = 300) -> set[tuple[bool, ...]]:
    """Distinct condition masks of many draws."""
    random = np.random.default_rng(0)
    draws = (condition_mask(task, num_frames, random) for _ in range(count))
    return {tuple(mask.tolist()) for mask in draws}


def draws(weights: dict[str, float], num_frames: int, count: int) -> list[TaskDraw]:
    return [draw_task(num_frames, weights, stream(0, Purpose.TASK, p)) for p in range(count)]


def test_every_task_has_a_family():
    assert set(FAMILY) == set(MIN_FRAMES) == set(TASKS)
    assert set(FAMILY.values()) == set(FAMILIES)


@given(num_frames=lengths, task=st.sampled_from(TASKS), seed=seeds)
def test_draw_gives_and_hides_something(num_frames, task, seed):
    draw = draw_task(num_frames, {task: 1.0}, np.random.default_rng(seed))
    assert draw.given.shape == (num_frames,) and draw.given.dtype == bool
    assert draw.task == (task if num_frames >= MIN_FRAMES[task] else "t2v")
    assert draw.given.any() == (draw.task != "t2v")
    assert not draw.given.all()
    assert draw.use_text == (draw.task != "i2v")


@given(num_frames=st.integers(2, 16), seed=seeds)
def test_interpolation_gives_every_second_or_third(num_frames, seed):
    mask = condition_mask("interpolation", num_frames, np.random.default_rng(seed))
    places = np.flatnonzero(mask)
    period = places[1] - places[0] if len(places) > 1 else None
    assert period in (2, 3, None)
    step = period or num_frames
    assert places[0] < max(step, 2) and num_frames - places[-1] <= step
    assert (np.diff(places) == step).all()


@given(num_frames=st.integers(2, 16), seed=seeds)
def test_prediction_gives_one_end(num_frames, seed):
    random = np.random.default_rng(seed)
    before = condition_mask("pre_frame_prediction", num_frames, random)
    after = condition_mask("post_frame_prediction", num_frames, random)
    assert before[-1] and not before[0] and (np.diff(before.astype(int)) >= 0).all()
    assert after[0] and not after[-1] and (np.diff(after.astype(int)) <= 0).all()
    for mask in (before, after):
        assert 1 <= (~mask).sum() <= num_frames // 2 + 1


def test_every_mask_of_eight_frames_comes_up():
    assert len(masks("i2v", 8)) == len(masks("it2v", 8)) == 8
    assert len(masks("interpolation", 8)) == 2 + 3  # periods two and three, in every phase
    assert {8 - sum(mask) for mask in masks("pre_frame_prediction", 8)} == {1, 2, 3, 4, 5}
    assert {8 - sum(mask) for mask in masks("post_frame_prediction", 8)} == {1, 2, 3, 4, 5}
    assert masks("t2v", 8) == {(False,) * 8}


@pytest.mark.parametrize("task", [task for task in TASKS if task != "t2v"])
def test_mask_of_a_still_is_refused(task):
    with pytest.raises(ValueError, match=f"{task} needs 2 frames, the clip has 1"):
        condition_mask(task, 1, np.random.default_rng(0))


@given(seed=seeds, weights=st.fixed_dictionaries({task: st.floats(0, 10) for task in TASKS}))
def test_still_is_always_text_to_image(seed, weights):
    draw = draw_task(1, weights, np.random.default_rng(seed))
    assert draw.task == "t2v" and draw.use_text


def test_weights_are_honoured():
    weights = {"t2v": 1.0, "i2v": 0.0, "it2v": 2.0, "interpolation": 4.0}
    weights |= {"pre_frame_prediction": 1.0, "post_frame_prediction": 2.0}
    count = 4000
    counted = Counter(draw.task for draw in draws(weights, 6, count))
    for task, weight in weights.items():
        expected = count * weight / 10
        assert abs(counted[task] - expected) <= 4 * np.sqrt(expected), task


@pytest.mark.parametrize("weights", [{}, dict.fromkeys(TASKS, 0.0), dict.fromkeys(TASKS, -1.0)])
def test_without_weights_all_tasks_are_equal(weights):
    counted = Counter(draw.task for draw in draws(weights, 6, 1200))
    assert all(abs(counted[task] - 200) < 60 for task in TASKS)


def test_tasks_of_neighbouring_samples_are_independent():
    names = [draw.task for draw in draws(EVEN, 6, 3600)]
    pairs = Counter(pairwise(names))
    assert len(pairs) == 36
    assert all(abs(count - 100) < 45 for count in pairs.values())


@given(num_frames=lengths, seed=seeds)
def test_draw_is_a_function_of_its_generator(num_frames, seed):
    one, two = (draw_task(num_frames, EVEN, np.random.default_rng(seed)) for _ in range(2))
    assert one.task == two.task and one.given.tolist() == two.given.tolist()
