"""Endless, reproducible animated stickers, drawn by rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rdtf.data.synthetic.attributes import Attributes, draw_attributes, pose_all
from rdtf.data.synthetic.camera import frame_camera
from rdtf.data.synthetic.character import Frame
from rdtf.data.synthetic.document import document, render
from rdtf.data.synthetic.draws import Draws
from rdtf.data.synthetic.effects import draw_shadow, draw_stage_effects
from rdtf.data.synthetic.kinds import KINDS
from rdtf.data.synthetic.look import draw_look
from rdtf.data.synthetic.painter import Painter
from rdtf.data.synthetic.palette import COLOURS, Colour
from rdtf.data.synthetic.pose import Pose
from rdtf.data.synthetic.props import PROPS
from rdtf.errors import ConfigError
from rdtf.stickers import Sticker

_CONFETTI = ("red", "yellow", "teal", "blue", "pink", "orange", "purple")


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

    def __getitem__(self, index: int) -> Sticker:
        """Draw one sticker; `IndexError` outside 0..len-1 (negative indices too)."""
        about = self.describe(index)
        frames = render(self._document(about), about.durations_ms, self.canvas)
        return Sticker(
            frames=frames,
            durations_ms=_int64(about.durations_ms),
            loop_count=0 if about.loops else 1,
            captions=about.captions,
            source=f"rdtf synthetic {self.seed}/{index}",
            license="CC0-1.0",
            metadata=about.as_dict(),
        )

    def describe(self, index: int) -> Attributes:
        """What sticker `index` shows, without drawing it."""
        if not 0 <= index < self.count:
            raise IndexError(f"sticker {index} of {self.count}")
        return draw_attributes(self.seed, index, self.max_frames)

    def lottie(self, index: int) -> dict[str, Any]:
        """Sticker `index` as a Lottie document, 512 x 512 units at 60 ticks a second."""
        return json.loads(self._document(self.describe(index)))

    def _document(self, about: Attributes) -> str:
        poses = pose_all(self.seed, about.index, about.motion, about.num_frames)
        return document(_paint(self.seed, about, poses), about.durations_ms)


def _int64(values: tuple[int, ...]) -> Any:
    import numpy as np

    return np.asarray(values, np.int64)


def _paint(seed: int, about: Attributes, poses: list[Pose]) -> list[tuple[str, float]]:
    """(shapes, opacity) of every frame."""
    look = draw_look(about.colour, about.accent, about.style, Draws(seed, about.index, "look"))
    draws = Draws(seed, about.index, "scene")
    character = KINDS[about.kind](look)
    prop_side = draws.side()
    line_width = draws.uniform(4.5, 7.5) if about.style == "outline" else 0.0
    border_width = draws.uniform(9, 14) if about.border else 0.0
    if about.prop is not None and PROPS[about.prop].place == "hand":
        for pose in poses:
            _raise_hand(pose, prop_side)
    camera = frame_camera(
        character, poses, about.prop, prop_side, line_width + border_width + 2, draws
    )
    colours = _effect_colours(about, draws)
    frames = []
    for pose in poses:
        painter = Painter(about.style, line_width, border_width)
        painter.ink = look.ink
        frame = Frame(
            painter, pose, look, about.expression, about.prop, prop_side,
            COLOURS[about.accent], colours,
        )  # fmt: skip
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
