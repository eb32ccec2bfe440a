"""`rdtf export` as people run it."""

from __future__ import annotations

import json
import shutil
import zipfile

import pytest
from PIL import Image

from rdtf.stickers import DEFAULT_BUDGET, decode_sticker, read_sticker
from rdtf.stickers.export import export_sticker, platforms
from stickers.samples import lottie, lottie_bytes

from .clips import ball, noise


@pytest.fixture
def clip(tmp_path):
    return ball(6, 32, 150).save(tmp_path / "my ball.gif")


def test_one_file(rdtf, clip, tmp_path):
    ended = rdtf("export", clip, "--to", "discord", "-o", tmp_path / "out")
    assert ended.status == 0 and not ended.err
    path = tmp_path / "out" / "my ball.png"
    assert ended.out.startswith(f"{path}: 320 x 320, 6 frames, 900 ms")
    assert decode_sticker(path.read_bytes()).total_ms == 900
    assert sorted((tmp_path / "out").iterdir()) == [path]


def test_json_says_everything(rdtf, clip, tmp_path):
    ended = rdtf("export", clip, "--to", "slack", "-o", tmp_path, "--outline", 4, "--json")
    assert ended.status == 0 and not ended.err
    (done,) = ended.json["exported"]
    assert done["paths"] == [str(tmp_path / "my ball.gif")] and not ended.json["refused"]
    assert done["check"]["passed"] and done["check"]["dated"]
    assert done["edits"] == ["outline of 4 px added"]
    assert 0 < done["loss"]["alpha_psnr_db"] <= 99 and done["seam_error"] < 0.5
    assert done["gave_up"] == [
        "partial transparency: in GIF a pixel is either opaque or transparent"
    ]


def test_edits_in_their_order(rdtf, clip, tmp_path):
    edits = ("--trim", "--pad", 2, "--close", "ping-pong", "--speed", 2, "--first", 1)
    ended = rdtf("export", clip, "--to", "webp", "-o", tmp_path, *edits, "--json")
    (done,) = ended.json["exported"]
    assert [edit.split()[0] for edit in done["edits"]] == [
        "trimmed", "border", "starts", "loop", "played",
    ]  # fmt: skip
    assert done["num_frames"] == 10 and done["total_ms"] == 750
    with_color = ("--background", "#fa0", "--size", 64)
    ended = rdtf("export", clip, "--to", "avif", "-o", tmp_path, *with_color, "--json")
    assert ended.json["exported"][0]["width"] == 64


def test_a_refusal_is_one_line(refused, clip, tmp_path):
    out = tmp_path / "out"
    line = refused("export", clip, "--to", "line", "-o", out)
    assert "lasts 0.9 s, but must last exactly 1, 2, 3, 4 s" in line and "--time" in line
    assert not list(out.iterdir())
    assert "0.9 s" not in refused("export", clip, "--to", "lime", "-o", out)


def test_one_of_several_is_refused(rdtf, clip, tmp_path):
    still = ball(1).save(tmp_path / "still.png")
    out = tmp_path / "out"
    ended = rdtf("export", clip, still, "--to", "telegram-emoji", "-o", out, "--json")
    assert ended.status == 2
    assert ended.err.startswith(f"rdtf: {still}: Telegram video emoji: the clip does not move")
    assert [entry["reason"] for entry in ended.json["refused"]] == ["still"]
    assert [path.name for path in out.iterdir()] == ["my ball.webm"]


def test_names_that_are_alike_are_numbered(rdtf, clip, tmp_path):
    (tmp_path / "b").mkdir()
    other = shutil.copy(clip, tmp_path / "b" / "my ball.gif")
    ended = rdtf("export", clip, other, "--to", "webp", "-o", tmp_path / "out")
    assert ended.status == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["my ball.webp", "my ball_2.webp"]


def test_a_pack(rdtf, clip, tmp_path):
    names = ("--pack", "My balls", "--author", "Me", "--emoji", "⚽,🎾", "🏀", "🎱")
    ended = rdtf("export", clip, clip, clip, "--to", "whatsapp", "-o", tmp_path, *names)
    path = tmp_path / "My_balls.wastickers"
    assert ended.status == 0 and ended.out.startswith(f"{path}: 3 stickers, checked")
    with zipfile.ZipFile(path) as archive:
        pack = json.loads(archive.read("contents.json"))["sticker_packs"][0]
    assert [sticker["emojis"] for sticker in pack["stickers"]] == [["⚽", "🎾"], ["🏀"], ["🎱"]]
    checked = rdtf("export", "--check", path, "--to", "whatsapp", "--json")
    assert checked.status == 0 and checked.json["passed"]


def test_a_pack_that_is_none(refused, clip, tmp_path):
    few = refused("export", clip, "--to", "whatsapp", "--pack", "x", "-o", tmp_path)
    assert "3 to 30 stickers, not 1" in few
    texts = ("--pack", "x", "--emoji", "⚽", "🏀")
    assert "one for each" in refused("export", clip, "--to", "signal", "-o", tmp_path, *texts)


def test_check(rdtf, tmp_path):
    good = tmp_path / "good.webp"
    good.write_bytes(export_sticker(ball(4), "whatsapp").data)
    ended = rdtf("export", "--check", good, "--to", "whatsapp")
    assert ended.status == 0 and "passes for whatsapp (limits as of 2026" in ended.out
    assert "[official]" in ended.out and "source: WhatsApp" in ended.out
    bad = noise(4, 512).save(tmp_path / "bad.webp")
    ended = rdtf("export", "--check", good, bad, "--to", "whatsapp", "--json")
    assert ended.status == 2 and not ended.json["passed"]
    passed = [report["passed"] for report in ended.json["reports"]]
    assert passed == [True, False]
    broken = [f["rule"] for f in ended.json["reports"][1]["findings"] if not f["passed"]]
    assert broken == ["bytes"]


def test_check_of_files_that_are_no_sticker_or_more_than_one(rdtf, tmp_path):
    good = export_sticker(ball(4), "telegram-emoji").data
    page = b"<html><script>alert(1)</script></html>"
    files = {
        "half": good[: len(good) // 2],
        "page": page,
        "two": good + page,
        "empty": b"",
        "words": b"a cat, waving",
        "program": b"\x7fELF" + bytes(100),
    }
    for name, data in files.items():
        path = tmp_path / f"{name}.webm"
        path.write_bytes(data)
        ended = rdtf("export", "--check", path, "--to", "telegram-emoji", "--json")
        assert ended.status == 2 and not ended.err, (name, ended)
        (report,) = ended.json["reports"]
        assert not report["passed"] and report["name"] == path.name
        broken = {finding["rule"] for finding in report["findings"] if not finding["passed"]}
        assert broken & {"readable", "one file only"}, (name, broken)


def test_check_of_a_file_that_is_too_large(rdtf, refused, tmp_path):
    path = tmp_path / "large.webm"
    with path.open("wb") as file:
        file.truncate(DEFAULT_BUDGET.max_bytes + 1)
    assert "max_bytes" in refused("export", "--check", path, "--to", "telegram")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_large_still_is_judged_as_it_is_stored(rdtf, tmp_path, suffix):
    path = tmp_path / f"wide{suffix}"
    Image.new("RGB", (9000, 16), "white").save(path)
    ended = rdtf("export", "--check", path, "--to", "signal")
    assert ended.status == 2 and "9000 x 16;" in ended.out and "ok   readable" in ended.out


def test_list(rdtf):
    ended = rdtf("export", "--list")
    assert ended.status == 0
    for name in platforms():
        assert name in ended.out
    ended = rdtf("export", "--list", "--json")
    limits = ended.json["platforms"]["telegram"]["limits"]
    assert limits["max_bytes"]["value"] == 256_000 and limits["max_bytes"]["source"]


def test_lottie_is_drawn_at_the_size_of_the_canvas(rdtf, tmp_path):
    path = tmp_path / "square.json"
    path.write_bytes(lottie_bytes())
    ended = rdtf("export", path, "--to", "discord", "-o", tmp_path, "--json")
    assert ended.status == 0 and ended.json["exported"][0]["width"] == 320
    frame = read_sticker(tmp_path / "square.png").frames[0]
    edge = frame[160, :, 3]
    assert ((edge > 0) & (edge < 255)).sum() <= 2  # drawn sharp, not enlarged
    assert not ended.json["exported"][0]["notes"]


def test_what_of_a_lottie_is_not_drawn_is_named(rdtf, tmp_path):
    path = tmp_path / "square.json"
    path.write_bytes(lottie_bytes(layers=[{**lottie()["layers"][0], "ef": [{"ty": 29}]}]))
    ended = rdtf("export", path, "--to", "discord", "-o", tmp_path)
    assert ended.status == 0 and "not drawn: effects" in ended.out
    ended = rdtf("export", "--check", path, "--to", "discord")
    assert ended.status == 2 and "not drawn: effects" in ended.out
    assert "rdtf export makes it" in ended.out


def test_an_export_that_enlarges_says_so(rdtf, clip, tmp_path):
    ended = rdtf("export", clip, "--to", "whatsapp", "-o", tmp_path)
    assert ended.status == 0 and "note: enlarged from" in ended.out and "to 512 x 512" in ended.out
    ended = rdtf("export", clip, "--to", "webp", "-o", tmp_path)
    assert ended.status == 0 and "enlarged" not in ended.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a platform"),
        (("--to", "slack"), "name at least one"),
        (("no.gif", "--to", "slack"), "folder to write"),
        (("no.gif", "--to", "slack", "-o", "out"), "does not exist"),
        (("no.gif", "--to", "slack", "-o", "out", "--first", "best"), "--first takes"),
        (("no.gif", "--to", "slack", "-o", "out", "--background", "blue-ish"), "must be like"),
        (("--check", "no.gif", "--to", "slack"), "does not exist"),
        (("--check", "no.gif", "--to", "frames"), "no rules"),
    ],
)
def test_wrong_calls(refused, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused("export", *arguments)


def test_a_folder_that_can_not_be_written(refused, clip, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "can't be" in refused("export", clip, "--to", "slack", "-o", tmp_path / "file" / "x")


def test_help(rdtf):
    ended = rdtf("export", "--help")
    assert ended.status == 0 and "usage: rdtf export" in ended.out and "--json" in ended.out
