"""Draws of the motion grammar: verb, amount, speed, side, combination, timing.

The truth is exact: no matching is needed to know how things moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rdtf.synthetic.verbs import VERBS, Parameters, Verb

# Words for how much and how fast, and the factors that they stand for.
AMOUNTS: dict[str, tuple[float, float]] = {
    "little": (0.4, 0.6),
    "": (0.8, 1.15),
    "much": (1.4, 1.7),
}
SPEEDS: dict[str, tuple[float, float]] = {
    "slow": (0.45, 0.65),
    "": (0.85, 1.15),
    "fast": (1.6, 2.1),
}
_SAID = (0.2, 0.6, 0.2)
_COMBINED = 0.15
_TOTAL_MS = (700.0, 1600.0)  # of clips of periodic motion
_FRAME_MS = (20.0, 250.0)  # browsers slow shorter frames down; longer ones are no motion
_FRAMES_A_BEAT = 5  # fewer can't be told from standing still


@dataclass(frozen=True)
class MotionDraw:
    """One motion: what the caption says and what the parameters are made from.

    verbs: one, or two at the same time; amount, speed: keys of AMOUNTS and SPEEDS;
    amount_factor, speed_factor: numbers drawn for them; side: −1 or 1;
    loops: the frame behind the last is the first.
    """

    verbs: tuple[str, ...]
    amount: str = ""
    speed: str = ""
    amount_factor: float = 1.0
    speed_factor: float = 1.0
    side: int = 1
    loops: bool = False

    @property
    def deform(self) -> str:
        """The deformation besides the affine motion: "", "ripple", "swirl" or "drip"."""
        return next((VERBS[verb].deform for verb in self.verbs if VERBS[verb].deform), "")


def draw_motion(generator: np.random.Generator, verbs: Sequence[str] | None = None) -> MotionDraw:
    """Draw a motion; a pure function of the generator's state.

    Args:
        verbs: names to draw from, None = all.
    """
    names = list(VERBS if verbs is None else verbs)
    first = names[generator.integers(len(names))]
    drawn = (first,)
    if generator.random() < _COMBINED and VERBS[first].shares:
        second = names[generator.integers(len(names))]
        if second != first and VERBS[second].shares and not _clash(first, second):
            drawn = (first, second)
    amount = list(AMOUNTS)[generator.choice(3, p=_SAID)]
    speed = list(SPEEDS)[generator.choice(3, p=_SAID)]
    return MotionDraw(
        verbs=drawn,
        amount=amount,
        speed=speed,
        amount_factor=float(generator.uniform(*AMOUNTS[amount])),
        speed_factor=float(generator.uniform(*SPEEDS[speed])),
        side=int(generator.choice([-1, 1])),
        loops=bool(generator.random() < 0.4),
    )


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
    opposites = (
        {"grow", "shrink"},
        {"slide left", "slide right"},
        {"fly", "fall"},
        {"stretch", "squash"},
        {"grow", "vanish"},
    )
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
    verb: Verb, draw: MotionDraw, parameters: Parameters, box: np.ndarray
) -> np.ndarray:
    """Parameters `[F, 6]` about the centre, of a motion about the verb's pivot."""
    low, high = verb.amounts
    amount = float(np.clip(draw.amount_factor, low, high))
    side = draw.side if verb.sided else 1

    def get(name: str, factor: float) -> np.ndarray:
        return np.asarray(parameters.get(name, 0.0)) * factor

    x, y = get("x", amount * side), get("y", amount)
    turn, shear = get("turn", amount * side), get("shear", amount * side)
    log_x, log_y = get("sx", amount), get("sy", amount)
    if verb.name in ("spin", "roll", "vanish"):
        turn = get("turn", side)  # whole turns whatever the amount
    _, centre_y, _, top, _, bottom = box
    offset = {"centre": 0.0, "bottom": bottom - centre_y, "top": top - centre_y}[verb.pivot]
    # The pivot lies at (0, offset) from the centre: G (0, offset) = R (shear·o, e^b·o).
    moved_x, moved_y = shear * offset, np.exp(log_y) * offset
    cos, sin = np.cos(turn), np.sin(turn)
    x = x - (cos * moved_x - sin * moved_y)
    y = y + offset - (sin * moved_x + cos * moved_y)
    return np.stack(np.broadcast_arrays(x, y, turn, log_x, log_y, shear), axis=-1)


# Motions that lead away, or fill the canvas, because that is what they are.
_LEAVING = frozenset({"fly", "fall", "grow", "melt", "vanish"})
_SMALLER = (1.0, 0.85, 0.7, 0.55, 0.4)


def within_canvas(
    draw: MotionDraw, times_ms: np.ndarray, total_ms: float, box: np.ndarray
) -> MotionDraw:
    """The motion, smaller if it would lead out of the canvas; as it is if that is what it does.

    Args: those of `motion_parameters`.
    """
    if draw.amount or set(draw.verbs) & _LEAVING:
        return draw
    smaller = draw
    for factor in _SMALLER:
        smaller = replace(draw, amount_factor=draw.amount_factor * factor)
        affine, _ = motion_parameters(smaller, times_ms, total_ms, box)
        if _overhang(affine, box).max() <= _overhang(affine[:1] * 0, box)[0] + 0.03:
            break
    return smaller


def _overhang(affine: np.ndarray, box: np.ndarray) -> np.ndarray:
    """How far the box of the moved thing reaches beyond the canvas, `[F]`; 0 = not."""
    centre_x, centre_y, left, top, right, bottom = box
    x = np.array([left, right, left, right]) - centre_x
    y = np.array([top, top, bottom, bottom]) - centre_y
    shift_x, shift_y, turn, log_x, log_y, shear = (affine[:, [k]] for k in range(6))
    stretched_x, stretched_y = np.exp(log_x) * x + shear * y, np.exp(log_y) * y
    moved_x = np.cos(turn) * stretched_x - np.sin(turn) * stretched_y + centre_x + shift_x
    moved_y = np.sin(turn) * stretched_x + np.cos(turn) * stretched_y + centre_y + shift_y
    reach = np.maximum(np.abs(moved_x), np.abs(moved_y)).max(1)
    return np.maximum(reach - 1, 0)
