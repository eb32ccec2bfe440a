from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdtf.data.keyframes import (
    INVISIBLE_ERROR,
    METHODS,
    KeyFrames,
    candidate_frames,
    choose_key_frames,
    frame_feature,
)
from rdtf.errors import ConfigError

from .stickers import moving_square, soft_disc


@st.composite
def clips(draw: st.DrawFn, max_frames: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Random features with repeats (so that neighbours may be equal) and durations."""
    count = draw(st.integers(1, max_frames))
    pictures = np.array(draw(st.lists(st.integers(0, 6), min_size=count, max_size=count)))
    durations = draw(st.lists(st.integers(1, 500), min_size=count, max_size=count))
    features = np.random.default_rng(draw(st.integers(0, 99))).random((7, 5))
    return features[pictures], np.array(durations)


def brute_force_error(features: np.ndarray, durations: np.ndarray, num_segments: int) -> float:
    count = len(durations)
    distances = ((features[:, None] - features[None]) ** 2).mean(axis=-1)
    best = np.inf
    for cuts in combinations(range(1, count), num_segments - 1):
        edges = [0, *cuts, count]
        cost = 0.0
        for first, last in pairwise(edges):
            inside = slice(first, last)
            cost += (durations[inside, None] * distances[inside, inside]).sum(axis=0).min()
        best = min(best, cost)
    return best / durations.sum()


def error_of(keys: KeyFrames, features: np.ndarray, durations: np.ndarray) -> float:
    """Mean squared distance over time between the clip and its key frames as they are shown."""
    native = np.repeat(np.arange(len(durations)), durations)
    shown = np.repeat(keys.indices, keys.durations_ms)
    return float(((features[native] - features[shown]) ** 2).mean())


@given(clips(), st.integers(1, 8), st.sampled_from(METHODS))
def test_durations_are_kept_and_indices_in_order(clip, max_frames, method):
    features, durations = clip
    keys = choose_key_frames(features, durations, max_frames, method=method)
    assert keys.durations_ms.sum() == durations.sum()
    assert keys.durations_ms.min() >= 1
    assert 1 <= len(keys.indices) == len(keys.durations_ms) <= max_frames
    assert (np.diff(keys.indices) > 0).all()
    assert keys.indices[0] >= 0 and keys.indices[-1] < len(durations)


@given(clips(max_frames=7), st.integers(1, 5))
def test_no_other_segments_are_better(clip, max_frames):
    features, durations = clip
    keys = choose_key_frames(features, durations, max_frames, tolerance=0)
    best = brute_force_error(features, durations, min(max_frames, len(durations)))
    assert best - 1e-9 <= error_of(keys, features, durations) <= best + INVISIBLE_ERROR + 1e-9


@given(clips())
def test_more_key_frames_never_cost_more(clip):
    features, durations = clip
    chosen = [choose_key_frames(features, durations, k, tolerance=0) for k in range(1, 13)]
    errors = [error_of(keys, features, durations) for keys in chosen]
    assert (np.diff(errors) <= 1e-12).all()
    assert errors[-1] <= INVISIBLE_ERROR


def test_a_still_clip_needs_one_frame_shown_all_the_time():
    keys = choose_key_frames(np.ones((60, 4)), np.full(60, 17))
    assert keys.indices.tolist() == [0]
    assert keys.durations_ms.tolist() == [60 * 17]
    assert keys.motion == 0


def test_six_different_pictures_stay_six():
    features = np.stack([frame_feature(frame) for frame in moving_square(6)])
    keys = choose_key_frames(features, [100] * 6)
    assert keys.indices.tolist() == [0, 1, 2, 3, 4, 5]
    assert keys.durations_ms.tolist() == [100] * 6


def test_equal_neighbours_are_merged_and_keep_their_time():
    features = np.stack([frame_feature(frame) for frame in moving_square(3)])
    keys = choose_key_frames(features.take([0, 0, 1, 1, 1, 2], axis=0), [10, 20, 30, 40, 50, 60])
    assert keys.durations_ms.tolist() == [30, 120, 60]


def test_a_long_hold_gets_one_frame_and_the_movement_the_others():
    features = np.concatenate([np.zeros(80), np.linspace(0, 1, 20)])[:, None]
    durations = np.full(100, 10)
    piecewise = choose_key_frames(features, durations, 5)
    equal = choose_key_frames(features, durations, 5, method="equal")
    assert (piecewise.indices < 80).sum() == 1
    assert (equal.indices < 80).sum() == 4
    errors = [error_of(keys, features, durations) for keys in (piecewise, equal)]
    assert errors[0] < errors[1] / 5


def test_clusters_are_of_alike_frames_wherever_they_are():
    """Three pictures that come again and again: one frame of each, which segments would repeat."""
    pictures = np.random.default_rng(0).random((3, 8))
    keys = choose_key_frames(pictures[[0, 1, 2] * 4], np.full(12, 10), 6, method="clusters")
    assert len(keys.indices) == 3 and keys.durations_ms.sum() == 120
    assert sorted(index % 3 for index in keys.indices.tolist()) == [0, 1, 2]
    assert len(choose_key_frames(pictures[[0, 1, 2] * 4], np.full(12, 10), 6).indices) == 6


@given(st.lists(st.integers(1, 60), min_size=1, max_size=1000))
def test_candidates_are_few_and_keep_the_time(durations):
    indices, kept = candidate_frames(durations)
    assert len(indices) == len(kept) == min(len(durations), 240)
    assert kept.sum() == sum(durations)
    assert (np.diff(indices) > 0).all()
    assert indices[0] >= 0 and indices[-1] < len(durations)


def test_features_ignore_hidden_colours():
    disc = soft_disc()[0]
    other = np.where(disc[..., 3:] > 0, disc, np.array([255, 0, 255, 0], np.uint8))
    assert np.array_equal(frame_feature(disc), frame_feature(other))
    assert 0 <= frame_feature(disc).min() <= frame_feature(disc).max() <= 1


@pytest.mark.parametrize(
    ("num_frames", "durations_ms"), [(0, []), (1, [0]), (1, [1, 2])], ids=["none", "zero", "uneven"]
)
def test_clips_that_make_no_sense_are_refused(num_frames, durations_ms):
    with pytest.raises(ConfigError, match="at least one frame"):
        choose_key_frames(np.ones((num_frames, 3)), durations_ms)


def test_unknown_method_is_refused():
    with pytest.raises(ConfigError, match="unknown"):
        choose_key_frames(np.ones((1, 1)), [1], method="best")  # pyright: ignore
