"""`rdtf data animate`: stills in, captioned clips out, and what prepare reads of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cli.conftest import content
from rdtf.data.animated import AnimatedStills
from rdtf.data.dataset import PreparedDataset
from rdtf.errors import UserError
from rdtf.stickers import Sticker
from rdtf.synthetic import VERBS, MotionDraw, animate

from .conftest import blob

SMALL = ("--canvas", 24, "--frames", 4)


@pytest.fixture
def stills(tmp_path):
    """Two stills with captions, one without, and three files that are none."""
    folder = tmp_path / "stills"
    folder.mkdir()
    blob(30, 30).save(folder / "a.png")
    blob(20, 30).save(folder / "b.png")
    blob(24, 24).save(folder / "green_owl.webp")
    animate(blob(16, 16), MotionDraw(("jump",)), 3, 80).save(folder / "clip.gif")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    Sticker(np.zeros((1, 9, 9, 4), np.uint8), np.array([100])).save(folder / "empty.png")
    rows = [{"file": "a.png", "captions": ["a pink cat"], "concept": "cat", "license": "CC0-1.0",
             "attribution": "by Ada"}]  # fmt: skip
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "b.txt").write_text("an old robot\n")
    return folder


def same(first: Sticker, second: Sticker) -> bool:
    return (
        np.array_equal(first.frames, second.frames)
        and np.array_equal(first.durations_ms, second.durations_ms)
        and first.captions == second.captions
    )


def test_stickers_are_a_pure_function_of_seed_and_index(stills):
    def made(count: int, seed: int = 0, **options) -> AnimatedStills:
        return AnimatedStills([stills], count, num_frames=4, seed=seed, canvas=24, **options)

    forwards = list(made(9))
    other_order = made(30)
    backwards = [other_order[index] for index in reversed(range(9))]
    assert all(map(same, forwards, reversed(backwards)))
    assert not all(map(same, forwards, made(9, seed=1)))
    with pytest.raises(IndexError):
        made(9)[9]


def test_every_still_comes_and_what_is_none_is_named(stills):
    animated = AnimatedStills([stills], 12, num_frames=4, canvas=24)
    clips = list(animated)
    concepts = [clip.metadata["concept"] for clip in clips]
    assert set(concepts) == {"cat", "b", "green_owl"}
    kinds = {skipped.file: skipped.kind for skipped in animated.skipped}
    assert kinds == {
        "stills/clip.gif": "animated",
        "stills/broken.png": "unreadable",
        "stills/empty.png": "empty",
    }
    for clip in clips:
        assert clip.frames.shape == (4, 24, 24, 4)
        assert (clip.license == "CC0-1.0") == (clip.metadata["concept"] == "cat")
    said = " ".join(caption for clip in clips for caption in clip.captions)
    assert all(name in said for name in ("pink cat", "old robot", "green owl"))


def test_animate_then_prepare_reads_the_captions(rdtf, stills, tmp_path):
    clips, data = tmp_path / "clips", tmp_path / "set"
    made = rdtf("data", "animate", stills, clips, "--count", 7, *SMALL, "--json")
    assert made.status == 0 and not made.err
    assert made.json["num_stickers"] == 7 and made.json["path"] == str(clips)
    assert made.json["skipped"] == {"animated": 1, "empty": 1, "unreadable": 1}
    assert len(list(clips.glob("*.webp"))) == 7
    rows = {row["file"]: row for row in map(json.loads, (clips / "captions.jsonl").open())}
    options = ("--canvas", 24, "--preset", "none", "--duplicates", "keep", "--keep-all", "--json")
    prepared = rdtf("data", "prepare", clips, data, *options)
    assert prepared.json["num_clips"] == 7 and prepared.json["skipped"] == {}
    for clip in PreparedDataset(data).clips():
        row = rows[clip.file.removeprefix("clips/")]
        assert list(clip.captions) == row["captions"] and clip.concept == row["concept"]
        assert clip.attributes["motion"] == row["motion"]
        assert clip.num_frames > 1
        if clip.concept == "cat":
            assert (clip.license, clip.attribution) == ("CC0-1.0", "by Ada")


def test_the_same_command_makes_the_same_files(rdtf, stills, tmp_path):
    for name in ("one", "two"):
        rdtf("data", "animate", stills, tmp_path / name, "--count", 3, *SMALL, "--seed", 5)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_verbs_can_be_chosen(rdtf, stills, tmp_path):
    made = rdtf(
        *("data", "animate", stills, tmp_path / "clips", "--count", 6, *SMALL),
        *("--verbs", "jump, slide-left,melting"),
    )
    assert made.status == 0 and "6 stickers in" in made.out and "left out 3" in made.out
    gerunds = [g for name in ("jump", "slide left", "melt") for g in VERBS[name].gerunds]
    for line in (tmp_path / "clips" / "captions.jsonl").open():
        for caption in json.loads(line)["captions"]:
            assert any(gerund in caption for gerund in gerunds)


MISTAKES = {
    "no sticker found in {empty}": ("{empty}", "{new}"),
    "{tmp}/nothing does not exist": ("{tmp}/nothing", "{new}"),
    "motion 'jmp' is unknown; did you mean jump": ("{stills}", "{new}", "--verbs", "spin,jmp"),
    "motion 'appear' is unknown; ": ("{stills}", "{new}", "--verbs", "appear"),
    "motion '' is unknown; use one of": ("{stills}", "{new}", "--verbs", ""),
    "count of animated stills is 0; use 1 or more": ("{stills}", "{new}", "--count", "0"),
    "frames of animated stills is 1; use 2 to 64": ("{stills}", "{new}", "--frames", "1"),
    "canvas of animated stills is 3; use 8": ("{stills}", "{new}", "--canvas", "3"),
    "seed of animated stills is -1": ("{stills}", "{new}", "--seed", "-1"),
    "lies inside of the input": ("{stills}", "{stills}"),
    "a still that can be used; stills/clip.gif: 3 frames": ("{stills}/clip.gif", "{new}"),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_one_line_and_change_nothing(refused, stills, tmp_path, message):
    (tmp_path / "empty").mkdir()
    places = {"tmp": tmp_path, "stills": stills}
    places |= {name: tmp_path / name for name in ("empty", "new")}
    before = content(tmp_path)
    line = refused("data", "animate", *(part.format(**places) for part in MISTAKES[message]))
    assert message.format(**places) in line
    assert content(tmp_path) == before


def test_a_folder_with_nothing_usable_is_refused(tmp_path):
    Sticker(np.zeros((1, 9, 9, 4), np.uint8), np.array([100])).save(tmp_path / "empty.png")
    with pytest.raises(UserError, match="none of the 1 stickers"):
        AnimatedStills([tmp_path], 1)[0]
