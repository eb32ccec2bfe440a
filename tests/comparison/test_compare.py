"""The whole comparison through the program: finished, stopped, gone on with, refused."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from cli.conftest import content
from rdtf.data.prepare import prepare
from rdtf.evaluation.baselines import BASELINES
from rdtf.method.objective import build_objective
from rdtf.research.comparison.compare import compare
from rdtf.research.comparison.findings import all_tables
from rdtf.research.comparison.methods import (
    DEFAULT_METHODS,
    METHODS,
    REFERENCE,
    VARIANTS,
    WARP_DECODER,
    Request,
    build_network,
)
from rdtf.research.comparison.results import COMPARED
from rdtf.synthetic.characters import SyntheticStickers
from rdtf.training.device import processor_name
from rdtf.training.run import locked

from .micro import BUDGET, SETTINGS, TWO, SignalWhen, arguments

RESULTS = ("report.html", "tables.md", "results.json", "sheet.png")


def read(path: Path):
    return json.loads(path.read_text("utf-8"))


def scores(out: Path, run: str, point: str = "flops"):
    return read(out / "runs" / run / f"{point}.json")["rows"]


@pytest.fixture(scope="module")
def composed(finished, tmp_path_factory) -> Path:
    """`finished`, gone on with: a second seed, and the DFGN with the warp decoder."""
    out = tmp_path_factory.mktemp("composed") / "out"
    shutil.copytree(finished, out)
    compare(
        BUDGET, out, Request([REFERENCE, WARP_DECODER], seeds=2, ablation=False), say=lambda _: None
    )
    return out


# ------------------------------------------------------------------------------ results


def test_results_are_there_and_whole(finished):
    for name in RESULTS:
        assert (finished / name).is_file()
    found = read(finished / "results.json")
    assert found["complete"] is True
    for point in ("flops", "time"):
        rows = found["scores"][point]
        assert {row["method"] for row in rows} == {*TWO, "dfgn, untrained", *BASELINES}
        assert {row["task"] for row in rows} == {"it2v", "interpolation", "post_frame_prediction"}
        assert all(set(row["scores"]) == set(COMPARED) for row in rows)
    assert set(found["pretraining"]) == {"video"}
    page = (finished / "report.html").read_text("utf-8")
    assert "<script" not in page and not re.search(r'(src|href)="(?!data:|#)', page)
    for words in ("equal training FLOPs", "equal wall-clock", "pre-training, apart"):
        assert words in page and words in (finished / "tables.md").read_text("utf-8")
    assert processor_name() in found["runs"]["dfgn-0"]["device"] and processor_name() in page
    with Image.open(finished / "sheet.png") as picture:
        assert min(picture.size) > 64


def test_what_training_did_not_do_stands_beside_what_it_did(experiment, finished):
    """The untrained rows are the networks before their first step; the warp decoder is apart."""
    assert not METHODS[REFERENCE].config(BUDGET, 0).model.compose
    method, out = METHODS[REFERENCE], finished
    network = build_network(method, BUDGET, 0, experiment.sizes, None)
    network.begin("sampling")
    config = method.config(BUDGET, 0)
    fresh = experiment.scorer.score(method, network, build_objective(config.objective), config, 0)
    assert [row["scores"] for row in scores(out, "dfgn-0", "untrained")] == [
        {name: None if math.isnan(value) else value for name, value in row["scores"].items()}
        for row in fresh.rows
    ]
    assert scores(out, "customize-a-video-0", "untrained") != scores(out, "customize-a-video-0")
    findings = experiment.findings(Request(TWO, seeds=1, ablation=False).jobs())
    for table in all_tables(findings):
        if any("PSNR" in header for header in table.headers):
            rows = [row[1] for row in table.rows]
            assert f"{method.label}, untrained" in rows, table.title
            assert not any("warp decoder" in row for row in rows)


def test_the_warp_decoder_is_in_an_appendix_with_a_row_of_its_own_before_training(composed):
    tables = (composed / "tables.md").read_text("utf-8").split("### ")
    label = METHODS[WARP_DECODER].label
    assert label not in "".join(t for t in tables if t.startswith(("Scores", "More scores")))
    (appendix,) = [t for t in tables if t.startswith("Appendix: with the warp decoder")]
    assert f"| {label} |" in appendix and f"| {label}, untrained |" in appendix
    assert f"| {METHODS[REFERENCE].label}, untrained |" in appendix
    found = read(composed / "results.json")["scores"]
    assert WARP_DECODER not in {row["method"] for row in [*found["flops"], *found["time"]]}
    assert {WARP_DECODER, f"{WARP_DECODER}, untrained"} < {
        row["method"] for row in found["warp_decoder"]
    }


def test_clips_stand_beside_flops(finished):
    """What a base saw in pre-training, and what it sees on the target."""
    found, text = read(finished / "results.json"), (finished / "tables.md").read_text("utf-8")
    base, run = found["pretraining"]["video"], found["runs"]["customize-a-video-0"]["passed"]
    clips = f"{base['clips']} + {run['flops']['clips']}"
    tflop = f"{base['flops'] / 1e12:.3f} + {run['flops']['flops'] / 1e12:.3f}"
    assert f"| {clips} | {tflop} |" in text and f"| {base['clips']} + 0 |" in text
    assert "× the DFGN's clips" in text


def test_a_folder_with_another_headline_is_refused(refused, finished, tmp_path):
    """Its budget are another network's FLOPs."""
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    config = read(out / "config.json")
    del config["reference"]
    (out / "config.json").write_text(json.dumps(config))
    assert "started with another reference" in refused(*arguments(out))


def test_given_frames_come_back_from_every_method(finished):
    for path in [*finished.glob("runs/*/flops.json"), *finished.glob("baselines/*.json")]:
        assert all(row["scores"]["given_error"] == 0 for row in read(path)["rows"]), path


def test_finished_runs_leave_no_checkpoints(finished):
    assert not list(finished.rglob("checkpoints"))
    assert not [path for path in finished.rglob("*") if path.name.startswith(".tmp-")]


def test_the_same_command_again_does_nothing_anew(rdtf, finished):
    before = content(finished / "runs") | content(finished / "bases")
    ended = rdtf(*arguments(finished, "--no-ablation", "--methods", *TWO, "--json"))
    assert ended.status == 0
    assert (ended.json["reason"], ended.json["runs_done"], ended.json["runs"]) == ("finished", 2, 2)
    assert content(finished / "runs") | content(finished / "bases") == before
    assert "seed 0" not in ended.err


@pytest.mark.slow
def test_everything(rdtf, tmp_path):
    """All methods and the ablation; equal FLOPs within a step; the tables name every row."""
    ended = rdtf(*arguments(tmp_path / "out", "--json"))
    assert ended.status == 0 and ended.json["reason"] == "finished", ended.err
    out = tmp_path / "out"
    variants = [variant.name for variant in VARIANTS]
    assert ended.json["runs_done"] == len({*DEFAULT_METHODS, *variants})
    found = read(out / "results.json")
    assert {row["method"] for row in found["scores"]["ablation"]} == set(variants)
    assert set(found["pretraining"]) == {"motion", "image", "video"}
    budget = found["runs"]["dfgn-0"]["passed"]["flops"]["flops"]
    for name, run in found["runs"].items():
        used = run["passed"]["flops"]
        assert budget <= used["flops"] <= budget + 2 * used["flops"] / used["step"], name
    for cost in found["pretraining"].values():
        assert cost["flops"] >= BUDGET.pretrain_factor * budget
    assert scores(out, "linear-0") != scores(out, "dfgn-0")


# ------------------------------------------------------------------- stopping, going on


def test_no_time_at_all(rdtf, finished, tmp_path):
    shutil.copytree(finished / "data", tmp_path / "out" / "data")
    ended = rdtf(*arguments(tmp_path / "out", "--max-seconds", 0, "--methods", "dfgn", "--json"))
    assert ended.status == 0
    assert (ended.json["reason"], ended.json["runs_done"]) == ("time is up", 0)
    assert "Incomplete" in (tmp_path / "out" / "tables.md").read_text("utf-8")


@pytest.mark.parametrize(
    "words", ["customize-a-video, seed 0: scoring", "pre-training of the video"]
)
def test_a_signal_changes_nothing_about_the_results(finished, tmp_path, words):
    """SIGTERM while a method is scored, or a base is pre-trained: stopped, then gone on with."""
    out = tmp_path / "out"
    shutil.copytree(finished / "data", out / "data")
    request = Request(TWO, seeds=1, ablation=False)
    first = compare(BUDGET, out, request, say=SignalWhen(words))
    assert (first["reason"], first["runs_done"]) == ("interrupted", 1)
    assert not (out / "report.html").exists()
    again = compare(BUDGET, out, request, say=lambda line: None)
    assert again["reason"] == "finished"
    for run in ("dfgn-0", "customize-a-video-0"):
        assert scores(out, run) == scores(finished, run)
    bases = "bases/video/unet/diffusion_pytorch_model.safetensors"
    assert (out / bases).read_bytes() == (finished / bases).read_bytes()


def test_a_signal_ends_the_program_with_its_status(rdtf, finished, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(finished / "data", out / "data")
    monkeypatch.setattr("rdtf.cli.output.note", SignalWhen("dfgn, seed 0: scoring at step 4"))
    ended = rdtf(*arguments(out, "--methods", "dfgn", "--no-ablation"))
    assert ended.status == 75 and "interrupted: 0 of 1" in ended.out


def test_more_seeds_and_methods_may_be_added(finished, composed):
    out = composed
    before = content(finished / "runs" / "dfgn-0")
    more = Request(["dfgn", "dfgn-warp-decoder"], seeds=2, ablation=False)
    found = compare(BUDGET, out, more, say=lambda line: None)
    assert found["runs_done"] == found["runs"] == 4
    assert content(out / "runs" / "dfgn-0") == before
    assert scores(out, "dfgn-1") != scores(out, "dfgn-0")
    rows = read(out / "results.json")["scores"]["flops"]
    assert all(row["seeds"] == [0, 1] for row in rows if row["method"] == "dfgn")


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
    "setting pretrain_factor is nan": ("--set", "pretrain_factor=nan"),
    "setting ema_decay is 1.0": ("--set", "ema_decay=1"),
    "multiple of 16, four latent cells": ("--set", "canvas=40"),
    "holds no training set": ("--target", "{tmp}/nothing"),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_one_line_and_leave_nothing(refused, tmp_path, message):
    options = [text.format(tmp=tmp_path) for text in MISTAKES[message]]
    assert message in refused("compare", "--out", tmp_path / "out", *options)
    assert not any(path.is_file() for path in tmp_path.rglob("*") if path.name != ".lock")


def test_other_settings_or_data_in_the_same_folder(refused, finished, tmp_path):
    before = content(finished / "runs")
    settings = [pair for pair in SETTINGS if not pair.startswith("steps")]
    line = refused("compare", "--out", finished, "--set", *settings, "steps=5")
    assert "was started with steps = 4, not 5" in line
    other = tmp_path / "other"
    prepare(SyntheticStickers(seed=9, count=30), other, canvas=32, max_frames=8, workers=0)
    assert "started with another target" in refused(*arguments(finished, "--target", other))
    assert content(finished / "runs") == before


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
