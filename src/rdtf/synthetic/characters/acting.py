"""Motions with arms and head, and feelings."""

from __future__ import annotations

import math
from functools import partial

from rdtf.synthetic.characters.motions import (
    ANY_MOOD,
    CENTRE,
    GOOD_MOOD,
    OPEN_EYES,
    Beat,
    Effect,
    Motion,
    Pose,
    burst,
    ease,
    hop,
    listed,
    rising,
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
