"""Captions of synthetic stickers: true, varied, grammatical."""

from __future__ import annotations

import re

import pytest

from rdtf.synthetic.characters import Attributes, SyntheticStickers
from rdtf.synthetic.characters.attributes import (
    LONG,
    SHORT,
    motion_named,
    prop_phrase,
    with_article,
)
from rdtf.synthetic.characters.faces import EXPRESSIONS


@pytest.fixture(scope="module")
def described() -> list[Attributes]:
    stickers = SyntheticStickers(seed=21)
    return [stickers.describe(index) for index in range(600)]


def test_every_caption_names_colour_kind_and_motion(described: list[Attributes]) -> None:
    for about in described:
        forms = {form for pair in motion_named(about.motion).phrases for form in pair}
        for caption in about.captions:
            assert f"{about.colour} {about.kind}" in caption
            assert any(form in caption for form in forms)


def test_long_captions_name_the_prop(described: list[Attributes]) -> None:
    for about in described:
        if about.prop is not None:
            assert prop_phrase(about.prop, about.accent) in about.captions[1]


def test_most_stickers_say_their_mood(described: list[Attributes]) -> None:
    said = 0
    for about in described:
        mood = EXPRESSIONS[about.expression]
        text = " ".join(about.captions)
        said += any(word in text for word in (mood.adjective, mood.adverb, about.expression))
    assert said > 0.9 * len(described)


def test_several_different_captions_of_different_length(described: list[Attributes]) -> None:
    for about in described:
        assert 2 <= len(about.captions) <= 4
        assert len(set(about.captions)) == len(about.captions)
    assert {len(about.captions) for about in described} == {2, 3, 4}
    assert len(SHORT) + len(LONG) >= 8
    assert len({caption for about in described for caption in about.captions}) > 1500


def test_articles_and_spaces(described: list[Attributes]) -> None:
    for about in described:
        for caption in about.captions:
            assert not re.search(r"\ba [aeiou]", caption), caption
            assert not re.search(r"\ban [^aeiou]", caption), caption
            assert "  " not in caption and " ," not in caption and caption == caption.strip()


def test_verbs_are_inflected() -> None:
    for name in {about.motion for about in map(SyntheticStickers(3).describe, range(400))}:
        for third_person, gerund in motion_named(name).phrases:
            assert third_person.split()[0].endswith("s"), third_person
            assert gerund.split()[0].endswith(("ing", "ed")), gerund


@pytest.mark.parametrize(
    ("noun", "phrase"),
    [("orange cat", "an orange cat"), ("teal cat", "a teal cat"), ("egg", "an egg")],
)
def test_with_article(noun: str, phrase: str) -> None:
    assert with_article(noun) == phrase


def test_plural_props_take_no_article() -> None:
    assert prop_phrase("glasses", "red") == "wearing red glasses"
    assert prop_phrase("scarf", "red") == "with a red scarf"
    assert prop_phrase("crown", "red") == "wearing a golden crown"
    assert prop_phrase(None, "red") == ""
