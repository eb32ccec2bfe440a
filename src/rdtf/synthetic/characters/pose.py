"""What a motion is, a pose for every moment and words for it, and what a pose says of one frame:
positions, squash, limbs, eyes, mouth and effects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from typing import Any

CENTRE = 1
GROUND = 0


@dataclass(frozen=True)
class Effect:
    """Something small beside the character: a heart, a tear, a spark.

    On the stage, `x` is in half widths of the character and `y` in its heights above the ground;
    on the face, both are in half widths of the face from its centre, y down.
    """

    name: str
    x: float
    y: float
    size: float = 1.0
    opacity: float = 1.0
    rotation: float = 0.0
    on_face: bool = False
    colour: int = 0
    """Which of the sticker's effect colours, for effects that come in several (confetti)."""


@dataclass
class Pose:
    """One key pose. Lengths are in character units (a character is about 300 tall), degrees."""

    dx: float = 0.0
    dy: float = 0.0
    """Down is positive, so that a jump is negative."""
    rotation: float = 0.0
    pivot: int = GROUND
    stretch: float = 0.0
    """Taller (> 0) or squashed (< 0) at constant area."""
    scale: float = 1.0
    opacity: float = 1.0
    turn: float = 0.0
    """Around the vertical axis; beyond 90 the back is seen."""
    head_dx: float = 0.0
    head_dy: float = 0.0
    head_tilt: float = 0.0
    head_turn: float = 0.0
    left_arm: float = 18.0
    right_arm: float = 18.0
    """0 hangs down, 90 points sideways, 180 up; negative reaches across the body."""
    arms: InitVar[float | None] = None
    """Both."""
    arms_front: bool = False
    left_foot: tuple[float, float] = (0.0, 0.0)
    right_foot: tuple[float, float] = (0.0, 0.0)
    ears: float = 0.0
    tail: float = 0.0
    eyes: str | None = None
    mouth: str | None = None
    brows: str | None = None
    openness: float = 1.0
    mouth_open: float = 0.6
    gaze: tuple[float, float] = (0.0, 0.0)
    blush: bool = False
    effects: list[Effect] = field(default_factory=list)
    hold: float = 1.0
    """How much longer than other frames this one stays."""
    offstage: bool = False
    """Meant to leave the canvas, so that the camera does not follow it."""

    def __post_init__(self, arms: float | None) -> None:
        if arms is not None:
            self.left_arm = self.right_arm = arms

    @property
    def from_behind(self) -> bool:
        return math.cos(math.radians(self.turn)) < -0.05


@dataclass(frozen=True)
class Beat:
    """When in a motion a frame is, and how this sticker performs it."""

    t: float
    """Phase: [0, 1) of a loop, [0, 1] of a motion that plays once."""
    index: int
    count: int
    side: int
    """-1 or 1: which hand, which way."""
    amount: float
    """About 1; larger movements are larger."""
    beats: int
    """How often the movement repeats within the clip."""
    seed: float
    """In [0, 1): varies particles."""

    @property
    def u(self) -> float:
        """Phase within the current beat, [0, 1)."""
        return self.t * self.beats % 1.0

    @property
    def swing(self) -> float:
        """-amount..amount, back and forth once per beat."""
        return self.amount * math.sin(2 * math.pi * self.u)

    @property
    def lift(self) -> float:
        """0..amount..0, once per beat."""
        return self.amount * (0.5 - 0.5 * math.cos(2 * math.pi * self.u))


def ease(x: float) -> float:
    """Smooth start and stop on [0, 1]."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def overshoot(x: float) -> float:
    """0 to 1 with a swing beyond the goal, as cartoons arrive."""
    x = min(max(x, 0.0), 1.0)
    return 1 + 2.7 * (x - 1) ** 3 + 1.7 * (x - 1) ** 2


def hop(x: float) -> float:
    """0..1..0 parabola of a ballistic jump on [0, 1]; 0 outside."""
    return max(0.0, 4 * x * (1 - x))


ANY_MOOD: Mapping[str, float] = {
    "happy": 5, "joyful": 2, "sad": 1.5, "angry": 1.5, "surprised": 1.5, "sleepy": 1,
    "in love": 0.8, "winking": 1.2, "silly": 1, "shy": 1, "scared": 0.8, "calm": 1.2,
    "excited": 1.2, "dizzy": 0.4, "grumpy": 1, "cheeky": 1,
}  # fmt: skip
GOOD_MOOD: Mapping[str, float] = {
    "happy": 5, "joyful": 3, "excited": 2, "winking": 1.5, "silly": 1, "cheeky": 1, "calm": 0.5,
}  # fmt: skip
OPEN_EYES: Mapping[str, float] = {
    "happy": 4, "sad": 1.5, "angry": 1.5, "grumpy": 1, "cheeky": 1, "surprised": 1, "scared": 1,
}  # fmt: skip


def forms(*phrases: str) -> tuple[tuple[str, str], ...]:
    """Third person and gerund: "waves/waving hello" -> ("waves hello", "waving hello")."""
    both = re.compile(r"(\S*)/(\S*)")
    return tuple((both.sub(r"\1", text), both.sub(r"\2", text).strip()) for text in phrases)


@dataclass(frozen=True)
class Motion:
    """One way to move.

    `pose(beat)` gives the key pose of a moment; `phrases` are its `forms`.
    """

    pose: Callable[[Beat], Pose]
    phrases: tuple[tuple[str, str], ...]
    weight: float = 1.0
    loops: bool = True
    min_frames: int = 2
    frames_per_beat: int = 4
    """Fewest frames that show one repetition; longer clips may repeat."""
    moods: Mapping[str, float] = field(default_factory=lambda: ANY_MOOD)
    busy: frozenset[str] = frozenset()
    """Places where no prop may be: hands that clap, eyes that blink."""
    adverbs: bool = True
    """Whether the mood can be said as an adverb: "waves happily", but not "faints happily"."""
    grounded: bool = True
    """Whether a shadow on the ground makes sense."""


def listed(
    table: dict[str, Motion], name: str, phrases: str, *args: Any, **fields: Any
) -> Callable[[Callable[[Beat], Pose]], Callable[[Beat], Pose]]:
    """Put the motion of a pose function into `table`; phrases (see `forms`) with commas between."""

    def put(pose: Callable[[Beat], Pose]) -> Callable[[Beat], Pose]:
        table[name] = Motion(pose, forms(*phrases.split(", ")), *args, **fields)
        return pose

    return put
