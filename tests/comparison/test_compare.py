"""The whole comparison through the program: finished, stopped, gone on with, refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cli.conftest import content
from rdtf.data.prepare import prepare
from rdtf.evaluation.baselines import BASELINES
from rdtf.evaluation.metrics import PERCEPTUAL
from rdtf.method.objective import build_objective
from rdtf.research.comparison.clips import TASKS
from rdtf.research.comparison.experiment import compare
from rdtf.research.comparison.methods import METHODS, REFERENCE, build_network
from rdtf.research.comparison.scoring import COMPARED
from rdtf.synthetic.characters import SyntheticStickers
from rdtf.training.device import processor_name
from rdtf.training.run import locked

from .micro import BUDGET, SETTINGS, TWO, SignalWhen, arguments

ROWS = ("dfgn", "customize-a-video@6")


def read(path: Path):
    return json.loads(path.read_text("utf-8"))


def results(out: Path):
    return content(out / "results" / "synthetic")


def points(out: Path, run: str):
    return read(out / "results" / "synthetic" / f"{run}.json")["points"]


def scores(out: Path, run: str):
    return {point: found["scores"] for point, found in points(out, run).items()}


def go_on(out: Path, **options):
    return compare(BUDGET, out, methods=TWO, say=lambda line: None, **options)


# ------------------------------------------------------------------------------ results


def test_results_are_whole_and_small(finished):
    about = read(finished / "results" / "synthetic" / "target.json")
    assert set(about["baselines"]) >= set(BASELINES) and len(about["clips"]) == 3
    assert about["unit_flops"] > 0 and set(about["validity"]) == set(TASKS)
    for row in ROWS:
        path = finished / "results" / "synthetic" / f"{row}-0.json"
        run = read(path)
        assert path.stat().st_size < 8000
        assert list(run["points"]) == ["0", "1", "2"] and run["row"] == row
        assert processor_name() in run["device"]
        for found in run["points"].values():
            assert set(found["scores"]) == set(TASKS)
            measured = set(COMPARED) - set(PERCEPTUAL)
            assert all(set(metrics) == measured for metrics in found["scores"].values())
    (base,) = read(finished / "results" / "bases.json").values()
    assert base["clips"] >= 6 and base["curve"][-1][0] == base["clips"] - 2 and base["flops"] > 0
    assert list((finished / "sheets" / "synthetic").glob("dfgn-0-2.png"))


def test_budgets_are_equal_flops(finished):
    """Within one batch, at every point; the curve of the base is apart."""
    unit = read(finished / "results" / "synthetic" / "target.json")["unit_flops"]
    for row in ROWS:
        for point, found in points(finished, f"{row}-0").items():
            batch = found["flops"] / max(found["step"], 1)
            assert int(point) * unit <= found["flops"] <= int(point) * unit + 2 * batch
            assert (found["clips"] == 2 * found["step"]) and (found["step"] > 0) is (point != "0")


def test_untrained_is_the_network_before_its_first_step(experiment, finished):
    method = METHODS[REFERENCE]
    network = build_network(method, BUDGET, 0, experiment.sizes)
    network.begin("sampling")
    config = method.config(BUDGET, 0)
    made, _ = experiment.sampler(method, network, build_objective(config.objective), config, 0)
    assert scores(finished, "dfgn-0")["0"] == experiment.judge(made)
    for row in ROWS:
        found = list(scores(finished, f"{row}-0").values())
        assert all(a != b for a, b in pairwise(found))


def test_finished_points_leave_the_main_runs_only(finished):
    assert not list(finished.rglob("branch"))
    assert not [path for path in finished.rglob("*") if path.name.startswith(".tmp-")]


def test_the_same_command_again_does_nothing_anew(rdtf, finished):
    before = results(finished)
    ended = rdtf(*arguments(finished, "--methods", *TWO, "--json"))
    assert ended.status == 0
    assert (ended.json["reason"], ended.json["points_done"], ended.json["points"]) == (
        "finished",
        6,
        6,
    )
    assert results(finished) == before and "scoring" not in ended.err


def test_the_page_is_rendered_from_the_results(rdtf, finished, tmp_path):
    """By a command, from a copy; text outside of the markers stays."""
    page = (finished / "report.html").read_text("utf-8")
    assert "<script" not in page and not re.search(r'(src|href)="(?!data:|#)', page)
    kept, target = tmp_path / "results", tmp_path / "new" / "page.md"
    shutil.copytree(finished / "results", kept)
    assert rdtf("compare", "--out", kept, "--page", target).status == 0
    text = target.read_text("utf-8")
    for words in ("### Crossover, synthetic", "### Differences", "### Cost", "### Validity",
                  "### Pre-training", METHODS["dfgn"].label, "Holm", "nearest frame"):  # fmt: skip
        assert words in text and (words.removeprefix("### ") in page), words
    pictures = re.findall(r'<img src="(page/.*?)" alt="[^"]+"', text)
    assert len(pictures) == 3 * 5 + 1
    for name in pictures:
        assert ElementTree.parse(target.parent / name).getroot().tag.endswith("svg")
    target.write_text("# Mine\n\n" + text[text.index("<!--") :] + "\nAgainst us.\n")
    assert rdtf("compare", "--out", finished, "--page", target).status == 0
    again = target.read_text("utf-8")
    assert again.startswith("# Mine\n") and again.endswith("\nAgainst us.\n")
    assert again.count("### Cost") == 1


@pytest.mark.slow
def test_everything(rdtf, tmp_path):
    """All methods at two bases."""
    ended = rdtf(*arguments(tmp_path / "out", "pretrain_clips=4,8", "points=1", "--json"))
    assert ended.status == 0 and ended.json["reason"] == "finished", ended.err
    out = tmp_path / "out"
    assert ended.json["points_done"] == 2 * (6 + 2 * 4)
    assert len(read(out / "results" / "bases.json")) == 6
    assert len(list((out / "results" / "synthetic").glob("*-0.json"))) == 14


# ------------------------------------------------------------------- stopping, going on


def test_no_time_at_all(rdtf, finished, tmp_path):
    shutil.copytree(finished / "data", tmp_path / "out" / "data")
    ended = rdtf(*arguments(tmp_path / "out", "--max-seconds", 0, "--methods", "dfgn", "--json"))
    assert ended.status == 0
    assert (ended.json["reason"], ended.json["points_done"]) == ("time is up", 0)
    assert "No adapter has been compared" in Path(ended.json["page"]).read_text("utf-8")


@pytest.mark.parametrize("words", ["customize-a-video@6-0 at 2 ×: scoring", "pre-training of the"])
def test_a_signal_changes_nothing_about_the_results(finished, tmp_path, words):
    """SIGTERM while a method is scored, or before a base is pre-trained: then gone on with."""
    out = tmp_path / "out"
    shutil.copytree(finished / "data", out / "data")
    first = compare(BUDGET, out, methods=TWO, say=SignalWhen(words))
    assert first["reason"] == "interrupted" and first["points_done"] < 6
    assert not (out / "report.html").exists()
    assert go_on(out)["reason"] == "finished"
    for row in ROWS:
        assert scores(out, f"{row}-0") == scores(finished, f"{row}-0")
    base = "bases/video-6/unet/diffusion_pytorch_model.safetensors"
    assert (out / base).read_bytes() == (finished / base).read_bytes()


def test_a_signal_ends_the_program_with_its_status(rdtf, finished, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(finished / "data", out / "data")
    monkeypatch.setattr("rdtf.cli.output.note", SignalWhen("dfgn-0 at 0 ×: scoring"))
    ended = rdtf(*arguments(out, "--methods", "dfgn"))
    assert ended.status == 75 and "interrupted: 0 of 3" in ended.out


def test_seeds_points_and_targets_may_be_added(finished, tmp_path):
    """A higher point, begun from the main run that is there, is that of a curve with it."""
    out, straight = tmp_path / "out", tmp_path / "straight"
    shutil.copytree(finished, out)
    more = replace(BUDGET, points=(1, 2, 3))
    found = compare(more, out, methods=["dual-mask"], seeds=1, say=lambda line: None)
    assert found["points_done"] == found["points"] == 4
    assert results(out).items() > results(finished).items()
    shutil.copytree(finished / "data", straight / "data")
    compare(replace(BUDGET, points=(3,)), straight, methods=["dual-mask"], say=lambda line: None)
    assert scores(straight, "dual-mask-0")["3"] == scores(out, "dual-mask-0")["3"]
    low = replace(BUDGET, points=(2, 3))  # below what the main run has come to
    (straight / "results" / "synthetic" / "dual-mask-0.json").unlink()
    compare(low, straight, methods=["dual-mask"], say=lambda line: None)
    assert scores(straight, "dual-mask-0")["2"] == scores(out, "dual-mask-0")["2"]
    other = tmp_path / "other"
    prepare(SyntheticStickers(seed=9, count=60), other, canvas=32, max_frames=8, workers=0)
    compare(replace(BUDGET, points=(1,)), out, methods=["dfgn"], seeds=2, target=other,
            say=lambda line: None)  # fmt: skip
    assert {path.name for path in (out / "results" / "other").glob("dfgn*")} == {
        "dfgn-0.json",
        "dfgn-1.json",
    }
    page = (out / "report.html").read_text("utf-8")
    assert "Scores, other" in page and "Scores, synthetic stickers" in page


# ----------------------------------------------------------------------------- mistakes

MISTAKES = {
    "budget 'huge' is unknown; choose from tiny, small, full": ("--budget", "huge"),
    "method 'dreamix' is unknown": ("--methods", "dreamix"),
    "seeds is 0": ("--seeds", "0"),
    "there is no setting 'stepz'": ("--set", "stepz=3"),
    "takes NAME=VALUE": ("--set", "steps"),
    "setting steps takes int": ("--set", "steps=many"),
    "setting channels takes whole numbers with commas": ("--set", "channels=a,b"),
    "setting batch_size is 0": ("--set", "batch_size=0"),
    "setting base_ratio is nan": ("--set", "base_ratio=nan"),
    "setting decay_share is 0.7": ("--set", "decay_share=.7"),
    "setting points is (2, 1); give rising numbers": ("--set", "points=2,1"),
    "setting pretrain_clips is (0,)": ("--set", "pretrain_clips=0"),
    "a page is .html or .md": ("--page", "{tmp}/page.pdf"),
    "multiple of 16, four latent cells": ("--set", "canvas=40"),
    "holds no training set": ("--target", "{tmp}/nothing"),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_one_line_and_leave_nothing(refused, tmp_path, message):
    options = [text.format(tmp=tmp_path) for text in MISTAKES[message]]
    assert message in refused("compare", "--out", tmp_path / "out", *options)
    assert not any(path.is_file() for path in tmp_path.rglob("*") if path.name != ".lock")


def test_other_settings_or_data_in_the_same_folder(refused, finished, tmp_path):
    before = results(finished)
    settings = [pair for pair in SETTINGS if not pair.startswith("steps")]
    line = refused("compare", "--out", finished, "--set", *settings, "steps=5")
    assert "was started with steps = 4, not 5" in line
    other = tmp_path / "other"
    prepare(SyntheticStickers(seed=9, count=30), other, canvas=32, max_frames=8, workers=0)
    assert "started with another source" in refused(*arguments(finished, "--source", other))
    shutil.copytree(other, tmp_path / "synthetic")
    line = refused(*arguments(finished, "--target", tmp_path / "synthetic"))
    assert "is of another training set" in line
    assert results(finished) == before


def test_folders_that_are_not_ours(refused, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    assert "holds something else" in refused(*arguments(tmp_path / "out"))
    (tmp_path / "file").write_text("in the way")
    assert "can't be made" in refused(*arguments(tmp_path / "file"))


def test_a_second_comparison_in_the_same_folder(refused, tmp_path):
    with locked(tmp_path):
        assert "by another process" in refused(*arguments(tmp_path))


def test_training_sets_that_do_not_fit(refused, tmp_path):
    small, one = tmp_path / "small", tmp_path / "one"
    prepare(SyntheticStickers(count=12), small, canvas=16, max_frames=8, workers=0)
    line = refused(*arguments(tmp_path / "out", "--target", small))
    assert "was prepared at 16 pixels, this budget needs 32" in line
    stickers = SyntheticStickers(seed=1, count=12)
    prepare(stickers, one, canvas=32, max_frames=8, val_fraction=0, workers=0)
    line = refused(*arguments(tmp_path / "out", "--target", one))
    assert "no animated clips in its val split" in line


def test_a_source_that_has_seen_what_is_held_out(refused, tmp_path):
    data = tmp_path / "data"
    prepare(SyntheticStickers(count=40), data, canvas=32, max_frames=8, workers=0)
    other = tmp_path / "other"
    prepare(SyntheticStickers(count=400), other, canvas=32, max_frames=8, val_fraction=0)
    line = refused(*arguments(tmp_path / "out", "--target", data, "--source", other))
    assert "held out of target" in line and "pre-training would have seen them" in line
