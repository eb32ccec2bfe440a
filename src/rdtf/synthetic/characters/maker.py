"""Endless, reproducible animated stickers, drawn by rules and seen by a camera.

The camera stands where all that moves fits on the canvas, large but with a margin.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np

from rdtf.errors import ConfigError
from rdtf.stickers import Sticker
from rdtf.synthetic.characters.attributes import KINDS, Attributes, draw_attributes, pose_all
from rdtf.synthetic.characters.character import Character, Frame
from rdtf.synthetic.characters.details import (
    PROPS,
    REACH,
    draw_shadow,
    draw_stage_effects,
    stage_position,
)
from rdtf.synthetic.characters.motions import CENTRE, Pose
from rdtf.synthetic.characters.painter import SIDE, Painter, document, render
from rdtf.synthetic.characters.palette import COLOURS, Colour, Draws, draw_look

_FAR = 1.3
"""How far beside and above the character effects are kept in view, in its sizes."""

_OUTLINE = ((0.8, 1.0), (1.0, 0.6))
"""Half width and height of characters, in their sizes: narrower at the top."""
_FEET = 6.0
"""Feet reach a little below the ground line."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in character units."""


@dataclass(frozen=True)
class _Camera:
    """Character units -> canvas units: multiply by `scale`, then add (x, y)."""

    scale: float
    x: float
    y: float


def _frame_camera(
    character: Character,
    poses: Sequence[Pose],
    prop: str | None,
    prop_side: int,
    margin: float,
    draws: Draws,
) -> _Camera:
    """Fit the motion; `margin` (units) is what outlines and borders need around it."""
    seen = [pose for pose in poses if not pose.offstage] or list(poses)
    left, top, right, bottom = _union(_pose_box(character, pose, prop, prop_side) for pose in seen)
    fill = draws.uniform(0.86, 0.96) * SIDE
    width, height = right - left + 2 * margin, bottom - top + 2 * margin
    scale = min(fill / width, fill / height, 1.75)
    free_x, free_y = SIDE - scale * width, SIDE - scale * height
    x = SIDE / 2 - scale * (left + right) / 2 + free_x * draws.uniform(-0.3, 0.3)
    y = SIDE / 2 - scale * (top + bottom) / 2 + free_y * draws.uniform(-0.3, 0.4)
    if len(seen) < len(poses):
        # What hides below the canvas must touch its lower edge.
        y = SIDE - scale * (bottom - 0.22 * character.height)
    return _Camera(scale, x, y)


def _union(boxes: Iterable[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _pose_box(character: Character, pose: Pose, prop: str | None, prop_side: int) -> Box:
    half, tall = character.half_width, character.height
    lean = pose.head_dx + math.radians(pose.head_tilt) * (tall + character.head_pivot)
    points = [
        (lean + side * share * half, -high * tall) for side in (-1, 1) for share, high in _OUTLINE
    ]
    points += [(-0.8 * half, _FEET), (0.8 * half, _FEET)]
    thick = character.arm_width / 2
    for side in (-1, 1):
        x, y = character.hand(pose, side)
        points += [(x - thick, y - thick), (x + thick, y + thick)]
    points += _prop_points(character, pose, prop, prop_side)
    moved = [_move(character, pose, x, y) for x, y in points]
    for effect in pose.effects:
        if not effect.on_face and effect.opacity > 0.3:
            x, y = stage_position(character, effect)
            # What flies away may leave the canvas; following it would make the rest tiny.
            x = max(-_FAR * half, min(_FAR * half, x))
            y = max(-_FAR * tall, y)
            reach = 0.7 * REACH * effect.size
            moved += [(x - reach, y - reach), (x + reach, y + reach)]
    xs, ys = zip(*moved, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _prop_points(
    character: Character, pose: Pose, prop: str | None, prop_side: int
) -> list[tuple[float, float]]:
    if prop is None:
        return []
    what = PROPS[prop]
    if what.place == "head":
        return [(character.hat.x, character.hat.y - what.height)]
    if what.place != "hand":
        return []
    x, y = character.hand(pose, prop_side)
    return [(x - 44 * prop_side, y - what.height), (x + what.reach * prop_side, y - what.height)]


def _move(character: Character, pose: Pose, x: float, y: float) -> tuple[float, float]:
    """Where the pose takes a point of the character; mirrors `Character.paint`."""
    pivot = character.middle if pose.pivot == CENTRE else 0.0
    x *= pose.scale / math.sqrt(max(0.2, 1 + pose.stretch))
    y = (y - pivot) * pose.scale * (1 + pose.stretch)
    angle = math.radians(pose.rotation)
    cosine, sine = math.cos(angle), math.sin(angle)
    return x * cosine - y * sine + pose.dx, x * sine + y * cosine + pivot + pose.dy


_CONFETTI = ("red", "yellow", "teal", "blue", "pink", "orange", "purple")


def paint_scene(seed: int, about: Attributes) -> list[tuple[str, float]]:
    """Lottie shapes and opacity (0..1) of every frame."""
    look = draw_look(about.colour, about.accent, about.style, Draws(seed, about.index, "look"))
    draws = Draws(seed, about.index, "scene")
    character = KINDS[about.kind](look)
    prop_side = draws.side()
    poses = pose_all(seed, about.index, about.motion, about.num_frames)
    if about.prop is not None and PROPS[about.prop].place == "hand":
        for pose in poses:
            _raise_hand(pose, prop_side)
    line_width = draws.uniform(4.5, 7.5) if about.style == "outline" else 0.0
    border_width = draws.uniform(9, 14) if about.border else 0.0
    margin = line_width + border_width + 2
    camera = _frame_camera(character, poses, about.prop, prop_side, margin, draws)
    colours = _effect_colours(about, draws)
    frames = []
    for pose in poses:
        painter = Painter(look.ink, about.style, line_width, border_width)
        frame = Frame(p=painter, pose=pose, expression=about.expression, prop=about.prop,
            prop_side=prop_side, accent=COLOURS[about.accent], effect_colours=colours)  # fmt: skip
        with painter.group(camera.x, camera.y, scale_x=camera.scale):
            if about.shadow:
                draw_shadow(painter, character, pose)
            character.paint(frame)
            draw_stage_effects(frame, character)
        frames.append((painter.shapes(), pose.opacity * character.opacity))
    return frames


def _raise_hand(pose: Pose, side: int) -> None:
    """A held thing is lifted into view."""
    if side > 0:
        pose.right_arm = max(pose.right_arm, 72.0)
    else:
        pose.left_arm = max(pose.left_arm, 72.0)


def _effect_colours(about: Attributes, draws: Draws) -> tuple[Colour, ...]:
    names = [about.accent, *draws.sample(_CONFETTI, len(_CONFETTI))]
    return tuple(COLOURS[name] for name in names)


class SyntheticStickers:
    """A sequence of `count` animated stickers.

    `stickers[i]` is a pure function of (seed, i, max_frames): the same in every process and in
    every order of access, and independent of `count`. `canvas` (pixels a side) scales the same
    drawing.

    Example:
        >>> stickers = SyntheticStickers(seed=1)
        >>> stickers.describe(0).captions
        >>> stickers[0].save("first.webp")
    """

    def __init__(
        self, seed: int = 0, count: int = 1_000_000, canvas: int = 128, max_frames: int = 16
    ) -> None:
        if count < 0:
            raise ConfigError(f"count of synthetic stickers is {count}; it can't be negative")
        if not 8 <= canvas <= 2048:
            raise ConfigError(f"canvas of synthetic stickers is {canvas}; use 8 to 2048 pixels")
        if not max_frames >= 1:
            raise ConfigError(f"max_frames of synthetic stickers is {max_frames}; use 1 or more")
        self.seed = seed
        self.count = count
        self.canvas = canvas
        self.max_frames = max_frames

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Sticker]:
        return (self[index] for index in range(self.count))

    def __getitem__(self, index: SupportsIndex) -> Sticker:
        """Draw one sticker; `IndexError` outside 0..len-1 (negative indices too)."""
        about = self.describe(index)
        frames = render(self._document(about), about.durations_ms, self.canvas)
        return Sticker(frames=frames, durations_ms=np.array(about.durations_ms, np.int64),
            loop_count=0 if about.loops else 1, captions=about.captions,
            source=f"rdtf synthetic {self.seed}/{about.index}", license="CC0-1.0",
            metadata=about.as_dict())  # fmt: skip

    def describe(self, index: SupportsIndex) -> Attributes:
        """What sticker `index` shows, without drawing it."""
        number = operator.index(index)
        if not 0 <= number < self.count:
            raise IndexError(f"no synthetic sticker {number}; there are {self.count}")
        return draw_attributes(self.seed, number, self.max_frames)

    def lottie(self, index: SupportsIndex) -> dict[str, Any]:
        """Sticker `index` as a Lottie document, 512 x 512 units at 60 ticks a second."""
        return json.loads(self._document(self.describe(index)))

    def _document(self, about: Attributes) -> str:
        return document(paint_scene(self.seed, about), about.durations_ms)
