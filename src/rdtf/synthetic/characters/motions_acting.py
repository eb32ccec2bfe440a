"""Motions with arms and head: waving, nodding, clapping, throwing, dancing."""

from __future__ import annotations

import math
from functools import partial

from rdtf.synthetic.characters.effects import burst, rising
from rdtf.synthetic.characters.pose import (
    ANY_MOOD,
    GOOD_MOOD,
    OPEN_EYES,
    Beat,
    Effect,
    Motion,
    Pose,
    ease,
    hop,
    listed,
)

ACTING: dict[str, Motion] = {}
_listed = partial(listed, ACTING)
_HANDS = frozenset({"hand"})
_EYES = frozenset({"eyes"})


def _with_arms(pose: Pose, side: int, near: float, far: float) -> Pose:
    """The pose with the arm on `side` at `near` degrees and the other one at `far`."""
    pose.left_arm, pose.right_arm = (far, near) if side > 0 else (near, far)
    return pose


@_listed("wave", "waves/waving, waves/waving hello, waves/waving its hand, waves/waving goodbye",
    2.0, busy=_HANDS)  # fmt: skip
def _wave(beat: Beat) -> Pose:
    swing, side = beat.swing, beat.side
    pose = Pose(
        rotation=-3 * side + 1.5 * side * swing, head_tilt=4 * side + 2 * swing, tail=10 * swing
    )
    return _with_arms(pose, side, 121 + 34 * swing, 20)


@_listed("nod", "nods/nodding, nods/nodding its head, nods/nodding yes", 1.3, min_frames=3,
    moods=OPEN_EYES)  # fmt: skip
def _nod(beat: Beat) -> Pose:
    down = beat.lift
    return Pose(head_dy=25 * down, stretch=-0.07 * down, openness=1 - 0.75 * down, arms=20
        + 8 * down, ears=7 * down, gaze=(0.0, 0.5 * down))  # fmt: skip


@_listed("shake", "shakes/shaking its head, says/saying no, shakes/shaking its head no", 1.3)
def _shake(beat: Beat) -> Pose:
    swing = beat.swing
    return Pose(head_dx=10 * swing, head_turn=34 * swing, head_tilt=3 * swing, ears=-9 * swing,
        rotation=3.5 * swing, dx=5 * swing, left_arm=24 - 6 * swing, right_arm=24
        + 6 * swing)  # fmt: skip


@_listed("look around",
    "looks/looking around, looks/looking left and right, glances/glancing around",
    frames_per_beat=5, moods=OPEN_EYES, busy=_EYES)  # fmt: skip
def _look_around(beat: Beat) -> Pose:
    swing = max(-1.0, min(1.0, 1.5 * beat.swing))
    blink = 0.0 if 0.44 < beat.u < 0.56 and beat.count > 5 else 1.0
    return Pose(head_turn=30 * swing, gaze=(swing, 0.0), head_tilt=3 * swing, head_dx=8 * swing,
        rotation=3 * swing, openness=blink, ears=4 * swing, hold=1.7 if abs(swing) > 0.9
        else 1.0)  # fmt: skip


@_listed("clap", "claps/clapping its hands, claps/clapping, applauds/applauding", 1.2,
    moods=GOOD_MOOD, busy=_HANDS)  # fmt: skip
def _clap(beat: Beat) -> Pose:
    apart = 0.5 + 0.5 * math.cos(2 * math.pi * beat.u)
    together = apart < 0.2
    arm = -38 + 78 * apart * beat.amount
    sparks = [
        Effect("dash", 0.3 * k, 0.52 - 0.05 * abs(k), 0.5, rotation=90 + 35 * k) for k in (-1, 0, 1)
    ]
    return Pose(arms=arm, arms_front=True, stretch=0.05 * apart - 0.03, dy=-10 * apart,
        head_tilt=3 * beat.side * math.sin(2 * math.pi * beat.t), effects=sparks if together
        else [])  # fmt: skip


@_listed("dance", "dances/dancing, dances/dancing to the music, grooves/grooving", 1.4,
    min_frames=3, moods={**GOOD_MOOD, "calm": 1})  # fmt: skip
def _dance(beat: Beat) -> Pose:
    swing = beat.swing
    step = max(-1.0, min(1.0, 1.6 * swing))
    notes = rising(
        "note", beat.t, 2, x=1.18, bottom=0.5, top=1.0, size=0.8, seed=beat.seed, rotation=12
    )
    return Pose(rotation=8 * step, dx=13 * step, dy=-15 * abs(math.cos(2 * math.pi * beat.u)),
        head_tilt=-8 * step, left_arm=85 + 62 * step, right_arm=85 - 62 * step, left_foot=(0,
        -20 * max(0.0, step)), right_foot=(0, -20 * max(0.0, -step)), tail=18 * step, ears=8 * step,
        stretch=0.05 * abs(step) - 0.03, effects=notes if beat.seed < 0.75 else [])  # fmt: skip


@_listed(
    "cheer",
    "cheers/cheering, celebrates/celebrating with confetti, "
    "throws/throwing its arms up and cheers/cheering",
    1.1,
    min_frames=3,
    moods=GOOD_MOOD,
    busy=_HANDS,
)
def _cheer(beat: Beat) -> Pose:
    high = hop(beat.u)
    bits = [Effect("confetti", x, 1.22 - 1.2 * ((beat.t + phase) % 1.0), 0.62, 0.95, 360 * (beat.t
        + phase), colour=k) for k, (x, phase) in enumerate(((-1.25, 0.1), (-0.8, 0.55), (1.2, 0.3),
        (0.85, 0.8), (-1.1, 0.75), (1.15, 0.0)))]  # fmt: skip
    return Pose(dy=-44 * beat.amount * high, stretch=0.08 * high - 0.06, left_arm=142
        + 20 * beat.swing, right_arm=142 - 20 * beat.swing, left_foot=(-5, -8 * high),
        right_foot=(5, -8 * high), mouth="grin", mouth_open=0.5 + 0.5 * high, ears=-10 * high,
        effects=bits)  # fmt: skip


@_listed("bow", "bows/bowing, bows/bowing politely, takes/taking a bow", 0.9, min_frames=3,
    moods={"happy": 3, "shy": 2, "calm": 2, "sad": 1})  # fmt: skip
def _bow(beat: Beat) -> Pose:
    down = min(1.0, 1.3 * beat.lift)
    return Pose(stretch=-0.17 * down, head_dy=44 * down, openness=1 - down, eyes="shut"
        if down > 0.6 else None, arms=14, arms_front=down > 0.3, ears=10 * down, hold=1.8
        if down > 0.95 else 1.0)  # fmt: skip


@_listed("sing", "sings/singing, sings/singing a song, sings/singing along", 1.1, min_frames=3,
    moods=GOOD_MOOD)  # fmt: skip
def _sing(beat: Beat) -> Pose:
    loud = 0.5 + 0.5 * math.sin(4 * math.pi * beat.u)
    notes = rising(
        "note", beat.t, 3, x=1.15, bottom=0.55, top=1.12, size=0.85, seed=beat.seed, rotation=14
    )
    return Pose(rotation=6 * beat.swing, head_tilt=5 * beat.swing, mouth="o" if beat.seed < 0.5
        else "grin", mouth_open=0.15 + 0.85 * loud, eyes="shut" if beat.u > 0.5 else None,
        left_arm=52 + 18 * beat.swing, right_arm=52 - 18 * beat.swing, stretch=0.05 * loud,
        effects=notes)  # fmt: skip


@_listed("throw", "throws/throwing a ball, tosses/tossing a ball", 1.1, loops=False, min_frames=4,
    moods={**GOOD_MOOD, "angry": 2}, busy=_HANDS)  # fmt: skip
def _throw(beat: Beat) -> Pose:
    t, side = beat.t, beat.side
    wind = ease(t / 0.35) * (1 - ease((t - 0.4) / 0.16))
    follow = ease((t - 0.4) / 0.2)
    arm = 60 + 100 * wind + 35 * math.sin(math.pi * follow) - 25 * follow
    ball: list[Effect] = []
    reach = 0.9 + 0.32 * math.sin(math.radians(arm))
    if t < 0.46:
        ball = [Effect("ball", side * reach, 0.34 - 0.24 * math.cos(math.radians(arm)), 1.0)]
    else:
        x = (t - 0.46) / 0.54
        ball = [Effect("ball", side * (1.2 + 0.85 * x), 0.52 + 0.75 * x - 0.85 * x * x,
            1.0 - 0.1 * x, rotation=300 * x * side)]  # fmt: skip
    pose = Pose(rotation=side * (-10 * wind + 9 * math.sin(math.pi * min(1.0, follow + 0.1))),
        dx=side * (-16 * wind), stretch=-0.06 * wind + 0.05 * follow, head_turn=22 * side,
        gaze=(0.7 * side, -0.2), mouth="grin" if t > 0.4 else None, effects=ball, hold=1.8
        if beat.index == 0 else 1.0)  # fmt: skip
    return _with_arms(pose, side, arm, 24 + 30 * follow)


@_listed("juggle", "juggles/juggling, juggles/juggling three balls, juggles/juggling balls", 0.9,
    min_frames=4, frames_per_beat=6, moods={**GOOD_MOOD, "dizzy": 0.5},
    busy=_HANDS | {"head"})  # fmt: skip
def _juggle(beat: Beat) -> Pose:
    balls = []
    for k in range(3):
        x = (beat.u + k / 3) % 1.0
        balls.append(Effect("ball", 0.95 * math.cos(math.pi * x), 0.46 + 0.78 * hop(x), 0.72,
            colour=k, rotation=360 * x))  # fmt: skip
    toss = math.sin(6 * math.pi * beat.u)
    return Pose(left_arm=74 + 24 * toss, right_arm=74 - 24 * toss, gaze=(0.4 * toss, -0.8),
        head_dy=-4, rotation=2 * toss, effects=balls)  # fmt: skip


@_listed("think", "thinks/thinking, thinks/thinking hard, wonders/wondering", min_frames=3,
    moods={"calm": 1, "happy": 2, "grumpy": 1, "surprised": 1}, busy=_HANDS)  # fmt: skip
def _think(beat: Beat) -> Pose:
    side = beat.side
    grown = ease(1.6 * beat.t)
    mark = Effect("question", side * 0.95, 0.98 + 0.03 * beat.swing, 0.35 + 0.75 * grown,
        rotation=side * (10 + 8 * beat.swing))  # fmt: skip
    pose = Pose(head_tilt=6 * side + 7 * beat.swing, rotation=2.5 * beat.swing, gaze=(0.8 * side,
        -0.9), arms_front=True, effects=[mark], mouth="flat", brows="raised")  # fmt: skip
    return _with_arms(pose, side, 24, -52 - 6 * beat.swing)


@_listed("startle", "gets/getting a fright, is/being startled", 0.9, loops=False, min_frames=4,
    adverbs=False, moods={"surprised": 1}, busy=_EYES | {"head"})  # fmt: skip
def _startle(beat: Beat) -> Pose:
    t = beat.t
    if t < 0.3:
        return Pose(stretch=-0.02 * t, eyes="open", mouth="smile", brows="", hold=1.6)
    x = (t - 0.3) / 0.7
    high = hop(min(1.0, x * 1.5))
    shiver = 3 * (-1) ** beat.index if high == 0 else 0
    mark = Effect("exclaim", 0.0, 1.13 + 0.05 * high, 0.6 + 0.5 * min(1.0, 3 * x))
    return Pose(dy=-46 * beat.amount * high, dx=shiver, stretch=0.14 * high, eyes="wide", mouth="o",
        brows="raised", mouth_open=0.5 + 0.5 * high, arms=60 + 60 * high, ears=-12 * high,
        effects=[mark], hold=1.6 if beat.index == beat.count - 1 else 1.0)  # fmt: skip


@_listed("conjure", "casts/casting a spell, does/doing magic, conjures/conjuring up sparkles", 0.8,
    min_frames=4, moods={**ANY_MOOD, "dizzy": 0, "sleepy": 0})  # fmt: skip
def _conjure(beat: Beat) -> Pose:
    side = beat.side
    flick = beat.lift
    magic = burst(
        "sparkle", beat.u, 6, x=1.05 * side, y=0.72, reach=0.55, size=0.75, seed=beat.seed
    )
    pose = Pose(
        rotation=3 * side * beat.swing, head_turn=16 * side, gaze=(0.6 * side, -0.2), effects=magic
    )
    return _with_arms(pose, side, 62 + 58 * flick, 24)
