"""Captions of motions, and from everyday words back to a motion: "fainting" → topple, "jumps, then
spins".

The vocabulary is `words.txt`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import numpy as np

from rdtf.synthetic.grammar import AMOUNTS, SPEEDS, VERBS, MotionDraw

AMOUNT_WORDS = {"little": ("a little", "slightly", "gently", "softly"), "much": ("a lot", "wildly",
    "strongly", "like crazy")}  # fmt: skip
SPEED_WORDS = {"slow": ("slowly", "in slow motion"), "fast": ("fast", "quickly", "rapidly")}
_OWN_SPEED = {"fast", "calmly", "sprinting"}
_TEMPLATES = (
    ("{name} {action}", 4.0),
    ("a {name} {action}", 2.0),
    ("{name}, {action}", 2.0),
    ("the {name} is {action}", 1.0),
    ("{action}", 4.0),
    ("it is {action}", 0.5),
    ("{action} {name}", 0.5),
)
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


_TIMES = {"once": 1, "twice": 2, "thrice": 3}
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
# Verbs that go somewhere when a side is named with them.
_GOES = frozenset({"run", "waddle", "jump", "bounce", "float", "fly", "dance", "wobble"})
_MOST_VERBS, _MOST_ACTS = 3, 3
_DEGREES = {**AMOUNT_WORDS, **SPEED_WORDS}
_IDLE = "sway*.22@.8+breathe*.8"


@dataclass(frozen=True)
class _Entry:
    """A phrase as words, what it asks for, and whether it is a mood."""

    words: tuple[str, ...]
    recipe: str
    is_mood: bool


@cache
def _entries() -> tuple[_Entry, ...]:
    found: dict[tuple[str, ...], _Entry] = {}
    for verb in VERBS.values():
        names = () if verb.name in ("stand", "fly") else (verb.name,)  # said, they are others
        for phrase in (*verb.gerunds, *names):
            words = _bare(phrase.split())
            found[words] = _Entry(words, verb.name, False)
    for section in ("actions", "moods"):
        for line in _vocabulary()[section]:
            recipe, asked = (part.strip() for part in line.split("|"))
            for phrase in asked.split(","):
                words = _bare(phrase.split())
                found.setdefault(words, _Entry(words, recipe, section == "moods"))
    return tuple(found.values())


@cache
def _words(section: str) -> frozenset[str]:
    """A section of single words or phrases with commas between."""
    return frozenset(part.strip() for line in _vocabulary()[section] for part in line.split(","))


@cache
def _vocabulary() -> dict[str, list[str]]:
    """Lines of words.txt by section."""
    text = files("rdtf.synthetic").joinpath("words.txt").read_text("utf-8")
    sections: dict[str, list[str]] = {}
    for line in re.sub(r"^#.*\n|\n +", "", text, flags=re.MULTILINE).splitlines():
        if line.startswith("["):
            sections[line.strip("[]")] = []
        elif line:
            sections[list(sections)[-1]].append(line)
    return sections


@cache
def _by_first_word() -> dict[str, tuple[_Entry, ...]]:
    """Entries by their first word, the longest first."""
    index: dict[str, list[_Entry]] = {}
    for entry in sorted(_entries(), key=lambda entry: -len(entry.words)):
        index.setdefault(entry.words[0], []).append(entry)
    return {form: tuple(entries) for form, entries in index.items()}


def _bare(words: list[str]) -> tuple[str, ...]:
    return tuple(word for word in words if word not in _words("fillers"))


@cache
def _forms(word: str) -> frozenset[str]:
    """What the word may be an ending of: "waving" → waving, wave, wav."""
    forms = {word}
    if len(word) > 4 and word.endswith("ing"):
        stem = word[:-3]
        forms |= {stem, f"{stem}e"}
        if len(stem) > 2 and stem[-1] == stem[-2]:
            forms.add(stem[:-1])
        if stem.endswith("y"):
            forms.add(f"{stem[:-1]}ie")
        if stem.endswith("ck"):
            forms.add(stem[:-1])
    elif len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        forms |= {word[:-1], word[:-2] if word.endswith("es") else word[:-1]}
        if word.endswith("ies"):
            forms.add(f"{word[:-3]}y")
    return frozenset(forms)


@dataclass(frozen=True)
class _Found:
    entry: _Entry
    start: int
    end: int
    is_negated: bool


def motion_of(words: str) -> MotionDraw | None:
    """The motion that words ask for; None if they name none.

    Whole phrases count, the longest first ("bouncing like a ball" before "bouncing"). Several verbs
    are done at once, or one after the other where "then" is between them. A side, a count, how
    much and how fast may be said; moods count where no action is named; "not" takes a verb back.
    """
    text = re.sub(r"n['’]t\b", " not", words.lower())
    text = re.sub(r"\b(?:in )?slow motion\b", "slowly", text)
    parts = re.split(r"\b(?:and |, *)?(?:then|after that|afterwards|followed by)\b|->|→", text)
    acts = [act for act in map(_act, parts) if act is not None][:_MOST_ACTS]
    if not acts:
        return None
    said = ", then ".join(act.said for act in acts)
    return replace(acts[0], then=tuple(acts[1:]), said=said)


def idle_motion() -> MotionDraw:
    """What a still does when no motion is asked for: it breathes and sways a little."""
    return replace(_draw([_IDLE], 0), said="no motion named")


def _act(text: str) -> MotionDraw | None:
    """What one part of a sentence asks for."""
    text = re.sub(rf"\b(?:{'|'.join(_vocabulary()['things'])})\b", " thing ", text)
    tokens = re.findall(r"[a-z]+|\d+|,", text)
    kept = [(token, index) for index, token in enumerate(tokens) if token not in _words("fillers")]
    bare = [token for token, _ in kept]
    found = _find(bare, tokens, [index for _, index in kept])
    actions = [one for one in found if not one.entry.is_mood] or found
    wanted = [one for one in actions if not one.is_negated]
    if not wanted:
        still = [one for one in actions if one.is_negated]
        return replace(_draw(["stand"], 0), said=text.strip()) if still else None
    places = [index for _, index in kept]
    used = {places[index] for one in found for index in range(one.start, one.end)}
    rest = [token for index, token in enumerate(tokens) if index not in used]
    draw = _with_adverbs([one.entry.recipe for one in wanted], rest)
    said = " ".join(" ".join(bare[one.start : one.end]) for one in wanted)
    return replace(draw, said=said)


def _find(bare: list[str], tokens: list[str], places: list[int]) -> list[_Found]:
    """Phrases in a text without fillers; `places`: where each word is among all `tokens`."""
    found, index = [], 0
    while index < len(bare):
        entry = _entry_at(bare, index, tokens, places)
        if entry is None:
            index += 1
            continue
        before = bare[max(0, index - 2, found[-1].end if found else 0) : index]
        negated = bool(_words("not") & set(before)) and entry.recipe != "stand"
        found.append(_Found(entry, index, index + len(entry.words), negated))
        index += len(entry.words)
    return found


def _entry_at(bare: list[str], index: int, tokens: list[str], places: list[int]) -> _Entry | None:
    candidates = [entry for form in sorted(_forms(bare[index]))
        for entry in _by_first_word().get(form, ()) if len(entry.words) <= len(bare) - index
        and all(word in _forms(bare[index + offset]) for offset, word in enumerate(entry.words))
        and _counts(entry, bare, index, tokens, places)]  # fmt: skip
    return max(
        candidates,
        key=lambda entry: (len(entry.words), not entry.is_mood, entry.words[0] == bare[index]),
        default=None,
    )


def _counts(
    entry: _Entry, bare: list[str], index: int, tokens: list[str], places: list[int]
) -> bool:
    """Whether a word is used as a verb here, as far as its form and its neighbours tell."""
    word, length = bare[index], len(entry.words)
    if word in _words("at the end"):
        return index + length == len(bare) or bare[index + length] in ("face", ",", "and")
    if entry.is_mood or word.endswith("ing") or word in ("motionless", "still"):
        return True
    clause = index
    while clause > 0 and bare[clause - 1] not in (",", "and", "while", "but"):
        clause -= 1
    if clause == index or bare[clause:index] == ["not"] or bare[index - 1] in ("to", "can", "will"):
        if word.endswith("s") and word not in _words("nouns too") and word != entry.words[0]:
            return True
        after = bare[index + length :]
        stop = next(
            (i for i, token in enumerate(after) if token in (",", "and", "while")), len(after)
        )
        return length > 1 or all(_is_particle(token) for token in after[:stop])
    if bare[index - 1] in _words("not") - {"without"}:
        return True
    if not word.endswith("s"):
        return length > 2
    article = tokens[max(0, places[clause] - 1)], tokens[places[clause]]
    return word not in _words("nouns too") or bool(_words("articles") & set(article))


def _is_particle(token: str) -> bool:
    degrees = [said for degree in _DEGREES for said in _said_by(degree)]
    return (
        token in _words("particles") or token in degrees or token.isdigit() or token.endswith("ly")
    )


def _with_adverbs(recipes: list[str], rest: list[str]) -> MotionDraw:
    """The motion of recipes, with side, count, amount and speed as the other words say."""
    text = " ".join(rest)
    draw = _draw(recipes, _side(text))
    amount, speed = (_said(text, degrees) for degrees in (AMOUNT_WORDS, SPEED_WORDS))
    count = next((_TIMES[token] for token in rest if token in _TIMES), 0)
    times = re.search(r"\b(\d+|[a-z]+) times\b", text)
    if times:
        count = int(times[1]) if times[1].isdigit() else _NUMBERS.get(times[1], 0)
    return replace(draw, amount=amount, speed=speed, amount_factor=sum(AMOUNTS[amount]) / 2
        if amount else 1.0, speed_factor=sum(SPEEDS[speed]) / 2 if speed else 1.0, cycles=min(count,
        8))  # fmt: skip


def _side(text: str) -> int:
    """−1 to the left, 1 to the right, 0 = not said."""
    if re.search(r"\b(left|leftwards?|counterclockwise|counter clockwise|anticlockwise)\b", text):
        return -1
    return 1 if re.search(r"\b(right|rightwards?|clockwise)\b", text) else 0


def _draw(recipes: list[str], side: int) -> MotionDraw:
    """A motion of recipes such as "sway*.8@2+breathe"."""
    verbs: dict[str, tuple[float, float]] = {}
    for recipe in recipes:
        for part in recipe.split("+"):
            name, amount, speed = re.fullmatch(
                r"([a-z ]+\??)(?:\*([\d.]+))?(?:@([\d.]+))?", part
            ).groups()  # type: ignore[union-attr]
            name = name.strip()
            if name == "slide ?":
                name, side = ("slide left" if side < 0 else "slide right"), side or 1
            deforms = VERBS[name].deform and any(VERBS[verb].deform for verb in verbs)
            if name not in verbs and not deforms:
                verbs[name] = (float(amount or 1), float(speed or 1))
    names = list(verbs)[:_MOST_VERBS]
    towards = {-1: "slide left", 1: "slide right"}.get(side)
    if towards and set(names) & _GOES and not any("slide" in name for name in names):
        names.append(towards)
        verbs[towards] = (1.0, 1.0)
    if "slide left" in names or "slide right" in names:
        side = -1 if "slide left" in names else 1
    return MotionDraw(verbs=tuple(names), shares=tuple(verbs[name] for name in names), side=side
        or 1, says_side=side != 0)  # fmt: skip


def _said_by(degree: str) -> tuple[str, ...]:
    """Words for "little", "much", "slow" or "fast"."""
    return (*_DEGREES[degree], *_words(degree))


def _said(text: str, degrees: Iterable[str]) -> str:
    """Which of the degrees is said, "" if none."""
    for degree in degrees:
        if any(re.search(rf"\b{re.escape(phrase)}\b", text) for phrase in _said_by(degree)):
            return degree
    return ""
