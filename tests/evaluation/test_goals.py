from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.goals import TARGETS, Estimate, Goal, Target, find_goals, goals_table

from rdtf.evaluation.results import MODEL, Record

PREDICTION = ("post_frame_prediction", "pre_frame_prediction")
BASELINES = ("nearest frame", "linear blend", "optical flow")


def record(clip: int, task: str, method: str, motion: float = 0.1, **scores: float) -> Record:
    usual = {"psnr": 20.0, "line_distance": 1.0, "motion_ratio": 1.0, "given_error": 0.0}
    scores = {**usual, "colour_drift": 0.0, **scores}
    return Record(f"clip {clip}", task, method, 8, (0,), 0.1, motion, scores)


def reached(records: list[Record], name: str, **options) -> Estimate:
    return next(g.reached for g in find_goals(records, **options) if g.target is TARGETS[name])


def interpolation(gains: list[float]) -> list[Record]:
    """Clips of very different quality; the model gains so many dB on each over every baseline."""
    records = []
    for clip, gain in enumerate(gains):
        usual = 20.0 + 5 * clip
        records.append(record(clip, "interpolation", MODEL, clip / 10, psnr=usual + gain))
        records += [record(clip, "interpolation", m, clip / 10, psnr=usual) for m in BASELINES]
    return records


def test_differences_are_of_the_same_clips():
    found = reached(interpolation([1.0, 2.0, 1.5, 1.5]), "over_blend")
    assert found.value == pytest.approx(1.5) and found.n == 4
    assert 1.0 <= found.low < 1.5 < found.high <= 2.0


def test_upper_half_of_motion_has_the_median_in_it():
    """Motion grows with the number of the clip: of five the last three count."""
    found = reached(interpolation([-9, -9, 1, 2, 3]), "over_flow")
    assert (found.value, found.n) == (pytest.approx(2.0), 3)


def test_line_distances_are_a_ratio_of_means():
    records = []
    for clip, (model, blend) in enumerate([(0.2, 0.1), (1.0, 2.9)]):
        records.append(record(clip, "interpolation", MODEL, line_distance=model))
        records.append(record(clip, "interpolation", "linear blend", line_distance=blend))
    found = reached(records, "lines_blend")
    assert found.value == pytest.approx(1.2 / 3.0)
    assert found.low == pytest.approx(1.0 / 2.9) and found.high == pytest.approx(2.0)
    perfect = [replace(r, scores={**r.scores, "line_distance": 0.0}) for r in records]
    assert reached(perfect, "lines_blend").value == 1


def test_prediction_pools_both_directions_and_counts_clips():
    records = []
    for task, gain in zip(PREDICTION, (1.0, 0.0), strict=True):
        for clip in range(3):
            records.append(record(clip, task, MODEL, psnr=20 + gain))
            records.append(record(clip, task, "nearest frame"))
    found = reached(records, "predicts")
    assert (found.value, found.low, found.high, found.n) == (0.5, 0.5, 0.5, 3)
    forward = [r for r in records if r.task == PREDICTION[0]]
    assert reached(forward, "predicts").value == 1.0


def test_first_frame_given():
    ratios, drifts = [0.02, 0.4, 0.6, 0.8], [1 / 255, 2 / 255, 3 / 255, math.nan]
    records = [
        record(clip, "it2v", MODEL, motion_ratio=ratio, colour_drift=drift)
        for clip, (ratio, drift) in enumerate(zip(ratios, drifts, strict=True))
    ]
    still = record(4, "it2v", MODEL, motion=0.0, motion_ratio=1.0, given_error=0.25)
    records.append(replace(still, scores={**still.scores, "colour_drift": math.nan}))
    assert reached(records, "given") == Estimate(0.25, 0.25, 0.25, 5)
    motion, moves = reached(records, "motion"), reached(records, "moves")
    assert (motion.value, motion.n) == (0.5, 4)
    assert (moves.value, moves.n) == (75.0, 4) and moves.low < 75 < moves.high < 100
    drift = reached(records, "drift")
    assert drift.value == pytest.approx(2.0) and drift.n == 3


def test_all_of_a_few_is_not_certain():
    records = [record(clip, "it2v", MODEL) for clip in range(5)]
    found = reached(records, "moves")
    assert found.value == found.high == 100 and found.low < 90


def test_what_was_not_run_has_no_goal():
    assert find_goals([]) == []
    flowless = [r for r in interpolation([1, 1]) if r.method != "optical flow"]
    names = {goal.target.name for goal in find_goals(flowless)}
    assert names and not any("flow" in name for name in names)
    assert reached([], "copies", copy_ratios=[0.5, math.nan, 1.0]).value == 0.75


@pytest.mark.parametrize(
    ("estimate", "verdict"),
    [
        (Estimate(2.0, 1.5, 2.5, 9), "yes"),
        (Estimate(1.2, 0.8, 1.6, 9), "yes (unsure)"),
        (Estimate(0.8, 0.4, 1.2, 9), "no (unsure)"),
        (Estimate(0.1, -0.2, 0.4, 9), "no"),
    ],
)
def test_verdicts(estimate: Estimate, verdict: str):
    assert Goal(TARGETS["over_blend"], estimate).verdict == verdict


def test_bounds_of_all_kinds():
    lower, equal = Target("t", "n", "≤", 0.8), Target("t", "n", "=", 0.0, digits=4)
    assert lower.allows(0.8) and not lower.allows(0.81)
    assert equal.allows(0.0) and not equal.allows(1e-9)
    assert str(lower) == "≤ 0.80" and str(equal) == "= 0.0000"
    assert [str(TARGETS[name]) for name in ("over_blend", "moves", "drift")] == [
        "≥ +1.0 dB",
        "≥ 90 %",
        "≤ 3.00 /255",
    ]


def test_the_table_shows_value_target_and_verdict():
    table = goals_table(find_goals(interpolation([1.5, 1.5, 1.5])))
    row = [str(cell) for cell in table.rows[0]]
    assert row == ["interpolation", "PSNR − linear blend", "+1.50", "≥ +1.0 dB", "yes", "3"]
    unsure = goals_table(find_goals(interpolation([0.0, 1.5, 2.5]))).rows[0]
    assert "[+0.00, +2.50]" in str(unsure[2]) and unsure[4] == "yes (unsure)"
    assert np.all([len(row) == 6 for row in table.rows])
