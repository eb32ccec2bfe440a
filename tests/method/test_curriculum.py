from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from rdtf.errors import ConfigError
from rdtf.method.curriculum import MODES, NUM_NOISE_BINS, Curriculum, CurriculumConfig
from rdtf.method.tasks import FAMILIES, FAMILY, TASKS

STEPS = 2000
TRENDS: dict[str, Callable[[float], float]] = {
    "falling": lambda progress: math.exp(-2 * progress),
    "flat": lambda progress: 1.0,
    "rising": lambda progress: math.exp(2 * progress),
}


class Run:
    """A run whose loss follows a trend; each draw of noise level and task has its own scale."""

    def __init__(self, trend: str, seed: int = 0, batch_size: int = 2) -> None:
        self.curriculum = Curriculum()
        self.quantiles: list[float] = []
        self.levels: list[float] = []
        random = np.random.default_rng(seed)
        for step in range(STEPS):
            levels = random.random(batch_size)
            tasks = random.choice(TASKS, batch_size)
            scales = 0.05 + levels + [TASKS.index(task) for task in tasks]
            noise = random.lognormal(0, 0.15, batch_size)
            losses = TRENDS[trend](step / STEPS) * scales * noise
            self.curriculum.observe(losses.tolist(), levels.tolist(), tasks.tolist())
            self.quantiles.append(self.curriculum.quantile)
            self.levels.append(float(levels.mean()))

    def mean_quantile(self) -> float:
        """Over the second half of the run."""
        return float(np.mean(self.quantiles[STEPS // 2 :]))


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
    weights = {mode: Curriculum(CurriculumConfig(mode=mode)).family_weights(0.25) for mode in MODES}
    assert set(weights) == {"none", "linear", "static", "adaptive"}
    assert len(set(weights["none"].values())) == 1
    # With the paper's knots, which lie on a line.
    assert weights["linear"] == pytest.approx(weights["static"])
    # Before the first step nothing is known: the adaptive part is even.
    added = {family: weights["adaptive"][family] - weights["static"][family] for family in FAMILIES}
    assert added == pytest.approx(dict.fromkeys(FAMILIES, 0.5))


def test_unknown_mode():
    with pytest.raises(ConfigError, match=r"'steep' is unknown.*none, linear, static, adaptive"):
        Curriculum(CurriculumConfig(mode="steep"))


def test_tasks_carry_the_weight_of_their_family():
    curriculum = Run("falling").curriculum
    families, tasks = curriculum.family_weights(0.3), curriculum.task_weights(0.3)
    assert tasks == {task: families[FAMILY[task]] for task in TASKS}


def test_tasks_that_are_left_out_have_no_weight():
    curriculum = Curriculum(CurriculumConfig(leave_out=("t2v",)))
    assert set(curriculum.task_weights(0.3)) == set(TASKS) - {"t2v"}
    for wrong in (("t3v",), TASKS):
        with pytest.raises(ConfigError, match="leave_out names"):
            Curriculum(CurriculumConfig(leave_out=wrong))


# ------------------------------------------------------------------ the adaptive part


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("trend", "low", "high"), [("falling", 0, 0.35), ("rising", 0.65, 1)])
def test_percentile_follows_the_trend(trend, low, high, seed):
    assert low <= Run(trend, seed).mean_quantile() <= high


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_flat_loss_stays_in_the_middle(seed):
    assert Run("flat", seed).mean_quantile() == pytest.approx(0.5, abs=0.06)


def test_model_that_copes_gets_the_hard_tasks():
    """Generation up and interpolation down while the loss falls; the opposite while it rises."""
    weights = {}
    for trend in TRENDS:
        run = Run(trend)
        run.curriculum.quantile = run.mean_quantile()
        weights[trend] = run.curriculum.family_weights(0.5)
    for family, sign in (("generation", 1), ("interpolation", -1)):
        falling, flat, rising = (weights[trend][family] for trend in TRENDS)
        assert sign * (falling - flat) > 0.1
        assert sign * (flat - rising) > 0.1
    assert len({weights[trend]["prediction"] for trend in TRENDS}) == 1


def test_signal_does_not_depend_on_the_noise_level_drawn():
    """The loss at some levels is twenty times that at others; the percentile does not see it."""
    run = Run("flat", batch_size=1)
    levels, quantiles = np.array(run.levels[200:]), np.array(run.quantiles[200:])
    assert abs(np.corrcoef(levels, quantiles)[0, 1]) < 0.1
    bins = (levels * NUM_NOISE_BINS).astype(int)
    means = [quantiles[bins == index].mean() for index in range(NUM_NOISE_BINS)]
    assert np.ptp(means) < 0.2


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
    curriculum = Run("rising").curriculum
    before = curriculum.state_dict()
    curriculum.observe([], [], [])
    assert curriculum.state_dict() == before


# ------------------------------------------------------------------ checkpoint


def test_continues_bit_for_bit_from_its_state():
    original = Run("rising").curriculum
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
