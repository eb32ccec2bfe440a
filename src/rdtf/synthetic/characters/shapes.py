"""Vector paths, as fragments of Lottie JSON.

Units are the 512 x 512 Lottie canvas, x to the right, y down. Paths are text, not dictionaries:
a sticker has hundreds of them, and building and dumping dictionaries would cost more than the
rendering itself. Several paths joined with `join` are painted as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

Point = tuple[float, float]


def join(*paths: str) -> str:
    return ",".join(paths)


def scaled(points: Sequence[Point], wide: float = 1.0, tall: float = 1.0) -> tuple[Point, ...]:
    """The points stretched from the origin, rounded so that equal shapes are cached."""
    return tuple((round(x * wide, 1), round(y * tall, 1)) for x, y in points)


def mirrored(path: Callable[[int], str]) -> str:
    """`path(side)` for the left (-1) and the right (1) side."""
    return f"{path(-1)},{path(1)}"


def both_sides(
    points: Sequence[Point], tension: float = 0.0, x: float = 0.0, y: float = 0.0
) -> str:
    """The closed curve through `points`, moved by (x, y), and its mirror image about x.

    Both run clockwise or both do not, because overlapping opposite directions would cut a hole.
    """
    right = tuple((round(x + u, 1), round(y + v, 1)) for u, v in points)
    left = tuple((round(x - u, 1), round(y + v, 1)) for u, v in reversed(points))
    return join(smooth(right, True, tension), smooth(left, True, tension))


def ellipse(x: float, y: float, rx: float, ry: float | None = None, rotation: float = 0.0) -> str:
    """Centre, radii, rotation in degrees."""
    ry = rx if ry is None else ry
    if rotation:
        return _turned_ellipse(x, y, rx, ry, rotation)
    return (
        f'{{"ty":"el","d":1,"p":{{"a":0,"k":[{x:.1f},{y:.1f}]}},'
        f'"s":{{"a":0,"k":[{2 * rx:.1f},{2 * ry:.1f}]}}}}'
    )


def rectangle(x: float, y: float, width: float, height: float, radius: float = 0.0) -> str:
    """Centre, full width and height, corner radius."""
    return (
        f'{{"ty":"rc","d":1,"p":{{"a":0,"k":[{x:.1f},{y:.1f}]}},'
        f'"s":{{"a":0,"k":[{width:.1f},{height:.1f}]}},"r":{{"a":0,"k":{radius:.1f}}}}}'
    )


def _bezier(
    vertices: Sequence[Point], ins: Sequence[Point], outs: Sequence[Point], closed: bool
) -> str:
    """Cubic path; tangents are relative to their vertex, as Lottie wants them."""

    def rounded(points: Sequence[Point]) -> list[list[float]]:
        return [[round(x, 1), round(y, 1)] for x, y in points]

    return (
        f'{{"ty":"sh","ks":{{"a":0,"k":{{"c":{"true" if closed else "false"},'
        f'"v":{rounded(vertices)},"i":{rounded(ins)},"o":{rounded(outs)}}}}}}}'
    )


@lru_cache(maxsize=4096)
def polygon(points: tuple[Point, ...], closed: bool = True) -> str:
    zeros = [(0.0, 0.0)] * len(points)
    return _bezier(points, zeros, zeros, closed)


@lru_cache(maxsize=4096)
def smooth(points: tuple[Point, ...], closed: bool = True, tension: float = 0.19) -> str:
    """A soft curve through the points; `tension` 0 is straight, 0.19 round for 8 points."""
    count = len(points)
    outs: list[Point] = []
    for index in range(count):
        before, after = points[index - 1], points[(index + 1) % count]
        end = not closed and index in (0, count - 1)
        reach = 0.0 if end else tension
        outs.append(((after[0] - before[0]) * reach, (after[1] - before[1]) * reach))
    return _bezier(points, [(-x, -y) for x, y in outs], outs, closed)


def blob(points: Sequence[Point], tension: float = 0.2) -> str:
    """`smooth` through the right half given from top to bottom, mirrored to the left.

    Points on the axis (x = 0) are not doubled.
    """
    left = [(-x, y) for x, y in reversed(points) if x > 0]
    return smooth((*points, *left), True, tension)


def arc(x: float, y: float, width: float, bend: float) -> str:
    """An open bow centred on (x, y), `width` wide; `bend` > 0 hangs down like a smile."""
    half = width / 2
    return _bezier([(x - half, y - bend / 2), (x + half, y - bend / 2)], [(0, 0), (-half * 0.7,
        bend * 1.2)], [(half * 0.7, bend * 1.2), (0, 0)], closed=False)  # fmt: skip


def half_disc(x: float, y: float, width: float, depth: float) -> str:
    """A closed D lying on its back, flat side up: an open laughing mouth."""
    half = width / 2
    return _bezier([(x - half, y), (x + half, y), (x, y + depth)], [(0, -0.1 * depth), (0,
        -0.1 * depth), (half * 0.62, 0)], [(half * 0.3, -0.08 * depth), (0, depth * 0.62),
        (-half * 0.62, 0)], closed=True)  # fmt: skip


def limb(start: Point, end: Point, bend: float) -> str:
    """An open curve; `bend` is how far its middle leaves the straight line, to the left of it."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy) or 1.0
    normal = (dy / length * bend * 4 / 3, -dx / length * bend * 4 / 3)
    out = (dx / 3 + normal[0], dy / 3 + normal[1])
    into = (-dx / 3 + normal[0], -dy / 3 + normal[1])
    return _bezier([start, end], [(0, 0), into], [out, (0, 0)], closed=False)


@lru_cache(maxsize=512)
def star(x: float, y: float, radius: float, points: int = 5, inner: float = 0.5) -> str:
    """A star with its first point up; `inner` is the inner radius over the outer one."""
    corners: list[Point] = []
    for index in range(2 * points):
        angle = math.pi * index / points
        reach = radius * (inner if index % 2 else 1.0)
        corners.append((x + reach * math.sin(angle), y - reach * math.cos(angle)))
    return polygon(tuple(corners))


@lru_cache(maxsize=512)
def heart(x: float, y: float, size: float) -> str:
    """A heart about `size` wide and high, centred on (x, y)."""
    s = size / 2
    return _bezier([(x, y - 0.45 * s), (x + s, y - 0.3 * s), (x, y + 0.95 * s), (x - s,
        y - 0.3 * s)], [(-0.12 * s, -0.5 * s), (0, -0.62 * s), (0.3 * s, -0.22 * s), (0, 0.52 * s)],
        [(0.12 * s, -0.5 * s), (0, 0.52 * s), (-0.3 * s, -0.22 * s), (0, -0.62 * s)],
        closed=True)  # fmt: skip


@lru_cache(maxsize=512)
def drop(x: float, y: float, size: float) -> str:
    """A water drop, tip up, about `size` high."""
    s = size / 2
    return _bezier([(x, y - s), (x + 0.62 * s, y + 0.4 * s), (x, y + s), (x - 0.62 * s, y
        + 0.4 * s)], [(0, 0), (0, -0.4 * s), (0.34 * s, 0), (0, 0.33 * s)], [(0, 0), (0, 0.33 * s),
        (-0.34 * s, 0), (0, -0.4 * s)], closed=True)  # fmt: skip


def _turned_ellipse(x: float, y: float, rx: float, ry: float, rotation: float) -> str:
    cosine, sine = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    k = 0.5523  # Bezier handles that approximate a quarter of a circle

    def turn(u: float, v: float) -> Point:
        return (u * cosine - v * sine, u * sine + v * cosine)

    corners = [turn(0, -ry), turn(rx, 0), turn(0, ry), turn(-rx, 0)]
    outs = [turn(k * rx, 0), turn(0, k * ry), turn(-k * rx, 0), turn(0, -k * ry)]
    return _bezier(
        [(x + u, y + v) for u, v in corners], [(-u, -v) for u, v in outs], outs, closed=True
    )
