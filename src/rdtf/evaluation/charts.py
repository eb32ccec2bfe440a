"""Small line charts as inline SVG: axes, ticks, legend, smoothed over raw, nothing to load.

Colours are CSS variables, so that light and dark pages each get a palette that colour-blind people
can tell apart (after Okabe & Ito); dash patterns tell the lines apart without colour.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from scipy.ndimage import gaussian_filter1d

_NUM_COLOURS = 6
_DASHES = (None, "8 4", "2 3", "10 3 2 3", "5 2", "1 4")
_MAX_POINTS = 600
_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 16, 14, 50

_Points = tuple[np.ndarray, np.ndarray]
_Label = tuple[str, float, float, str]  # text, x, y, anchor


@dataclass(frozen=True)
class Line:
    """One line: `x` and `y` of equal length; points that are not finite are left out."""

    label: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Curve:
    """One chart of one or more lines over a shared x axis.

    `smooth` draws a Gaussian mean over about a twentieth of the line above the faint raw values.
    `log_x` and `log_y` need positive values; others are left out. `y_range` fixes the axis, else it
    fits.
    """

    title: str
    lines: Sequence[Line]
    x_label: str = "step"
    y_label: str = ""
    log_x: bool = False
    log_y: bool = False
    smooth: bool = True
    y_range: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True)
class _Axis:
    """Values `low` to `high` on pixels `start` to `end`, with the ticks to print."""

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: list[float]

    def pixels(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        numbers, ends = np.asarray(values, dtype=np.float64), np.array([self.low, self.high])
        if self.log:
            numbers, ends = np.log10(numbers), np.log10(ends)
        share = (numbers - ends[0]) / (ends[1] - ends[0])
        # Clipped: a spike runs along the border of the chart instead of over its title.
        return self.start + np.clip(share, 0, 1) * (self.end - self.start)


# ------------------------------------------------------------------------- chart


def render(template: str, **values: object) -> Markup:
    """A template of `templates/` with these values, every one of them escaped."""
    return Markup(_environment().get_template(template).render(values))


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("rdtf.evaluation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def line_chart(curve: Curve) -> Markup:
    """The chart as an HTML `<figure>` with an inline `<svg>`, all texts escaped."""
    return render("chart.html", **_view(curve))


def svg_chart(curve: Curve) -> Markup:
    """The chart as an SVG file of its own, its legend below, light or dark as its reader."""
    return render("chart.svg", **_view(curve))


def _view(curve: Curve) -> dict[str, object]:
    """What a template draws."""
    raw = [_points(line, curve) for line in curve.lines]
    smooth = [_smoothed(x, y) if curve.smooth else (x, y) for x, y in raw]
    x_axis, y_axis = _axes(curve, raw, smooth)
    drawn = [("raw", raw)] * curve.smooth + [("line", smooth)]
    strokes = [
        (_shape(points, x_axis, y_axis), kind, *_style(index, kind))
        for kind, lines in drawn
        for index, points in enumerate(lines)
        if len(points[0])
    ]
    rules, labels = _grid(x_axis, y_axis)
    labels.append((curve.x_label, (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "middle"))
    return {
        "curve": curve,
        "width": _WIDTH,
        "height": _HEIGHT,
        "summary": _summary(curve, smooth),
        "rules": rules,
        "labels": labels,
        "y_label": curve.y_label + (" (log scale)" if curve.log_y else ""),
        "middle_y": (_TOP + _HEIGHT - _BOTTOM) / 2,
        "strokes": strokes,
        "legend": [(line.label, *_style(index)) for index, line in enumerate(curve.lines)],
    }


def _points(line: Line, curve: Curve) -> _Points:
    x, y = np.asarray(line.x, dtype=np.float64), np.asarray(line.y, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"line {line.label!r} has x of shape {x.shape} and y of shape {y.shape}")
    keep = np.isfinite(x) & np.isfinite(y)
    if curve.log_x:
        keep &= x > 0
    if curve.log_y:
        keep &= y > 0
    return x[keep], y[keep]


def _smoothed(x: np.ndarray, y: np.ndarray) -> _Points:
    if len(y) < 20:
        return x, y
    return x, gaussian_filter1d(y, sigma=len(y) / 50, mode="nearest")


def _axes(curve: Curve, raw: list[_Points], smooth: list[_Points]) -> tuple[_Axis, _Axis]:
    x_low, x_high = _range([x for x, _ in raw], log=curve.log_x)
    # All of the smooth lines, but not the last outlier of the raw ones.
    shown = [y for _, y in smooth] + [np.percentile(y, (1, 99)) for _, y in raw if len(y)]
    y_low, y_high = curve.y_range or _range(shown, log=curve.log_y)
    y_ticks = _log_ticks(y_low, y_high) if curve.log_y else _linear_ticks(y_low, y_high)
    x_ticks = (_log_ticks if curve.log_x else _linear_ticks)(x_low, x_high)
    x_axis = _Axis(x_low, x_high, _LEFT, _WIDTH - _RIGHT, curve.log_x, x_ticks)
    y_axis = _Axis(y_low, y_high, _HEIGHT - _BOTTOM, _TOP, curve.log_y, y_ticks)
    return x_axis, y_axis


def _range(values: Sequence[np.ndarray], *, log: bool) -> tuple[float, float]:
    """Lowest and highest value, moved apart if they are equal."""
    joined = np.concatenate([np.empty(0), *values])
    if joined.size == 0:
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = float(joined.min()), float(joined.max())
    if low < high:
        return low, high
    return (low / 2, high * 2) if log else (low - 0.5, high + 0.5)


def _linear_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers (steps of 1, 2 or 5 times a power of ten) from `low` to `high` > `low`."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high]; with 2 and 5 times them if that leaves fewer than three."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5), tuple(range(1, 10))):
        ticks = [factor * 10.0**exponent for exponent in exponents for factor in factors]
        inside = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(inside) >= 3:
            return inside
    return _linear_ticks(low, high)


def _tick_label(value: float) -> str:
    """Short: 1500 → 1.5k, 2000000 → 2M, 0.00012 → 1.2e-04."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.6g}{unit}"
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.2g}"
    return f"{value:.6g}"


# ------------------------------------------------------------------------- marks


def _grid(x_axis: _Axis, y_axis: _Axis) -> tuple[list[tuple[str, str]], list[_Label]]:
    """Lines (class, shape) and labels of both axes."""
    left, right, bottom = x_axis.start, x_axis.end, y_axis.start
    rules, labels = [("axis", f"M{left} {bottom}H{right}")], list[_Label]()
    for tick, y in zip(y_axis.ticks, y_axis.pixels(y_axis.ticks), strict=True):
        rules.append(("grid", f"M{left} {y:.1f}H{right}"))
        labels.append((_tick_label(tick), left - 8, float(y) + 5, "end"))
    for tick, x in zip(x_axis.ticks, x_axis.pixels(x_axis.ticks), strict=True):
        rules.append(("axis", f"M{x:.1f} {bottom}v5"))
        labels.append((_tick_label(tick), float(x), bottom + 21, "middle"))
    return rules, labels


def _shape(points: _Points, x_axis: _Axis, y_axis: _Axis) -> str:
    x, y = _thinned(*points)
    corners = zip(x_axis.pixels(x), y_axis.pixels(y), strict=True)
    return "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in corners)


def _style(index: int, kind: str = "line") -> tuple[int, str | None]:
    """Colour and dashes of line number `index`; raw values have no dashes."""
    dashes = _DASHES[(index + index // _NUM_COLOURS) % len(_DASHES)]  # no two of 36 lines alike
    return index % _NUM_COLOURS, dashes if kind == "line" else None


def _thinned(x: np.ndarray, y: np.ndarray) -> _Points:
    """At most `_MAX_POINTS` points, each the mean of its neighbours: a page stays small."""
    if len(x) <= _MAX_POINTS:
        return x, y
    starts = np.arange(_MAX_POINTS) * len(x) // _MAX_POINTS
    counts = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / counts, np.add.reduceat(y, starts) / counts


def _summary(curve: Curve, smooth: list[_Points]) -> str:
    """The chart in words, for those who can't see it: where each line starts and ends."""
    parts = [
        f"{line.label} goes from {y[0]:.3g} to {y[-1]:.3g}"
        for line, (_, y) in zip(curve.lines, smooth, strict=True)
        if len(y)
    ]
    return f"Line chart: {curve.title}. {'; '.join(parts) or 'No data'}."
