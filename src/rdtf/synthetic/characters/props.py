"""Things that characters wear or hold, drawn in the accent colour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from rdtf.synthetic.characters import palette as c
from rdtf.synthetic.characters import shapes as s
from rdtf.synthetic.characters.painter import Painter


class Spot(NamedTuple):
    """An attachment point: where, and the width of what is there."""

    x: float
    y: float
    width: float


@dataclass(frozen=True)
class _Prop:
    place: str
    """`head`, `eyes`, `neck` or `hand`."""
    phrase: str
    """After the noun, with {prop} for colour and name: "wearing {prop}"."""
    draw: Callable[[Painter, Spot, c.Colour], None]
    height: float = 0.0
    """How far it sticks out above its place, in units, so that the camera leaves room."""
    reach: float = 44.0
    """The same for held things, away from the body."""
    coloured: bool = True
    noun: str = ""


def _party_hat(p: Painter, spot: Spot, colour: c.Colour) -> None:
    x, y, w = spot
    p.fill(s.smooth(((x - 0.5 * w, y + 6), (x, y - 1.2 * w), (x + 0.5 * w, y + 6), (x, y + 14)),
        True, 0.04), colour)  # fmt: skip
    dots = s.join(s.ellipse(x - 0.16 * w, y - 0.15 * w, 0.09 * w), s.ellipse(x + 0.15 * w,
        y - 0.05 * w, 0.08 * w), s.ellipse(x + 0.02 * w, y - 0.55 * w, 0.08 * w))  # fmt: skip
    p.mark(dots, c.tint(colour, 0.75))
    p.fill(s.ellipse(x, y - 1.18 * w, 0.17 * w), c.mix(c.GOLD, c.WHITE, 0.3))


def _top_hat(p: Painter, spot: Spot, colour: c.Colour) -> None:
    x, y, w = spot
    p.fill(s.rectangle(x, y - 0.4 * w, 0.82 * w, 0.9 * w, 0.12 * w), colour)
    p.mark(s.rectangle(x, y - 0.1 * w, 0.82 * w, 0.2 * w), c.shade(colour, 0.45))
    p.fill(s.rectangle(x, y + 0.04 * w, 1.4 * w, 0.2 * w, 0.1 * w), colour)


def _crown(p: Painter, spot: Spot, colour: c.Colour) -> None:
    x, y, w = spot
    points = ((-0.55, 0.1), (-0.62, -0.6), (-0.28, -0.25), (0, -0.75), (0.28, -0.25), (0.62, -0.6),
        (0.55, 0.1))  # fmt: skip
    p.fill(
        s.polygon(tuple((round(x + dx * w, 1), round(y + dy * w, 1)) for dx, dy in points)), c.GOLD
    )
    jewels = s.join(s.ellipse(x, y - 0.12 * w, 0.11 * w), s.ellipse(x - 0.33 * w, y - 0.06 * w,
        0.08 * w), s.ellipse(x + 0.33 * w, y - 0.06 * w, 0.08 * w))  # fmt: skip
    p.mark(jewels, colour)


def _beanie(p: Painter, spot: Spot, colour: c.Colour) -> None:
    x, y, w = spot
    p.fill(s.ellipse(x, y - 0.72 * w, 0.2 * w), c.tint(colour, 0.7))
    p.fill(s.smooth(((x - 0.72 * w, y + 0.06 * w), (x - 0.5 * w, y - 0.48 * w), (x, y - 0.64 * w),
        (x + 0.5 * w, y - 0.48 * w), (x + 0.72 * w, y + 0.06 * w))), colour)  # fmt: skip
    p.fill(s.rectangle(x, y + 0.08 * w, 1.56 * w, 0.28 * w, 0.14 * w), c.shade(colour, 0.22))


def _cap(p: Painter, spot: Spot, colour: c.Colour) -> None:
    x, y, w = spot
    p.fill(s.smooth(((x - 0.66 * w, y + 0.08 * w), (x - 0.46 * w, y - 0.42 * w), (x, y - 0.56 * w),
        (x + 0.46 * w, y - 0.42 * w), (x + 0.66 * w, y + 0.08 * w))), colour)  # fmt: skip
    p.fill(s.ellipse(x + 0.5 * w, y + 0.1 * w, 0.62 * w, 0.13 * w, 6), c.shade(colour, 0.25))
    p.mark(s.ellipse(x, y - 0.55 * w, 0.08 * w), c.shade(colour, 0.25))


def _bow(p: Painter, spot: Spot, colour: c.Colour) -> None:
    x, y, w = spot.x + 0.5 * spot.width, spot.y + 0.12 * spot.width, 0.62 * spot.width
    _ribbon(p, x, y, w, colour)


def _ribbon(p: Painter, x: float, y: float, w: float, colour: c.Colour) -> None:
    loop = s.scaled(((0.02, 0), (0.75, -0.48), (0.92, 0), (0.75, 0.48)), w, w)
    p.fill(s.both_sides(loop, 0.12, x, y), colour)
    p.fill(s.ellipse(x, y, 0.2 * w, 0.23 * w), c.shade(colour, 0.3))


def _flower_on_head(p: Painter, spot: Spot, colour: c.Colour) -> None:
    _blossom(p, spot.x - 0.45 * spot.width, spot.y + 0.1 * spot.width, 0.3 * spot.width, colour)


def _blossom(p: Painter, x: float, y: float, r: float, colour: c.Colour) -> None:
    petals = ((0, -0.9), (0.86, -0.28), (0.53, 0.73), (-0.53, 0.73), (-0.86, -0.28))
    p.fill(s.join(*(s.ellipse(x + dx * r, y + dy * r, 0.66 * r) for dx, dy in petals)), colour)
    p.mark(s.ellipse(x, y, 0.55 * r), c.GOLD if colour != c.GOLD else c.CREAM)


def _glasses(p: Painter, spot: Spot, colour: c.Colour) -> None:
    x, y, w = spot
    rims = s.mirrored(lambda side: s.ellipse(x + side * 0.46 * w, y, 0.36 * w))
    p.mark(rims, c.WHITE, opacity=0.25)
    p.stroke(rims, colour, 0.085 * w)
    p.stroke(s.arc(x, y - 0.02 * w, 0.2 * w, -0.06 * w), colour, 0.085 * w)


def _sunglasses(p: Painter, spot: Spot, colour: c.Colour) -> None:
    x, y, w = spot
    lens = s.scaled(((0.08, -0.22), (0.84, -0.24), (0.76, 0.18), (0.42, 0.28), (0.14, 0.14)), w, w)
    bridge = s.polygon(s.scaled(((-0.2, -0.2), (0.2, -0.2), (0.2, -0.1), (-0.2, -0.1)), w, w))
    dark = c.mix(colour, c.NIGHT, 0.55)
    with p.group(x, y):
        p.fill(bridge, dark)
        p.fill(s.both_sides(lens, 0.1), dark)
        glints = (s.limb(((side * 0.46 - 0.1) * w, 0.08 * w), ((side * 0.46 + 0.06) * w, -0.12 * w),
            0) for side in (-1, 1))  # fmt: skip
        p.stroke(s.join(*glints), c.tint(colour, 0.55), 0.06 * w, opacity=0.8)


def _scarf(p: Painter, spot: Spot, colour: c.Colour) -> None:
    x, y, w = spot
    p.fill(s.smooth(((x + 0.3 * w, y), (x + 0.72 * w, y + 4), (x + 0.78 * w, y + 58), (x + 0.4 * w,
        y + 60)), True, 0.06), c.shade(colour, 0.12))  # fmt: skip
    p.stroke(s.polygon(((round(x + 0.46 * w, 1), y + 46), (round(x + 0.74 * w, 1), y + 45)), False),
        c.tint(colour, 0.6), 7)  # fmt: skip
    p.fill(s.rectangle(x, y, 2.1 * w, 32, 16), colour)


def _bow_tie(p: Painter, spot: Spot, colour: c.Colour) -> None:
    _ribbon(p, spot.x, spot.y + 14, 0.62 * spot.width, colour)


def _bell(p: Painter, spot: Spot, colour: c.Colour) -> None:
    x, y, w = spot
    p.fill(s.rectangle(x, y, 2.0 * w, 18, 9), colour)
    p.fill(s.ellipse(x, y + 16, 15), c.GOLD)
    p.mark(s.ellipse(x, y + 20, 4), c.shade(c.GOLD, 0.6))


def _balloon(p: Painter, spot: Spot, colour: c.Colour) -> None:
    p.stroke(s.limb((0, 0), (6, -80), 6), c.shade(c.STEEL, 0.3), 4)
    p.fill(s.join(s.ellipse(6, -118, 36, 42), s.polygon(((6, -78), (14, -68), (-2, -68)))), colour)
    p.mark(s.ellipse(-6, -134, 8, 12, 25), c.WHITE, opacity=0.6)


def _held_flower(p: Painter, spot: Spot, colour: c.Colour) -> None:
    p.line(s.limb((0, 14), (2, -52), 4), c.LEAF, 8)
    p.fill(s.ellipse(13, -16, 13, 7, -35), c.LEAF)
    _blossom(p, 2, -66, 21, colour)


def _flag(p: Painter, spot: Spot, colour: c.Colour) -> None:
    p.line(s.limb((0, 16), (0, -92), 0), c.WOOD, 8)
    p.fill(s.smooth(((2, -92), (40, -98), (74, -88), (70, -48), (38, -56), (2, -48)), True, 0.1),
        colour)  # fmt: skip


def _held_heart(p: Painter, spot: Spot, colour: c.Colour) -> None:
    p.fill(s.heart(4, -28, 62), colour)
    p.mark(s.ellipse(-9, -40, 6, 9, 35), c.WHITE, opacity=0.65)


def _wand(p: Painter, spot: Spot, colour: c.Colour) -> None:
    p.line(s.limb((0, 14), (0, -56), 0), c.tint(c.WOOD, 0.35), 8)
    p.fill(s.star(0, -74, 32), colour)


def _lollipop(p: Painter, spot: Spot, colour: c.Colour) -> None:
    p.line(s.limb((0, 14), (0, -42), 0), c.CREAM, 8)
    p.fill(s.ellipse(0, -66, 30), colour)
    p.stroke(s.smooth(((0, -66), (10, -68), (6, -80), (-12, -78), (-14, -58), (4, -50), (20, -60)),
        False), c.tint(colour, 0.65), 7)  # fmt: skip


PROPS: dict[str, _Prop] = {"party hat": _Prop("head", "wearing {prop}", _party_hat, height=85),
    "top hat": _Prop("head", "with {prop}", _top_hat, height=55), "crown": _Prop("head",
    "wearing {prop}", _crown, height=45, coloured=False, noun="golden crown"),
    "beanie": _Prop("head", "with {prop}", _beanie, height=55), "cap": _Prop("head",
    "wearing {prop}", _cap, height=38), "bow": _Prop("head", "with {prop}", _bow, height=10),
    "flower": _Prop("head", "with {prop} on its head", _flower_on_head, height=8),
    "glasses": _Prop("eyes", "wearing {prop}", _glasses), "sunglasses": _Prop("eyes", "with {prop}",
    _sunglasses), "scarf": _Prop("neck", "with {prop}", _scarf), "bow tie": _Prop("neck",
    "wearing {prop}", _bow_tie), "collar": _Prop("neck", "with {prop} and a bell", _bell),
    "balloon": _Prop("hand", "holding {prop}", _balloon, height=165, reach=72),
    "bloom": _Prop("hand", "holding {prop}", _held_flower, height=70, noun="flower"),
    "flag": _Prop("hand", "holding {prop}", _flag, height=80, reach=86), "toy heart": _Prop("hand",
    "holding {prop}", _held_heart, height=40, noun="heart"), "wand": _Prop("hand", "with {prop}",
    _wand, height=70, noun="magic wand"), "lollipop": _Prop("hand", "holding {prop}", _lollipop,
    height=60)}  # fmt: skip
