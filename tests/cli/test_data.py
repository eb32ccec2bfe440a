from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from data.stickers import moving_square, save_webp
from data.test_filters import DROPPED
from rdtf.data.dataset import PreparedDataset
from rdtf.stickers import Sticker
from rdtf.stickers.canvas import on_background

from .conftest import content
from .files import bomb, mixed_folder, truncated_gif, web_page

SMALL = ("--canvas", 32, "--max-frames", 6)


# ------------------------------------------------------------------------------- synth


def test_synth_makes_a_training_set(rdtf, tmp_path):
    ended = rdtf("data", "synth", tmp_path / "set", "--count", 8, *SMALL, "--json")
    assert ended.status == 0 and not ended.err
    assert ended.json["num_clips"] == 8 and ended.json["path"] == str(tmp_path / "set")
    dataset = PreparedDataset(tmp_path / "set")
    assert (len(dataset), dataset.canvas, dataset.max_frames) == (8, 32, 6)


def test_synth_is_the_same_for_a_seed(rdtf, tmp_path):
    prints = [
        rdtf("data", "synth", tmp_path / name, "--count", 5, *SMALL, "--seed", seed, "--json").json
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, second, other = (values["fingerprint"] for values in prints)
    assert first == second != other


@pytest.mark.parametrize("suffix", ["webp", "gif", "apng"])
def test_synth_writes_files_that_prepare_reads(rdtf, tmp_path, suffix):
    files = tmp_path / "files"
    made = rdtf("data", "synth", files, "--count", 4, *SMALL, "--files", suffix, "--json")
    assert made.status == 0 and made.json["num_stickers"] == 4
    assert len(list(files.glob(f"*.{suffix}"))) == 4
    prepared = rdtf(
        "data", "prepare", files, tmp_path / "set", *SMALL, "--preset", "none", "--json"
    )
    assert prepared.json["num_clips"] == 4 and prepared.json["skipped"] == {}
    rows = [json.loads(line) for line in (files / "captions.jsonl").read_text().splitlines()]
    captions = {tuple(clip.captions) for clip in PreparedDataset(tmp_path / "set").clips()}
    assert captions == {tuple(row["captions"]) for row in rows}


# ----------------------------------------------------------------------------- prepare


def test_prepare_takes_what_it_can_and_names_the_rest(rdtf, tmp_path):
    folder = mixed_folder(tmp_path / "scraped")
    ended = rdtf("data", "prepare", folder, tmp_path / "set", *SMALL, "--preset", "none", "--json")
    assert ended.status == 0 and not ended.err
    dataset = PreparedDataset(tmp_path / "set")
    clips = {clip.file.removeprefix("scraped/"): clip for clip in dataset.clips()}
    assert set(clips) == {
        *("red_disc.gif", "rolling_ball.webp", "small.png"),
        *("no_delay.gif", "long.webp"),
    }
    rows = [json.loads(line) for line in (dataset.path / "skipped.jsonl").open()]
    assert {row["file"].removeprefix("scraped/"): row["kind"] for row in rows} == {
        "cut_off.gif": "unreadable",
        "page.gif": "unreadable",
        "bomb.webp": "unreadable",
        "empty.webp": "unreadable",
        "one_frame.gif": "too little information",
        "captions.jsonl:2": "caption line",
    }
    assert ended.json["skipped"] == {
        "unreadable": 4,
        "caption line": 1,
        "too little information": 1,
    }
    assert clips["red_disc.gif"].captions == ("a red disc moves", "red disc")
    assert clips["rolling_ball.webp"].captions == ("rolling ball",)
    assert min(clips["no_delay.gif"].durations_ms) >= 20
    long = clips["long.webp"]
    assert (long.native_frames, long.num_frames, long.total_ms) == (200, 6, 4000)


def test_prepare_filters_cuts_backgrounds_and_says_how_many_came_through(rdtf, tmp_path):
    for number, (reason, frames) in enumerate(DROPPED.items()):
        save_webp(tmp_path / "in" / f"{number} {reason}.webp", frames)
    white = on_background(moving_square(6, 64), (255, 255, 255))
    opaque = np.concatenate([white, np.full_like(white[..., :1], 255)], axis=-1)
    save_webp(tmp_path / "in" / "on white.webp", opaque)
    options = ("--canvas", 128, "--cut-background", "--preset", "none", "--key-frames", "clusters")
    ended = rdtf("data", "prepare", tmp_path / "in", tmp_path / "out", *options, "--json")
    assert ended.json["num_clips"] == 1
    stages = {row["stage"]: row for row in ended.json["stages"]}
    assert (stages["filter"]["in"], stages["filter"]["out"]) == (6, 1)
    kinds = set(DROPPED) - {"blank"} | {"empty"}  # wholly transparent ones say so
    assert set(stages["filter"]["dropped"]) == kinds
    frames = PreparedDataset(tmp_path / "out").read_frames(0)
    assert frames[0, 0, 0, 3] == 0 and frames[0, 48, 16, 3] == 255


def test_prepare_tells_people_what_was_skipped(rdtf, tmp_path):
    folder = mixed_folder(tmp_path / "scraped")
    ended = rdtf("data", "prepare", folder, tmp_path / "set", *SMALL, "--preset", "none")
    assert "5 clips" in ended.out
    assert "skipped 6: 4 unreadable, 1 caption line, 1 too little information" in ended.out


def test_prepare_reads_an_archive_and_varies_captions(rdtf, refused, tmp_path):
    folder = mixed_folder(tmp_path / "scraped")
    pack = shutil.make_archive(str(tmp_path / "pack"), "zip", folder)
    (tmp_path / "words.json").write_text('{"disc": ["circle"]}')
    options = (*SMALL, "--preset", "none", "--keep-all", "--trigger", "sks", "--json")
    more = ("--paraphrases", tmp_path / "words.json", "--duplicates", "exact")
    ended = rdtf("data", "prepare", pack, tmp_path / "set", *options, *more)
    assert ended.status == 0 and ended.json["num_clips"] == 6
    clips = {clip.file: clip for clip in PreparedDataset(tmp_path / "set").clips()}
    assert clips["pack.zip/red_disc.gif"].captions == (
        *("sks a red disc moves", "sks red disc"),
        *("sks a red circle moves", "sks red circle"),
    )
    wrong = ("data", "prepare", pack, tmp_path / "other", "--preset", "none")
    assert "say for example 32x48" in refused(*wrong, "--sprite", "32")
    assert "turns off" in refused(*wrong, "--keep-all", "--cut-background")


def test_prepare_caches_for_a_preset_unless_told_not_to(rdtf, tmp_path):
    files = tmp_path / "files"
    rdtf("data", "synth", files, "--count", 3, "--canvas", 64, "--files", "webp")
    rdtf("data", "prepare", files, tmp_path / "with", "--canvas", 64)
    rdtf("data", "prepare", files, tmp_path / "without", "--canvas", 64, "--preset", "none")
    caches = {path.name.split("-")[0] for path in (tmp_path / "with" / "cache").iterdir()}
    assert caches >= {"pixels", "text"}
    assert not (tmp_path / "without" / "cache").exists()


# ----------------------------------------------------------------------------- inspect


def test_inspect_writes_a_page(rdtf, training_set, tmp_path):
    page = tmp_path / "pages" / "set.html"
    ended = rdtf("data", "inspect", training_set, "--json", "-o", page, "--verify")
    assert ended.status == 0 and not ended.err
    report = json.dumps(ended.json)
    assert "train" in report and "val" in report and ended.json["page"] == str(page)
    assert page.read_text().startswith("<!doctype html>")


def test_inspect_writes_its_page_beside_the_set(rdtf, tmp_path):
    rdtf("data", "synth", tmp_path / "set", "--count", 3, *SMALL)
    people = rdtf("data", "inspect", tmp_path / "set")
    assert people.status == 0 and len(people.out.splitlines()) >= 5
    assert (tmp_path / "set.html").is_file()


def test_inspect_finds_a_changed_shard(rdtf, refused, tmp_path):
    rdtf("data", "synth", tmp_path / "set", "--count", 3, *SMALL)
    shard = next((tmp_path / "set" / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    assert "has changed" in refused("data", "inspect", tmp_path / "set", "--verify")


# ----------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("make", "message"),
    [(truncated_gif, "cut off"), (web_page, "web page"), (bomb, "pixels in all frames")],
)
def test_prepare_of_one_unusable_file(refused, tmp_path, make, message):
    path = make(tmp_path / ("x.webp" if make is bomb else "x.gif"))
    line = refused("data", "prepare", path, tmp_path / "set", "--preset", "none")
    assert "none of the 1 stickers can be used" in line and message in line
    assert list(tmp_path.iterdir()) == [path]


MISTAKES = {
    "no sticker found": ("data", "prepare", "{empty}", "{new}"),
    "does not exist": ("data", "prepare", "{tmp}/nothing", "{new}"),
    "name at least one folder": ("data", "prepare", "{empty}"),
    "preset 'nanoo' is unknown": ("data", "prepare", "{good}", "{new}", "--preset", "nanoo"),
    "smaller than the 64": ("data", "prepare", "{good}", "{new}", "--canvas", "32"),
    "use --preset none": ("data", "prepare", "{good}", "{new}", "--preset", "paper"),
    "can't be made": ("data", "prepare", "{good}", "{file}/set", "--preset", "none"),
    "is a file": ("data", "prepare", "{good}", "{file}", "--preset", "none"),
    "holds something else": ("data", "prepare", "{good}", "{full}", "--preset", "none"),
    "canvas is 3 ": (*("data", "prepare", "{good}", "{new}", "--canvas", "3", "--preset", "none"),),
    "val_fraction": ("data", "prepare", "{good}", "{new}", "--val-fraction", "1"),
    "synthetic stickers is 4": ("data", "synth", "{new}", "--canvas", "4"),
    "draw at least 1 sticker": ("data", "synth", "{new}", "--count", "0"),
    "{file} is a file": ("data", "synth", "{file}", "--count", "2", "--files", "gif"),
    "is not empty": ("data", "synth", "{full}", "--count", "2", "--files", "gif"),
    "output folder {file} can't be made": (
        *("data", "synth", "{file}/set", "--count", "2", "--files", "gif"),
    ),
    "set lies inside of the input": ("data", "prepare", "{tmp}", "{tmp}/set"),
    "clips lies inside of the input": ("data", "animate", "{tmp}", "{tmp}/clips"),
    "bundle lies inside of the input": ("data", "bundle", "{set}", "{set}/bundle"),
    "holds no training set": ("data", "inspect", "{empty}"),
    "must end with one of .html": ("data", "inspect", "{set}", "-o", "{tmp}/page.png"),
    "{file} can't be made": ("data", "inspect", "{set}", "-o", "{file}/page.html"),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_one_line_and_change_nothing(refused, training_set, tmp_path, message):
    places = {
        "tmp": tmp_path,
        "set": training_set,
        **{name: tmp_path / name for name in ("new", "empty", "file", "full", "good.webp")},
    }
    places["good"] = places.pop("good.webp")
    places["empty"].mkdir()
    places["full"].mkdir()
    (places["full"] / "thesis.txt").write_text("years of work")
    places["file"].write_text("in the way")
    Sticker(np.full((2, 8, 8, 4), 255, np.uint8), np.array([50, 60])).save(places["good"])
    before = content(tmp_path)
    line = refused(*(argument.format(**places) for argument in MISTAKES[message]))
    assert message.format(**places) in line
    assert content(tmp_path) == before
