"""Motions that are mostly feelings: crying, laughing, sleeping, being in love."""

from __future__ import annotations

import math
from functools import partial

from rdtf.synthetic.characters.effects import burst, rising
from rdtf.synthetic.characters.pose import (
    CENTRE,
    OPEN_EYES,
    Beat,
    Effect,
    Motion,
    Pose,
    ease,
    listed,
)

FEELING: dict[str, Motion] = {}
_listed = partial(listed, FEELING)
_EYES = frozenset({"eyes"})
_HANDS = frozenset({"hand"})


@_listed("blink", "blinks/blinking, blinks/blinking its eyes", 1.2, min_frames=3, frames_per_beat=5,
    moods=OPEN_EYES, busy=_EYES)  # fmt: skip
def _blink(beat: Beat) -> Pose:
    # Eyes are open most of the time: closed frames are short, open ones held.
    shut = max(0.0, 1 - abs(beat.u - 0.5) / 0.24)
    return Pose(openness=1 - shut, eyes="shut" if shut > 0.7 else None, stretch=-0.03 * shut,
        head_dy=5 * shut, head_tilt=2 * beat.side, hold=2.4 if shut == 0 and beat.index == 0
        else 1.0)  # fmt: skip


@_listed("wink", "winks/winking, winks/winking at you, gives/giving a wink", 1.1, min_frames=3,
    moods={"happy": 2, "cheeky": 1}, busy=_EYES)  # fmt: skip
def _wink(beat: Beat) -> Pose:
    shut = beat.lift > 0.5
    return Pose(eyes="wink" if shut else "open", mouth="tongue" if shut and beat.seed < 0.4
        else "smile", head_tilt=-9 * beat.side * min(1.0, beat.lift),
        rotation=-2 * beat.side * beat.lift, effects=burst("star", (beat.u - 0.3) / 0.6, 3, x=0.85,
        y=0.72, reach=0.5, size=0.6, seed=0.1), left_arm=22, right_arm=22 + 70 * min(1.0,
        beat.lift))  # fmt: skip


@_listed("cry", "cries/crying, sheds/shedding tears, weeps/weeping", 1.4, min_frames=3,
    moods={"sad": 1}, busy=_EYES | _HANDS)  # fmt: skip
def _cry(beat: Beat) -> Pose:
    sob = beat.swing
    flow = []
    for side in (-1, 1):
        for k in range(2):
            age = (beat.t * beat.beats + 0.5 * k + 0.25 * (side > 0)) % 1.0
            flow.append(Effect("tear", side * (0.5 + 0.3 * age), 0.1 + 0.95 * age * age, 0.75
                + 0.25 * age, min(1.0, 3.5 * (1 - age)), -side * 14, True))  # fmt: skip
    puddle = Effect("puddle", 0, 0.0, 0.9 + 0.5 * ease(beat.t), 0.9)
    loud = beat.seed < 0.55
    return Pose(stretch=0.05 * sob, dx=4 * sob, head_tilt=2.5 * sob, eyes="squeezed" if loud
        else "shut", mouth="wail" if loud else "frown", mouth_open=0.6 + 0.4 * sob, brows="sad",
        arms_front=False, arms=26 + 14 * sob, ears=14, effects=[puddle, *flow] if loud
        else flow)  # fmt: skip


@_listed("laugh", "laughs/laughing, laughs/laughing out loud, giggles/giggling", 1.5,
    moods={"joyful": 3, "happy": 1}, busy=_EYES)  # fmt: skip
def _laugh(beat: Beat) -> Pose:
    shake_ = beat.swing
    drops = [Effect("tear", side * 0.78, 0.0 - 0.12 * beat.lift, 0.55, 1.0, side * 60, True)
        for side in (-1, 1)]  # fmt: skip
    return Pose(stretch=0.075 * shake_, dy=-11 * abs(shake_), rotation=-3.5 * beat.side
        + 2.5 * shake_, head_tilt=-5 * beat.side, head_dy=5 * shake_, eyes="arched"
        if beat.seed < 0.6 else "squeezed", mouth="grin", mouth_open=0.55 + 0.45 * shake_, arms=38
        + 16 * shake_, ears=6 * shake_, effects=drops if beat.seed > 0.4 else [])  # fmt: skip


@_listed("sleep", "sleeps/sleeping, snores/snoring, takes/taking a nap, dozes/dozing", 1.4,
    min_frames=3, moods={"sleepy": 1}, busy=_EYES | _HANDS)  # fmt: skip
def _sleep(beat: Beat) -> Pose:
    breath = beat.swing
    zeds = rising("zed", beat.t, 3, x=0.0, bottom=0.82, top=1.3, size=0.95, sway=0.1,
        seed=beat.seed, rotation=10)  # fmt: skip
    zeds = [Effect(z.name, beat.side * (0.78 + 0.34 * (z.y - 0.82)) + z.x, z.y, z.size, z.opacity,
        z.rotation) for z in zeds]  # fmt: skip
    nose = [Effect("bubble", 0.2 * beat.side, 0.34, 0.5 + 0.45 * beat.lift, 1.0, on_face=True)]
    return Pose(stretch=0.05 * breath, head_tilt=7 * beat.side + 1.5 * breath,
        head_dy=6 - 4 * breath, eyes="shut", mouth="o" if beat.seed < 0.5 else "small",
        mouth_open=0.1 + 0.35 * beat.lift, brows="", arms=10, ears=9, effects=zeds + (nose
        if beat.seed > 0.5 else []))  # fmt: skip


@_listed("love",
    "sends/sending hearts, is/ surrounded by floating hearts, gushes/gushing with love", 1.4,
    min_frames=3, adverbs=False, moods={"in love": 1}, busy=_EYES | _HANDS)  # fmt: skip
def _love(beat: Beat) -> Pose:
    beat_ = beat.lift
    hearts = rising(
        "heart", beat.t, 4, x=0.98, bottom=0.42, top=1.2, size=0.9, seed=beat.seed, rotation=12
    )
    return Pose(scale=1 + 0.055 * beat_, eyes="heart" if beat.seed < 0.7 else "arched",
        openness=beat_, mouth="smile" if beat.seed < 0.5 else "grin", blush=True,
        rotation=3.5 * beat.swing, head_tilt=3 * beat.swing, arms=-34, arms_front=True,
        tail=14 * beat.swing, effects=hearts)  # fmt: skip


@_listed("stomp", "stomps/stomping its feet, throws/throwing a tantrum, stamps/stamping around",
    1.1, min_frames=3, moods={"angry": 3, "grumpy": 1}, busy=_HANDS)  # fmt: skip
def _stomp(beat: Beat) -> Pose:
    step = beat.swing
    steam = rising(
        "puff", beat.t, 2, x=1.02, bottom=0.72, top=1.06, size=0.75, seed=beat.seed, sway=0.05
    )
    mark = Effect("anger", 0.72 * beat.side, 0.92, 0.75 + 0.25 * beat.lift)
    return Pose(rotation=4 * step, dx=5 * step, dy=-7 * abs(step), stretch=-0.05 * abs(step),
        left_foot=(0, -26 * max(0.0, step)), right_foot=(0, -26 * max(0.0, -step)), left_arm=40
        + 36 * step, right_arm=40 - 36 * step, brows="angry", mouth="wail" if beat.seed < 0.4
        else None, ears=8, effects=[mark, *steam])  # fmt: skip


@_listed("shiver", "shivers/shivering, trembles/trembling, shakes/shaking with fear",
    moods={"scared": 1}, busy=_HANDS | _EYES, frames_per_beat=2)  # fmt: skip
def _shiver(beat: Beat) -> Pose:
    jitter = (-1) ** beat.index
    sweat = Effect("sweat", 0.8 * beat.side, 0.86 - 0.12 * ((2 * beat.t) % 1.0), 0.7, 1.0)
    return Pose(dx=9 * jitter * beat.amount, rotation=1.6 * jitter, head_dx=-4 * jitter,
        left_arm=-22 + 5 * jitter, right_arm=-22 - 5 * jitter, arms_front=True, mouth="wavy",
        stretch=-0.04, ears=8 + 4 * jitter, effects=[sweat])  # fmt: skip


@_listed("brighten", "cheers/cheering up, brightens/brightening up, goes/going from sad to happy",
    0.9, loops=False, min_frames=4, adverbs=False, moods={"happy": 1, "joyful": 1},
    busy=_EYES | _HANDS)  # fmt: skip
def _brighten(beat: Beat) -> Pose:
    t = beat.t
    glad = t > 0.45
    rise = ease((t - 0.35) / 0.4)
    return Pose(eyes=("arched" if beat.seed < 0.5 else "star") if glad else "open", mouth="grin"
        if glad else "frown", brows="" if glad else "sad", stretch=-0.1 * (1 - rise)
        + 0.06 * math.sin(math.pi * rise), head_dy=14 * (1 - rise), arms=14 + 110 * rise,
        ears=16 * (1 - rise), gaze=(0, 0.8), effects=burst("sparkle", (t - 0.42) / 0.58, 6,
        seed=beat.seed, reach=1.25), hold=1.9 if beat.index in (0, beat.count - 1)
        else 1.0)  # fmt: skip


@_listed("blush", "blushes/blushing, blushes/blushing and wiggles/wiggling, wiggles/wiggling shyly",
    0.9, adverbs=False, moods={"shy": 1}, busy=_EYES | _HANDS)  # fmt: skip
def _blush(beat: Beat) -> Pose:
    swing = beat.swing
    return Pose(rotation=5 * swing, head_tilt=6 * swing, blush=True, eyes="shut" if beat.u > 0.5
        else "open", gaze=(0.7 * beat.side, 0.6), mouth="small", arms_front=True, arms=-46, ears=8,
        effects=[Effect("heart", 0.85 * beat.side, 0.95 + 0.03 * swing, 0.6 + 0.25 * beat.lift)]
        if beat.seed < 0.6 else [])  # fmt: skip


@_listed("sigh", "sighs/sighing, lets/letting out a sigh, sighs/sighing deeply", 0.8, min_frames=3,
    moods={"sad": 2, "sleepy": 1, "grumpy": 1}, busy=_EYES)  # fmt: skip
def _sigh(beat: Beat) -> Pose:
    sink = beat.lift
    age = beat.u
    puff = Effect("puff", 0.55 * beat.side + 0.6 * beat.side * age, 0.52 - 0.05 * age, 0.4
        + 0.5 * age, max(0.0, 1 - age))  # fmt: skip
    return Pose(stretch=0.05 - 0.13 * sink, head_dy=12 * sink, eyes="shut" if sink > 0.5
        else "half", mouth="o" if age < 0.6 else "flat", mouth_open=0.2, brows="sad", arms=12
        + 8 * (1 - sink), ears=12 * sink, effects=[puff])  # fmt: skip


@_listed("dazzle", "sparkles/sparkling with joy, beams/beaming, shines/shining with excitement",
    0.9, min_frames=3, adverbs=False, moods={"excited": 1}, busy=_EYES)  # fmt: skip
def _dazzle(beat: Beat) -> Pose:
    twinkles = [Effect("sparkle", x, y, max(0.05, 0.95 * math.sin(math.pi * ((beat.t
        + k / 4) % 1.0))), 1.0, 20 * k) for k, (x, y) in enumerate(((-1.05, 0.9), (1.05, 0.72),
        (0.82, 1.06), (-1.1, 0.45)))]  # fmt: skip
    return Pose(scale=1 + 0.045 * beat.lift, pivot=CENTRE, eyes="star", mouth="grin", mouth_open=0.4
        + 0.5 * beat.lift, head_tilt=4 * beat.swing, rotation=2.5 * beat.swing, arms=50
        + 34 * beat.lift, effects=twinkles)  # fmt: skip
