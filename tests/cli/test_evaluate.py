from __future__ import annotations

import json
import re
from typing import Any

import pytest
from PIL import Image

from rdtf.evaluation.naive import NAIVE_ROWS
from rdtf.evaluation.tasks import EVALUATION_TASKS

from .conftest import content

FAST = ("--steps", 2)


def test_evaluate_scores_every_task_beside_the_naive_rows(rdtf, tiny_run, training_set, tmp_path):
    report, sheet = tmp_path / "deep" / "scores.html", tmp_path / "examples.png"
    ended = rdtf(
        *("evaluate", tiny_run, "--data", training_set, *FAST, "--limit", 2, "--json"),
        *("--report", report, "--sheet", sheet),
    )
    assert ended.status == 0 and not ended.err
    text = json.dumps(ended.json)
    for name in (*EVALUATION_TASKS, *NAIVE_ROWS):
        assert name in text
    assert ended.json["settings"]["num_clips"] == 2
    page = report.read_text("utf-8")
    assert "<script" not in page and not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count("data:image/") > 4
    with Image.open(sheet) as picture:
        assert min(picture.size) > 64
    assert sorted(path.name for path in report.parent.iterdir()) == ["scores.html"]


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_seconds(item) for key, item in value.items() if "second" not in key}
    return [without_seconds(item) for item in value] if isinstance(value, list) else value


def test_scores_are_the_same_each_time_and_people_get_a_table(rdtf, tiny_run, training_set):
    command = ("evaluate", tiny_run / "pipeline", "--data", training_set, *FAST, "--limit", 1)
    first, second = (rdtf(*command, "--split", "train", "--json").json for _ in range(2))
    assert without_seconds(first) == without_seconds(second)
    other = rdtf(*command, "--split", "train", "--seed", 1, "--json").json
    assert without_seconds(other) != without_seconds(first)
    table = rdtf(*command).out
    assert "PSNR" in table and all(name in table for name in ("model", *NAIVE_ROWS))


MISTAKES = {
    "does not exist": ("{tmp}/nothing", "--data", "{set}"),
    "neither a run directory": ("{tmp}", "--data", "{set}"),
    "holds no training set": ("{run}", "--data", "{tmp}"),
    "limit is -1": ("{run}", "--data", "{set}", "--limit", "-1"),
    "steps must be at least 1": ("{run}", "--data", "{set}", "--limit", "1", "--steps", "0"),
    "must end with one of .html": ("{run}", "--data", "{set}", "--report", "{tmp}/scores.txt"),
    "must end with one of .png": ("{run}", "--data", "{set}", "--sheet", "{tmp}/scores.txt"),
    "can't be made": ("{run}", "--data", "{set}", "--report", "{file}/scores.html"),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_one_line(refused, tiny_run, training_set, tmp_path, message):
    (tmp_path / "file").write_text("in the way")
    places = {"tmp": tmp_path, "set": training_set, "run": tiny_run, "file": tmp_path / "file"}
    before = content(tmp_path)
    line = refused("evaluate", *(argument.format(**places) for argument in MISTAKES[message]))
    assert message in line
    assert content(tmp_path) == before
