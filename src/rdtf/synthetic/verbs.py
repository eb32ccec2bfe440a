"""The verbs of the motion grammar: what each does to a still over time.

A verb maps a phase to the six affine parameters of a frame, see `models/motion_latents.py`:
shift (x, y) in normalised coordinates (-1 to 1 over the canvas), turn in radians, log-scale along
x and y, and shear, about a pivot of the still. Every verb is the identity at phase 0 (those that
arrive: at 1), so that the still is the first frame. `out_x` and `out_y` are shifts too, 1 = until
nothing is seen any more to the right or below; `opacity` is added to 1.

Periodic verbs take the number of cycles done; one-way verbs take progress in [0, 1].
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rdtf.errors import UserError

Phase = np.ndarray
Parameters = Mapping[str, np.ndarray | float]

_TURN = 2 * np.pi


def _sin(cycles: Phase) -> np.ndarray:
    return np.sin(_TURN * cycles)


def _hop(cycles: Phase) -> np.ndarray:
    """One arc a cycle: 0 at whole cycles, 1 in the middle."""
    return np.abs(np.sin(np.pi * cycles))


def _there_and_back(cycles: Phase) -> np.ndarray:
    """0 at whole cycles, 1 in the middle, smooth."""
    return np.sin(np.pi * cycles) ** 2


def _ease(progress: Phase) -> np.ndarray:
    return progress**2 * (3 - 2 * progress)


def _jump(p: Phase) -> Parameters:
    high = 4 * (p % 1) * (1 - p % 1)
    ground = np.clip(1 - 4 * high, 0, 1) * np.minimum(p * 8, 1)
    return {"y": -0.45 * high, "sy": 0.1 * high - 0.18 * ground, "sx": 0.12 * ground}


def _bounce(p: Phase) -> Parameters:
    high = _hop(2 * p)
    ground = np.clip(1 - 2.5 * high, 0, 1) * np.minimum(p * 8, 1)
    return {"y": -0.16 * high, "sy": -0.4 * ground, "sx": 0.25 * ground}


def _roll(p: Phase) -> Parameters:
    return {"x": 0.6 * _ease(p), "turn": _TURN * _ease(p)}


def _tremble(p: Phase) -> Parameters:
    return {
        "x": 0.035 * np.sin(_TURN * 7 * p),
        "y": 0.03 * np.sin(_TURN * 5 * p),
        "turn": 0.05 * np.sin(_TURN * 6 * p),
    }


def _melt(p: Phase) -> Parameters:
    return {"sy": -1.1 * _ease(p), "sx": 0.4 * _ease(p), "deform": _ease(p)}


def _fly(p: Phase) -> Parameters:
    return {
        "y": -1.5 * p**1.6,
        "x": 0.3 * p,
        "turn": 0.25 * np.minimum(p * 2, 1),
        "sy": -0.25 * p,
        "sx": -0.25 * p,
    }


def _waddle(p: Phase) -> Parameters:
    return {"turn": 0.2 * _sin(2 * p), "y": -0.06 * np.abs(_sin(2 * p)), "x": 0.25 * p}


def _dance(p: Phase) -> Parameters:
    return {
        "x": 0.22 * _sin(p),
        "turn": 0.28 * _sin(p),
        "sy": -0.22 * np.abs(_sin(2 * p)),
        "sx": 0.12 * np.abs(_sin(2 * p)),
    }


def _run(p: Phase) -> Parameters:
    into = np.minimum(p * 4, 1)
    return {"shear": -0.3 * into, "y": -0.09 * np.abs(_sin(2 * p)), "x": 0.06 * _sin(p)}


def _circle(p: Phase) -> Parameters:
    return {"x": 0.3 * _sin(p), "y": -0.3 * (1 - np.cos(_TURN * p))}


def _vanish(p: Phase) -> Parameters:
    return {"sx": -2.3 * _ease(p), "sy": -2.3 * _ease(p), "turn": _TURN * 0.75 * _ease(p)}


def _topple(p: Phase) -> Parameters:
    """Falls over to its side, faster and faster, and bounces a little."""
    landed = np.clip((p - 0.7) / 0.3, 0, 1)
    turn = np.minimum(p / 0.7, 1) ** 2 - 0.12 * np.sin(np.pi * landed)
    return {"turn": _TURN / 4 * turn}


def _lunge(p: Phase) -> Parameters:
    """Leans back, leaps forward, and returns."""
    p = p % 1
    back = np.sin(np.pi * np.minimum(p / 0.3, 1))
    forward = np.sin(np.pi * np.clip((p - 0.3) / 0.7, 0, 1))
    return {"x": 0.36 * forward - 0.08 * back, "turn": 0.22 * forward - 0.1 * back}


def _flip(p: Phase) -> Parameters:
    return {"sx": np.log(np.maximum(np.abs(np.cos(np.pi * p)), 0.08))}


def _explode(p: Phase) -> Parameters:
    size = 1.1 * np.clip(p / 0.7 - 0.4, 0, 1) - 0.25 * np.sin(np.pi * np.minimum(p / 0.4, 1))
    shaking = 0.03 * np.sin(_TURN * 6 * p)
    return {"sx": size, "sy": size, "x": shaking, "opacity": -_ease(np.clip(2.2 * p - 1.2, 0, 1))}


def _appear(p: Phase) -> Parameters:
    """Pops up from a point, a little too large at first."""
    size = -2.3 * (1 - np.minimum(p / 0.7, 1)) ** 2 + 0.12 * np.sin(
        np.pi * np.clip((p - 0.55) / 0.45, 0, 1)
    )
    return {"sx": size, "sy": size, "opacity": np.minimum(p * 8, 1) - 1}


def _drop_in(p: Phase) -> Parameters:
    """Falls to its place and bounces once."""
    fall = 1 - np.minimum(p / 0.6, 1) ** 2
    bounce = np.sin(np.pi * np.clip((p - 0.6) / 0.4, 0, 1))
    return {"out_y": -fall, "y": -0.12 * bounce}


def _peek(p: Phase) -> Parameters:
    """Ducks until little is seen, and comes up again."""
    return {"out_y": np.minimum(1.2 * _there_and_back(p), 0.72)}


@dataclass(frozen=True)
class Verb:
    """One verb.

    name: what `--motion` takes.
    gerunds: phrasings for captions, the plainest first.
    motion: phase → parameters for amount 1.
    period_ms: of one cycle (periodic) or of the whole motion (one-way) at normal speed.
    pivot: what stays in place when it turns or scales: "centre", "bottom", "top", or the "corner"
        at the bottom of the side to which it goes.
    one_way: it ends elsewhere than it began; arrives: it ends where the still is.
    leaves: it may lead out of the canvas.
    sided: x, turn and shear may be mirrored.
    deform: a smooth deformation besides: "", "ripple", "swirl" or "drip".
    beats: movements within a cycle, which take so many times the frames.
    amounts: least and most amount that looks right; (1, 1) if it has no more or less.
    """

    name: str
    gerunds: tuple[str, ...]
    motion: Callable[[Phase], Parameters]
    period_ms: float = 1000.0
    pivot: str = "centre"
    one_way: bool = False
    sided: bool = True
    deform: str = ""
    amounts: tuple[float, float] = (0.4, 1.7)
    beats: int = 1
    shares: bool = True  # whether it can be combined with another verb
    arrives: bool = False
    leaves: bool = False

    @property
    def has_amount(self) -> bool:
        """Whether "a little" and "a lot" change it."""
        return self.amounts[0] < self.amounts[1]


_ALL = (
    Verb("jump", ("jumping", "leaping", "jumping up and down"), _jump, 900, "bottom"),
    Verb("bounce", ("bouncing", "bouncing like a ball"), _bounce, 1100, "bottom", beats=2),
    Verb("spin", ("spinning", "spinning around", "rotating", "turning around and around",
        "whirling"), lambda p: {"turn": _TURN * p}, 1300, amounts=(1.0, 1.0)),
    Verb("roll", ("rolling", "rolling away", "rolling along"), _roll, 1300, one_way=True),
    Verb("shake", ("shaking", "shaking from side to side", "shaking its head"),
        lambda p: {"x": 0.13 * _sin(p)}, 330),
    Verb("tremble", ("trembling", "shivering", "vibrating"), _tremble, 1000, beats=7),
    Verb("nod", ("nodding", "nodding its head", "nodding yes"),
        lambda p: {"sy": -0.2 * _there_and_back(p), "y": 0.05 * _there_and_back(p)}, 600, "bottom"),
    Verb("sway", ("swaying", "swaying from side to side", "rocking"),
        lambda p: {"turn": 0.3 * _sin(p)}, 1400, "bottom"),
    Verb("swing", ("swinging", "dangling", "swinging like a pendulum"),
        lambda p: {"turn": 0.5 * _sin(p)}, 1300, "top"),
    Verb("wobble", ("wobbling", "wobbling like jelly", "jiggling"),
        lambda p: {"shear": 0.4 * _sin(p)}, 650, "bottom"),
    Verb("tilt", ("tilting", "leaning over", "tilting to one side"),
        lambda p: {"turn": 0.5 * _ease(p)}, 800, one_way=True),
    Verb("grow", ("growing", "getting bigger", "becoming larger"), lambda p: {"sx": 0.55 * _ease(p),
        "sy": 0.55 * _ease(p)}, 1200, one_way=True, leaves=True),
    Verb("shrink", ("shrinking", "getting smaller", "becoming tiny"),
        lambda p: {"sx": -0.9 * _ease(p), "sy": -0.9 * _ease(p)}, 1200, one_way=True),
    Verb("pulse", ("pulsing", "beating like a heart", "throbbing"),
        lambda p: {"sx": 0.25 * _there_and_back(p), "sy": 0.25 * _there_and_back(p)}, 700),
    Verb("breathe", ("breathing", "breathing calmly", "breathing in and out"),
        lambda p: {"sy": 0.09 * _there_and_back(p), "sx": -0.03 * _there_and_back(p)}, 1800,
        "bottom"),
    Verb("slide left", ("sliding left", "moving to the left", "sliding to the left"),
        lambda p: {"x": -0.7 * _ease(p)}, 1000, one_way=True, sided=False),
    Verb("slide right", ("sliding right", "moving to the right", "sliding to the right"),
        lambda p: {"x": 0.7 * _ease(p)}, 1000, one_way=True, sided=False),
    Verb("fly", ("flying away", "taking off", "flying up"), _fly, 1200, one_way=True, leaves=True),
    Verb("fall", ("falling", "falling down", "dropping"), lambda p: {"y": 1.4 * p**2}, 900,
        one_way=True, leaves=True),
    Verb("float", ("floating", "hovering", "floating in the air"), lambda p: {"y": -0.13 * _sin(p),
        "x": 0.04 * _sin(2 * p)}, 1800),
    Verb("melt", ("melting", "melting away", "melting into a puddle"), _melt, 1500, "bottom",
        one_way=True, deform="drip"),
    Verb("stretch", ("stretching", "stretching up", "stretching tall"),
        lambda p: {"sy": 0.45 * _there_and_back(p), "sx": -0.25 * _there_and_back(p)}, 1000,
        "bottom"),
    Verb("squash", ("squashing", "getting squashed", "flattening"),
        lambda p: {"sy": -0.65 * _there_and_back(p), "sx": 0.3 * _there_and_back(p)}, 1000,
        "bottom"),
    Verb("circle", ("circling", "going in circles", "moving in a circle"), _circle, 1200),
    Verb("waddle", ("waddling", "walking", "toddling along"), _waddle, 1000, "bottom", beats=2),
    Verb("dance", ("dancing", "dancing happily", "grooving"), _dance, 1000, "bottom", beats=2),
    Verb("run", ("running", "sprinting", "running fast"), _run, 600, "bottom", beats=2),
    Verb("bow", ("bowing", "bowing down", "taking a bow"),
         lambda p: {"turn": 0.8 * _there_and_back(p)}, 1200, "bottom"),
    Verb("ripple", ("rippling", "waving in the wind", "fluttering like a flag"),
        lambda p: {"deform": p}, 800, deform="ripple", amounts=(1.0, 1.0), shares=False),
    Verb("swirl", ("swirling", "twisting", "twisting like a whirlpool"),
        lambda p: {"deform": _there_and_back(p)}, 1300, deform="swirl", amounts=(1.0, 1.0),
        shares=False),
    Verb("vanish", ("vanishing", "disappearing", "fading into nothing"), _vanish, 1200,
         one_way=True, leaves=True),
)  # fmt: skip

# Done by name and by words, but not drawn for training: what the networks learned stays the same.
_MORE = (
    Verb("topple", ("toppling over", "falling over", "collapsing"), _topple, 900, "corner",
         one_way=True, amounts=(1.0, 1.0)),
    Verb("droop", ("drooping", "slumping", "wilting"), lambda p: {"sy": -0.3 * _ease(p),
        "sx": 0.08 * _ease(p), "turn": 0.14 * _ease(p)}, 1200, "bottom", one_way=True),
    Verb("lunge", ("lunging", "lunging forward", "attacking"), _lunge, 900, "bottom"),
    Verb("flip", ("flipping over", "turning like a coin", "flipping like a card"), _flip, 1000,
         amounts=(1.0, 1.0)),
    Verb("flicker", ("flickering", "flashing", "twinkling"),
         lambda p: {"opacity": -0.8 * _there_and_back(p)}, 500, amounts=(0.4, 1.2)),
    Verb("fade", ("fading", "fading away", "fading out"), lambda p: {"opacity": -_ease(p)},
         1000, one_way=True, amounts=(1.0, 1.0)),
    Verb("explode", ("exploding", "blowing up", "bursting"), _explode, 1000, one_way=True,
         amounts=(1.0, 1.0), leaves=True),
    Verb("exit", ("leaving", "going away", "moving out of sight"),
         lambda p: {"out_x": p**1.5}, 1000, one_way=True, amounts=(1.0, 1.0), leaves=True),
    Verb("enter", ("coming in", "entering", "sliding in"), lambda p: {"out_x": (1 - p) ** 2}, 1000,
        one_way=True, amounts=(1.0, 1.0), leaves=True, arrives=True),
    Verb("appear", ("appearing", "popping up", "materializing"), _appear, 1000, one_way=True,
         amounts=(1.0, 1.0), arrives=True),
    Verb("fade in", ("fading in",), lambda p: {"opacity": _ease(p) - 1}, 1000, one_way=True,
         amounts=(1.0, 1.0), arrives=True),
    Verb("drop in", ("dropping in", "coming down from above"), _drop_in, 1000, one_way=True,
         amounts=(1.0, 1.0), leaves=True, arrives=True),
    Verb("rise", ("rising", "coming up from below"), lambda p: {"out_y": (1 - p) ** 2}, 1000,
         one_way=True, amounts=(1.0, 1.0), leaves=True, arrives=True),
    Verb("peek", ("peeking", "peeking out", "playing peekaboo"), _peek, 1200,
         amounts=(1.0, 1.0), leaves=True),
    Verb("stand", ("standing still", "motionless"), lambda p: {"x": 0.0 * p}, 1000,
         amounts=(1.0, 1.0), shares=False),
)  # fmt: skip

VERBS: dict[str, Verb] = {verb.name: verb for verb in (*_ALL, *_MORE)}
"""All verbs by name."""
TRAINED: tuple[str, ...] = tuple(verb.name for verb in _ALL)
"""Verbs that training draws from."""


def find_verb(name: str, among: Sequence[str] = tuple(VERBS)) -> Verb:
    """The verb called `name`, or that `name` is a phrasing of ("jump", "slide-left", "leaping").

    Args:
        among: names of the verbs that are asked for.

    Raises:
        UserError: there is none; names the nearest.
    """
    wanted = " ".join(name.lower().replace("-", " ").replace("_", " ").split())
    verbs = [VERBS[verb] for verb in among]
    known = {word: verb for verb in verbs for word in (*verb.gerunds, verb.name)}
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted, known, n=6, cutoff=0.6)
    names = list(dict.fromkeys(known[word].name for word in near))[:3]
    advice = f"did you mean {' or '.join(names)}?" if names else f"use one of {', '.join(among)}"
    raise UserError(f"motion {name!r} is unknown; {advice}")
