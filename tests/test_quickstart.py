from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fixtures_runs import tiny_config
from rdtf.cli.main import main
from rdtf.data.prepare import prepare
from rdtf.errors import ConfigError, UserError
from rdtf.evaluation.baselines import BASELINES
from rdtf.evaluation.evaluate import UNTRAINED
from rdtf.evaluation.tasks import EVALUATION_TASKS
from rdtf.quickstart import quickstart
from rdtf.synthetic.characters import SyntheticStickers
from rdtf.training.device import processor_name
from rdtf.training.run import load_config
from rdtf.training.train import train


def assert_complete(out: Path, result: dict[str, Any]) -> None:
    """A report that stands alone, a picture, scores with the baselines, a run to go on from."""
    page = (out / "report.html").read_text("utf-8")
    assert result["report"] == str(out / "report.html")
    assert "<script" not in page and not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count("data:image/") > 4 and "Training loss" in page
    assert processor_name() in page
    assert "{" not in page.split("<main")[1]
    shipped = (out / "shipped.html").read_text("utf-8")
    assert "text to clip, nothing given" in shipped  # what only the model that ships can do
    with Image.open(out / "examples.png") as picture:
        assert min(picture.size) > 64
    scores = (out / "scores.json").read_text("utf-8")
    tasks, methods = map(set, zip(*(row.split("/") for row in result["scores"]), strict=True))
    assert tasks <= set(EVALUATION_TASKS) and {"interpolation", "it2v"} <= tasks
    assert methods >= {UNTRAINED, *BASELINES} and all(name in scores for name in methods)
    assert page.count(f">{UNTRAINED}</th>") >= 2 * len(tasks)  # the scores, and the differences
    assert json.loads(scores)["settings"]["num_clips"] >= 1
    assert (out / "run" / "pipeline" / "model_index.json").is_file()
    assert not [path for path in out.iterdir() if path.name.startswith(".tmp")]


def test_what_is_done_is_not_done_again(tmp_path):
    """Stickers and a trained run are there already: it only uses them, scores, and reports."""
    out = tmp_path / "quick"
    stickers = SyntheticStickers(seed=0, count=24, max_frames=4)
    made = prepare(stickers, out / "data", canvas=32, max_frames=4, val_fraction=0.2, workers=0)
    config = tiny_config(steps=2, validate_every=1)
    train(config, out / "data", out / "run", quiet=True)
    logged = (out / "run" / "metrics.jsonl").read_bytes()
    said: list[str] = []
    result = quickstart(out, minutes=0.5, say=said.append)
    assert_complete(out, result)
    assert result["steps"] == 2 and len(said) == 5
    assert (out / "run" / "metrics.jsonl").read_bytes() == logged
    assert json.loads((out / "data/dataset.json").read_text())["fingerprint"] == made.fingerprint


@pytest.mark.slow
def test_from_nothing(tmp_path, capsys):
    out = tmp_path / "quick"
    command = ["quickstart", "--out", str(out), "--minutes", "0.5", "--stickers", "40", "--json"]
    with pytest.raises(SystemExit) as left:
        main(command)
    assert not left.value.code
    printed = capsys.readouterr()
    assert_complete(out, json.loads(printed.out))
    parts = [line[:3] for line in printed.err.splitlines() if line[:1].isdigit()]
    assert parts == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    config = load_config(out / "run")
    assert config.preset == "nano" and config.learn == "motion"
    steps = json.loads(printed.out)["steps"]
    assert f"for {steps:,} steps" in (out / "report.html").read_text("utf-8")
    assert not re.search(r"\d steps", printed.err)  # one number, and that one is true
    with pytest.raises(SystemExit) as left:
        main(command)
    again = capsys.readouterr()
    assert not left.value.code and json.loads(again.out)["steps"] == steps


def test_mistakes(tmp_path):
    with pytest.raises(ConfigError, match=r"at least 0\.5 minutes"):
        quickstart(tmp_path / "quick", minutes=0.1)
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "quick"):
        with pytest.raises(UserError):
            quickstart(out, minutes=0.5, num_stickers=4, say=pytest.fail)  # before any work
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
