from __future__ import annotations

import pytest

from rdtf.evaluation.results import Cell, Table

TABLE = Table(
    "Scores",
    ["task", "method", "PSNR"],
    [["fill", "model", Cell("21.5", best=True)], ["fill", "nearest frame", "9.1"]],
)


def test_plain_text_is_aligned_and_marks_the_best():
    assert TABLE.text().splitlines() == [
        "Scores",
        "",
        "task  method          PSNR",
        "fill  model          21.5*",
        "fill  nearest frame    9.1",
    ]


def test_rows_must_fit_the_headers():
    with pytest.raises(ValueError, match="2 cells under 3 headers"):
        Table("t", ["a", "b", "c"], [["1", "2"]])
    assert Table("t", ["a"], []).text() == "t\n\na"
