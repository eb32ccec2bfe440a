"""Numbers with intervals: what is averaged, what is paired, what the tables say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rdtf.evaluation.results import Cell, Table
from rdtf.evaluation.sets import pair_terms, set_distance
from rdtf.research.comparison.results import (
    NO_SEED,
    SET_DISTANCE,
    Group,
    difference,
    distance_estimate,
    estimate,
    mean_estimate,
    median_estimate,
)
from rdtf.research.comparison.scoring import Scores

TASK = "it2v"


def scores(values, features=None) -> Scores:
    rows = [
        {"clip": str(row), "task": TASK, "scores": {"psnr": value, "motion_ratio": value}}
        for row, value in enumerate(values)
    ]
    return Scores(rows, {TASK: 0.1}, {} if features is None else {TASK: features}, {})


def test_the_mean_is_over_clips_and_seeds_and_skips_what_is_not_there():
    values = np.array([[1.0, 2.0, math.nan], [3.0, 4.0, 5.0]])
    found = mean_estimate(values)
    assert found.value == pytest.approx(3.0)
    assert found.low <= found.value <= found.high
    assert math.isnan(mean_estimate(np.full((2, 2), math.nan)).value)


def test_intervals_cover_both_seeds_and_clips():
    """Seeds that differ widen the interval although the clips do not; and the reverse."""
    generator = np.random.default_rng(0)
    clips = generator.normal(size=(1, 40)).repeat(3, axis=0)
    by_seed = clips + np.array([[-2.0], [0.0], [2.0]])
    narrow, wide = mean_estimate(clips), mean_estimate(by_seed)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    expected = 1.96 * clips[0].std() / math.sqrt(40)
    assert (narrow.high - narrow.low) / 2 == pytest.approx(expected, rel=0.2)
    one = mean_estimate(clips[:1])
    assert (one.low, one.high) == pytest.approx((narrow.low, narrow.high), abs=0.05)


def test_the_median_is_over_clips_of_the_mean_over_seeds():
    values = np.array([[0.0, 1.0, 100.0], [2.0, math.nan, 100.0]])
    assert median_estimate(values).value == 1.0


def test_intervals_of_medians_cover_both_seeds_and_clips():
    """Seeds that differ widen the interval of a motion ratio as they widen that of a mean."""
    generator = np.random.default_rng(0)
    clips = generator.normal(1, 0.1, size=(1, 60)).repeat(3, axis=0)
    narrow, wide = (median_estimate(clips + shift * np.array([[-1.0], [0.0], [1.0]]))
                    for shift in (0.0, 0.5))  # fmt: skip
    assert wide.value == pytest.approx(narrow.value)
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)
    assert wide.low < 0.7 and wide.high > 1.3
    one = median_estimate(clips[:1])
    assert (one.low, one.high) == pytest.approx((narrow.low, narrow.high), abs=0.02)
    clips[1:, :30] = math.nan  # seeds that have no ratio for a clip don't count for it
    assert np.isfinite([median_estimate(clips).low, median_estimate(clips).high]).all()


def test_set_distance_of_seeds_is_their_mean():
    generator = np.random.default_rng(1)
    truth = generator.normal(size=(20, 8))
    terms = np.stack([pair_terms(truth + shift, truth) for shift in (0.0, 1.0)])
    found = distance_estimate(terms)
    assert found.value == pytest.approx(np.mean([set_distance(one) for one in terms]))
    assert found.low < found.value < found.high


def test_differences_are_of_the_same_clips_and_seeds():
    """Groups whose own intervals overlap by far may differ on every single clip."""
    generator = np.random.default_rng(2)
    base = generator.normal(0, 5, size=(2, 30))
    mine = Group("mine", "mine", {s: scores(base[s] + 0.5) for s in (0, 1)})
    other = Group("other", "other", {s: scores(base[s]) for s in (1, 0)})
    found = difference(mine, other, TASK, "psnr", np.zeros((30, 1)))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_baselines_count_for_every_seed_and_missing_seeds_are_left_out():
    mine = Group("mine", "mine", {0: scores([1.0, 2.0]), 1: scores([3.0, 4.0])})
    blend = Group("blend", "blend", {NO_SEED: scores([1.0, 1.0])})
    truth = np.zeros((2, 1))
    assert difference(mine, blend, TASK, "psnr", truth).value == pytest.approx(1.5)
    late = Group("late", "late", {1: scores([3.0, 3.0]), 2: scores([9.0, 9.0])})
    assert difference(mine, late, TASK, "psnr", truth).value == pytest.approx(0.5)
    never = Group("never", "never", {7: scores([0.0, 0.0])})
    assert math.isnan(difference(mine, never, TASK, "psnr", truth).value)


def test_set_distances_are_compared_seed_by_seed():
    generator = np.random.default_rng(3)
    truth = generator.normal(size=(25, 6))
    near = Group("near", "near", {0: scores(range(25), truth + 0.1)})
    far = Group("far", "far", {0: scores(range(25), truth + 1.0)})
    found = difference(near, far, TASK, SET_DISTANCE, truth)
    expected = [estimate(group, TASK, SET_DISTANCE, truth).value for group in (near, far)]
    assert found.value == pytest.approx(expected[0] - expected[1]) and found.high < 0


def test_scores_survive_their_files(tmp_path):
    made = scores([1.5, math.nan], np.arange(6, dtype=np.float32).reshape(2, 3))
    made.samples["it2v/0"] = np.zeros((2, 4, 4, 4), dtype=np.uint8)
    made.save(tmp_path, "flops")
    again = Scores.load(tmp_path, "flops")
    assert "NaN" not in (tmp_path / "flops.json").read_text("utf-8")
    values = Group("x", "x", {0: again}).values(TASK, "psnr")
    assert values[0, 0] == 1.5 and math.isnan(values[0, 1])
    assert np.array_equal(again.features[TASK], made.features[TASK])
    assert again.samples["it2v/0"].shape == (2, 4, 4, 4)


def test_tables_in_markdown():
    table = Table("T", ["a", "b", "c"], [["x|y", "m", Cell("1.0", best=True)]], "note")
    text = table.markdown()
    assert "| x\\|y | m | **1.0** |" in text and text.strip().endswith("note")
