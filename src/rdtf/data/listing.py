"""Find stickers and what is said of them, in folders, archives, packs, shards and tables.

Captions are found in `*.jsonl`, `*.csv` and `*.parquet` files (one row a sticker: `file` or
`file_name`; `captions`, `caption` or `text`; optionally `concept`, `source`, `license`,
`attribution`, `sprite` and anything else), in the manifests of sticker packs, in a `.txt` (one
caption a line) or `.json` file of the same name, and else derived from the file name. Archives (zip,
tar, .wastickers, WebDataset shards) are read where they are, see `rdtf.data.archives`. A folder of
frames is one clip, captioned as a file would be. No pixels are decoded here.
"""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from PIL import Image

from rdtf.data.archives import ARCHIVE_SUFFIXES, archive_members
from rdtf.data.shards import is_dataset
from rdtf.data.sources import (
    CAPTION_KEYS,
    FILE_KEYS,
    Member,
    Skipped,
    SourceItem,
    clean_captions,
    describe,
    read_member,
    valid_text,
)
from rdtf.data.work import Work
from rdtf.errors import StickerError, UserError
from rdtf.stickers import DEFAULT_BUDGET, SUPPORTED_SUFFIXES, Budget, probe
from rdtf.stickers.read import DURATIONS_FILE, FRAME_SUFFIXES

_TABLE_SUFFIXES = (".jsonl", ".csv", ".parquet")
_PACK_FILES = frozenset(("contents.json", "manifest.json", "pack.json", "emoji.txt"))
_PACK_TEXTS = ("title.txt", "author.txt")
_PACK_ICONS = frozenset(("tray.png", "tray_icon.png", "cover.png"))
_FRAME_NAME = re.compile(r"(.*?)(\d+)")
_MAX_SIDECAR_BYTES = 1 << 16
_MAX_TABLE = Budget(max_bytes=2**30)  # of a table inside of an archive


def collect_folders(inputs: Sequence[Path | str]) -> tuple[list[SourceItem], list[Skipped]]:
    """All stickers below `inputs` in a fixed order, as lists; see `list_inputs`."""
    with Work(None, {}) as work:
        list_inputs(inputs, work)
        return list(work.items()), list(work.skipped(["list"]))


def list_inputs(
    inputs: Sequence[Path | str], work: Work, sprite: tuple[int, int] | None = None
) -> int:
    """Put all stickers below `inputs` (folders, files, archives, tables) into `work`, in a fixed
    order that depends on their names only. Returns how many.

    Args:
        sprite: width and height in pixels of a frame: stills that are sheets of such frames are
            clips.

    Raises:
        UserError: an input does not exist, or there is no sticker in any of them.
    """
    labels: dict[Path, str] = {}
    for name in inputs:
        root = Path(name).resolve()
        if not root.exists():
            raise UserError(f"input {name} does not exist; name a folder of stickers")
        is_archive = root.is_file() and _is_archive(root.name)
        folder = root if root.is_dir() or is_archive else root.parent
        if folder not in labels:
            labels[folder] = _unused_label(folder.name, labels.values())
        listing = _Listing(work, sprite)
        if is_archive:
            listing.archive(_Entry(labels[folder], root))
        elif root.is_dir():
            listing.folder(root, labels[folder])
        else:
            listing.file(_Entry(f"{labels[folder]}/{valid_text(root.name)}", root))
    if not (found := work.number_items()):
        where = ", ".join(str(name) for name in inputs) or "no input"
        raise UserError(
            f"no sticker found in {where}; supported files are {' '.join(SUPPORTED_SUFFIXES)}"
        )
    return found


def _unused_label(name: str, used: Iterable[str]) -> str:
    """Two inputs may both be called `stickers`."""
    taken = set(used)
    candidates = (f"{name}-{number}" if number > 1 else name for number in count(1))
    return next(candidate for candidate in candidates if candidate not in taken)


def _is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIXES)


@dataclass(frozen=True)
class _Entry:
    """A file, or a member of an archive; `label` names it in reports."""

    label: str
    path: Path
    member: Member | None = None

    @property
    def name(self) -> str:
        return self.label.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def is_sticker(self) -> bool:
        return self.suffix in SUPPORTED_SUFFIXES

    def open(self, budget: Budget = _MAX_TABLE) -> BinaryIO:
        try:
            if self.member is not None:
                return io.BytesIO(read_member(self.path, self.member, budget))
            return self.path.open("rb")
        except OSError as error:
            raise UserError(f"captions file {self.path} can't be read: {error.strerror}") from error

    def read_small(self) -> bytes:
        """The content of a sidecar; nothing if it is too long for one."""
        with self.open() as file:
            data = file.read(_MAX_SIDECAR_BYTES + 1)
        return data if len(data) <= _MAX_SIDECAR_BYTES else b""


class _Listing:
    """Walks one input, folder by folder from the top: a table is read before what it names."""

    def __init__(self, work: Work, sprite: tuple[int, int] | None) -> None:
        self.work = work
        self.sprite = sprite

    def skip(self, file: str, kind: str, reason: str) -> None:
        self.work.skip(Skipped(file, kind, reason, "list"))

    # ------------------------------------------------------------------ where files are

    def folder(self, root: Path, label: str) -> None:
        """Hidden files and prepared training sets are left out."""
        for parent, folders, files in os.walk(root):
            if is_dataset(Path(parent)):
                folders.clear()
                continue
            below = Path(parent).relative_to(root).as_posix()
            name = valid_text(label if below == "." else f"{label}/{below}")
            if DURATIONS_FILE in files:  # a clip as a folder of frames
                folders.clear()
                if any(Path(file).suffix.lower() in FRAME_SUFFIXES for file in files):
                    self._add(_Entry(name, Path(parent)), PurePosixPath(name).name)
                continue
            folders[:] = sorted(n for n in folders if not n.startswith(".") and n != "__MACOSX")
            visible = sorted(file for file in files if not file.startswith("."))
            entries = [_Entry(f"{name}/{valid_text(n)}", Path(parent, n)) for n in visible]
            self._directory(name, entries, Path(parent))

    def archive(self, archive: _Entry) -> None:
        """All members of an archive, as if they were files of a folder of its name."""
        try:
            unpacked = None if self.work.folder is None else self.work.folder / "unpacked"
            path, members, refused = archive_members(archive.path, unpacked)
        except (StickerError, OSError) as error:
            return self.skip(archive.label, "archive", str(error).removeprefix(f"{archive.path}: "))
        for name, reason in refused:
            self.skip(f"{archive.label}/{valid_text(name)}", "archive", reason)
        folders: dict[str, list[_Entry]] = {}
        for member in sorted(members, key=lambda member: member.name):
            parts = PurePosixPath(member.name).parts
            if not any(part.startswith(".") or part == "__MACOSX" for part in parts):
                entry = _Entry(f"{archive.label}/{valid_text(member.name)}", path, member)
                folders.setdefault(posixpath.dirname(entry.label), []).append(entry)
        known = {entry.label: entry for entries in folders.values() for entry in entries}
        for name in sorted(folders):  # a parent comes before its children
            self._directory(name, folders[name], known)

    def file(self, entry: _Entry) -> None:
        """One file that the user named; a table stands for the files in its rows."""
        if entry.suffix not in _TABLE_SUFFIXES:
            if entry.is_sticker:
                self._add(entry, entry.stem, self._sidecar_row(entry, entry.path.parent))
            return
        folder = posixpath.dirname(entry.label)
        for target in dict.fromkeys(self._table(entry, folder, entry.path.parent, anywhere=True)):
            self._add(target, target.name if target.path.is_dir() else target.stem)

    # ------------------------------------------------------------------ one folder

    def _directory(
        self, folder: str, entries: Sequence[_Entry], tree: Path | Mapping[str, _Entry]
    ) -> None:
        """Tables and manifests of a folder, then its archives, clips and single stickers."""
        names = {entry.name.lower(): entry for entry in entries}
        for entry in entries:
            if entry.suffix in _TABLE_SUFFIXES:
                for _ in self._table(entry, folder, tree):
                    pass
            elif entry.name.lower() in _PACK_FILES:
                self._pack(entry, folder, names)
        is_pack = any(name in names for name in (*_PACK_TEXTS, "contents.json"))
        media: dict[str, _Entry] = {}
        for entry in entries:
            if _is_archive(entry.name):
                if entry.member is None:
                    self.archive(entry)
                else:
                    self.skip(entry.label, "archive", "an archive inside of an archive; unpack it")
            elif entry.is_sticker and entry.name.lower() not in _PACK_FILES:
                if not (is_pack and entry.name.lower() in _PACK_ICONS):
                    media[entry.label] = entry
        by_stem: dict[str, list[_Entry]] = {}
        for entry in media.values():
            by_stem.setdefault(entry.stem, []).append(entry)
        for same in by_stem.values():  # cat.webp and cat.json: the second may be about the first
            for entry in same:
                if entry.suffix == ".json" and len(same) > 1 and self._about(entry, same):
                    del media[entry.label]
        for target in self._merged(folder, list(media.values()), names):
            self._add(target, target.stem, self._sidecar_row(target, tree))

    def _merged(
        self, folder: str, media: list[_Entry], names: Mapping[str, _Entry]
    ) -> Iterator[_Entry]:
        """`media`, or the folder as one clip: if a row names it, or if it looks like frames and
        nothing captions its pictures."""
        stills = [entry for entry in media if entry.suffix in FRAME_SUFFIXES]
        if stills:
            told = any(
                f"{entry.stem}.txt".lower() in names or self.work.row(entry.label) is not None
                for entry in stills
            )
            is_clip = stills[0].member is not None and DURATIONS_FILE in names
            is_clip |= self.work.row(folder) is not None
            if is_clip or (not told and self.sprite is None and _looks_like_frames(stills)):
                media = [entry for entry in media if entry.suffix not in FRAME_SUFFIXES]
                self._add_frames(folder, stills, names.get(DURATIONS_FILE))
        yield from media

    def _add_frames(self, folder: str, stills: list[_Entry], durations: _Entry | None) -> None:
        stem = folder.rpartition("/")[2]
        if stills[0].member is None:
            path = stills[0].path.parent
            self._add(_Entry(folder, path), stem, _text_row(path.with_name(path.name + ".txt")))
            return
        entries = [*stills, *([] if durations is None else [durations])]
        members = tuple(entry.member for entry in entries if entry.member is not None)
        self._add(_Entry(folder, stills[0].path), stem, members=members)

    def _add(
        self,
        entry: _Entry,
        stem: str,
        more: Mapping[str, Any] | None = None,
        members: tuple[Member, ...] = (),
    ) -> None:
        row = self.work.row(entry.label) or {}
        if more:
            row = {**more, **row, "captions": row.get("captions") or more.get("captions", ())}
        sprite = row.get("sprite", self.sprite if entry.suffix in FRAME_SUFFIXES else None)
        if sprite is not None:
            try:
                sprite = _parse_sprite(sprite)
            except ValueError as error:
                return self.skip(entry.label, "caption line", str(error))
        self.work.add_item(
            describe(
                entry.label,
                entry.path,
                row,
                stem=stem,
                folder=posixpath.dirname(entry.label),
                members=members or (() if entry.member is None else (entry.member,)),
                sprite=sprite,
            )
        )

    # ------------------------------------------------------------------ what is said

    def _sidecar_row(
        self, entry: _Entry, tree: Path | Mapping[str, _Entry]
    ) -> dict[str, Any] | None:
        label = str(PurePosixPath(entry.label).with_suffix(".txt"))
        if isinstance(tree, Path):
            return _text_row(entry.path.with_suffix(".txt"))
        return {"captions": _lines(tree[label].read_small())} if label in tree else None

    def _about(self, entry: _Entry, same: Sequence[_Entry]) -> bool:
        """Whether a .json beside stickers of its name describes them, as in WebDataset shards."""
        try:
            row = json.loads(entry.read_small() or b"null")
        except (ValueError, RecursionError):
            return False
        if not isinstance(row, dict) or "layers" in row:  # which is Lottie
            return False
        if isinstance(row.get("frames"), dict | list) and "meta" in row:  # an atlas of sprites
            row = {"sprite": _atlas_cells(row["frames"])}
        row["captions"] = _captions_of(row)
        for other in same:
            if other is not entry:
                self.work.add_row(other.label, row)
        return True

    def _pack(self, entry: _Entry, folder: str, names: Mapping[str, _Entry]) -> None:
        """Names, emojis and authors of a pack: WhatsApp's contents.json, the manifests of Signal
        and of `rdtf export`, and emoji.txt as sticker converters write it."""
        try:
            document = json.loads(entry.read_small() or b"null")
        except (ValueError, RecursionError):
            return self.skip(entry.label, "caption line", "manifest of the pack is not JSON")
        if not isinstance(document, dict):
            return
        if entry.name.lower() == "emoji.txt":
            packs = [{"stickers": [{"file": k, "emoji": v} for k, v in document.items()]}]
        else:
            packs = document.get("sticker_packs") or [document]
        author = names["author.txt"].read_small() if "author.txt" in names else b""
        for pack in (pack for pack in packs if isinstance(pack, dict)):
            credit = pack.get("author") or pack.get("publisher") or author.decode("utf-8", "replace")
            for row in _as_list(pack.get("stickers")):
                if not isinstance(row, dict) or not (name := _file_named(row)):
                    continue
                emojis = _as_list(row.get("emojis") or row.get("emoji"))
                texts = clean_captions([*_captions_of(row), *map(_emoji_name, emojis)])
                about = {"captions": texts, "emoji": [e for e in emojis if isinstance(e, str)]}
                for target in _targets(name, folder, names):
                    self.work.add_row(target.label, {**about, "attribution": credit})

    def _table(
        self,
        entry: _Entry,
        folder: str,
        tree: Path | Mapping[str, _Entry],
        anywhere: bool = False,
    ) -> Iterator[_Entry]:
        """Keep the rows of a table; yields what each is about. Lines without use are reported."""
        for number, row in _table_rows(entry):
            try:
                target = self._target(row, folder, tree, anywhere)
            except ValueError as error:
                self.skip(f"{entry.label}:{number}", "caption line", str(error))
                continue
            self.work.add_row(target.label, {**row, "captions": _captions_of(row)})
            yield target

    def _target(
        self, row: Any, folder: str, tree: Path | Mapping[str, _Entry], anywhere: bool
    ) -> _Entry:
        """What a row is about; ValueError says why it can't be used."""
        if isinstance(row, ValueError):
            raise row
        name = _file_named(row) if isinstance(row, dict) else None
        if not name or "\0" in name:
            raise ValueError("line names no file; expected an object with `file`")
        below = posixpath.normpath(posixpath.join(folder, name))
        is_outside = name.startswith("/") or not below.startswith(f"{folder}/")
        if is_outside and not (anywhere and isinstance(tree, Path)):
            raise ValueError("file named by the line lies outside of the folder")
        if isinstance(tree, Path):
            path = Path(os.path.normpath(tree / name))
            if not path.exists():
                raise ValueError("file named by the line does not exist")
            entry = _Entry(valid_text(path.as_posix().lstrip("/") if is_outside else below), path)
        elif below in tree:
            entry = tree[below]
        elif any(label.startswith(f"{below}/") for label in tree):  # a folder of frames
            return _Entry(below, next(iter(tree.values())).path)
        else:
            raise ValueError("file named by the line does not exist")
        if entry.member is None and entry.path.is_dir():
            if not any(f.suffix.lower() in FRAME_SUFFIXES for f in entry.path.iterdir()):
                raise ValueError("file named by the line is not a supported format ()")
        elif not entry.is_sticker:
            raise ValueError(f"file named by the line is not a supported format ({entry.suffix})")
        return entry


# ------------------------------------------------------------------------ rows


def _table_rows(entry: _Entry) -> Iterator[tuple[int, Any]]:
    """(line, row) of a table; in place of a row that can't be read, the ValueError."""
    try:
        if entry.suffix == ".parquet":
            yield from enumerate(_parquet_rows(entry), start=1)
            return
        with entry.open() as file, io.TextIOWrapper(file, "utf-8-sig", "replace") as lines:
            if entry.suffix == ".csv":
                yield from enumerate(csv.DictReader(lines), start=2)
                return
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _parse_line(line)
    except (StickerError, csv.Error) as error:
        yield 0, ValueError(f"the table can't be read: {error}")


def _parse_line(line: str) -> Any:
    try:
        return json.loads(line, parse_constant=lambda _: None)  # NaN is not JSON
    except (json.JSONDecodeError, RecursionError):
        return ValueError("line is not JSON")


def _parquet_rows(entry: _Entry) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UserError(
            f"{entry.path} is a Parquet file; to read it: pip install 'rdtf[scale]'"
        ) from error
    try:
        with entry.open() as file:
            for batch in parquet.ParquetFile(file).iter_batches(1000):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise StickerError(str(error)) from error


def _file_named(row: Mapping[str, Any]) -> str | None:
    name = next((row[key] for key in FILE_KEYS if row.get(key)), None)
    return name if isinstance(name, str) else None


def _captions_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    return clean_captions(text for key in CAPTION_KEYS for text in _as_list(row.get(key)))


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _targets(name: str, folder: str, names: Mapping[str, _Entry]) -> Iterator[_Entry]:
    """Packs name files in their own folder, some of them without an ending."""
    for entry in names.values():
        if entry.label == f"{folder}/{name}" or (entry.is_sticker and entry.stem == name):
            yield entry


def _emoji_name(emoji: Any) -> str:
    """`😂` -> `face with tears of joy`."""
    if not isinstance(emoji, str) or not emoji:
        return ""
    return unicodedata.name(emoji[0], "").lower()


def _text_row(path: Path) -> dict[str, Any] | None:
    if not path.is_file() or path.stat().st_size > _MAX_SIDECAR_BYTES:
        return None
    return {"captions": _lines(_Entry("", path).read_small())}


def _lines(data: bytes) -> tuple[str, ...]:
    return clean_captions(data.decode("utf-8-sig", "replace").splitlines())


def _parse_sprite(value: Any) -> tuple[Any, ...]:
    """`32x48`, [32, 48] or a list of [x, y, width, height, duration_ms]."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+)\s*[xX*]\s*(\d+)\s*", value)):
        value = [int(match[1]), int(match[2])]
    values = _as_list(value)
    if len(values) == 2 and all(isinstance(v, int) and 0 < v <= 4096 for v in values):
        return tuple(values)
    cells = [tuple(cell) if isinstance(cell, list | tuple) else () for cell in values]
    if cells and all(len(c) == 5 and all(isinstance(v, int) for v in c) for c in cells):
        return tuple(cells)
    raise ValueError(f"sprite {value!r} is no frame size; say for example 32x48")


def _atlas_cells(frames: Any) -> list[list[int]]:
    """Cells of an atlas as Aseprite and TexturePacker write them."""
    listed = list(frames.values()) if isinstance(frames, dict) else frames
    cells = []
    for frame in (frame for frame in listed if isinstance(frame, dict)):
        place = frame.get("frame") if isinstance(frame.get("frame"), dict) else frame
        cell = [place.get(key) for key in ("x", "y", "w", "h")] + [frame.get("duration", 100)]
        cells.append([value if isinstance(value, int) else -1 for value in cell])
    return cells


# ------------------------------------------------------------------------ folders of frames


def _looks_like_frames(files: Sequence[_Entry]) -> bool:
    """Whether pictures are the frames of one clip rather than stickers of their own.

    They are if they are named as programs name frames (one beginning, consecutive numbers, three
    digits or more or the word "frame") and are stills of one size. Packs of stickers number from
    1 or 01.
    """
    matches = [_FRAME_NAME.fullmatch(entry.stem) for entry in files]
    names = [(match[1], match[2]) for match in matches if match]
    if not 2 <= len(files) == len(names) <= DEFAULT_BUDGET.max_frames:
        return False
    numbers = sorted(int(number) for _, number in names)
    is_run = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    is_named = "frame" in names[0][0].lower() or all(len(number) >= 3 for _, number in names)
    alike = {(name, entry.suffix) for (name, _), entry in zip(names, files, strict=True)}
    return is_run and is_named and len(alike) == 1 and _are_equal_stills(files)


def _are_equal_stills(files: Sequence[_Entry]) -> bool:
    sizes = set()
    for entry in files:
        try:
            sizes.add(_still_size(entry))
        except (UserError, OSError, ValueError, Image.DecompressionBombError):
            return False
        if len(sizes) > 1:
            return False
    return True


def _still_size(entry: _Entry) -> tuple[int, int]:
    """(width, height); ValueError if it is animated."""
    if entry.member is None:
        info = probe(entry.path)
        size, num_frames = (info.width, info.height), info.num_frames
    else:
        with Image.open(entry.open(DEFAULT_BUDGET)) as image:
            size, num_frames = image.size, getattr(image, "n_frames", 1)
    if num_frames > 1:
        raise ValueError("animated")
    return size
