"""Captions of the motion grammar, several phrasings of who does what, how much and how fast."""

from __future__ import annotations

import re

import numpy as np

from rdtf.synthetic.grammar import VERBS, MotionDraw

AMOUNT_WORDS = {"little": ("a little", "slightly", "gently", "softly"), "much": ("a lot", "wildly",
    "strongly", "like crazy")}  # fmt: skip
SPEED_WORDS = {"slow": ("slowly", "in slow motion"), "fast": ("fast", "quickly", "rapidly")}
_OWN_SPEED = {"fast", "calmly", "sprinting"}
_TEMPLATES = (("{name} {action}", 4.0), ("a {name} {action}", 2.0), ("{name}, {action}", 2.0),
    ("the {name} is {action}", 1.0), ("{action}", 4.0), ("it is {action}", 0.5), ("{action} {name}",
    0.5))  # fmt: skip
_JOINTS = (" while ", " and ", ", ")


def draw_caption(draw: MotionDraw, name: str, generator: np.random.Generator) -> str:
    """One caption of a motion over a still called `name` ("" if it has no name).

    An article or full stop of the name's own is left out where the phrasing has one.
    """
    action = draw_action(draw, generator)
    weights = np.array([weight for _, weight in _TEMPLATES])
    template = _TEMPLATES[generator.choice(len(_TEMPLATES), p=weights / weights.sum())][0]
    if not name:
        return action
    bare = re.sub(r"^(?:an?|the)\s+(?=\S)", "", name.strip().rstrip("."), flags=re.IGNORECASE)
    if template.startswith("a {name}") and bare[:1].lower() in "aeiou":
        template = f"an{template[1:]}"
    return template.format(name=bare, action=action)


def draw_action(draw: MotionDraw, generator: np.random.Generator) -> str:
    """What it does, with adverbs: "jumping while spinning slowly"."""

    def pick(words: tuple[str, ...]) -> str:
        return words[min(int(len(words) * generator.random() ** 1.5), len(words) - 1)]

    gerunds = [pick(_gerunds(verb, draw)) for verb in draw.verbs]
    action = _JOINTS[generator.integers(len(_JOINTS))].join(gerunds)
    adverbs = []
    if draw.speed:
        adverbs.append(pick(SPEED_WORDS[draw.speed]))
    if draw.amount and any(VERBS[verb].has_amount for verb in draw.verbs):
        adverbs.append(pick(AMOUNT_WORDS[draw.amount]))
    if not adverbs:
        return action
    said = " and ".join(adverbs)
    before = generator.random() < 0.3 and all(adverb.endswith("ly") for adverb in adverbs)
    return f"{said} {action}" if before else f"{action} {said}"


def _gerunds(verb: str, draw: MotionDraw) -> tuple[str, ...]:
    """Phrasings that say nothing of speed themselves where the draw does."""
    gerunds = VERBS[verb].gerunds
    if not draw.speed:
        return gerunds
    return tuple(gerund for gerund in gerunds if not _OWN_SPEED & set(gerund.split()))
