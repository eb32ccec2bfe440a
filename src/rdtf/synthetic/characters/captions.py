"""Captions from a small grammar: several phrasings, short and long, of what a sticker shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rdtf.synthetic.characters.draws import Draws
from rdtf.synthetic.characters.faces import EXPRESSIONS
from rdtf.synthetic.characters.props import PROPS

_STYLES = {"outline": ("with bold outlines", "in a cartoon outline style"),
    "flat": ("in a flat style", "in flat colours"), "soft": ("with soft shading",
    "in a soft glossy style")}  # fmt: skip


def with_article(noun: str) -> str:
    """ "orange cat" -> "an orange cat"."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def prop_phrase(prop: str | None, accent: str) -> str:
    """ "wearing a red cap", or nothing."""
    if prop is None:
        return ""
    what = PROPS[prop]
    noun = what.noun or prop
    if what.coloured:
        noun = f"{accent} {noun}"
    return what.phrase.format(prop=noun if noun.endswith("glasses") else with_article(noun))


@dataclass(frozen=True)
class _Words:
    """The parts of speech of one sticker."""

    noun: str
    kind: str
    colour: str
    adjective: str
    looks: str
    adverb: str
    verb: str
    gerund: str
    prop: str
    style: str
    border: bool

    @property
    def plain(self) -> str:
        return with_article(self.noun)

    @property
    def dressed(self) -> str:
        return f"{self.plain} {self.prop}".strip()

    @property
    def moody(self) -> str:
        return with_article(f"{self.adjective} {self.noun}")

    @property
    def full(self) -> str:
        return f"{self.moody} {self.prop}".strip()

    @property
    def how(self) -> str:
        """The adverb where it can follow: not after long phrases."""
        return f" {self.adverb}" if self.adverb and len(self.verb.split()) <= 3 else ""

    @property
    def look(self) -> str:
        """The drawing style, after "drawn"."""
        if not self.border:
            return self.style
        joint = "and" if self.style.startswith("with") else "with"
        return f"{self.style} {joint} a white border"


SHORT: tuple[Callable[[_Words], str], ...] = (lambda w: f"{w.plain} {w.verb}",
    lambda w: f"{w.noun} {w.gerund}", lambda w: f"{w.moody} {w.verb}",
    lambda w: f"{w.plain} {w.verb}{w.how}", lambda w: f"{w.adjective} {w.noun}, {w.gerund}",
    lambda w: f"the {w.noun} {w.verb}", lambda w: f"a sticker of {w.plain} {w.gerund}")  # fmt: skip
LONG: tuple[Callable[[_Words], str], ...] = (lambda w: f"{w.full} {w.verb}",
    lambda w: f"{w.dressed} {w.verb}{w.how}",
    lambda w: f"an animated sticker of {w.full}, {w.gerund}",
    lambda w: f"a cute {w.noun} {w.prop}".strip() + f" is {w.gerund}, it looks {w.looks}",
    lambda w: f"{w.full} {w.verb}, drawn {w.look}",
    lambda w: f"cartoon of {w.dressed} that {w.verb}, {w.adjective} face",
    lambda w: f"this sticker shows {w.full}, {w.gerund}, {w.look}",
    lambda w: f"{w.noun} {w.prop}".strip() + f", {w.adjective}, {w.gerund}, {w.style}")  # fmt: skip


def write_captions(
    draws: Draws,
    *,
    colour: str,
    kind: str,
    accent: str,
    expression: str,
    phrases: tuple[tuple[str, str], ...],
    adverbs: bool,
    prop: str | None,
    style: str,
    border: bool,
) -> tuple[str, ...]:
    """Two to four different captions; the first is short, the second long."""
    mood = EXPRESSIONS[expression]

    def words() -> _Words:
        verb, gerund = draws.choice(phrases)
        return _Words(noun=f"{colour} {kind}", kind=kind, colour=colour, adjective=mood.adjective,
            looks=mood.looks or mood.adjective, adverb=mood.adverb if adverbs else "", verb=verb,
            gerund=gerund, prop=prop_phrase(prop, accent), style=draws.choice(_STYLES[style]),
            border=border)  # fmt: skip

    wanted = 2 + int(draws.uniform(0, 3))
    captions: dict[str, None] = {}
    # Different templates may come to the same words, so there are more of them than needed.
    pairs = zip(draws.sample(SHORT, 4), draws.sample(LONG, 4), strict=True)
    for template in (template for pair in pairs for template in pair):
        if len(captions) < wanted:
            captions[template(words())] = None
    return tuple(captions)
