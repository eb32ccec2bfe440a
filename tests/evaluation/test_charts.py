from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdtf.evaluation.charts import (
    Curve,
    Line,
    _linear_ticks,
    _log_ticks,
    _tick_label,
    line_chart,
    svg_chart,
)

numbers = st.floats(-1e6, 1e6, allow_nan=False, width=32)


def points(chart: str, kind: str = "line") -> list[list[float]]:
    """Pixel coordinates `[[x, y], …]` of the first path of a kind."""
    shape = re.search(rf'<path class="{kind} c\d"[^>]* d="M([^"]+)"', chart)
    assert shape
    return [[float(number) for number in pair.split()] for pair in shape[1].split("L")]


@given(low=numbers, width=st.floats(1e-3, 1e6))
def test_linear_ticks_are_few_round_and_inside(low: float, width: float):
    ticks = _linear_ticks(low, low + width)
    assert 2 <= len(ticks) <= 8
    slack = 1e-6 * width
    assert all(low - slack <= tick <= low + width + slack for tick in ticks)


def test_ticks_that_people_would_choose():
    assert _linear_ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert _linear_ticks(0, 20_000) == [0, 5000, 10_000, 15_000, 20_000]
    assert _log_ticks(0.01, 10) == pytest.approx([0.01, 0.1, 1, 10])
    assert _log_ticks(0.1, 1) == pytest.approx([0.1, 0.2, 0.5, 1])
    assert [_tick_label(value) for value in (0, 0.2, 1500, 2e6, 1e-5)] == [
        "0",
        "0.2",
        "1.5k",
        "2M",
        "1e-05",
    ]


@given(low=st.floats(1e-6, 1e3), ratio=st.floats(1.01, 1e6))
def test_log_ticks_are_inside(low: float, ratio: float):
    ticks = _log_ticks(low, low * ratio)
    assert ticks
    assert all(low * (1 - 1e-6) <= tick <= low * ratio * (1 + 1e-6) for tick in ticks)


def test_higher_values_are_drawn_higher_and_later_ones_further_right():
    drawn = points(line_chart(Curve("t", [Line("a", [0, 1, 2], [5, 7, 6])])))
    (x0, y0), (x1, y1), (x2, y2) = drawn
    assert x0 < x1 < x2 and y1 < y2 < y0


def test_log_axis_spaces_by_ratio_and_leaves_out_what_has_no_logarithm():
    chart = line_chart(Curve("t", [Line("a", [0, 1, 2, 3], [1, 10, 0, 100])], log_y=True))
    heights = [y for _, y in points(chart)]
    assert len(heights) == 3
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    assert "log scale" in chart


def test_budgets_that_double_are_evenly_spaced():
    chart = line_chart(Curve("t", [Line("a", [0, 1, 2, 4, 8], [1, 2, 3, 4, 5])], log_x=True))
    places = [x for x, _ in points(chart)]
    assert len(places) == 4 and np.ptp(np.diff(places)) < 0.2


def test_no_two_of_many_lines_look_alike():
    lines = [Line(str(index), [1, 2], [index, index]) for index in range(36)]
    drawn = re.findall(r'<path class="line (c\d)"([^>]*) d="M66', svg_chart(Curve("t", lines)))
    assert len(drawn) == 72 and len(set(drawn)) == 36  # each in the chart and in the legend


def test_a_chart_is_an_svg_file_of_its_own():
    curve = Curve("a < b & c", [Line("one <", [1, 2], [3, 4])], x_label="x", smooth=False)
    root = ElementTree.fromstring(svg_chart(curve))
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a < b & c", "one <", "x"} <= set(texts)
    assert "http" not in svg_chart(curve).replace("http://www.w3.org/2000/svg", "")


def test_smooth_line_is_calmer_than_the_raw_one():
    noise = np.random.default_rng(0).normal(size=400)
    chart = line_chart(Curve("t", [Line("a", range(400), noise)]))
    raw, smooth = (np.diff([y for _, y in points(chart, kind)]) for kind in ("raw", "line"))
    assert np.abs(smooth).mean() < 0.2 * np.abs(raw).mean()


def test_long_lines_are_thinned_and_spikes_stay_inside():
    values = np.ones(20_000)
    values[::2] = 2
    values[777] = 1e9
    chart = line_chart(Curve("t", [Line("a", range(20_000), values)], smooth=False))
    drawn = points(chart)
    assert len(drawn) <= 600
    assert all(0 <= x <= 560 and 0 <= y <= 300 for x, y in drawn)


@pytest.mark.parametrize(
    "lines", [[], [Line("a", [], [])], [Line("a", [3], [4])], [Line("a", [1, 2], [0, 0])]]
)
@pytest.mark.parametrize("log_y", [False, True])
def test_little_or_no_data_still_makes_a_chart(lines: list[Line], log_y: bool):
    chart = line_chart(Curve("t", lines, log_y=log_y))
    assert chart.startswith("<figure") and "nan" not in chart


def test_legend_names_several_lines_and_words_tell_the_story():
    lines = [Line("generation", [0, 1], [0.1, 0.9]), Line("prediction", [0, 1], [0.7, 0.3])]
    chart = line_chart(Curve("Weights", lines, smooth=False, y_range=(0, 1)))
    assert chart.count("<li>") == 2
    assert "generation goes from 0.1 to 0.9; prediction goes from 0.7 to 0.3" in chart
    assert "<li>" not in line_chart(Curve("Weights", lines[:1]))


def test_unequal_x_and_y_are_refused():
    with pytest.raises(ValueError, match="line 'a'"):
        line_chart(Curve("t", [Line("a", [1, 2], [1])]))
