"""Where stickers may come from besides folders: archives, packs, shards, tables and sheets."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdtf.data.dataset import PreparedDataset
from rdtf.data.listing import collect_folders
from rdtf.data.prepare import prepare

from .stickers import moving_square, save_gif, save_webp, soft_disc, write_rows


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Two stickers by name."""
    folder = tmp_path_factory.mktemp("files")
    save_gif(folder / "a.gif", moving_square(4))
    save_webp(folder / "b.webp", soft_disc())
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def write_folder(path: Path, content: Mapping[str, bytes]) -> None:
    for name, data in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)


def write_zip(path: Path, content: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def write_tar(path: Path, content: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


WRITERS = {
    "pack": write_folder,
    "pack.zip": write_zip,
    "pack.wastickers": write_zip,
    "pack.tar": write_tar,
    "pack.tar.gz": write_tar,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_pile_is_the_same_in_a_folder_and_in_any_archive(tmp_path, files, name):
    rows = as_json({"file_name": "in/a.gif", "text": "a red square", "license": "CC0-1.0"})
    frames = {f"clips/wave/{n:03d}.webp": files["b.webp"] for n in range(3)}
    content = {"in/a.gif": files["a.gif"], "b.webp": files["b.webp"], "metadata.jsonl": rows}
    content |= {"b.txt": b"a disc\n", "broken.webp": b"RIFF", **frames}
    WRITERS[name](tmp_path / name, content)
    (tmp_path / "out").mkdir()
    summary = prepare(tmp_path / name, tmp_path / "out" / "set", canvas=32, workers=0)
    # Three equal frames are one picture: the disc again.
    assert summary.skipped == {"unreadable": 1, "duplicate": 1} and summary.num_clips == 2
    clips = {clip.file.removeprefix(name): clip for clip in PreparedDataset(summary.path).clips()}
    assert clips["/in/a.gif"].captions == ("a red square",) and clips["/in/a.gif"].num_frames == 4
    assert clips["/in/a.gif"].license == "CC0-1.0"
    assert clips["/b.webp"].captions == ("a disc",)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["set"]
    assert [stage["in"] - stage["out"] for stage in summary.stages] == [0, 1, 0, 1, 0, 0]


def test_webdataset_shards_name_their_captions(tmp_path, files):
    content = {
        "000.webp": files["b.webp"],
        "000.json": as_json({"caption": "a disc", "license": "CC0-1.0"}),
        "001.gif": files["a.gif"],
        "001.txt": b"a square",
    }
    write_tar(tmp_path / "shards-000.tar", content)
    items, skipped = collect_folders([tmp_path])
    assert [(item.captions, item.license) for item in items] == [
        (("a disc",), "CC0-1.0"),
        (("a square",), None),
    ]
    assert not skipped


def test_our_own_shards_are_an_input(tmp_path, dataset):
    summary = prepare(dataset.path / "shards", tmp_path / "set", canvas=32, workers=0)
    assert summary.num_clips == len(dataset)
    hashes = {clip.captions for clip in dataset.clips()}
    assert {clip.captions for clip in PreparedDataset(tmp_path / "set").clips()} == hashes


WHATSAPP = {
    "name": "Shapes",
    "publisher": "Ada",
    "stickers": [{"image_file": "b.webp", "emojis": ["🔵"], "accessibility_text": "a disc"}],
}
SIGNAL = {"title": "Shapes", "author": "Ada", "stickers": [{"file": "b.webp", "emoji": "🔵"}]}
PACKS: dict[str, dict[str, bytes]] = {
    "whatsapp": {"contents.json": as_json({"sticker_packs": [WHATSAPP]}), "title.txt": b"Shapes"},
    "signal": {"manifest.json": as_json(SIGNAL)},
    "converter": {"emoji.txt": as_json({"b": "🔵"}), "author.txt": b"Ada", "title.txt": b"S"},
}


@pytest.mark.parametrize("kind", PACKS)
def test_packs_name_emojis_and_authors(tmp_path, files, kind):
    content = PACKS[kind] | {"b.webp": files["b.webp"], "cover.png": files["b.webp"]}
    if kind == "signal":
        del content["cover.png"]
    write_zip(tmp_path / "pack.wastickers", content)
    items, skipped = collect_folders([tmp_path / "pack.wastickers"])
    assert [item.file for item in items] == ["pack.wastickers/b.webp"] and not skipped
    assert "large blue circle" in items[0].captions
    assert items[0].attribution == "Ada" and items[0].attributes["emoji"] == ["🔵"]


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def write_parquet(path: Path, rows: list[dict[str, str]]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize(
    ("name", "write"), [("t.csv", write_csv), ("t.parquet", write_parquet), ("t.jsonl", write_rows)]
)
def test_a_table_stands_for_the_files_that_it_names(tmp_path, files, name, write: Callable):
    write_folder(tmp_path / "far" / "away", files)
    (tmp_path / "lists").mkdir()
    table = tmp_path / "lists" / name
    far = str(tmp_path / "far" / "away" / "a.gif")
    rows = [{"path": far, "caption": "a square", "mood": ""}, {"path": "none.gif", "mood": "sad"}]
    write(table, [{"caption": "", **row} for row in rows])
    items, skipped = collect_folders([table])
    assert [(str(item.path), item.captions) for item in items] == [(far, ("a square",))]
    assert not items[0].attributes.get("mood")
    assert [row.reason for row in skipped] == ["file named by the line does not exist"]
    # Found in a folder, a table may name files of that folder only.
    write_folder(tmp_path / "lists", files)
    items, skipped = collect_folders([tmp_path / "lists"])
    assert len(items) == 2 and "outside" in skipped[0].reason


def test_sheets_of_sprites_become_clips(tmp_path):
    frames = moving_square(5, size=16)
    sheet = np.zeros((32, 48, 4), np.uint8)
    for number, frame in enumerate(frames):
        row, column = divmod(number, 3)
        sheet[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = frame
    for folder in ("told", "row", "atlas"):
        (tmp_path / folder).mkdir()
        Image.fromarray(sheet).save(tmp_path / folder / "walk.png")
    write_rows(tmp_path / "row" / "r.jsonl", [{"file": "walk.png", "sprite": "16x16"}])
    cells = [
        {"frame": {"x": 16 * (n % 3), "y": 16 * (n // 3), "w": 16, "h": 16}, "duration": 100}
        for n in range(5)
    ]
    (tmp_path / "atlas" / "walk.json").write_bytes(as_json({"frames": cells, "meta": {}}))
    for folder in ("told", "row", "atlas"):
        sprite = (16, 16) if folder == "told" else None
        out = tmp_path / f"{folder}-set"
        prepare(tmp_path / folder, out, canvas=16, sprite=sprite, workers=0)
        clip = PreparedDataset(out).clips()[0]
        assert clip.durations_ms == (100,) * 5 and clip.captions == ("walk",)
        assert np.array_equal(PreparedDataset(out).read_frames(0), frames)


# ----------------------------------------------------------------- what must not be trusted


def test_a_name_that_is_no_text_is_a_file_like_others(tmp_path, files):
    names = [os.fsdecode(name) for name in (b"\xff.webp", b"\xfe.webp")]
    write_folder(tmp_path / "in", {names[0]: files["b.webp"], names[1]: b"RIFF"})
    summary = prepare(tmp_path / "in", tmp_path / "set", canvas=32, workers=0)
    assert summary.num_clips == 1 and summary.skipped == {"unreadable": 1}


def test_names_that_point_outside_are_refused(tmp_path, files):
    bad = dict.fromkeys(("../up.webp", "/etc/x.webp", "..\\w.webp", "c:/x.webp"), files["b.webp"])
    write_zip(tmp_path / "bad.zip", bad | {"good.webp": files["b.webp"]})
    write_tar(tmp_path / "bad.tar", bad | {"good.webp": files["b.webp"]})
    with tarfile.open(tmp_path / "bad.tar", "a") as archive:
        link = tarfile.TarInfo("link.webp")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    items, skipped = collect_folders([tmp_path])
    assert [item.file.rpartition("/")[2] for item in items] == ["good.webp", "good.webp"]
    assert len(skipped) == 9 and {row.kind for row in skipped} == {"archive"}
    assert sum("outside" in row.reason for row in skipped) == 8


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, files):
    (tmp_path / "in").mkdir()
    write_zip(tmp_path / "in" / "many.zip", {f"{n}.gif": bytes(9_000_000) for n in range(8)})
    with gzip.open(tmp_path / "in" / "one.tar.gz", "wb") as file:
        for _ in range(80):
            file.write(bytes(2**20))
    write_folder(tmp_path / "in", files)
    summary = prepare(tmp_path / "in", tmp_path / "set", canvas=32, workers=0)
    assert summary.num_clips == 2 and summary.skipped == {"archive": 2}
    rows = [json.loads(line) for line in (tmp_path / "set" / "skipped.jsonl").open()]
    assert all(re.match(r"unpacks to \d+ bytes, more than 50 times", r["reason"]) for r in rows)


def test_a_member_that_lies_about_its_size_is_damaged(tmp_path, files):
    path = tmp_path / "in" / "lies.zip"
    path.parent.mkdir()
    write_zip(path, {"a.gif": files["a.gif"], "b.webp": files["b.webp"]})
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = (7).to_bytes(4, "little")  # size of a.gif
    path.write_bytes(bytes(data))
    summary = prepare(path.parent, tmp_path / "set", canvas=32, workers=0)
    assert summary.num_clips == 1 and summary.skipped == {"unreadable": 1}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.wastickers"])
def test_what_is_no_archive_costs_one_line(tmp_path, files, name):
    write_folder(tmp_path, files)
    (tmp_path / name).write_bytes(os.urandom(3000))
    items, skipped = collect_folders([tmp_path])
    assert len(items) == 2 and [row.kind for row in skipped] == ["archive"]
