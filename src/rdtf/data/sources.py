"""Where stickers come from: folders with or without captions, and the synthetic generator.

Captions are found in `*.jsonl` files (one row a sticker: `file` or `file_name`; `captions`,
`caption` or `text`; optionally `concept`, `source`, `license`, `attribution` and anything else),
then in a `.txt` file of the same name, one caption a line, and else derived from the file name.
A folder of frames is one clip, captioned as a file would be. No pixels are decoded here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from rdtf.data.shards import is_dataset
from rdtf.errors import ConfigError, UserError
from rdtf.stickers import DEFAULT_BUDGET, SUPPORTED_SUFFIXES, Sticker, probe
from rdtf.stickers.read import DURATIONS_FILE, FRAME_SUFFIXES

# Names that cameras, browsers and messengers give; they say nothing about the picture.
_GENERIC_WORDS = frozenset(
    re.findall(
        r"\w+",
        "anim animated animation copy download emoji file gif image images img photo pic picture "
        "screenshot sticker stickers tgs untitled video webp",
    )
)
_HEX_CODE = re.compile(r"(?=.*\d)[0-9a-f]{4,}", re.IGNORECASE)
_LONG_HEX = re.compile(r"[0-9a-f]{12,}", re.IGNORECASE)
_RANDOM_ID = re.compile(r"(?=.*\d)(?=.*[a-z])(?=.*[A-Z])\w{10,}")


def clean_captions(texts: Iterable[Any]) -> tuple[str, ...]:
    """Texts with blanks collapsed; empty ones, doubles and what is not text left out."""
    cleaned = (" ".join(valid_text(text).split()) for text in texts if isinstance(text, str))
    return tuple(dict.fromkeys(text for text in cleaned if text))


def valid_text(text: str) -> str:
    """`text` without lone surrogates (from JSON escapes or file names), which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def caption_from_name(stem: str) -> str:
    """`cat_waving-01` -> `cat waving`; a name that is only a number, code or hash -> ``."""
    name = unicodedata.normalize("NFC", stem)
    words = [word for word in re.split(r"[\s_\-.+()\[\]]+", name) if word and not _is_code(word)]
    if all(word.casefold() in _GENERIC_WORDS for word in words):
        return ""
    return " ".join(words)


def _is_code(word: str) -> bool:
    return word.isdigit() or any(
        pattern.fullmatch(word) is not None for pattern in (_HEX_CODE, _LONG_HEX, _RANDOM_ID)
    )


Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")


def concept_position(concept: str, seed: int) -> float:
    """A number in [0,1) that depends on nothing else: new stickers never move old ones."""
    digest = hashlib.sha256(f"{seed}:{concept}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_concepts(concepts: Collection[str], val_fraction: float, seed: int) -> dict[str, Split]:
    """The side of each concept; about `val_fraction` of them are for validation.

    Both sides get at least one concept where there are two and `val_fraction` is not 0.
    """
    if not 0 <= val_fraction < 1:
        raise ConfigError(f"val_fraction is {val_fraction}; it must be at least 0 and below 1")
    ranked = sorted(set(concepts), key=lambda concept: (concept_position(concept, seed), concept))
    count = sum(concept_position(concept, seed) < val_fraction for concept in ranked)
    if val_fraction > 0:
        count = max(count, 1)
    count = min(count, max(len(ranked) - 1, 0))
    return {concept: "val" if rank < count else "train" for rank, concept in enumerate(ranked)}


if TYPE_CHECKING:
    from rdtf.synthetic.characters import SyntheticStickers

_FRAME_NAME = re.compile(r"(.*?)(\d+)")
_FILE_KEYS = ("file", "file_name", "path")
_CAPTION_KEYS = ("captions", "caption", "text")
_OWN_KEYS = frozenset((*_FILE_KEYS, *_CAPTION_KEYS, "concept", "source", "license", "attribution"))
_SYNTHETIC_KEYS = frozenset(("durations_ms", "num_frames"))  # of the drawing, not of the clip
_MAX_SIDECAR_BYTES = 1 << 16


@dataclass(frozen=True)
class Skipped:
    """A file, or a line of a captions file, that is not in the training set, and why.

    `kind` is one of a few words to count by: "caption line", "unreadable", "crash", "empty",
    "little motion", "duplicate".
    """

    file: str
    kind: str
    reason: str


@dataclass(frozen=True)
class SourceItem:
    """One sticker to prepare: a file, or a synthetic sticker in memory (`path` is None).

    `file` names it in reports and settles the order; it is relative, so that the same folder
    elsewhere gives the same training set.
    """

    file: str
    path: Path | None
    concept: str
    captions: tuple[str, ...] = ()
    source: str | None = None
    license: str | None = None
    attribution: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


def collect_folders(inputs: Sequence[Path | str]) -> tuple[list[SourceItem], list[Skipped]]:
    """All stickers below `inputs` (folders or single files), in a fixed order.

    Raises:
        UserError: an input does not exist, or there is no sticker in any of them.
    """
    items: dict[Path, SourceItem] = {}
    skipped: list[Skipped] = []
    labels: dict[Path, str] = {}
    for name in inputs:
        root = Path(name).resolve()
        if not root.exists():
            raise UserError(f"input {name} does not exist; name a folder of stickers")
        folder = root.parent if root.is_file() else root
        if folder not in labels:
            labels[folder] = _unused_label(folder.name, labels.values())
        found, left_out = _collect_root(root, _Folder(folder, labels[folder]))
        skipped += left_out
        for item in found:
            assert item.path is not None
            items.setdefault(item.path, item)  # one file may be below two inputs
    if not items:
        where = ", ".join(str(name) for name in inputs) or "no input"
        raise UserError(
            f"no sticker found in {where}; supported files are {' '.join(SUPPORTED_SUFFIXES)}"
        )
    return sorted(items.values(), key=lambda item: item.file), skipped


@dataclass(frozen=True)
class _Folder:
    """A folder of stickers and the name that its files go by."""

    path: Path
    name: str

    def label(self, path: Path) -> str:
        return valid_text((PurePosixPath(self.name) / path.relative_to(self.path)).as_posix())


def _unused_label(name: str, used: Iterable[str]) -> str:
    """Two inputs may both be called `stickers`."""
    taken = set(used)
    candidates = (f"{name}-{number}" if number > 1 else name for number in count(1))
    return next(candidate for candidate in candidates if candidate not in taken)


def _collect_root(root: Path, folder: _Folder) -> tuple[list[SourceItem], list[Skipped]]:
    paths = [root] if root.is_file() else list(_walk(root))
    captions = [path for path in paths if path.suffix.lower() == ".jsonl"]
    rows, skipped = _read_rows(captions, folder)
    media = _merge_frames([path for path in paths if _may_be_sticker(path)], rows)
    # A captions file given as the input stands for the files that it names.
    wanted = list(dict.fromkeys([*media, *rows]))
    return [_make_item(path, folder, rows.get(path)) for path in wanted], skipped


def _merge_frames(media: Sequence[Path], rows: Mapping[Path, Any]) -> list[Path]:
    """`media` with the pictures of each folder of frames replaced by that folder.

    A folder is one if a row names it, or if it looks like one and nothing captions its pictures.
    """
    by_folder: dict[Path, list[Path]] = {}
    for path in media:
        if path.suffix.lower() in FRAME_SUFFIXES and path.is_file():
            by_folder.setdefault(path.parent, []).append(path)
    merged = {
        folder
        for folder, files in by_folder.items()
        if folder in rows
        or (
            not any(path in rows or path.with_suffix(".txt").is_file() for path in files)
            and _looks_like_frames(files)
        )
    }
    frames = {path for folder in merged for path in by_folder[folder]}
    return [*merged, *(path for path in media if path not in frames)]


def _looks_like_frames(files: Sequence[Path]) -> bool:
    """Whether pictures are the frames of one clip rather than stickers of their own.

    They are if they are named as programs name frames (one beginning, consecutive numbers, three
    digits or more or the word "frame") and are stills of one size. Packs of stickers number from
    1 or 01.
    """
    matches = [_FRAME_NAME.fullmatch(path.stem) for path in files]
    names = [(match[1], match[2]) for match in matches if match]
    if not 2 <= len(files) == len(names) <= DEFAULT_BUDGET.max_frames:
        return False
    numbers = sorted(int(number) for _, number in names)
    is_run = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    is_named = "frame" in names[0][0].lower() or all(len(number) >= 3 for _, number in names)
    alike = {(name, path.suffix) for (name, _), path in zip(names, files, strict=True)}
    return is_run and is_named and len(alike) == 1 and _are_equal_stills(files)


def _are_equal_stills(files: Sequence[Path]) -> bool:
    sizes = set()
    for path in files:
        try:
            info = probe(path)
        except UserError:
            return False
        sizes.add((info.width, info.height))
        if info.num_frames > 1 or len(sizes) > 1:
            return False
    return True


def _walk(folder: Path) -> Iterator[Path]:
    """Files (and clips that are folders) below `folder` in name order.

    Hidden files and prepared training sets are left out.
    """
    for parent, folders, files in os.walk(folder):
        if is_dataset(Path(parent)):
            folders.clear()
            continue
        if DURATIONS_FILE in files:  # a clip as a folder of frames
            folders.clear()
            yield Path(parent)
            continue
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n != "__MACOSX")
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def _may_be_sticker(path: Path) -> bool:
    if path.is_dir():
        return any(file.suffix.lower() in FRAME_SUFFIXES for file in path.iterdir())
    return path.suffix.lower() in SUPPORTED_SUFFIXES


def _read_rows(
    captions: Sequence[Path], folder: _Folder
) -> tuple[dict[Path, dict[str, Any]], list[Skipped]]:
    """Rows of all captions files by the sticker that they name, and the lines without use."""
    rows: dict[Path, dict[str, Any]] = {}
    skipped: list[Skipped] = []
    for path in captions:
        label = folder.label(path)
        for number, line in enumerate(_read_text(path).splitlines(), start=1):
            if not line.strip():
                continue
            try:
                target, row = _parse_row(line, path.parent)
            except ValueError as error:
                skipped.append(Skipped(f"{label}:{number}", "caption line", str(error)))
                continue
            rows[target] = _merge_rows(rows[target], row) if target in rows else row
    return rows, skipped


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(f"captions file {path} can't be read: {error.strerror}") from error


def _parse_row(line: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file that a line names and its fields; ValueError says why it can't be used."""
    try:
        row = json.loads(line, parse_constant=lambda _: None)  # NaN is not JSON
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("line is not JSON") from None
    name = next((row[key] for key in _FILE_KEYS if row.get(key)), None) if _is_row(row) else None
    if not isinstance(name, str) or "\0" in name:
        raise ValueError("line names no file; expected an object with `file`")
    path = Path(os.path.normpath(folder / name))
    if not path.is_relative_to(folder):
        raise ValueError("file named by the line lies outside of the folder")
    if not path.exists():
        raise ValueError("file named by the line does not exist")
    if not _may_be_sticker(path):
        raise ValueError(f"file named by the line is not a supported format ({path.suffix})")
    texts = [text for key in _CAPTION_KEYS for text in _as_list(row.get(key))]
    return path, {**row, "captions": clean_captions(texts)}


def _is_row(value: Any) -> bool:
    return isinstance(value, dict)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _merge_rows(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Several rows about one file, as in caption sets: the first one's fields, all captions."""
    return {**second, **first, "captions": clean_captions(first["captions"] + second["captions"])}


def _make_item(path: Path, folder: _Folder, row: Mapping[str, Any] | None) -> SourceItem:
    row = row or {}
    stem = path.name if path.is_dir() else path.stem
    name = caption_from_name(stem)
    given = row.get("captions", ()) or _sidecar_captions(path)
    label = folder.label(path)
    # Packs are full of `1.webp`: a name that says nothing is no concept that two packs share.
    default_concept = valid_text(stem) if name else str(PurePosixPath(label).with_name(stem))
    return SourceItem(
        file=label,
        path=path,
        concept=_text(row.get("concept")) or default_concept,
        captions=given or clean_captions([name]),
        source=_text(row.get("source")) or str(PurePosixPath(label).parent),
        license=_text(row.get("license")),
        attribution=_text(row.get("attribution")),
        attributes={key: value for key, value in row.items() if key not in _OWN_KEYS},
    )


def _text(value: Any) -> str | None:
    return next(iter(clean_captions([value])), None)


def _sidecar_captions(path: Path) -> tuple[str, ...]:
    sidecar = path.with_name(path.name + ".txt") if path.is_dir() else path.with_suffix(".txt")
    if not sidecar.is_file() or sidecar.stat().st_size > _MAX_SIDECAR_BYTES:
        return ()
    return clean_captions(_read_text(sidecar).splitlines())


def collect_synthetic(stickers: SyntheticStickers) -> list[SourceItem]:
    """One item per synthetic sticker; they are drawn when they are prepared."""
    return [
        SourceItem(file=f"synthetic/{index:07d}", path=None, concept="")
        for index in range(len(stickers))
    ]


def describe_synthetic(item: SourceItem, sticker: Sticker) -> SourceItem:
    """`item` with what the generator says about its sticker."""
    about = sticker.metadata
    return replace(
        item,
        concept=about["concept"],
        captions=clean_captions(sticker.captions),
        source="synthetic",
        license=sticker.license,
        attributes={key: about[key] for key in about if key not in _OWN_KEYS | _SYNTHETIC_KEYS},
    )
