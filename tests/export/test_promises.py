"""Random clips to every platform: a file that passes, or a refusal with its reason."""

from __future__ import annotations

import pytest

from .promises import EVERYWHERE, case, outcome, work_through


def test_every_platform_has_its_turn():
    assert {case(number, 1, large=False).platform.id for number in range(60)} == set(EVERYWHERE)


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_random_clips(first):
    outcomes = [outcome(case(number, 4, large=False)) for number in range(first, first + 10)]
    assert "done" in outcomes


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 2000, 100))
def test_two_thousand_random_clips(first):
    """Up to 60 frames and 700 x 300 pixels; a hundred cases a test, so that one can be repeated."""
    counts = work_through(range(first, first + 100))
    print(first, dict(counts))
    assert counts["done"] > 40
