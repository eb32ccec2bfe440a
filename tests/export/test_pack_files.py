"""Finished packs, opened by other programs' code, each file against numbers written down here.

`test_packs.py` holds packs against our own checker; this does without it and without the data file.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from rdtf.stickers import Sticker
from rdtf.stickers.export import ExportOptions, PackItem, check_pack, export_pack

from .clips import ball


@dataclass(frozen=True)
class Shown:
    """A picture as Pillow or FFmpeg sees it; `plays` is 0 for ever and -1 for a plain picture."""

    format: str
    size: tuple[int, int]
    num_frames: int
    total_ms: float
    plays: int
    num_bytes: int


def shown(data: bytes) -> Shown:
    if data.startswith(b"\x1aE\xdf\xa3"):
        with av.open(io.BytesIO(data), "r") as file:
            (track,) = file.streams
            assert isinstance(track, av.VideoStream) and track.metadata["alpha_mode"] == "1"
            size = (track.codec_context.width, track.codec_context.height)
            count = sum(1 for _ in file.decode(track))
            assert "vp9" in track.codec_context.name
            return Shown("WEBM", size, count, (file.duration or 0) / 1000, 0, len(data))
    with Image.open(io.BytesIO(data)) as image:
        count = getattr(image, "n_frames", 1)
        total = 0.0
        for index in range(count):
            image.seek(index)
            image.load()
            total += image.info.get("duration", 0)
        plays = image.info.get("loop", -1)
        return Shown(str(image.format), image.size, count, total, plays, len(data))


def items(count: int, num_frames: int = 5, total_ms: int = 1000) -> list[PackItem]:
    made = []
    for number in range(count):
        clip = ball(num_frames, 24, total_ms // num_frames)
        frames = clip.frames.copy()
        frames[..., 2] = 10 * number
        made.append(
            PackItem(clip.replace(frames=frames, captions=(f"ball {number}",)), "ball", ("⚽",))
        )
    return made


def opened(path: Path, platform: str) -> dict[str, bytes]:
    assert check_pack(path, platform).passed
    if path.is_dir():
        return {file.name: file.read_bytes() for file in path.iterdir()}
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        return {name: archive.read(name) for name in archive.namelist()}


def pictures(files: Mapping[str, bytes]) -> dict[str, Shown]:
    return {name: shown(data) for name, data in files.items() if not name.endswith((".json", "xt"))}


def test_telegram(tmp_path):
    options = ExportOptions(outline_px=8)
    pack = export_pack(items(1, 2), "telegram", name="Balls", options=options)
    files = opened(pack.save(tmp_path), "telegram")
    manifest = json.loads(files["manifest.json"])
    names = [entry["file"] for entry in manifest["stickers"]]
    seen = pictures(files)
    assert set(seen) == {*names, "cover.webm"} and len(names) == 1
    for name in names:
        one = seen[name]
        assert one.format == "WEBM" and max(one.size) == 512 and one.num_bytes <= 256_000
        assert 2 <= one.num_frames <= one.total_ms * 30 / 1000 and one.total_ms <= 3000
    assert seen["cover.webm"].size == (100, 100) and seen["cover.webm"].num_bytes <= 32_000
    assert all(1 <= len(entry["emojis"]) <= 20 for entry in manifest["stickers"])


@pytest.mark.parametrize("platform", ["whatsapp", "whatsapp-static"])
def test_whatsapp(tmp_path, platform):
    moves = platform == "whatsapp"
    path = export_pack(items(3, 2 if moves else 1), platform, name="Balls").save(tmp_path)
    files = opened(path, platform)
    seen = pictures(files)
    (pack,) = json.loads(files["contents.json"])["sticker_packs"]
    assert pack["animated_sticker_pack"] is moves and 3 <= len(pack["stickers"]) <= 30
    for entry in pack["stickers"]:
        one = seen.pop(entry["image_file"])
        assert one.format == "WEBP" and one.size == (512, 512)
        assert one.num_bytes <= (500_000 if moves else 100_000)
        assert (one.num_frames, one.total_ms) == ((2, 1000) if moves else (1, 0))
        assert 1 <= len(entry["emojis"]) <= 3 and entry["accessibility_text"].startswith("ball")
    tray = seen.pop(pack["tray_image_file"])
    assert (tray.format, tray.size, tray.num_frames) == ("PNG", (96, 96), 1)
    assert tray.num_bytes <= 50_000 and not seen
    assert files["title.txt"] == b"Balls" and files["author.txt"]


def test_line(tmp_path):
    files = opened(export_pack(items(8), "line", name="Balls").save(tmp_path), "line")
    seen = pictures(files)
    assert set(seen) == set(files) and len(files) == 10
    for name in (f"{number:02d}.png" for number in range(1, 9)):
        one = seen[name]
        assert one.format == "PNG" and one.size[1] == 270 and one.size[0] <= 320
        assert 5 <= one.num_frames <= 20 and one.total_ms in (1000, 2000, 3000, 4000)
        assert 1 <= one.plays <= 4 and one.plays * one.total_ms <= 4000
        assert one.num_bytes <= 300_000 and first_frame_is_the_picture(files[name])
    assert seen["main.png"].size == (240, 240) and 5 <= seen["main.png"].num_frames <= 20
    assert seen["tab.png"].size == (96, 74) and seen["tab.png"].num_frames == 1
    assert sum(map(len, files.values())) < 20_000_000


def first_frame_is_the_picture(data: bytes) -> bool:
    return data.index(b"acTL") < data.index(b"fcTL") < data.index(b"IDAT")


def test_signal(tmp_path):
    still = PackItem(Sticker(ball(1, 24).frames, np.array([100])), "still")
    files = opened(
        export_pack([*items(2, 3), still], "signal", name="Balls").save(tmp_path), "signal"
    )
    manifest = json.loads(files.pop("manifest.json"))
    assert [len(entry["emoji"]) for entry in manifest["stickers"]] == [1, 1, 1]
    assert {entry["file"] for entry in manifest["stickers"]} == set(files)
    assert manifest["cover"]["file"] in files
    for data in files.values():
        one = shown(data)
        assert one.format == "PNG" and one.size[0] == one.size[1] <= 512
        assert one.num_bytes <= 300_000 and one.total_ms <= 3000
        if one.num_frames > 1:
            assert struct.unpack_from(">I", data, data.index(b"acTL") + 8) == (0,)  # for ever


def test_wechat(tmp_path):
    files = opened(export_pack(items(8, 2), "wechat", name="Balls").save(tmp_path), "wechat")
    seen = pictures(files)
    for number in range(1, 9):
        main, thumb = seen.pop(f"{number:02d}.gif"), seen.pop(f"{number:02d}_thumb.png")
        assert (main.format, main.size, main.plays) == ("GIF", (240, 240), 0)
        assert main.num_frames == 2 and main.total_ms == 1000 and main.num_bytes <= 500_000
        assert (thumb.format, thumb.size) == ("PNG", (120, 120)) and thumb.num_bytes <= 200_000
    sizes = {name: one.size for name, one in seen.items()}
    assert sizes == {"cover.png": (240, 240), "banner.png": (750, 400), "icon.png": (50, 50)}
    banner = Image.open(io.BytesIO(files["banner.png"])).convert("RGBA")
    assert np.asarray(banner)[..., 3].min() == 255
