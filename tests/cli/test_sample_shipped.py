"""The four commands that make frames, without `--model`: the one that ships does it."""

from __future__ import annotations

import pytest

from rdtf.stickers import Sticker
from stickers.samples import clip

COMMANDS = {
    "interpolate": ["--factor", 2],
    "predict": ["--after", 1],
    "fill": ["--known", "0,2"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_clip_is_completed(command, rdtf, tmp_path):
    source = clip(3, 40).save(tmp_path / "disc.webp")
    out = tmp_path / "out.webp"
    ended = rdtf(command, source, *COMMANDS[command], "--steps", 1, "-o", out, "--json")
    assert ended.status == 0, ended
    assert (Sticker.load(out).width, ended.json["num_frames"] > 2) == (40, True)


def test_a_still_is_animated_at_a_size_of_choice(rdtf, tmp_path):
    still = clip(1, 200).save(tmp_path / "still.png")
    out = tmp_path / "out.webp"
    ended = rdtf(
        *("generate", "--image", still, "--frames", 3, "--steps", 1),
        *("--size", 160, "-o", out, "--json"),
    )
    assert ended.status == 0, ended
    assert Sticker.load(out).width == 160


def test_an_unknown_size_is_refused(refused, tmp_path):
    still = clip(1, 40).save(tmp_path / "still.png")
    line = refused("generate", "--image", still, "--size", "huge", "-o", tmp_path / "out.webp")
    assert "huge" in line and "input" in line
