"""What is small: effects that move about a character, and what it wears or holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rdtf.synthetic.characters import painter as s
from rdtf.synthetic.characters import palette as c
from rdtf.synthetic.characters.motions import Effect, Pose
from rdtf.synthetic.characters.painter import Painter

if TYPE_CHECKING:
    from rdtf.synthetic.characters.character import Character, Frame
    from rdtf.synthetic.characters.faces import Face
    from rdtf.synthetic.characters.painter import Painter

_SLEEP = c.from_hex("#6f7fe0")
_ANGER = c.from_hex("#f0433f")
_Z = ((-14.0, -15.0), (14.0, -15.0), (-14.0, 15.0), (14.0, 15.0))


def _heart(p: Painter, colour: c.Colour) -> None:
    p.fill(s.heart(0, 0, 44), c.LOVE)
    p.mark(s.ellipse(-9, -8, 4, 6, 35), c.WHITE, opacity=0.7)


def _tear(p: Painter, colour: c.Colour) -> None:
    p.mark(s.drop(0, 0, 36), c.WATER, opacity=0.9)
    p.mark(s.ellipse(-3, 5, 3, 5), c.WHITE, opacity=0.7)


def _puff(p: Painter, colour: c.Colour) -> None:
    cloud = s.join(s.ellipse(-14, 3, 15), s.ellipse(3, -6, 18), s.ellipse(18, 5, 13))
    p.mark(cloud, c.mix(c.STEEL, c.WHITE, 0.55))


def _note(p: Painter, colour: c.Colour) -> None:
    ink = c.shade(colour, 0.35)
    p.stroke(s.polygon(((7.0, 14.0), (7.0, -22.0), (20.0, -14.0)), False), ink, 7)
    p.mark(s.ellipse(-1, 15, 11, 8, -15), ink)


def _question(p: Painter, colour: c.Colour) -> None:
    hook = s.smooth(((-15.0, -18.0), (0.0, -32.0), (15.0, -18.0), (0.0, -2.0), (0.0, 8.0)), False)
    p.stroke(hook, c.shade(colour, 0.25), 11)
    p.mark(s.ellipse(0, 26, 7), c.shade(colour, 0.25))


def _exclaim(p: Painter, colour: c.Colour) -> None:
    p.stroke(s.limb((0, -32), (0, 4), 0), _ANGER, 13)
    p.mark(s.ellipse(0, 26, 7.5), _ANGER)


def _anger(p: Painter, colour: c.Colour) -> None:
    """The cross-shaped vein of comics."""
    corners = [s.smooth(tuple((sx * x, sy * y) for x, y in ((6.0, 22.0), (7.0, 7.0), (22.0, 6.0))),
        False) for sx in (-1, 1) for sy in (-1, 1)]  # fmt: skip
    p.stroke(s.join(*corners), _ANGER, 8)


def _ball(p: Painter, colour: c.Colour) -> None:
    p.fill(s.ellipse(0, 0, 27), colour)
    p.stroke(s.arc(0, 3, 44, 15), c.tint(colour, 0.65), 7)


def _bubble(p: Painter, colour: c.Colour) -> None:
    p.mark(s.ellipse(0, 0, 22), c.tint(c.WATER, 0.4), opacity=0.55)
    p.mark(s.ellipse(-7, -8, 5), c.WHITE, opacity=0.9)


_DRAW: dict[str, Callable[[Painter, c.Colour], None]] = {
    "heart": _heart,
    "tear": _tear,
    "puddle": lambda p, _: p.mark(s.ellipse(0, 0, 60, 11), c.WATER, opacity=0.6),
    "zed": lambda p, _: p.stroke(s.polygon(_Z, False), _SLEEP, 9),
    "sparkle": lambda p, _: p.mark(s.star(0, 0, 25, 4, 0.32), c.GOLD),
    "star": lambda p, _: p.fill(s.star(0, 0, 22), c.GOLD),
    "sweat": lambda p, _: p.fill(s.drop(0, 0, 40), c.WATER),
    "puff": _puff,
    "note": _note,
    "question": _question,
    "exclaim": _exclaim,
    "anger": _anger,
    "confetti": lambda p, colour: p.mark(s.rectangle(0, 0, 22, 11, 3), colour),
    "ball": _ball,
    "dash": lambda p, _: p.stroke(s.limb((-26, 0), (26, 0), 0), c.mix(c.STEEL, c.NIGHT, 0.12), 8),
    "bubble": _bubble,
}

REACH = 34.0
"""Largest radius of an effect of size 1, in units; the camera leaves that much room."""


def _draw(frame: Frame, effect: Effect, x: float, y: float, size: float) -> None:
    if effect.opacity <= 0.02 or size <= 0.02:
        return
    colours = frame.effect_colours
    colour = colours[effect.colour % len(colours)]
    with frame.p.group(x, y, rotation=effect.rotation, scale_x=size, opacity=effect.opacity):
        _DRAW[effect.name](frame.p, colour)


def stage_position(character: Character, effect: Effect) -> tuple[float, float]:
    """Character units of an effect beside the character."""
    return effect.x * character.half_width, -effect.y * character.height


def draw_stage_effects(frame: Frame, character: Character) -> None:
    for effect in frame.pose.effects:
        if not effect.on_face:
            _draw(frame, effect, *stage_position(character, effect), effect.size)


def draw_face_effects(frame: Frame, face: Face) -> None:
    """Effects that move with the head, such as tears."""
    for effect in frame.pose.effects:
        if effect.on_face:
            x, y = face.x + effect.x * face.width, face.y + effect.y * face.width
            _draw(frame, effect, x, y, effect.size * face.width / 80)


def draw_shadow(p: Painter, character: Character, pose: Pose) -> None:
    """A soft shadow on the ground; it shrinks while the character is in the air."""
    lift = max(0.0, -pose.dy) + (40 if character.hovers else 0)
    size = max(0.35, 1 - lift / 260) * min(1.0, pose.scale)
    width = 0.82 * character.half_width * size
    for share, opacity in ((1.0, 0.1), (0.75, 0.14)):
        spot = s.ellipse(pose.dx, 2, width * share, 13 * size * share)
        p.mark(spot, c.NIGHT, opacity=opacity)


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


PROPS: dict[str, _Prop] = {
    "party hat": _Prop("head", "wearing {prop}", _party_hat, height=85),
    "top hat": _Prop("head", "with {prop}", _top_hat, height=55),
    "crown": _Prop(
        "head", "wearing {prop}", _crown, height=45, coloured=False, noun="golden crown"
    ),
    "beanie": _Prop("head", "with {prop}", _beanie, height=55),
    "cap": _Prop("head", "wearing {prop}", _cap, height=38),
    "bow": _Prop("head", "with {prop}", _bow, height=10),
    "flower": _Prop("head", "with {prop} on its head", _flower_on_head, height=8),
    "glasses": _Prop("eyes", "wearing {prop}", _glasses),
    "sunglasses": _Prop("eyes", "with {prop}", _sunglasses),
    "scarf": _Prop("neck", "with {prop}", _scarf),
    "bow tie": _Prop("neck", "wearing {prop}", _bow_tie),
    "collar": _Prop("neck", "with {prop} and a bell", _bell),
    "balloon": _Prop("hand", "holding {prop}", _balloon, height=165, reach=72),
    "bloom": _Prop("hand", "holding {prop}", _held_flower, height=70, noun="flower"),
    "flag": _Prop("hand", "holding {prop}", _flag, height=80, reach=86),
    "toy heart": _Prop("hand", "holding {prop}", _held_heart, height=40, noun="heart"),
    "wand": _Prop("hand", "with {prop}", _wand, height=70, noun="magic wand"),
    "lollipop": _Prop("hand", "holding {prop}", _lollipop, height=60),
}
