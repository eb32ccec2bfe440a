"""Damaged files of every format: each one is prepared or refused with a reason."""

from __future__ import annotations

import pytest
from benchmarks.mutations import mutated, originals, timed, write_items
from benchmarks.pile import Pile

from rdtf.data.decode import ClipOptions
from rdtf.stickers import DEFAULT_BUDGET

OPTIONS = ClipOptions(32, 4, "piecewise", None, DEFAULT_BUDGET)


def test_a_damaged_file_is_a_function_of_its_number():
    assert mutated(77) == mutated(77) != mutated(77 + len(originals()))


def test_each_is_prepared_or_refused_with_one_line(tmp_path):
    outcomes = [timed(item, OPTIONS) for item in write_items(range(78), tmp_path)]
    assert {kind for kind, *_ in outcomes} <= {"prepared", "unreadable", "memory"}
    for kind, reason, _ in outcomes:
        assert kind == "prepared" or (reason and "\n" not in reason)


@pytest.mark.slow
def test_many_crash_nothing_and_take_little_memory():
    values = Pile(parts=("mutated",), mutated=2000).run().values
    assert values["mutated_crashes"] == values["mutated_untyped"] == 0
    assert values["mutated_bytes"] < 512e6
