"""Motions of the whole body: jumping, running, spinning, arriving and leaving."""

from __future__ import annotations

import math
from functools import partial

from rdtf.synthetic.characters.effects import burst
from rdtf.synthetic.characters.pose import (
    ANY_MOOD,
    CENTRE,
    GOOD_MOOD,
    Beat,
    Effect,
    Motion,
    Pose,
    ease,
    hop,
    listed,
    overshoot,
)

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
