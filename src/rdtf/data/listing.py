"""Find stickers and what is said of them, in folders, archives, packs, shards and tables.

Captions are found in `*.jsonl`, `*.csv` and `*.parquet` files (one row a sticker: `file` or
`file_name`; `captions`, `caption` or `text`; optionally `concept`, `source`, `license`,
`attribution`, `sprite` and anything else), in the manifests of sticker packs, in a `.txt` (one
caption a line) or `.json` file of the same name, and else derived from the file name. Archives
(zip, tar, .wastickers, WebDataset shards) are read where they are, see `rdtf.data.sources`. A
folder of frames is one clip, captioned as a file would be. No pixels are decoded here.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from rdtf.data.shards import is_dataset
from rdtf.data.sources import (
    ARCHIVE_SUFFIXES,
    Member,
    Skipped,
    SourceItem,
    archive_members,
    clean_captions,
    describe,
    valid_name,
)
from rdtf.data.tables import (
    TABLE_SUFFIXES,
    Entry,
    as_list,
    atlas_cells,
    captions_of,
    emoji_name,
    file_named,
    parse_sprite,
    table_rows,
    text_lines,
    text_row,
)
from rdtf.data.work import WORK_FILE, Work
from rdtf.errors import StickerError, UserError
from rdtf.stickers import DEFAULT_BUDGET, SUPPORTED_SUFFIXES, probe
from rdtf.stickers.files import DURATIONS_FILE, FRAME_SUFFIXES

_PACK_FILES = frozenset(("contents.json", "manifest.json", "pack.json", "emoji.txt"))
_PACK_TEXTS = ("title.txt", "author.txt")
_PACK_ICONS = frozenset(("tray.png", "tray_icon.png", "cover.png"))
_FRAME_NAME = re.compile(r"(.*?)(\d+)")


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
            listing.archive(Entry(labels[folder], root))
        elif root.is_dir():
            listing.folder(root, labels[folder])
        else:
            listing.file(Entry(f"{labels[folder]}/{valid_name(root.name)}", root))
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


class _Listing:
    """Walks one input, folder by folder from the top: a table is read before what it names."""

    def __init__(self, work: Work, sprite: tuple[int, int] | None) -> None:
        self.work = work
        self.sprite = sprite

    def skip(self, file: str, kind: str, reason: str) -> None:
        self.work.skip(Skipped(file, kind, reason, "list"))

    # ------------------------------------------------------------------ where files are

    def folder(self, root: Path, label: str) -> None:
        """Hidden files, training sets and unfinished work on them are left out."""
        for parent, folders, files in os.walk(root):
            if is_dataset(Path(parent)) or WORK_FILE in files:
                folders.clear()
                continue
            below = Path(parent).relative_to(root).as_posix()
            name = valid_name(label if below == "." else f"{label}/{below}")
            if DURATIONS_FILE in files:  # a clip as a folder of frames
                folders.clear()
                if any(Path(file).suffix.lower() in FRAME_SUFFIXES for file in files):
                    self._add(Entry(name, Path(parent)), PurePosixPath(name).name)
                continue
            folders[:] = sorted(n for n in folders if not n.startswith(".") and n != "__MACOSX")
            visible = sorted(file for file in files if not file.startswith("."))
            entries = [Entry(f"{name}/{valid_name(n)}", Path(parent, n)) for n in visible]
            self._directory(name, entries, Path(parent))

    def archive(self, archive: Entry) -> None:
        """All members of an archive, as if they were files of a folder of its name."""
        try:
            unpacked = None if self.work.folder is None else self.work.folder / "unpacked"
            path, members, refused = archive_members(archive.path, unpacked)
        except (StickerError, OSError) as error:
            return self.skip(archive.label, "archive", str(error).removeprefix(f"{archive.path}: "))
        for name, reason in refused:
            self.skip(f"{archive.label}/{valid_name(name)}", "archive", reason)
        folders: dict[str, list[Entry]] = {}
        for member in sorted(members, key=lambda member: member.name):
            parts = PurePosixPath(member.name).parts
            if not any(part.startswith(".") or part == "__MACOSX" for part in parts):
                entry = Entry(f"{archive.label}/{valid_name(member.name)}", path, member)
                folders.setdefault(posixpath.dirname(entry.label), []).append(entry)
        known = {entry.label: entry for entries in folders.values() for entry in entries}
        for name in sorted(folders):  # a parent comes before its children
            self._directory(name, folders[name], known)

    def file(self, entry: Entry) -> None:
        """One file that the user named; a table stands for the files in its rows."""
        if entry.suffix not in TABLE_SUFFIXES:
            if entry.is_sticker:
                self._add(entry, entry.stem, self._sidecar_row(entry, entry.path.parent))
            return
        folder = posixpath.dirname(entry.label)
        for target in dict.fromkeys(self._table(entry, folder, entry.path.parent, anywhere=True)):
            self._add(target, target.name if target.path.is_dir() else target.stem)

    # ------------------------------------------------------------------ one folder

    def _directory(
        self, folder: str, entries: Sequence[Entry], tree: Path | Mapping[str, Entry]
    ) -> None:
        """Tables and manifests of a folder, then its archives, clips and single stickers."""
        names = {entry.name.lower(): entry for entry in entries}
        for entry in entries:
            if entry.suffix in TABLE_SUFFIXES:
                for _ in self._table(entry, folder, tree):
                    pass
            elif entry.name.lower() in _PACK_FILES:
                self._pack(entry, folder, names)
        is_pack = any(name in names for name in (*_PACK_TEXTS, "contents.json"))
        unwanted = _PACK_FILES | (_PACK_ICONS if is_pack else frozenset())
        media: dict[str, Entry] = {}
        for entry in entries:
            if _is_archive(entry.name):
                if entry.member is None:
                    self.archive(entry)
                else:
                    self.skip(entry.label, "archive", "an archive inside of an archive; unpack it")
            elif entry.is_sticker and entry.name.lower() not in unwanted:
                media[entry.label] = entry
        by_stem: dict[str, list[Entry]] = {}
        for entry in media.values():
            by_stem.setdefault(entry.stem, []).append(entry)
        for same in by_stem.values():  # cat.webp and cat.json: the second may be about the first
            for entry in same:
                if entry.suffix == ".json" and len(same) > 1 and self._about(entry, same):
                    del media[entry.label]
        for target in self._merged(folder, list(media.values()), names):
            self._add(target, target.stem, self._sidecar_row(target, tree))

    def _merged(
        self, folder: str, media: list[Entry], names: Mapping[str, Entry]
    ) -> Iterator[Entry]:
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

    def _add_frames(self, folder: str, stills: list[Entry], durations: Entry | None) -> None:
        stem = folder.rpartition("/")[2]
        if stills[0].member is None:
            path = stills[0].path.parent
            self._add(Entry(folder, path), stem, text_row(path.with_name(path.name + ".txt")))
            return
        entries = [*stills, *([] if durations is None else [durations])]
        members = tuple(entry.member for entry in entries if entry.member is not None)
        self._add(Entry(folder, stills[0].path), stem, members=members)

    def _add(
        self,
        entry: Entry,
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
                sprite = parse_sprite(sprite)
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

    def _sidecar_row(self, entry: Entry, tree: Path | Mapping[str, Entry]) -> dict[str, Any] | None:
        label = str(PurePosixPath(entry.label).with_suffix(".txt"))
        if isinstance(tree, Path):
            return text_row(entry.path.with_suffix(".txt"))
        return {"captions": text_lines(tree[label].read_small())} if label in tree else None

    def _about(self, entry: Entry, same: Sequence[Entry]) -> bool:
        """Whether a .json beside stickers of its name describes them, as in WebDataset shards."""
        try:
            row = json.loads(entry.read_small() or b"null")
        except (ValueError, RecursionError):
            return False
        if not isinstance(row, dict) or "layers" in row:  # which is Lottie
            return False
        if isinstance(row.get("frames"), dict | list) and "meta" in row:  # an atlas of sprites
            row = {"sprite": atlas_cells(row["frames"])}
        row = {**row, "captions": captions_of(row)}
        for other in same:
            if other is not entry:
                self.work.add_row(other.label, row)
        return True

    def _pack(self, entry: Entry, folder: str, names: Mapping[str, Entry]) -> None:
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
            credit = (
                pack.get("author") or pack.get("publisher") or author.decode("utf-8", "replace")
            )
            for row in as_list(pack.get("stickers")):
                if not isinstance(row, dict) or not (name := file_named(row)):
                    continue
                emojis = as_list(row.get("emojis") or row.get("emoji"))
                texts = clean_captions([*captions_of(row), *map(emoji_name, emojis)])
                about = {"captions": texts, "emoji": [e for e in emojis if isinstance(e, str)]}
                for target in _targets(name, folder, names):
                    self.work.add_row(target.label, {**about, "attribution": credit})

    def _table(
        self,
        entry: Entry,
        folder: str,
        tree: Path | Mapping[str, Entry],
        anywhere: bool = False,
    ) -> Iterator[Entry]:
        """Keep the rows of a table; yields what each is about. Lines without use are reported."""
        for number, row in table_rows(entry):
            try:
                target = self._target(row, folder, tree, anywhere)
            except ValueError as error:
                self.skip(f"{entry.label}:{number}", "caption line", str(error))
                continue
            self.work.add_row(target.label, {**row, "captions": captions_of(row)})
            yield target

    def _target(
        self, row: Any, folder: str, tree: Path | Mapping[str, Entry], anywhere: bool
    ) -> Entry:
        """What a row is about; ValueError says why it can't be used."""
        if isinstance(row, ValueError):
            raise row
        name = file_named(row) if isinstance(row, dict) else None
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
            entry = Entry(valid_name(path.as_posix().lstrip("/") if is_outside else below), path)
        elif below in tree:
            entry = tree[below]
        elif any(label.startswith(f"{below}/") for label in tree):  # a folder of frames
            return Entry(below, next(iter(tree.values())).path)
        else:
            raise ValueError("file named by the line does not exist")
        if entry.member is None and entry.path.is_dir():
            if not any(f.suffix.lower() in FRAME_SUFFIXES for f in entry.path.iterdir()):
                raise ValueError("file named by the line is not a supported format ()")
        elif not entry.is_sticker:
            raise ValueError(f"file named by the line is not a supported format ({entry.suffix})")
        return entry


def _targets(name: str, folder: str, names: Mapping[str, Entry]) -> Iterator[Entry]:
    """Packs name files in their own folder, some of them without an ending."""
    for entry in names.values():
        if entry.label == f"{folder}/{name}" or (entry.is_sticker and entry.stem == name):
            yield entry


# ------------------------------------------------------------------------ folders of frames


def _looks_like_frames(files: Sequence[Entry]) -> bool:
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


def _are_equal_stills(files: Sequence[Entry]) -> bool:
    sizes = set()
    for entry in files:
        try:
            sizes.add(_still_size(entry))
        except (UserError, OSError, ValueError, Image.DecompressionBombError):
            return False
        if len(sizes) > 1:
            return False
    return True


def _still_size(entry: Entry) -> tuple[int, int]:
    """(width, height); ValueError if it is animated."""
    if entry.member is None:
        info = probe(entry.path)
        size, num_frames = (info.width, info.height), info.num_frames
    else:
        with Image.open(entry.open(DEFAULT_BUDGET), formats=("PNG", "WEBP", "JPEG")) as image:
            size, num_frames = image.size, getattr(image, "n_frames", 1)
    if num_frames > 1:
        raise ValueError("animated")
    return size
