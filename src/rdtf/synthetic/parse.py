"""From words to a motion of the grammar: "jumping slowly while spinning" → verbs, speed, amount."""

from __future__ import annotations

import re

from rdtf.synthetic.grammar import AMOUNTS, SPEEDS, VERBS, MotionDraw
from rdtf.synthetic.phrases import AMOUNT_WORDS, SPEED_WORDS

_MOST_VERBS = 2


def motion_of(words: str, side: int = 1, loops: bool = False) -> MotionDraw | None:
    """The motion that words of the grammar ask for; None if they name none of its verbs.

    Whole phrases count, the longest first ("bouncing like a ball" before "bouncing"); at most two
    verbs, in the order in which they are named.

    Args:
        side: −1 or 1, to which side; loops: whether it ends where it began.
    """
    text = " ".join(re.findall(r"[a-z]+", words.lower()))
    phrases = {phrase: verb.name for verb in VERBS.values() for phrase in verb.gerunds}
    found: list[tuple[int, str]] = []
    for phrase in sorted(phrases, key=len, reverse=True):
        match = re.search(rf"\b{re.escape(phrase)}\b", text)
        if match:
            found.append((match.start(), phrases[phrase]))
            text = text[: match.start()] + "." * len(phrase) + text[match.end() :]
    verbs = tuple(dict.fromkeys(verb for _, verb in sorted(found)))[:_MOST_VERBS]
    if not verbs:
        return None
    amount, speed = _said(text, AMOUNT_WORDS), _said(text, SPEED_WORDS)
    return MotionDraw(
        verbs=verbs,
        amount=amount,
        speed=speed,
        amount_factor=sum(AMOUNTS[amount]) / 2,
        speed_factor=sum(SPEEDS[speed]) / 2,
        side=side,
        loops=loops,
    )


def _said(text: str, words: dict[str, tuple[str, ...]]) -> str:
    """Which of the degrees is said, "" if none."""
    for degree, phrases in words.items():
        if any(re.search(rf"\b{re.escape(phrase)}\b", text) for phrase in phrases):
            return degree
    return ""
