"""What a pose says of one frame, what a motion is, and motions of the whole body."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from functools import partial
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


MOVING: dict[str, Motion] = {}
_listed = partial(listed, MOVING)
_HANDS = frozenset({"hand"})


def still(beat: Beat) -> Pose:
    side, arm = beat.side, 20 + 60 * beat.seed
    return Pose(rotation=2.5 * side, head_tilt=3 * side, left_arm=arm, right_arm=24)


@_listed("jump", "jumps/jumping, jumps/jumping up and down, leaps/leaping into the air", 1.5,
    min_frames=4, frames_per_beat=5, moods=GOOD_MOOD)  # fmt: skip
def _jump(beat: Beat) -> Pose:
    u, a = beat.u, beat.amount
    if u < 0.22:
        crouch = ease(u / 0.22)
        return Pose(stretch=-0.2 * crouch * a, arms=12, hold=1.3)
    if u < 0.84:
        x = (u - 0.22) / 0.62
        high = hop(x)
        tuck = (0.0, -16 * high)
        return Pose(dy=-110 * a * high, stretch=0.14 * (1 - high), arms=60 + 85 * high,
            left_foot=tuck, right_foot=tuck, ears=-12 * (1 - 2 * x), mouth="grin", mouth_open=high,
            tail=12 * high, hold=1.25 if high > 0.9 else 1)  # fmt: skip
    return Pose(stretch=-0.24 * a * (1 - (u - 0.84) / 0.16), arms=48, ears=14)


@_listed("bounce", "bounces/bouncing, bounces/bouncing up and down, bounces/bouncing like a ball",
    1.2, min_frames=4, frames_per_beat=6)  # fmt: skip
def _bounce(beat: Beat) -> Pose:
    # Spends most of its time in the air, like a ball; squashes only at the floor.
    high = abs(math.sin(math.pi * beat.u * 2))
    left = 1 if beat.u < 0.5 else -1
    squash = max(0.0, 1 - 3.2 * high)
    return Pose(dx=beat.side * 16 * math.cos(2 * math.pi * beat.u), dy=-62 * beat.amount * high,
        stretch=0.09 * high - 0.27 * squash * beat.amount, rotation=beat.side * left * 7 * high,
        arms=40 + 55 * high, ears=10 - 20 * high, tail=14 * left * high)  # fmt: skip


@_listed("spin", "spins/spinning around, turns/turning around in a circle, twirls/twirling",
    min_frames=4, frames_per_beat=7, busy=_HANDS)  # fmt: skip
def _spin(beat: Beat) -> Pose:
    angle = beat.side * 360 * beat.u
    return Pose(turn=angle, dy=-16 * hop(beat.u), arms=62, ears=-8, tail=12,
        stretch=0.04 * math.sin(2 * math.pi * beat.u))  # fmt: skip


@_listed("flip", "does/doing a flip, somersaults/somersaulting", min_frames=6, frames_per_beat=8,
    moods=GOOD_MOOD, busy=_HANDS)  # fmt: skip
def _flip(beat: Beat) -> Pose:
    u, a = beat.u, beat.amount
    if u < 0.2:
        return Pose(stretch=-0.2 * ease(u / 0.2), arms=10, hold=1.4)
    if u < 0.88:
        x = (u - 0.2) / 0.68
        return Pose(dy=-100 * a * hop(x), rotation=beat.side * 360 * ease(x), pivot=CENTRE,
            arms=120, left_foot=(0, -12), right_foot=(0, -12), stretch=-0.05)  # fmt: skip
    return Pose(stretch=-0.2, arms=110, hold=1.3)


@_listed("sway", "sways/swaying from side to side, sways/swaying, rocks/rocking gently", 1.2)
def _sway(beat: Beat) -> Pose:
    swing = beat.swing
    return Pose(rotation=11 * swing, head_tilt=-4 * swing, left_arm=34 + 22 * swing,
        tail=16 * swing, right_arm=34 - 22 * swing, ears=6 * swing)  # fmt: skip


@_listed("float", "floats/floating, hovers/hovering in the air, floats/floating up and down")
def _floating(beat: Beat) -> Pose:
    lift, swing = beat.lift, beat.swing
    foot = (0.0, 6 - 8 * lift)
    return Pose(dy=-24 - 62 * lift, rotation=4 * swing, arms=58 + 18 * swing, left_foot=foot,
        right_foot=(0, 14 - foot[1]), tail=20 * swing, ears=-5 * swing)  # fmt: skip


@_listed("run", "runs/running, runs/running fast, dashes/dashing along", 1.2, frames_per_beat=4,
    busy=_HANDS, moods={**ANY_MOOD, "sleepy": 0, "calm": 0, "dizzy": 0})  # fmt: skip
def _run(beat: Beat) -> Pose:
    s, c = math.sin(2 * math.pi * beat.u), math.cos(2 * math.pi * beat.u)
    side, a = beat.side, beat.amount
    high = abs(c)
    dust = [Effect("puff", -side * (1.05 + 0.5 * age), 0.04 + 0.1 * age, 0.5 + 0.4 * age, 1 - age)
        for age in ((beat.u + 0.5 * k) % 1.0 for k in range(2))]  # fmt: skip
    lines = [
        Effect("dash", -side * (1.15 + 0.16 * k + 0.1 * s), 0.34 + 0.2 * k, 0.8) for k in range(3)
    ]
    return Pose(dy=-30 * a * high, rotation=11 * side + 3 * s, head_turn=32 * side,
        stretch=0.12 * high - 0.07, left_foot=(10 * side + 46 * s * a, -30 * max(0.0, c)),
        right_foot=(10 * side - 46 * s * a, -30 * max(0.0, -c)), left_arm=48 - 46 * s * side,
        right_arm=48 + 46 * s * side, ears=-side * 8 - 6 * high, tail=-12 * s, gaze=(side * 0.6,
        0.0), effects=dust + (lines if beat.seed < 0.6 else []))  # fmt: skip


@_listed("walk", "walks/walking, waddles/waddling along, takes/taking a walk")
def _walk(beat: Beat) -> Pose:
    s, c = math.sin(2 * math.pi * beat.u), math.cos(2 * math.pi * beat.u)
    return Pose(rotation=7 * s * beat.amount, dx=9 * s, dy=-9 * abs(c), head_turn=18 * beat.side,
        left_foot=(4 * s, -26 * max(0.0, s)), right_foot=(4 * s, -26 * max(0.0, -s)), left_arm=32
        + 26 * s, right_arm=32 - 26 * s, tail=10 * s, head_tilt=-3 * s)  # fmt: skip


@_listed("fly", "flies/flying, flaps/flapping and flies/flying, flutters/fluttering about", 0.9,
    min_frames=4, frames_per_beat=4, busy=_HANDS, moods=GOOD_MOOD)  # fmt: skip
def _fly(beat: Beat) -> Pose:
    flap = beat.swing
    x = math.sin(2 * math.pi * beat.t)
    return Pose(dx=48 * beat.side * x, dy=-58 - 26 * math.cos(4 * math.pi * beat.t),
        rotation=11 * beat.side * x, arms=88 + 48 * flap, left_foot=(-6, 8), right_foot=(6, 8),
        ears=8 * flap, tail=14 * flap, stretch=0.04 * flap)  # fmt: skip


@_listed("wobble", "wobbles/wobbling like jelly, wobbles/wobbling, jiggles/jiggling")
def _wobble(beat: Beat) -> Pose:
    swing = beat.swing
    calm = 1 - 0.55 * beat.t
    return Pose(stretch=0.19 * swing * calm,
        rotation=2.5 * beat.side * math.cos(2 * math.pi * beat.u) * calm, arms=42 - 26 * swing,
        ears=12 * swing)  # fmt: skip


@_listed("pulse", "pulses/pulsing like a heartbeat, throbs/throbbing, pulses/pulsing", 0.8,
    min_frames=3, frames_per_beat=5)  # fmt: skip
def _pulse(beat: Beat) -> Pose:
    u = beat.u
    thump = math.exp(-((u - 0.25) ** 2) / 0.008) + 0.65 * math.exp(-((u - 0.55) ** 2) / 0.008)
    return Pose(scale=1 + 0.17 * beat.amount * thump, pivot=CENTRE, arms=30
        + 24 * thump)  # fmt: skip


@_listed("grow", "grows/growing, grows/growing bigger and bigger, gets/getting bigger", loops=False,
    min_frames=3)  # fmt: skip
def _grow(beat: Beat) -> Pose:
    size = 0.28 + 0.72 * overshoot(beat.t)
    last = beat.index == beat.count - 1
    return Pose(scale=size, stretch=0.1 * math.sin(2 * math.pi * beat.t), arms=26 + 40 * beat.t,
        hold=2.4 if last else 1.0)  # fmt: skip


@_listed("shrink", "shrinks/shrinking, gets/getting smaller and smaller", 0.8, loops=False,
    min_frames=3)  # fmt: skip
def _shrink(beat: Beat) -> Pose:
    size = 1 - 0.72 * ease(beat.t)
    return Pose(scale=size, stretch=-0.1 * math.sin(math.pi * beat.t), arms=18, gaze=(0, 0.5),
        hold=2.0 if beat.index in (0, beat.count - 1) else 1.0)  # fmt: skip


@_listed("fade", "fades/fading away, dissolves/dissolving, vanishes/vanishing", loops=False,
    min_frames=3)  # fmt: skip
def _fade(beat: Beat) -> Pose:
    gone = ease(beat.t)
    return Pose(opacity=1 - 0.9 * gone, dy=-34 * gone, arms=30 + 20 * gone,
        tail=10 * math.sin(6 * beat.t), hold=1.8 if beat.index == 0 else 1.0)  # fmt: skip


@_listed("appear", "fades/fading in, comes/coming into view, appears/appearing", 0.8, loops=False,
    min_frames=3)  # fmt: skip
def _appear(beat: Beat) -> Pose:
    here = ease(beat.t)
    last = beat.index == beat.count - 1
    return Pose(opacity=0.1 + 0.9 * here, scale=0.8 + 0.2 * here, arms=20 + 50 * here,
        effects=burst("sparkle", beat.t, 6, seed=beat.seed, reach=1.25), hold=2.2 if last
        else 1.0)  # fmt: skip


@_listed("pop", "pops/popping up, pops/popping into view, bursts/bursting in", loops=False,
    min_frames=4, moods={**GOOD_MOOD, "surprised": 2})  # fmt: skip
def _pop(beat: Beat) -> Pose:
    t = beat.t
    size = max(0.06, overshoot(min(1.0, t / 0.55)))
    wobble_back = math.sin(10 * max(0.0, t - 0.55)) * (1 - t) * 0.25 if t > 0.55 else 0.0
    return Pose(scale=size, pivot=CENTRE, stretch=wobble_back,
        rotation=beat.side * 14 * (1 - min(1.0, t / 0.55)), arms=130 - 60 * t, mouth="grin"
        if 0.2 < t < 0.8 else None, effects=burst("star" if beat.seed < 0.5 else "sparkle",
        (t - 0.15) / 0.85, 7, seed=beat.seed, reach=1.35), hold=2.6 if beat.index == beat.count - 1
        else 1.0)  # fmt: skip


@_listed("peek",
    "peeks/peeking out from below, pops/popping up and hides/hiding again, plays/playing peekaboo",
    0.9, min_frames=4, frames_per_beat=6, busy=_HANDS, grounded=False)  # fmt: skip
def _peek(beat: Beat) -> Pose:
    # Up, a look around, and down again; the lower edge of the canvas hides the rest.
    up = min(1.0, 1.25 * beat.lift / beat.amount)
    return Pose(dy=180 * (1 - ease(up)), head_tilt=5 * beat.swing, arms=70 * up,
        gaze=(0.8 * beat.swing, -0.2), offstage=up < 0.97, hold=1.6 if up > 0.97
        else 1.0)  # fmt: skip


@_listed("faint", "faints/fainting, falls/falling over, topples/toppling over", 0.9, loops=False,
    min_frames=4, adverbs=False, busy=_HANDS | {"eyes"}, grounded=False,
    moods={"dizzy": 1})  # fmt: skip
def _faint(beat: Beat) -> Pose:
    t = beat.t
    fall = ease((t - 0.3) / 0.42)
    bump = 0.1 * math.sin(math.pi * min(1.0, max(0.0, (t - 0.72) / 0.28))) if t > 0.72 else 0.0
    wobble_first = 7 * math.sin(14 * t) * (1 - fall)
    stars = [Effect("star", beat.side * (0.62 + 0.5 * math.cos(9 * t + 2.1 * k)), 0.62
        + 0.07 * math.sin(9 * t + 2.1 * k), 0.55) for k in range(3)]  # fmt: skip
    return Pose(rotation=beat.side * 82 * fall + wobble_first, dx=-beat.side * 130 * fall,
        dy=-75 * fall, stretch=-bump, eyes="cross" if t > 0.35 else "half", mouth="wavy", arms=30
        + 60 * fall, effects=stars if t > 0.7 else [], hold=2.4 if beat.index == beat.count - 1
        else 1.0)  # fmt: skip
