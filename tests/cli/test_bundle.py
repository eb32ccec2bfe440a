from __future__ import annotations

import re
from pathlib import Path

import pytest

from rdtf.cli.data import describe, parse_size
from rdtf.data.bundle import BundleSummary
from rdtf.data.dataset import PreparedDataset
from rdtf.errors import UserError
from rdtf.models.motion_dfgn import MotionDFGN
from rdtf.training.__main__ import _parser


def test_from_a_training_set_to_a_network_at_home(rdtf, training_set, tmp_path):
    bundle, run, home = (tmp_path / name for name in ("bundle", "run", "home"))
    ended = rdtf(
        "data", "bundle", training_set, bundle, "--canvas", 32, "--workers", 0,
        "--part-size", "60MB", "--json",
    )  # fmt: skip
    assert ended.status == 0, ended
    made = ended.json
    assert made["parts"] == [str(bundle / "part-1")] and made["num_bytes"] < 60e6
    # Half of the default encoder is its vocabulary, most of which no caption of stickers uses.
    assert made["files"]["text"] < 25e6
    held_out = len(PreparedDataset(training_set).clips("val"))
    assert made["num_held_out"] == held_out > 0

    small = ("--channels", 32, 32, "--batch-size", 2, "--device", "cpu")
    ended = rdtf(
        "train-network",
        "motion",
        bundle,
        "--out",
        run,
        "--steps",
        1,
        "--parts",
        10,
        *small,
        "--json",
    )
    assert ended.status == 0 and ended.json["reason"] == "finished"
    ended = rdtf("join-parts", run / "parts", home, "--json")
    assert ended.status == 0 and ended.json["path"] == str(home)
    assert MotionDFGN.from_pretrained(home).config["text_widths"] in ((384,), [384])


def test_mistakes_are_one_line(refused, training_set, tmp_path):
    assert "folder to make" in refused("data", "bundle", training_set)
    assert "is a folder" not in refused("data", "bundle", tmp_path / "none", tmp_path / "out")
    assert "size 'much'" in refused(
        "data", "bundle", training_set, tmp_path / "out", "--part-size", "much"
    )
    told = refused("train-network", "drawing", tmp_path, "--out", tmp_path / "run", "--steps", 1)
    assert "holds no bundle" in told
    assert "folder to make" in refused("join-parts", tmp_path)
    assert "0 files called parts.json" in refused("join-parts", tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "size"), [("60MB", 60e6), ("1.5 GB", 1.5e9), ("64kb", 64e3), ("1000", 1000)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "nan", "inf"])
def test_sizes_that_are_none(text):
    with pytest.raises(UserError, match="60MB"):
        parse_size(text)


def test_both_sides_have_the_same_options(rdtf):
    far = set(re.findall(r"(?<!\S)--[a-z-]+", _parser().format_help()))
    home = set(re.findall(r"(?<!\S)--[a-z-]+", rdtf("train-network", "--help").out))
    assert home - {"--json"} == far and "--out" in far


def test_held_out_clips_are_told_in_plain_words():
    summary = BundleSummary(
        path=Path("bundle"),
        parts=(Path("bundle"),),
        num_clips=1,
        num_held_out=2,
        num_frames=1,
        canvas=32,
        num_bytes=1000,
        files={},
        lossless_share=1.0,
        lossy_psnr_db=None,
    )
    text = describe(summary)
    assert text.startswith("1 clip, 1 frame of 32 px")
    assert "left out: 2 clips held out for validation" in text
