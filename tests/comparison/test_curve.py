"""Numbers with intervals: what is paired, what is adjusted, where one curve overtakes another."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rdtf.evaluation.results import Cell, Table
from rdtf.evaluation.sets import clip_shares, pair_terms, set_distance
from rdtf.research.comparison.curve import (
    Row,
    _resampled_means,
    crossover,
    differences,
    estimate,
    holm,
    p_value,
    shared_points,
)

TASK = "it2v"


def row(name: str, values: dict[int, np.ndarray], metric: str = "psnr") -> Row:
    """Point → scores `[S, N]`."""
    seeds = range(len(next(iter(values.values()))))
    runs = {
        seed: {
            "points": {
                str(point): {"scores": {TASK: {metric: found[seed].tolist()}}}
                for point, found in values.items()
            }
        }
        for seed in seeds
    }
    return Row(name, name, runs)


def clips(mean: float, spread: float = 0.0, seeds: int = 1, count: int = 30) -> np.ndarray:
    draw = np.random.default_rng(0)
    return mean + spread * draw.standard_normal((seeds, count))


def test_the_mean_is_over_clips_and_seeds_and_skips_what_is_not_there():
    values = np.array([[1.0, 2.0, math.nan], [3.0, 4.0, 5.0]])
    found = estimate(values)
    assert found.value == pytest.approx(3.0)
    assert found.low <= found.value <= found.high
    assert math.isnan(estimate(np.full((2, 2), math.nan)).value)


def test_resamples_are_means_of_drawn_seeds_and_clips():
    """Their centre and spread are those of a bootstrap that draws indices."""
    values = clips(1.0, 2.0, seeds=3, count=12) + np.array([[0.0], [1.0], [5.0]])
    draw = np.random.default_rng(1)
    drawn = [
        values[draw.integers(3, size=3)][:, draw.integers(12, size=12)].mean() for _ in range(4000)
    ]
    found = _resampled_means(values)
    assert found.mean() == pytest.approx(np.mean(drawn), abs=0.1)
    assert found.std() == pytest.approx(np.std(drawn), rel=0.05)


def test_intervals_cover_both_seeds_and_clips():
    """Seeds that differ widen the interval although the clips do not; and the reverse."""
    same = clips(0.0, 1.0, count=40).repeat(3, axis=0)
    by_seed = same + np.array([[-2.0], [0.0], [2.0]])
    narrow, wide = estimate(same), estimate(by_seed)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    expected = 1.96 * same[0].std() / math.sqrt(40)
    assert (narrow.high - narrow.low) / 2 == pytest.approx(expected, rel=0.2)


def test_differences_are_of_the_same_clips_and_seeds():
    """Rows whose own intervals overlap by far may differ on every single clip."""
    base = clips(0.0, 5.0, seeds=2)
    mine, other = row("mine", {1: base + 0.5}), row("other", {1: base, 2: base})
    found = estimate(differences(mine, other, 1, TASK, "psnr"))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert shared_points(mine, other) == [1]
    one = Row("one", "one", {1: other.runs[1]})  # a seed that both have counts, the others don't
    assert differences(mine, one, 1, TASK, "psnr").shape == (1, 30)
    none = Row("none", "none", {7: other.runs[1]})
    assert differences(mine, none, 1, TASK, "psnr") is None
    baseline = Row("b", "b", {}, {TASK: {"psnr": [0.0] * 30}})
    assert differences(mine, baseline, 1, TASK, "psnr") == pytest.approx(base + 0.5)
    assert shared_points(mine, baseline) == [1]


def test_p_values_are_two_sided_and_adjusted_as_by_holm():
    assert p_value(clips(1.0, 1.0)) < 0.001 and p_value(clips(-1.0, 1.0)) < 0.001
    draw = np.random.default_rng(3)
    chance = [p_value(draw.standard_normal((1, 40))) for _ in range(200)]
    assert 0.01 < np.mean(np.array(chance) < 0.05) < 0.12
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([]) == [] and holm([0.6, 0.9]) == [1.0, 1.0]


# -------------------------------------------------------------------------- crossover


def curves(leads: list[float], spread: float = 0.0, metric: str = "psnr"):
    """A row ahead of another by so much at 1, 2, 4 … ×."""
    points = [2**index for index in range(len(leads))]
    base = clips(20.0, 3.0, seeds=2)
    noise = clips(0.0, spread, seeds=2)
    noise -= noise.mean()
    sign = -1 if metric == "line_distance" else 1
    mine = {p: base + sign * (lead + noise) for p, lead in zip(points, leads, strict=True)}
    return row("mine", mine, metric), row("other", dict.fromkeys(points, base), metric)


@pytest.mark.parametrize("metric", ["psnr", "line_distance"])
def test_where_one_row_overtakes_another(metric):
    """Half-way between 2 × and 4 × on the axis of the chart; lower is better for distances."""
    found = crossover(*curves([-2, -1, 1, 2], metric=metric), TASK, metric)
    assert found.value == pytest.approx(2**1.5) and (found.first, found.last) == (1, 8)
    assert str(found) == "2.8 ×"


def test_a_crossover_is_for_good_or_not_reached():
    def value(leads):
        return crossover(*curves(leads), TASK, "psnr")

    assert value([1, -1, -1, 3]).value == pytest.approx(4 * 2**0.25)
    assert str(value([-1, 2, -1])) == "not reached, beyond 4 ×"
    assert str(value([1, 1, 1])) == "≤ 1 ×"
    assert value([0, 0]).value == math.inf  # equal is not ahead
    mine, _ = curves([1, 1])
    assert crossover(mine, row("late", {64: clips(0.0, seeds=2)}), TASK, "psnr") is None


def test_the_interval_of_a_crossover_knows_where_the_budget_ends():
    """Narrow where clips agree; open at the end where some resamples never cross."""
    sharp = crossover(*curves([-2, -1, 1, 2], spread=0.2), TASK, "psnr")
    assert 2 < sharp.low < sharp.value < sharp.high < 4
    vague = crossover(*curves([-2, -1, 0.1], spread=2.0), TASK, "psnr")
    assert vague.value < 4 and vague.high == math.inf and "> 4 ×]" in str(vague)
    never = crossover(*curves([-2, -1, -0.1], spread=2.0), TASK, "psnr")
    assert never.value == math.inf and never.low < 4 and ", –]" in str(never)


# ------------------------------------------------------------------------ set distances


def test_a_set_distance_is_the_mean_of_its_clips_shares():
    """So it is paired and resampled like any other score; its standard error is theirs."""
    draw = np.random.default_rng(0)
    truth, made = draw.normal(size=(40, 6)), draw.normal(0.5, 1.0, size=(40, 6))
    terms = pair_terms(made, truth)
    shares = clip_shares(terms)
    assert shares.mean() == pytest.approx(float(set_distance(terms)))
    counts = np.stack([np.bincount(draw.integers(40, size=40), minlength=40) for _ in range(2000)])
    spread = set_distance(terms, counts).std()
    assert shares.std() / math.sqrt(40) == pytest.approx(spread, rel=0.15)
    few = pair_terms(made[:2], truth[:2])
    assert clip_shares(few) == pytest.approx([float(set_distance(few))] * 2)


def test_tables_in_markdown():
    table = Table("T", ["a", "b", "c"], [["x|y", "m", Cell("1.0", best=True)]], "note")
    text = table.markdown()
    assert "| x\\|y | m | **1.0** |" in text and text.strip().endswith("note")
