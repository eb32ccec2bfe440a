"""Several stickers as a pack, and packs that are not as they should be."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdtf.stickers import Budget, StickerError, decode_sticker
from rdtf.stickers.export import ExportError, ExportOptions, PackItem, check_pack, export_pack
from rdtf.stickers.export.packs import _check_files, is_pack, split_emojis
from rdtf.stickers.export.platforms import find_platform

from .clips import ball


def items(count: int, num_frames: int = 5) -> list[PackItem]:
    """Balls of different colours; one second each."""
    made = []
    for number in range(count):
        clip = ball(num_frames, 24, 1000 // num_frames)
        frames = clip.frames.copy()
        frames[..., 2] = 10 * number
        made.append(
            PackItem(clip.replace(frames=frames, captions=("a ball",)), f"ball {number}/ü", ("⚽",))
        )
    return made


@pytest.fixture(scope="module")
def whatsapp(tmp_path_factory) -> Path:
    pack = export_pack(items(3, 2), "whatsapp", name="My balls", author="Me")
    return pack.save(tmp_path_factory.mktemp("packs"))


def test_whatsapp_pack(whatsapp):
    assert whatsapp.name == "My_balls.wastickers" and is_pack(whatsapp)
    assert check_pack(whatsapp, "whatsapp").passed
    with zipfile.ZipFile(whatsapp) as archive:
        names = archive.namelist()
        contents = json.loads(archive.read("contents.json"))
        tray = Image.open(io.BytesIO(archive.read("cover.png")))
        assert archive.read("title.txt").decode() == "My balls"
        assert archive.read("author.txt").decode() == "Me"
    (pack,) = contents["sticker_packs"]
    assert pack["animated_sticker_pack"] is True and pack["tray_image_file"] == "cover.png"
    assert pack["identifier"] == "My_balls" and pack["publisher"] == "Me"
    assert [s["image_file"] for s in pack["stickers"]] == names[:3]
    assert names[0] == "01_ball_0.webp" and pack["stickers"][0]["emojis"] == ["⚽"]
    assert tray.size == (96, 96) and tray.format == "PNG"


def test_the_same_pack_is_the_same_bytes():
    first, second = (
        export_pack(items(3, 1), "whatsapp-static", name="x").to_bytes() for _ in range(2)
    )
    assert first == second


def test_telegram_pack_is_a_folder_with_cover_and_manifest(tmp_path):
    options = ExportOptions(outline_px=4)
    pack = export_pack(items(1, 3), "telegram-emoji", name="Balls", options=options)
    folder = pack.save(tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names == {"01_ball_0.webm", "cover.webm", "manifest.json"}
    assert check_pack(folder, "telegram-emoji").passed
    cover = (folder / "cover.webm").read_bytes()
    assert len(cover) <= 32_000 and decode_sticker(cover).frames.shape[1:3] == (100, 100)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["stickers"][0]["emojis"] == ["⚽"] and manifest["title"] == "Balls"
    assert pack.save(tmp_path) == folder  # a pack is replaced by its next version
    (folder / "01_ball_0.webm").unlink()
    report = check_pack(folder, "telegram-emoji")
    assert not report.passed and "01_ball_0.webm" in report.first_failure


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "Balls").mkdir()
    (tmp_path / "Balls" / "letter.txt").write_text("dear")
    pack = export_pack(items(1, 2), "telegram-emoji", name="Balls")
    with pytest.raises(ValueError, match="not empty"):
        pack.save(tmp_path)
    assert [path.name for path in (tmp_path / "Balls").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("count", "platform", "changes", "message"),
    [
        (2, "whatsapp", {}, "3 to 30 stickers, not 2"),
        (3, "line", {}, "8 or 16 or 24 stickers, not 3"),
        (3, "slack", {}, "has no sticker packs"),
        (3, "whatsapp", {"name": " "}, "needs a name"),
        (3, "whatsapp", {"name": "n" * 129}, "name is longer than 128"),
        (3, "whatsapp", {"author": "n" * 129}, "author is longer"),
    ],
)
def test_packs_that_no_one_takes(count, platform, changes, message):
    with pytest.raises(ExportError, match=message) as caught:
        export_pack(items(count, 2), platform, **{"name": "x", **changes})
    assert caught.value.reason == "pack"


def test_a_sticker_that_does_not_comply_is_named():
    mixed = items(3, 2)
    mixed[1] = PackItem(ball(1), "the still one")
    with pytest.raises(ExportError, match="the still one: WhatsApp") as caught:
        export_pack(mixed, "whatsapp", name="x")
    assert caught.value.reason == "still"


@pytest.mark.parametrize(
    ("emojis", "platform"),
    [((), "whatsapp"), (("😀",) * 4, "whatsapp"), (("cat",), "whatsapp"), (("😀", "🐱"), "signal")],
)
def test_emojis(emojis, platform):
    with pytest.raises(ExportError, match="emoji"):
        export_pack([PackItem(ball(2), "x", emojis)] * 3, platform, name="x")


def test_emojis_are_split():
    assert split_emojis("😀,🎉 👩‍🚀, 1️⃣") == ("😀", "🎉", "👩‍🚀", "1️⃣")
    item = PackItem(ball(1, 16), "x", split_emojis("👩‍🚀,1️⃣,❤️"))
    export_pack([item] * 3, "whatsapp-static", name="x")


# ------------------------------------------------------------------------ packs of others


def rewritten(path: Path, tmp_path: Path, **changes: bytes | None) -> Path:
    """The same archive with some files changed, added or (None) left out."""
    other = tmp_path / "other.wastickers"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(other, "w") as archive:
        for name, data in {**files, **changes}.items():
            if data is not None:
                archive.writestr(name, data)
    return other


def contents(path: Path, **changes: object) -> bytes:
    with zipfile.ZipFile(path) as archive:
        value = json.loads(archive.read("contents.json"))
    value["sticker_packs"][0].update(changes)
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"identifier": "../up"}, "identifier"),
        ({"identifier": "a" * 129}, "identifier"),
        ({"name": ""}, "name"),
        ({"publisher": "p" * 129}, "publisher"),
        ({"image_data_version": ""}, "image_data_version"),
        ({"animated_sticker_pack": False}, "kind of pack"),
        ({"stickers": []}, "number of stickers"),
        ({"stickers": [{"image_file": "01_ball_0.webp", "emojis": []}] * 3}, "emojis"),
        ({"stickers": [{"image_file": "gone.webp", "emojis": ["😀"]}] * 3}, "complete"),
        ({"stickers": "many"}, "number of stickers"),
    ],
)
def test_contents_are_checked(whatsapp, tmp_path, changes, rule):
    other = rewritten(whatsapp, tmp_path, **{"contents.json": contents(whatsapp, **changes)})
    report = check_pack(other, "whatsapp")
    broken = [finding.rule for finding in report.findings if not finding.passed]
    assert any(name.startswith(rule) for name in broken), report
    assert "FAIL" in str(report) and not report.to_dict()["passed"]


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 99_999, b'{"sticker_packs": 3}']
)
def test_contents_that_are_no_contents(whatsapp, tmp_path, data):
    other = rewritten(whatsapp, tmp_path, **{"contents.json": data})
    assert not check_pack(other, "whatsapp").passed


def test_every_file_is_checked(whatsapp, tmp_path):
    still = Image.new("RGBA", (512, 512), (9, 9, 9, 255))
    stream = io.BytesIO()
    still.save(stream, "WEBP")
    other = rewritten(whatsapp, tmp_path, **{"01_ball_0.webp": stream.getvalue()})
    report = check_pack(other, "whatsapp")
    assert "01_ball_0.webp" in report.first_failure and "animated" in report.first_failure
    other = rewritten(whatsapp, tmp_path, **{"cover.png": b"GIF89a"})
    assert "cover.png" in check_pack(other, "whatsapp").first_failure
    other = rewritten(whatsapp, tmp_path, **{"extra.exe": b"MZ"})
    assert "extra.exe" in check_pack(other, "whatsapp").first_failure


@pytest.mark.parametrize(
    "name", ["../up.webp", "/etc/passwd", "a/../../b", "C:\\x", "..\\up", "a:b", "."]
)
def test_names_that_lead_out_are_refused(whatsapp, tmp_path, name):
    other = rewritten(whatsapp, tmp_path, **{name: b"x"})
    with pytest.raises(StickerError, match="points outside the archive"):
        check_pack(other, "whatsapp")


def test_archives_that_are_too_much(whatsapp, tmp_path):
    bomb = tmp_path / "bomb.wastickers"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("01.webp", bytes(80 * 2**20))
    assert bomb.stat().st_size < 2**20
    with pytest.raises(StickerError, match="max_bytes"):
        check_pack(bomb, "whatsapp")
    with pytest.raises(StickerError, match="max_bytes"):
        check_pack(whatsapp, "whatsapp", Budget(max_bytes=1000))
    many = tmp_path / "many.wastickers"
    with zipfile.ZipFile(many, "w") as archive:
        for number in range(501):
            archive.writestr(f"{number}.webp", b"")
    with pytest.raises(StickerError, match="at most 500"):
        check_pack(many, "whatsapp")


def test_a_link_in_an_archive_is_refused(tmp_path):
    path = tmp_path / "link.zip"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("link.webp")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(StickerError, match="points outside"):
        check_pack(path, "whatsapp")


def test_damaged_archives(whatsapp, tmp_path):
    data = whatsapp.read_bytes()
    for number, broken in enumerate(
        (data[:-30], data[: len(data) // 2], b"PK\x03\x04" + bytes(50), b"not a zip at all")
    ):
        path = tmp_path / f"{number}.wastickers"
        path.write_bytes(broken)
        assert is_pack(path)
        with pytest.raises(StickerError):
            check_pack(path, "whatsapp")
    path = tmp_path / "tail.wastickers"
    path.write_bytes(b"#!/bin/sh\n" + data)
    with pytest.raises(StickerError, match="not a sticker pack"):
        check_pack(path, "whatsapp")
    flipped = bytearray(data)
    flipped[60] ^= 255
    path.write_bytes(bytes(flipped))
    with pytest.raises(StickerError):
        check_pack(path, "whatsapp")


def test_links_in_a_folder_are_refused(tmp_path):
    (tmp_path / "01.webm").symlink_to("/etc/passwd")
    with pytest.raises(StickerError, match="links"):
        check_pack(tmp_path, "telegram")


def test_platforms_without_packs():
    with pytest.raises(ExportError, match="no sticker packs"):
        _check_files({}, find_platform("slack"), "x")


def test_an_empty_folder_is_no_pack(tmp_path):
    report = check_pack(tmp_path, "telegram")
    assert not report.passed and "manifest" in str(report)
    assert np.all([not f.passed for f in report.findings if f.rule == "number of stickers"])
