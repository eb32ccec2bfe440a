"""Small moving things around a character: hearts, tears, sparks, clouds of dust."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from rdtf.synthetic.characters import palette as c
from rdtf.synthetic.characters import shapes as s
from rdtf.synthetic.characters.pose import Effect, Pose

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


def rising(
    name: str,
    t: float,
    count: int,
    *,
    x: float,
    bottom: float,
    top: float,
    size: float = 1.0,
    sway: float = 0.12,
    seed: float = 0.0,
    rotation: float = 0.0,
) -> list[Effect]:
    """`count` particles that rise for ever, fading in and out; loops with `t`."""
    effects = []
    for index in range(count):
        age = (t + index / count + seed) % 1.0
        side = 1 if index % 2 else -1
        drift = x * (side if count > 1 else 1) + sway * math.sin(2 * math.pi * (age + 0.37 * index))
        fade = min(1.0, 4 * age, 3.0 * (1 - age))
        effects.append(Effect(name, drift, bottom + (top - bottom) * age, size * (0.55 + 0.5 * age),
            fade, rotation * math.sin(5 * age + index), colour=index))  # fmt: skip
    return effects


def burst(
    name: str,
    age: float,
    count: int,
    *,
    x: float = 0.0,
    y: float = 0.5,
    reach: float = 1.2,
    size: float = 0.8,
    seed: float = 0.0,
) -> list[Effect]:
    """`count` particles that fly apart from (x, y) while `age` goes from 0 to 1."""
    if not 0 < age < 1:
        return []
    effects = []
    far = 1 - (1 - age) ** 2
    for index in range(count):
        angle = 2 * math.pi * (index / count + seed)
        effects.append(Effect(name, x + reach * far * math.sin(angle), y
            + 0.42 * reach * far * math.cos(angle), size * (1.1 - 0.6 * age), min(1.0,
            2.5 * (1 - age)), 90 * age, colour=index))  # fmt: skip
    return effects
