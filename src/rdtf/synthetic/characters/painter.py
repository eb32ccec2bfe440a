"""A painter that collects Lottie shapes from back to front, in one of the drawing styles.

Styles: `outline` (dark line around every part), `flat` (no lines), `soft` (gradients, no lines).
Each can have a white border around the whole silhouette, like a die-cut sticker.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rdtf.synthetic.characters.palette import WHITE, Colour, mix, shade

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
