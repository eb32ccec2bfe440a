"""Paths as Lottie shapes, and a painter that collects them from back to front in one of the styles.

Styles: `outline` (dark line around every part), `flat` (no lines), `soft` (gradients, no lines).
Each can have a white border around the whole silhouette, like a die-cut sticker.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import CDLL, cdll
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rlottie_python import LottieAnimation, rlottie_wrapper

from rdtf.synthetic.characters.palette import WHITE, Colour, mix, shade

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


_STILL = (
    '{"ty":"tr","p":{"a":0,"k":[0,0]},"a":{"a":0,"k":[0,0]},"s":{"a":0,"k":[100,100]},'
    '"r":{"a":0,"k":0},"o":{"a":0,"k":100},"sk":{"a":0,"k":0},"sa":{"a":0,"k":0}}'
)


@dataclass(frozen=True)
class Glow:
    """Where the light falls on a round part: centre and radius. Used by the `soft` style."""

    x: float
    y: float
    radius: float


def _colour(colour: Colour) -> str:
    return f"{colour[0]:.3f},{colour[1]:.3f},{colour[2]:.3f}"


def _fill(colour: Colour, opacity: float = 1.0) -> str:
    return (
        f'{{"ty":"fl","c":{{"a":0,"k":[{_colour(colour)},1]}},'
        f'"o":{{"a":0,"k":{100 * opacity:.0f}}},"r":1}}'
    )


def _stroke(colour: Colour, width: float, opacity: float = 1.0) -> str:
    return (
        f'{{"ty":"st","c":{{"a":0,"k":[{_colour(colour)},1]}},'
        f'"o":{{"a":0,"k":{100 * opacity:.0f}}},"w":{{"a":0,"k":{width:.1f}}},"lc":2,"lj":2}}'
    )


def _gradient(colour: Colour, glow: Glow) -> str:
    light, dark = mix(colour, WHITE, 0.42), shade(colour, 0.4)
    x, y = glow.x - 0.35 * glow.radius, glow.y - 0.4 * glow.radius
    stops = f"0,{_colour(light)},0.55,{_colour(colour)},1,{_colour(dark)}"
    return (
        f'{{"ty":"gf","o":{{"a":0,"k":100}},"r":1,"t":2,"s":{{"a":0,"k":[{x:.1f},{y:.1f}]}},'
        f'"e":{{"a":0,"k":[{x + 1.5 * glow.radius:.1f},{y:.1f}]}},"h":{{"a":0,"k":0}},'
        f'"a":{{"a":0,"k":0}},"g":{{"p":3,"k":{{"a":0,"k":[{stops}]}}}}}}'
    )


def _group(items: str, transform: str = _STILL) -> str:
    return f'{{"ty":"gr","it":[{items},{transform}]}}'


class Painter:
    """Collects painted paths; what is painted later lies above.

    `line_width` 0 leaves outlines away; `border_width` > 0 adds the white die-cut border.
    """

    def __init__(
        self,
        ink: Colour,
        style: str = "outline",
        line_width: float = 0.0,
        border_width: float = 0.0,
    ) -> None:
        self.ink = ink
        self.style = style
        self.line_width = line_width if style == "outline" else 0.0
        self.border_width = border_width
        self._painted: list[str] = []
        self._border: list[str] = []

    def fill(
        self,
        paths: str,
        colour: Colour,
        *,
        outline: bool = True,
        opacity: float = 1.0,
        glow: Glow | None = None,
    ) -> None:
        """Fill closed paths. Outlined parts make up the silhouette; details pass outline=False."""
        if glow is not None and self.style == "soft":
            paint = _gradient(colour, glow)
        else:
            paint = _fill(colour, opacity)
        # The line lies behind the fill, so that overlapping paths of one part merge.
        if outline and self.line_width:
            paint = f"{paint},{_stroke(self.ink, 2 * self.line_width, opacity)}"
        self._painted.append(_group(f"{paths},{paint}"))
        if outline and self.border_width:
            reach = 2 * (self.line_width + self.border_width)
            self._border.append(_group(f"{paths},{_fill(WHITE)},{_stroke(WHITE, reach)}"))

    def line(
        self,
        paths: str,
        colour: Colour,
        width: float,
        *,
        outline: bool = True,
        opacity: float = 1.0,
    ) -> None:
        """Stroke open paths with round ends. Limbs are outlined; marks pass outline=False."""
        paint = _stroke(colour, width, opacity)
        if outline and self.line_width:
            paint = f"{paint},{_stroke(self.ink, width + 2 * self.line_width, opacity)}"
        self._painted.append(_group(f"{paths},{paint}"))
        if outline and self.border_width:
            reach = width + 2 * (self.line_width + self.border_width)
            self._border.append(_group(f"{paths},{_stroke(WHITE, reach)}"))

    def mark(self, paths: str, colour: Colour, **how: Any) -> None:
        """`fill` without an outline: a detail inside the silhouette."""
        self.fill(paths, colour, outline=False, **how)

    def stroke(self, paths: str, colour: Colour, width: float, **how: Any) -> None:
        """`line` without an outline."""
        self.line(paths, colour, width, outline=False, **how)

    @contextmanager
    def group(
        self,
        x: float = 0.0,
        y: float = 0.0,
        *,
        rotation: float = 0.0,
        scale_x: float = 1.0,
        scale_y: float | None = None,
        opacity: float = 1.0,
        pivot: tuple[float, float] = (0.0, 0.0),
    ) -> Iterator[None]:
        """Move what is painted inside: `pivot` goes to pivot + (x, y), after scale and rotation."""
        outer_painted, outer_border = self._painted, self._border
        self._painted, self._border = [], []
        try:
            yield
        finally:
            painted, border = self._painted, self._border
            self._painted, self._border = outer_painted, outer_border
        transform = (
            f'{{"ty":"tr","p":{{"a":0,"k":[{pivot[0] + x:.1f},{pivot[1] + y:.1f}]}},'
            f'"a":{{"a":0,"k":[{pivot[0]:.1f},{pivot[1]:.1f}]}},'
            f'"s":{{"a":0,"k":[{100 * scale_x:.1f},'
            f"{100 * (scale_x if scale_y is None else scale_y):.1f}]}},"
            f'"r":{{"a":0,"k":{rotation:.1f}}},"o":{{"a":0,"k":{100 * opacity:.0f}}},'
            f'"sk":{{"a":0,"k":0}},"sa":{{"a":0,"k":0}}}}'
        )
        if painted:
            self._painted.append(_group(",".join(reversed(painted)), transform))
        if border:
            self._border.append(_group(",".join(reversed(border)), transform))

    def shapes(self) -> str:
        """All that was painted, topmost first: the inside of a Lottie `shapes` list."""
        return ",".join([*reversed(self._painted), *reversed(self._border)])


SIDE = 512
"""Side of the Lottie canvas, units."""
TICKS_PER_SECOND = 60


def _ticks_of(durations_ms: Sequence[int]) -> list[int]:
    """When each frame starts, in ticks of 1/60 s, and at last when the final one ends."""
    ticks, elapsed_ms = [0], 0
    for duration_ms in durations_ms:
        elapsed_ms += duration_ms
        ticks.append(max(ticks[-1] + 1, round(elapsed_ms * TICKS_PER_SECOND / 1000)))
    return ticks


def _transform(opacity: str) -> str:
    return (
        f'{{"o":{opacity},"r":{{"a":0,"k":0}},"p":{{"a":0,"k":[0,0,0]}},'
        '"a":{"a":0,"k":[0,0,0]},"s":{"a":0,"k":[100,100,100]}}'
    )


def _visible(start: int, end: int, opacity: float) -> str:
    """Opacity that drops to nothing at `end`.

    rlottie still shows a layer at its out point, so that without this two frames would overlap.
    """
    seen = f'{{"t":{start},"s":[{100 * opacity:.0f}],"h":1}}'
    return f'{{"a":1,"k":[{seen},{{"t":{end},"s":[0],"h":1}}]}}'


def _shape_layer(index: int, start: int, end: int, opacity: str, shapes: str) -> str:
    return f'{{"ty":4,{_span(index, start, end)},"ks":{_transform(opacity)},"shapes":[{shapes}]}}'


def _span(index: int, start: int, end: int) -> str:
    return f'"ind":{index},"ddd":0,"sr":1,"st":0,"bm":0,"ip":{start},"op":{end}'


def document(frames: Sequence[tuple[str, float]], durations_ms: Sequence[int]) -> str:
    """Lottie JSON of frames (shapes, opacity), each shown for its duration.

    A translucent frame goes through a composition of its own: the opacity of a shape layer applies
    to each of its shapes, and the parts would shine through each other.
    """
    ticks = _ticks_of(durations_ms)
    layers, assets = [], []
    for k, (shapes, opacity) in enumerate(frames):
        start, end = ticks[k], ticks[k + 1]
        seen = _visible(start, end, opacity)
        if opacity >= 0.995:
            layers.append(_shape_layer(k + 1, start, end, seen, shapes))
            continue
        inner = _shape_layer(1, 0, ticks[-1] + 1, '{"a":0,"k":100}', shapes)
        assets.append(f'{{"id":"frame{k}","layers":[{inner}]}}')
        layers.append(
            f'{{"ty":0,"refId":"frame{k}","w":{SIDE},"h":{SIDE},{_span(k + 1, start, end)},'
            f'"ks":{_transform(seen)}}}'
        )
    return (
        f'{{"tgs":1,"v":"5.5.2","fr":{TICKS_PER_SECOND},"ip":0,"op":{ticks[-1]},"w":{SIDE},'
        f'"h":{SIDE},"nm":"sticker","ddd":0,"assets":[{",".join(assets)}],'
        f'"layers":[{",".join(layers)}]}}'
    )


def render(lottie: str, durations_ms: Sequence[int], size: int) -> np.ndarray:
    """uint8 [F, size, size, 4] straight RGBA of a document made with the same durations."""
    animation = _Animation.from_data(lottie)
    raw = [animation.lottie_animation_render(tick, width=size, height=size)
        for tick in _ticks_of(durations_ms)[:-1]]  # fmt: skip
    animation.lottie_animation_destroy()
    frames = _straight(np.frombuffer(b"".join(raw), "<u4"))
    return frames.reshape(-1, size, size, 4)


def _straight(bgra: np.ndarray) -> np.ndarray:
    """uint32 pixels of premultiplied BGRA, [...] -> uint8 [..., 4] straight RGBA."""
    rgba = ((bgra & 0xFF) << 16) | (bgra & 0xFF00FF00) | (bgra >> 16 & 0xFF)
    # Only edges and shadows need the division: nothing (alpha 0) and opaque (255) stay as they are.
    soft = np.nonzero((bgra - 0x01000000) < 0xFE000000)
    pixels = bgra[soft]
    alpha = pixels >> 24

    def channel(shift: int) -> np.ndarray:
        return np.minimum(((pixels >> shift & 0xFF) * 255 + (alpha >> 1)) // alpha, 255)

    rgba[soft] = channel(16) | channel(8) << 8 | channel(0) << 16 | alpha << 24
    return rgba.view(np.uint8).reshape(*bgra.shape, 4)


# rlottie rasterises in threads of its own, which a forked child does not inherit: the first
# rendering there would wait for them for ever. A child therefore loads a copy of the library.
_library: CDLL | None = rlottie_wrapper.RLOTTIE_LIB


def _forget_library() -> None:
    global _library
    _library = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_library)


def _load_copy() -> CDLL:
    if rlottie_wrapper.RLOTTIE_LIB is None:
        raise OSError("rlottie can't be loaded; install rlottie-python again")
    original = Path(rlottie_wrapper.RLOTTIE_LIB._name)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(original, folder))
        return cdll.LoadLibrary(str(copy))


class _Animation(LottieAnimation):
    def _load_lib(self, rlottie_lib_path: str | None = None) -> None:
        global _library
        if _library is None:
            _library = _load_copy()
        self.rlottie_lib = _library
