"""A full disk: one clear line, nothing half-written, what was there before is kept."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fixtures_disk import largest_file
from rdtf.stickers import StickerError
from rdtf.stickers.export import PackItem, export_pack, export_sticker

from .clips import ball, noise


def everything(folder: Path) -> dict[str, bytes]:
    paths = folder.rglob("*")
    return {str(path): path.read_bytes() if path.is_file() else b"/" for path in paths}


@pytest.mark.parametrize("name", ["webp", "sheet", "frames"])
def test_a_write_that_fails_half_way(tmp_path, name):
    export_sticker(ball(2, 16), name).save(tmp_path, "cat")
    before = everything(tmp_path)
    export = export_sticker(noise(3, 64), name)
    with largest_file(2000), pytest.raises(ValueError, match="can't be written") as caught:
        export.save(tmp_path, "cat")
    assert "make room" in str(caught.value) and "\n" not in str(caught.value)
    assert everything(tmp_path) == before
    export.save(tmp_path, "cat")
    assert everything(tmp_path) != before


def test_the_second_of_two_files_fails(tmp_path):
    """A sheet is of no use without its table, nor the table of yesterday with today's sheet."""
    first, second = (export_sticker(ball(frames, 4), "sheet") for frames in (2, 40))
    first.save(tmp_path, "cat")
    before = everything(tmp_path)
    sizes = [len(data) for data in second.files.values()]
    assert list(second.files) == [".png", ".json"] and sizes[0] < sizes[1]
    with largest_file(sizes[1] - 1), pytest.raises(ValueError, match="can't be written"):
        second.save(tmp_path, "cat")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("platform", ["telegram-emoji", "whatsapp-static"])
def test_packs(tmp_path, platform):
    clip = ball(3, 32) if platform == "telegram-emoji" else ball(1, 32)
    pack = export_pack([PackItem(clip)] * 3, platform, name="Balls")
    with largest_file(1000), pytest.raises(ValueError, match="can't be written"):
        pack.save(tmp_path / "new")
    assert everything(tmp_path / "new") == {}
    path = pack.save(tmp_path / "new")
    before = everything(tmp_path)
    with largest_file(1000), pytest.raises(ValueError, match=r"Balls.* can't be written"):
        pack.save(tmp_path / "new")
    assert everything(tmp_path) == before and path.exists()


def test_the_program(refused, tmp_path):
    clip = noise(4, 64).save(tmp_path / "cat.webp")
    (tmp_path / "out").mkdir()
    with largest_file(2000):
        line = refused("export", clip, "--to", "slack", "-o", tmp_path / "out")
    assert "cat.gif can't be written: File too large" in line and "make room" in line
    assert everything(tmp_path / "out") == {}


def test_a_small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk here")
    try:
        small, large = export_sticker(ball(2, 16), "apng"), export_sticker(noise(9, 64), "apng")
        small.save(disk, "cat")
        before = everything(disk)
        with pytest.raises(ValueError, match="No space left"):
            large.save(disk, "cat")
        with pytest.raises(ValueError, match="No space left"):
            export_sticker(noise(9, 64), "frames").save(disk, "dog")
        assert everything(disk) == before
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_refusals_write_nothing(tmp_path):
    with pytest.raises(StickerError):
        export_sticker(ball(1), "telegram").save(tmp_path, "cat")
    assert everything(tmp_path) == {}
