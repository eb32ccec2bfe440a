"""Draws of the motion grammar: verb, amount, speed, side, combination, timing.

The truth is exact: no matching is needed to know how things moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rdtf.synthetic.verbs import TRAINED, VERBS, Parameters, Verb

# Words for how much and how fast, and the factors that they stand for.
AMOUNTS: dict[str, tuple[float, float]] = {"little": (0.4, 0.6), "": (0.8, 1.15), "much": (1.4,
    1.7)}  # fmt: skip
SPEEDS: dict[str, tuple[float, float]] = {"slow": (0.45, 0.65), "": (0.85, 1.15), "fast": (1.6,
    2.1)}  # fmt: skip
_SAID = (0.2, 0.6, 0.2)
_COMBINED = 0.15
_TOTAL_MS = (700.0, 1600.0)  # of clips of periodic motion
_FRAME_MS = (20.0, 250.0)  # browsers slow shorter frames down; longer ones are no motion
_FRAMES_A_BEAT = 5  # fewer can't be told from standing still


@dataclass(frozen=True)
class MotionDraw:
    """One motion: what the caption says and what the parameters are made from.

    verbs: one or several at the same time; amount, speed: keys of AMOUNTS and SPEEDS;
    amount_factor, speed_factor: numbers drawn for them; side: −1 or 1;
    loops: the frame behind the last is the first.

    What words can ask for besides (`rdtf.synthetic.words`):
    shares: amount and speed of each verb, as factors; none = 1; says_side: `side` is meant;
    cycles: how often it is done, 0 = as often as there is time; then: what is done afterwards;
    said: the words that were understood.
    """

    verbs: tuple[str, ...]
    amount: str = ""
    speed: str = ""
    amount_factor: float = 1.0
    speed_factor: float = 1.0
    side: int = 1
    loops: bool = False
    shares: tuple[tuple[float, float], ...] = ()
    says_side: bool = False
    cycles: int = 0
    then: tuple[MotionDraw, ...] = ()
    said: str = ""

    @property
    def told(self) -> str:
        """What was understood, and what is done: "jumps, then faints → jump, then topple"."""
        done = ", then ".join(" + ".join(act.verbs) for act in (self, *self.then))
        return f"{self.said} → {done}" if self.said else done

    @property
    def deform(self) -> str:
        """The deformation besides the affine motion: "", "ripple", "swirl" or "drip"."""
        return next((VERBS[verb].deform for verb in self.verbs if VERBS[verb].deform), "")


def draw_motion(generator: np.random.Generator, verbs: Sequence[str] | None = None) -> MotionDraw:
    """Draw a motion; a pure function of the generator's state.

    Args:
        verbs: names to draw from, None = all that training draws from.
    """
    names = list(TRAINED if verbs is None else verbs)
    first = names[generator.integers(len(names))]
    drawn = (first,)
    if generator.random() < _COMBINED and VERBS[first].shares:
        second = names[generator.integers(len(names))]
        if second != first and VERBS[second].shares and not _clash(first, second):
            drawn = (first, second)
    amount = list(AMOUNTS)[generator.choice(3, p=_SAID)]
    speed = list(SPEEDS)[generator.choice(3, p=_SAID)]
    return MotionDraw(verbs=drawn, amount=amount, speed=speed,
        amount_factor=float(generator.uniform(*AMOUNTS[amount])),
        speed_factor=float(generator.uniform(*SPEEDS[speed])), side=int(generator.choice([-1, 1])),
        loops=bool(generator.random() < 0.4))  # fmt: skip


def as_shown(draw: MotionDraw, num_frames: int) -> MotionDraw:
    """The motion, without its loop if so few frames would show none of it or another."""
    beats = max(VERBS[name].beats for name in draw.verbs)
    return replace(draw, loops=draw.loops and num_frames > 2 * beats)


def draw_duration_ms(draw: MotionDraw, num_frames: int, generator: np.random.Generator) -> int:
    """How long each of `num_frames` frames is shown, so that the words are true of the clip.

    Loops are whole cycles at the speed drawn, one-way motions go to their end, and no movement has
    fewer than 5 frames (in loops: unless the clip has fewer).
    """
    verbs = [VERBS[name] for name in draw.verbs]
    one_way = [verb.period_ms / draw.speed_factor for verb in verbs if verb.one_way]
    cycles = [verb.period_ms / draw.speed_factor for verb in verbs if not verb.one_way]
    beats = [verb.period_ms / draw.speed_factor / verb.beats for verb in verbs if not verb.one_way]
    low, high = np.log(_TOTAL_MS)
    total_ms = float(np.exp(generator.uniform(low, high)))
    if one_way:
        total_ms = max(one_way) * (1.5 if draw.loops else 1.0)  # a loop goes there and back
    elif draw.loops:
        most = max(1, num_frames // _FRAMES_A_BEAT)
        total_ms = min(cycles) * float(np.clip(round(total_ms / min(cycles)), 1, most))
    step_ms = total_ms / num_frames
    if beats and not draw.loops:
        step_ms = min(step_ms, min(beats) / _FRAMES_A_BEAT)
    return round(float(np.clip(step_ms, *_FRAME_MS)))


def _clash(first: str, second: str) -> bool:
    """Pairs that undo one another."""
    pair = {first, second}
    opposites = ({"grow", "shrink"}, {"slide left", "slide right"}, {"fly", "fall"}, {"stretch",
        "squash"}, {"grow", "vanish"})  # fmt: skip
    return any(opposite <= pair for opposite in opposites)


def motion_parameters(
    draw: MotionDraw, times_ms: np.ndarray, total_ms: float, box: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The parameters of every frame, relative to the still.

    Args:
        times_ms: start of each frame, `[F]`; the still is what is shown at 0.
        total_ms: of the clip, at which a loop is back at its beginning.
        box: the still's (centre x, centre y, left, top, right, bottom) in [−1, 1]; the centre is
            the mean of its alpha.

    Returns:
        (affine parameters float `[F, 6]`: shift x, shift y of the centre in normalised coordinates,
        turn in radians, log-scale x, log-scale y, shear; strength of the deformation `[F]`).
    """
    affine = np.zeros((len(times_ms), 6))
    deform = np.zeros(len(times_ms))
    for name in draw.verbs:
        verb = VERBS[name]
        phase = _phase(verb, draw, times_ms, total_ms)
        parameters = verb.motion(phase)
        if draw.loops and not verb.one_way:
            whole = verb.motion(_phase(verb, draw, np.array([total_ms]), total_ms))
            parameters = _closed(parameters, whole, times_ms / total_ms)
        affine += _about_pivot(verb, draw, parameters, box)
        if "deform" in parameters:
            deform = deform + np.asarray(parameters["deform"])
    return affine, deform


def _phase(verb: Verb, draw: MotionDraw, times_ms: np.ndarray, total_ms: float) -> np.ndarray:
    period_ms = verb.period_ms / draw.speed_factor
    if verb.one_way:
        if draw.loops:  # there and back
            return np.sin(np.pi * times_ms / total_ms) ** 2
        return np.clip(times_ms / min(period_ms, total_ms), 0, 1)
    if draw.loops:
        return times_ms / total_ms * max(1, round(total_ms / period_ms))
    return times_ms / period_ms


def _closed(parameters: Parameters, at_the_end: Parameters, share: np.ndarray) -> Parameters:
    """Without the way that a walk or a lean would have gone when the loop begins again.

    share: of the loop that has passed, `[F]`.
    """
    ways = {name: at_the_end[name] * share for name in ("x", "shear") if name in at_the_end}
    return {**parameters, **{name: parameters[name] - way for name, way in ways.items()}}


def _about_pivot(
    verb: Verb, draw: MotionDraw, parameters: Parameters, box: np.ndarray, share: float = 1.0
) -> np.ndarray:
    """Parameters `[F, 6]` about the centre, of a motion about the verb's pivot."""
    amount = float(np.clip(draw.amount_factor, *verb.amounts)) * share
    side = draw.side if verb.sided else 1

    def get(name: str, factor: float) -> np.ndarray:
        return np.asarray(parameters.get(name, 0.0)) * factor

    x, y = get("x", amount * side), get("y", amount)
    turn, shear = get("turn", amount * side), get("shear", amount * side)
    log_x, log_y = get("sx", amount), get("sy", amount)
    if verb.name in ("spin", "roll", "vanish"):
        turn = get("turn", side)  # whole turns whatever the amount
    centre_x, centre_y, left, top, right, bottom = box
    if "out_x" in parameters:
        out = get("out_x", side)
        x = x + out * np.where(out > 0, 1 - left, 1 + right)
    if "out_y" in parameters:
        out = get("out_y", 1.0)
        y = y + out * np.where(out > 0, 1 - top, 1 + bottom)
    low, high = bottom - centre_y, top - centre_y
    corner = (right if side > 0 else left) - centre_x
    beside, offset = {
        "centre": (0.0, 0.0), "bottom": (0.0, low), "top": (0.0, high), "corner": (corner, low)
    }[verb.pivot]  # fmt: skip
    # The pivot is at (beside, offset) from the centre: G pivot = R (e^a·beside + shear·o, e^b·o).
    moved_x, moved_y = shear * offset + np.exp(log_x) * beside, np.exp(log_y) * offset
    cos, sin = np.cos(turn), np.sin(turn)
    x = x + beside - (cos * moved_x - sin * moved_y)
    y = y + offset - (sin * moved_x + cos * moved_y)
    return np.stack(np.broadcast_arrays(x, y, turn, log_x, log_y, shear), axis=-1)


# --------------------------------------------------------- of one still, to be looked at

_FRAMES_A_MOVE = 2.5  # fewer can't be told from trembling
_PULSES_INWARD = 0.85  # half the size of a thing that has no room to grow
_TREMBLES = 3  # beats a cycle from which on whole cycles don't matter
_EVEN = frozenset({"jump", "bounce", "run"})  # the same before the still as after it
_REVERSED = frozenset({"melt", "vanish", "topple", "droop", "explode", "fade"})
_FEWER = (1.0, 2 / 3, 0.5, 0.4, 0.3)  # of a cycle, where few frames would fall on its rests


def shown_motion(
    draw: MotionDraw, times_ms: np.ndarray, box: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The motion of a clip that is made of one still: whole movements from the first to the last
    frame, whatever their number.

    Args:
        times_ms: start of each frame, before (< 0) or after the still's; in a loop the last is the
            still once more.
        box: as of `motion_parameters`.

    Returns:
        Affine parameters `[F, 6]`, strength of the deformation `[F]`, opacity in [0, 1] `[F]`.
    """
    affine, deform = np.zeros((len(times_ms), 6)), np.zeros(len(times_ms))
    opacity = np.ones(len(times_ms))
    acts = (draw, *draw.then)
    for sign in (-1, 1):
        rows = np.flatnonzero(times_ms * sign > 0)
        if len(rows) == 0:
            continue
        total_ms = float(np.abs(times_ms[rows]).max()) / len(acts)
        for number, act in enumerate(acts):
            began = number if sign > 0 else len(acts) - 1 - number
            elapsed = np.clip(np.abs(times_ms[rows]) - began * total_ms, 0, total_ms)
            arrived = sign > 0 and bool((times_ms < 0).any())
            for index, name in enumerate(act.verbs):
                verb = VERBS[name]
                amount, speed = act.shares[index] if act.shares else (1.0, 1.0)
                side = act.side if act.says_side else draw.side
                how = replace(act, side=side, loops=draw.loops and len(acts) == 1)
                parameters = _shown(verb, how, elapsed, total_ms, speed, sign, arrived)
                if name == "pulse" and np.abs(box[2:]).max() > _PULSES_INWARD:
                    parameters = {key: -np.asarray(value) for key, value in parameters.items()}
                affine[rows] += _about_pivot(verb, how, parameters, box, amount)
                deform[rows] += parameters.get("deform", 0.0)
                factor = np.clip(act.amount_factor, *verb.amounts) * amount
                opacity[rows] += parameters.get("opacity", 0.0) * factor
    return affine, deform, opacity.clip(0, 1)


def _shown(
    verb: Verb,
    draw: MotionDraw,
    elapsed: np.ndarray,
    total_ms: float,
    speed: float,
    sign: int,
    arrived: bool,
) -> Parameters:
    """Parameters of one verb on one side of the still; `elapsed`, `total_ms`: away from it."""
    share = elapsed / total_ms
    if verb.arrives:
        if arrived:
            return verb.motion(np.ones(len(share)))
        first = share[share > 0].min(initial=1.0)
        onward = 1 - 0.9 * (1 - share) / max(1 - first, 1e-6) if first < 1 else share * 0.5
        return verb.motion(np.where(share > 0, onward, 1.0) if sign > 0 else 1 - share)
    period_ms = verb.period_ms / (draw.speed_factor * speed)
    if verb.one_way:
        progress = np.clip(elapsed / min(period_ms, total_ms), 0, 1)
        if draw.loops:
            progress = np.sin(np.pi * share) ** 2
        parameters = verb.motion(progress)
        if sign < 0 and verb.name not in _REVERSED:
            return {name: -np.asarray(value) for name, value in parameters.items()}
        return parameters
    cycles = _whole_cycles(verb, draw, share, total_ms / period_ms)
    whole = verb.motion(np.array([cycles]))
    if verb.name in ("jump", "bounce") and not draw.loops and len(share) > 3:
        before = share[share < 1].max()  # it lands there, and then stands as it stood
        share = np.where(share < 1, share / (before if len(share) > 5 else 1.0), 0)
    parameters = verb.motion(share * cycles * (sign if verb.name not in _EVEN else 1))
    if verb.name == "run" and len(share) > 3:  # it leans in and rights itself
        upright = np.minimum(4 * (1 - share), 1)
        return {**parameters, "shear": parameters["shear"] * upright}
    return _closed(parameters, whole, share) if draw.loops else parameters


def _whole_cycles(verb: Verb, draw: MotionDraw, share: np.ndarray, natural: float) -> float:
    """How many cycles are done, so that the last frame ends the last of them."""
    frames = len(np.unique(share[share > 0]))
    if verb.beats >= _TREMBLES and not draw.loops:
        return natural
    most = max(1, int(frames / (_FRAMES_A_MOVE * min(verb.beats, _TREMBLES))))
    wanted = max(1, round(natural))
    if draw.speed == "fast":  # faster than without that word, whatever rounding makes of it
        wanted = max(wanted, round(natural / draw.speed_factor) + 1, 2)
    cycles = float(min(wanted, most))
    if draw.loops and verb.beats > 1 and frames < 2 * verb.beats + 2:
        return min(cycles, 1 / 3 if frames > 2 else 2 / 3)
    if draw.cycles:  # a bounce's are its hops
        counted = verb.beats if verb.name == "bounce" else 1
        cycles = min(draw.cycles, max(1, frames // 2)) / counted
    full = _reach(verb.motion(np.linspace(0, max(cycles, 1), 120)))
    for part in (cycles, *_FEWER):
        if _reach(verb.motion(share * part)) > 0.35 * full:
            return part
    return cycles


def _reach(parameters: Parameters) -> float:
    """How far it goes from the still; whole turns, and waves, are none."""
    values = [
        np.abs(np.sin(np.asarray(value) / 2) * 2 if name == "turn" else
               np.sin(np.pi * np.asarray(value)) if name == "deform" else np.asarray(value)).max()
        for name, value in parameters.items()
    ]  # fmt: skip
    return float(max(values))


# How much of a thing may slide out of the canvas where the words say to which side it goes.
_SLIDING = {"slide left": 0.25, "slide right": 0.25, "roll": 0.25}
_MOST_SHRINKING = 0.78  # to make room for a movement, before the movement itself becomes smaller


def kept_in_canvas(
    affine: np.ndarray,
    outline: np.ndarray,
    centre: np.ndarray,
    out_x: float = 0.0,
    most_shrinking: float = _MOST_SHRINKING,
) -> np.ndarray:
    """The motion, with the thing kept in the canvas: smaller where there is no room, then moved
    less far.

    Args:
        affine: `[F, 6]`; outline: points of the still (x, y), `[n, 2]`; centre: `[2]`;
        out_x: share of the thing's width that may leave the canvas to either side;
        most_shrinking: how small it may become for that, besides what turning it takes.

    Returns:
        `[F, 6]`; what lies beyond the canvas in the still may do so in any frame.
    """
    shift, turn, log_x, log_y, shear = np.split(affine, [2, 3, 4, 5], axis=1)
    x, y = (outline - centre).T
    bent_x, bent_y = np.exp(log_x) * x + shear * y, np.exp(log_y) * y  # [F, n]
    turned = [np.cos(turn) * bent_x - np.sin(turn) * bent_y,
              np.sin(turn) * bent_x + np.cos(turn) * bent_y]  # fmt: skip
    low = np.stack([part.min(1) for part in turned], 1)  # [F, 2] from the centre
    high = np.stack([part.max(1) for part in turned], 1)
    size = np.maximum(high - low, 1e-6)
    free = np.array([out_x, 0.0]) * size
    least = np.minimum(-1, outline.min(0)) - centre - free
    most = np.maximum(1, outline.max(0)) - centre + free
    fit = np.minimum(1, (most - least) / size).min(1, keepdims=True)
    moves = np.abs(affine).max(1, keepdims=True) > 0
    near = np.pad(fit, ((1, 1), (0, 0)), constant_values=1.0)  # else what turns would pulsate
    fit = np.where(moves, np.minimum(np.minimum(near[:-2], near[2:]), fit), fit)
    beyond = np.maximum(least - (shift + low), shift + high - most).clip(0).max(1, keepdims=True)
    room = np.maximum(1 - beyond / size.max(1, keepdims=True), most_shrinking)
    scale = np.minimum(fit, room)
    shift = np.clip(
        shift, least - low * scale, np.maximum(most - high * scale, least - low * scale)
    )
    return np.concatenate(
        [shift, turn, log_x + np.log(scale), log_y + np.log(scale), shear * scale], axis=1
    )


def within_canvas(
    draw: MotionDraw, affine: np.ndarray, outline: np.ndarray, centre: np.ndarray
) -> np.ndarray:
    """`kept_in_canvas`, unless the words lead out of it."""
    verbs = {verb for act in (draw, *draw.then) for verb in act.verbs}
    if any(VERBS[verb].leaves for verb in verbs):
        return affine
    out_x = max(_SLIDING.get(verb, 0.0) for verb in verbs)
    return kept_in_canvas(
        affine, outline, centre, out_x, 1.0 if "topple" in verbs else _MOST_SHRINKING
    )
