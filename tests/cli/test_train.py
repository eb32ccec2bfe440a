from __future__ import annotations

import re
import subprocess
import sys

import pytest

from fixtures_runs import tiny_arguments
from rdtf.training.config import settings
from rdtf.training.presets import preset
from rdtf.training.run import load_config, load_pipeline

from .conftest import content


def test_train_writes_a_run_and_the_same_command_is_done(rdtf, training_set, tmp_path):
    run = tmp_path / "run"
    command = ("train", "nano", "--data", training_set, "--out", run, "--steps", 3)
    ended = rdtf(*command, *tiny_arguments(), "--json")
    assert ended.status == 0
    assert [line.split("  ")[0] for line in ended.err.splitlines()] == [
        f"step {step}/3" for step in (1, 2, 3)
    ]
    assert (ended.json["step"], ended.json["reason"]) == (3, "finished")
    assert ended.json["run"] == str(run)
    for name in ("config.json", "metrics.jsonl", "report.html", "pipeline", "checkpoints"):
        assert (run / name).exists()
    logged = (run / "metrics.jsonl").read_bytes()
    again = rdtf(*command, *tiny_arguments())
    assert again.status == 0 and "finished at step 3 of 3" in again.out
    assert (run / "metrics.jsonl").read_bytes() == logged


def test_options_reach_the_config(rdtf, training_set, tmp_path):
    run = tmp_path / "run"
    ended = rdtf(
        *("train", "nano", "--data", training_set, "--out", run, "--steps", 1, "--seed", 4),
        *("--curriculum.mode", "static"),
        *tiny_arguments(optimizer__betas=(0.8, 0.95), model__compose=False),
    )
    assert ended.status == 0
    config = load_config(run)
    assert (config.seed, config.steps, config.curriculum.mode) == (4, 1, "static")
    assert config.optimizer.betas == (0.8, 0.95) and config.model.compose is False


def test_time_is_up(rdtf, training_set, tmp_path):
    ended = rdtf(
        *("train", "nano", "--data", training_set, "--out", tmp_path),
        *("--steps", 9, "--stop-after", 0, *tiny_arguments()),
    )
    assert ended.status == 0 and "time is up at step 0 of 9" in ended.out
    assert load_pipeline(tmp_path / "pipeline").canvas == 32


def test_a_time_that_getting_ready_takes_is_told(rdtf, training_set, tmp_path):
    command = ("train", "nano", "--data", training_set, "--out", tmp_path, *tiny_arguments())
    ended = rdtf(*command, "--steps", 2, "--max-seconds", 1e-6, "--engine.validate-every", 1)
    assert ended.status == 0 and "finished at step 0 of 2" in ended.out
    assert "its time was over before the first step, give it more" in ended.out
    assert "finished at step 2 of 2" in rdtf(*command, "--steps", 2, "--max-seconds", "inf").out


def test_dry_run_tells_the_size_and_makes_nothing(rdtf, tmp_path):
    """The sizes of all presets are in training/test_presets.py."""
    before = content(tmp_path)
    ended = rdtf("train", "nano", "--out", tmp_path / "no", "--dry-run", "--json")
    assert ended.status == 0 and not ended.err
    values = ended.json
    assert values["config"]["preset"] == "nano"
    assert sum(values["parameters_by_part"].values()) == values["parameters"]
    assert 3e6 <= values["parameters"] <= 6e6
    assert content(tmp_path) == before


def test_dry_run_for_people(rdtf):
    text = rdtf("train", "nano", "--dry-run").out.lower()
    for word in ("parameters", "flop", "memory", "samples", "step"):
        assert word in text


@pytest.mark.parametrize("missing", ["--data", "--out"])
def test_a_real_run_needs_data_and_a_place(refused, tmp_path, missing):
    given = "--out" if missing == "--data" else "--data"
    assert f"needs {missing}" in refused("train", "nano", given, tmp_path)


def test_autoencoder(rdtf, refused, training_set, tmp_path):
    out = tmp_path / "ae"
    command = ("train-autoencoder", "--data", training_set, "--out", out, "--canvas", 32)
    ended = rdtf(*command, "--steps", 2, "--batch-size", 2, "--json")
    assert ended.status == 0 and ended.err.startswith("step 2/2 ")
    assert ended.json["step"] == 2 and ended.json["psnr_db"] > 0
    assert (out / "diffusion_pytorch_model.safetensors").is_file()
    before = content(tmp_path)
    assert "other settings" in refused(*command, "--batch-size", 4)
    assert "multiple of 8" in refused(*command, "--canvas", 36)
    assert "holds something else" in refused(
        *("train-autoencoder", "--data", training_set, "--out", tmp_path)
    )
    assert content(tmp_path) == before


# ----------------------------------------------------------------------------- mistakes

MISTAKES = {
    "there is no command 'nanoo'; did you mean nano?": ("nanoo",),
    "setting batch_size is 0": ("nano", "--batch-size", "0"),
    "setting steps is 0": ("nano", "--steps", "0"),
    "setting seed is -1": ("nano", "--seed", "-1"),
    "learning_rate is nan": ("nano", "--optimizer.learning-rate", "nan"),
    "logit_mean is nan": ("nano", "--objective.logit-mean", "nan"),
    "max_grad_norm is -1": ("nano", "--optimizer.max-grad-norm", "-1"),
    "max_seconds is -4": ("nano", "--max-seconds", "-4"),
    "stop_after is -1": ("nano", "--stop-after", "-1"),
    "stop_after is nan": ("nano", "--stop-after", "nan"),
    "switch it off by --model.no-compose": ("nano", "--objective.prediction", "v"),
    "needs a folder with its weights": ("paper",),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_of_config(refused, training_set, tmp_path, message):
    line = refused("train", *MISTAKES[message], "--data", training_set, "--out", tmp_path / "run")
    assert message in line and not list(tmp_path.iterdir())


def test_folders_with_other_things_are_refused(refused, training_set, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    before = content(tmp_path)
    for command in (
        ("train", "nano", "--data", training_set, *tiny_arguments()),
        ("train-autoencoder", "--data", training_set),
        ("train-network", "motion", training_set, "--steps", 1),
        ("quickstart",),
        ("compare",),
    ):
        assert "holds something else" in refused(*command, "--out", tmp_path), command
    assert content(tmp_path) == before


def test_no_bundle_is_told_with_the_whole_command(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    for bundle in (tmp_path / "empty", tmp_path / "missing"):
        line = refused("train-network", "motion", bundle, "--out", tmp_path / "run", "--steps", 1)
        assert f"make one with: rdtf data bundle DATA {bundle}" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "close", "command"),
    [
        (("train", "nano", "--optimizer.lerning-rate", "3e-4"), "--optimizer.learning-rate FLOAT",
         "rdtf train nano --help"),
        (("evaluate", "--data", "x", "--limt", "3"), "--limit", "rdtf evaluate --help"),
    ],
)  # fmt: skip
def test_an_unknown_option_is_told_with_the_nearest_and_the_right_help(
    rdtf, monkeypatch, words, close, command
):
    monkeypatch.setenv("COLUMNS", "200")
    ended = rdtf(*words)
    assert ended.status == 2 and close in ended.err
    assert f"run {command}" in ended.err and "run rdtf --help" not in ended.err


UNPARSED = {
    "Perhaps you meant:": ("--optimizer.learning-rat", "1"),
    "--optimizer.learning-rate FLOAT": ("--learning-rate", "1"),
    "Error parsing --batch-size": ("--batch-size", "many"),
    "Expected 2 values": ("--optimizer.betas", "0.9"),
    "Expected one of ('auto', 'bf16', 'fp32')": ("--engine.precision", "fp8"),
}


@pytest.mark.parametrize("message", UNPARSED)
def test_settings_that_do_not_parse(rdtf, tmp_path, monkeypatch, message):
    monkeypatch.setenv("COLUMNS", "200")
    ended = rdtf("train", "nano", *UNPARSED[message], "--out", tmp_path / "run")
    assert (ended.status, ended.out) == (2, "") and message in ended.err


@pytest.mark.parametrize("name", ["nano", "paper"])
def test_every_setting_has_help_and_the_default_of_its_preset(rdtf, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "120")
    text = re.sub(r"[│╭╮╰╯─]|\n", " ", rdtf("train", name, "--help").out)
    text = re.sub(r" +", " ", text).partition("-h, --help")[2]
    for setting, _, value in settings(preset(name)):
        if setting == "preset":
            assert "--preset" not in text
            continue
        option = "--" + setting.replace("_", "-")
        if isinstance(value, bool):  # `--engine.deterministic, --engine.no-deterministic`
            option = "no-".join(re.split(r"(?<=\.)", option, maxsplit=1))
        told = text.split(f"{option} ")[1].split(" --")[0]
        words = value if isinstance(value, tuple) else (value,)
        default = " ".join(str(word) or "''" for word in words)
        assert f"(default: {default})" in told, setting
        assert re.search(r"[a-z]{2,}.*\(default", told), setting


def test_a_warm_start_decides_the_defaults(rdtf, tiny_run):
    for source in (("--start-from", tiny_run), (f"--start-from={tiny_run}",)):
        text = rdtf("train", "nano", *source, "--model.embedding-dim", 48, "--dry-run").out
        assert re.search(r"--canvas +32\n", text) and re.search(r"--model.channels +16 32\n", text)
        assert re.search(r"--model.embedding-dim +48\n", text)


def test_mistakes_are_told_before_torch_is_loaded(tmp_path):
    code = """
import sys
from rdtf.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print("heavy:", sorted({"torch", "diffusers", "transformers"} & set(sys.modules)))
"""
    run = ("--out", str(tmp_path / "run"))
    for words in (
        ("train", "nano", "--help"),
        ("train", "nano", "--batch-size", "0"),
        ("train", "nano", "--data", "no/such/folder", *run),
        ("train-autoencoder", "--data", "no/such/folder", *run),
        ("evaluate", "--data", "no/such/folder"),
        ("compare", "--target", "no/such/folder", *run),
    ):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert "heavy: []" in done.stdout, done


def test_mistakes_of_folders(refused, training_set, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("in the way")
    before = content(tmp_path)
    run = ("--out", tmp_path / "run")
    for data in (tmp_path / "empty", tmp_path / "nothing", tmp_path / "file"):
        assert "holds no training set" in refused("train", "nano", "--data", data, *run)
        assert "holds no training set" in refused("train-autoencoder", "--data", data, *run)
    assert "prepared at 32 pixels, 64 are wanted" in refused(
        *("train", "nano", "--data", training_set, *run)
    )
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        line = refused("train", "nano", "--data", training_set, "--out", out, *tiny_arguments())
        assert ("can't be made" in line or "is a file" in line) and str(tmp_path / "file") in line
    assert content(tmp_path) == before


def test_another_config_in_the_same_folder(rdtf, refused, training_set, tmp_path):
    command = ("train", "nano", "--data", training_set, "--out", tmp_path, "--steps", 1)
    assert rdtf(*command, *tiny_arguments()).status == 0
    before = content(tmp_path)
    line = refused(*command, *tiny_arguments(batch_size=3))
    assert "was started with batch_size = 2, not 3" in line
    assert "was started with seed = 0" in refused(*command, *tiny_arguments(), "--seed", 1)
    assert content(tmp_path) == before
