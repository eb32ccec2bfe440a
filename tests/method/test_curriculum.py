from __future__ import annotations

import functools
import json
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from benchmarks.percentile import TRENDS, Simulated, simulate

from rdtf.errors import ConfigError
from rdtf.method.curriculum import Curriculum, CurriculumConfig
from rdtf.method.tasks import FAMILIES, FAMILY, TASKS
from rdtf.training.loader import LEAD_STEPS

SEEDS = (0, 1)


@functools.cache
def simulated(trend: str, seed: int = 0) -> Simulated:
    """A run whose loss follows a trend; each task, noise level and clip has its own scale."""
    return simulate(TRENDS[trend], seed, steps=4000)


def mean_quantile(trend: str, begin: float = 0.5, end: float = 1.0) -> float:
    """Over a part of the run and all seeds."""
    parts = [simulated(trend, seed).quantiles for seed in SEEDS]
    return float(np.mean([part[int(begin * 4000) : int(end * 4000)] for part in parts]))


# ------------------------------------------------------------------ the static part


@pytest.mark.parametrize(
    ("progress", "weights"),
    [
        (0.0, (0.1, 0.9, 0.7)),
        (0.25, (0.3, 0.7, 0.6)),
        (0.5, (0.5, 0.5, 0.5)),
        (1.0, (0.9, 0.1, 0.3)),
        (-1.0, (0.1, 0.9, 0.7)),
        (7.0, (0.9, 0.1, 0.3)),
    ],
)
def test_knots_of_the_paper(progress, weights):
    curriculum = Curriculum(CurriculumConfig(mode="static"))
    expected = dict(zip(FAMILIES, weights, strict=True))
    assert curriculum.family_weights(progress) == pytest.approx(expected)


def test_linear_ignores_the_knot_in_the_middle():
    knots = (0.2, 0.9, 0.4)
    static = Curriculum(CurriculumConfig("static", generation=knots)).family_weights
    linear = Curriculum(CurriculumConfig("linear", generation=knots)).family_weights
    for progress in (0.0, 1.0):
        assert linear(progress)["generation"] == pytest.approx(static(progress)["generation"])
    assert static(0.5)["generation"] == pytest.approx(0.9)
    assert linear(0.5)["generation"] == pytest.approx(0.3)


def test_modes():
    modes: tuple[Any, ...] = get_args(get_type_hints(CurriculumConfig)["mode"])
    weights = {mode: Curriculum(CurriculumConfig(mode=mode)).family_weights(0.25) for mode in modes}
    assert set(weights) == {"none", "linear", "static", "adaptive"}
    assert len(set(weights["none"].values())) == 1
    # With the paper's knots, which lie on a line.
    assert weights["linear"] == pytest.approx(weights["static"])
    # Before the first step nothing is known: the adaptive part is even.
    added = {family: weights["adaptive"][family] - weights["static"][family] for family in FAMILIES}
    assert added == pytest.approx(dict.fromkeys(FAMILIES, 0.5))


def test_tasks_carry_the_weight_of_their_family():
    curriculum = simulated("falling").curriculum
    families, tasks = curriculum.family_weights(0.3), curriculum.task_weights(0.3)
    assert tasks == {task: families[FAMILY[task]] for task in TASKS}


def test_tasks_that_are_left_out_have_no_weight():
    curriculum = Curriculum(CurriculumConfig(leave_out=("t2v",)))
    assert set(curriculum.task_weights(0.3)) == set(TASKS) - {"t2v"}
    for wrong in (("t3v",), TASKS):
        with pytest.raises(ConfigError, match="leave_out names"):
            Curriculum(CurriculumConfig(leave_out=wrong))


# ------------------------------------------------------------------ the adaptive part


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("trend", TRENDS)
def test_percentile_is_steady_at_the_delay_at_which_it_is_applied(trend, seed):
    assert simulated(trend, seed).autocorrelation(LEAD_STEPS) > 0.5


def test_percentile_follows_the_trend():
    assert mean_quantile("falling", 0.1) < 0.1
    assert mean_quantile("rising", 0.1) > 0.9
    assert mean_quantile("flat", 0.0) == pytest.approx(0.5, abs=0.12)


def test_a_plateau_after_a_fast_drop_is_no_struggle():
    """Low while the drop is in sight, then the middle: the loss is the best that it ever was."""
    assert mean_quantile("falling, then flat", 0.0, 0.3) < 0.25
    assert mean_quantile("falling, then flat", 0.3, 1.0) < 0.6


def test_drawing_hard_tasks_more_often_is_no_struggle():
    """The curriculum's own choice must not move what it is chosen by."""

    def shares(progress: float) -> np.ndarray:
        hard = np.array([0, 0, 0, 0, 1, 1]) * (0.2 + 2 * progress)
        return (1 + hard) / (1 + hard).sum()

    runs = [simulate(TRENDS["flat"], seed, 3000, shares=shares) for seed in SEEDS]
    assert np.mean([run.quantiles[500:] for run in runs]) == pytest.approx(0.5, abs=0.15)


def test_model_that_copes_gets_the_hard_tasks():
    """Generation up and interpolation down while the loss falls; the opposite while it rises."""
    trends = ("falling", "flat", "rising")
    weights = [Curriculum().family_weights(0.5, mean_quantile(trend)) for trend in trends]
    for family, sign in (("generation", 1), ("interpolation", -1)):
        falling, flat, rising = (row[family] for row in weights)
        assert sign * (falling - flat) > 0.1
        assert sign * (flat - rising) > 0.1
    assert len({row["prediction"] for row in weights}) == 1


def test_signal_does_not_depend_on_the_noise_level_drawn():
    """The loss at some levels is twenty times that at others; the percentile does not see it."""
    run = simulated("flat")
    assert abs(np.corrcoef(run.levels[200:], run.quantiles[200:])[0, 1]) < 0.1


def test_losses_that_are_zero_say_nothing():
    """A run that learns motion has none between given frames."""
    curriculum = simulate(TRENDS["flat"], steps=300).curriculum
    before = curriculum.state_dict()["signals"]
    curriculum.observe([0.0], [0.5], ["interpolation"])
    assert all(np.isfinite(curriculum.state_dict()["signals"]))
    fresh = Curriculum()
    fresh.observe([0.0, 0.0], [0.5, 0.7], ["interpolation"] * 2)
    assert fresh.quantile == 0.5 and fresh.state_dict()["signals"] == []
    assert len(curriculum.state_dict()["signals"]) >= len(before)


def test_constant_loss_is_the_exact_middle():
    curriculum = Curriculum()
    for _ in range(50):
        curriculum.observe([0.5], [0.3], ["t2v"])
        assert curriculum.quantile == 0.5


def test_only_the_window_counts():
    """What the loss did long ago says nothing about now."""
    curriculum = Curriculum(CurriculumConfig(window=20))
    for loss in (*np.linspace(9, 1, 60), *[1.0] * 60):
        curriculum.observe([float(loss)], [0.5], ["t2v"])
    state = curriculum.state_dict()
    assert len(state["signals"]) == len(state["losses"]) == 20


@pytest.mark.parametrize("level", [0.0, 0.999, 1.0])
def test_ends_of_the_noise_levels(level):
    curriculum = Curriculum()
    curriculum.observe([1.0, 0.0], [level, level], ["t2v", "interpolation"])
    assert 0 <= curriculum.quantile <= 1


def test_step_without_samples_changes_nothing():
    curriculum = simulate(TRENDS["rising"], steps=50).curriculum
    before = curriculum.state_dict()
    curriculum.observe([], [], [])
    assert curriculum.state_dict() == before


# ------------------------------------------------------------------ checkpoint


def test_continues_bit_for_bit_from_its_state():
    original = simulate(TRENDS["rising"], steps=1100).curriculum
    restored = Curriculum()
    restored.load_state_dict(json.loads(json.dumps(original.state_dict())))
    random = np.random.default_rng(5)
    for step in range(50):
        losses, levels = random.random(3).tolist(), random.random(3).tolist()
        tasks = random.choice(TASKS, 3).tolist()
        for curriculum in (original, restored):
            curriculum.observe(losses, levels, tasks)
        assert restored.task_weights(step / 50) == original.task_weights(step / 50)
    assert restored.state_dict() == original.state_dict()
