"""One sticker before it is prepared: where its bytes are, what is said of it, and on which side of
the split it is; and archives, which are read where they are. `rdtf.data.listing` finds stickers,
`rdtf.data.decode` reads them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import posixpath
import re
import shutil
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from rdtf.errors import ConfigError, StickerError
from rdtf.stickers import DEFAULT_BUDGET, Budget, Sticker

if TYPE_CHECKING:
    from rdtf.synthetic.characters import SyntheticStickers

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


def valid_name(name: str) -> str:
    """As `valid_text`, for names of files: different ones stay different."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


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


def _concept_position(concept: str, seed: int) -> float:
    """A number in [0,1) that depends on nothing else: new stickers never move old ones."""
    digest = hashlib.sha256(f"{seed}:{concept}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_concepts(concepts: Collection[str], val_fraction: float, seed: int) -> dict[str, Split]:
    """The side of each concept; about `val_fraction` of them are for validation.

    Both sides get at least one concept where there are two and `val_fraction` is not 0.
    """
    if not 0 <= val_fraction < 1:
        raise ConfigError(f"val_fraction is {val_fraction}; it must be at least 0 and below 1")
    ranked = sorted(set(concepts), key=lambda concept: (_concept_position(concept, seed), concept))
    count = sum(_concept_position(concept, seed) < val_fraction for concept in ranked)
    if val_fraction > 0:
        count = max(count, 1)
    count = min(count, max(len(ranked) - 1, 0))
    return {concept: "val" if rank < count else "train" for rank, concept in enumerate(ranked)}


#: Fields of a row that have a place of their own; all others are attributes of the sticker.
FILE_KEYS = ("file", "file_name", "path", "image_file", "filename")
CAPTION_KEYS = ("captions", "caption", "text", "accessibility_text")
_OWN_KEYS = frozenset(
    (*FILE_KEYS, *CAPTION_KEYS, "concept", "source", "license", "attribution", "sprite")
)
_SYNTHETIC_KEYS = frozenset(("durations_ms", "num_frames"))  # of the drawing, not of the clip
_CLIP_KEYS = frozenset(  # of a row that an earlier training set wrote
    [
        "id",
        "split",
        "pixel_hash",
        "num_frames",
        "durations_ms",
        "native_frames",
        "motion",
        "statistics",
    ]
)


@dataclass(frozen=True)
class Skipped:
    """A file, or a line of a captions file, that is not in the training set, and why.

    `kind` is one of a few words to count by: "caption line", "archive", "unreadable", "crash",
    "time", "memory", "empty", "little motion", "duplicate", "near duplicate"; `stage` is where.
    """

    file: str
    kind: str
    reason: str
    stage: str = "decode"


@dataclass(frozen=True)
class Member:
    """A file inside of an archive: its stored bytes from `offset` on, `size` once unpacked."""

    name: str
    offset: int
    num_bytes: int
    size: int
    deflated: bool = False
    crc: int | None = None


@dataclass(frozen=True)
class SourceItem:
    """One sticker to prepare: a file, a member of an archive, or a synthetic sticker (no `path`).

    Attributes:
        file: names it in reports and settles the order; it is relative, so that the same folder
            elsewhere gives the same training set.
        path: a file, a folder of frames, or an archive.
        members: one file of the archive, or the files of a folder of frames in it.
        is_named: `captions` are the file's name, because nothing better is known.
        sprite: the picture is a sheet of frames: (width, height) of each in pixels, or a list of
            (x, y, width, height, duration_ms).
    """

    file: str
    path: Path | None
    concept: str
    captions: tuple[str, ...] = ()
    source: str | None = None
    license: str | None = None
    attribution: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    is_named: bool = False
    sprite: tuple[Any, ...] | None = None

    def to_json(self) -> str:
        values = asdict(self) | {"path": None if self.path is None else str(self.path)}
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> SourceItem:
        values = json.loads(text)
        path, sprite = values["path"], values["sprite"]
        return cls(
            **values
            | {
                "path": None if path is None else Path(path),
                "captions": tuple(values["captions"]),
                "members": tuple(Member(**member) for member in values["members"]),
                "sprite": None if sprite is None else tuple(sprite),
            }
        )


def read_member(path: Path, member: Member, budget: Budget) -> bytes:
    """The content of one member of a zip or an uncompressed tar file; never more than it states.

    Raises:
        StickerError: it is over budget, damaged, or the archive can't be read.
    """
    name = f"{path.name}/{member.name}"
    budget.check_bytes(name, max(member.size, member.num_bytes))
    try:
        with path.open("rb") as file:
            file.seek(member.offset)
            data = file.read(member.num_bytes)
        if member.deflated:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
    except (OSError, zlib.error) as error:
        raise StickerError(f"{name}: can't be unpacked ({error}); get the archive again") from error
    if len(data) != member.size or (member.crc is not None and zlib.crc32(data) != member.crc):
        raise StickerError(f"{name}: damaged in its archive; get the archive again")
    return data


def describe(
    label: str, path: Path, row: Mapping[str, Any], *, stem: str, folder: str, **more: Any
) -> SourceItem:
    """The item of a file from what a row says of it; `stem` is its name, `folder` its label's."""
    if "pixel_hash" in row:  # one of our own shards
        attributes = row.get("attributes") or {}
        row = {**attributes, **{key: row[key] for key in row if key not in _CLIP_KEYS}}
        row.pop("attributes", None)
    name = caption_from_name(stem)
    given = clean_captions(row.get("captions", ()))
    # Packs are full of `1.webp`: a name that says nothing is no concept that two packs share.
    default_concept = valid_text(stem) if name else f"{folder}/{valid_text(stem)}".lstrip("/")
    return SourceItem(
        file=label,
        path=path,
        concept=_text(row.get("concept")) or default_concept,
        captions=given or clean_captions([name]),
        source=_text(row.get("source")) or folder or ".",
        license=_text(row.get("license")),
        attribution=_text(row.get("attribution")),
        attributes={key: row[key] for key in row if key not in _OWN_KEYS},
        is_named=not given,
        **more,
    )


def _text(value: Any) -> str | None:
    return next(iter(clean_captions([value])), None)


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


def collect_synthetic(stickers: SyntheticStickers) -> Iterable[SourceItem]:
    """One item per synthetic sticker; they are drawn when they are prepared."""
    return (
        SourceItem(file=f"synthetic/{index:07d}", path=None, concept="")
        for index in range(len(stickers))
    )


# ------------------------------------------------------------------------ archives
# Members of zip and tar files, found without unpacking them: names, offsets and sizes are read.
# Nothing is ever written under a name that stands in an archive. Compressed tar files are unpacked
# once into the work folder, as one tar file of limited size.

_OPENERS = {".gz": gzip.open, ".tgz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
ARCHIVE_SUFFIXES = (".zip", ".wastickers", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_MAX_MEMBERS = 4_000_000
# Stickers are compressed already; what unpacks to more than this many times its size is a bomb.
_MAX_RATIO = 50
_ALWAYS_ALLOWED_BYTES = 64 * 2**20
_LOCAL_HEADER = 30  # bytes in front of the name of a zip's member

Refused = tuple[str, str]


def archive_members(path: Path, unpacked: Path | None) -> tuple[Path, list[Member], list[Refused]]:
    """The members of an archive, and (name, reason) of those that can't be used.

    Args:
        unpacked: folder where compressed tar files are unpacked; None: they are refused.

    Returns:
        The file that members are read from (another one where it had to be unpacked), and both
        lists.

    Raises:
        StickerError: it is no archive, damaged, or unpacks to far more than its size.
    """
    try:
        if zipfile.is_zipfile(path):
            return (path, *_zip_members(path))
        if path.suffix.lower() in _OPENERS:
            path = _unpacked_tar(path, unpacked)
        return (path, *_tar_members(path))
    except StickerError:
        raise
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise StickerError(f"{path}: damaged archive ({error}); get it again") from error
    except (ValueError, OverflowError, NotImplementedError) as error:
        raise StickerError(f"{path}: archive can't be read ({error})") from error


def _zip_members(path: Path) -> tuple[list[Member], list[Refused]]:
    members: list[Member] = []
    refused: list[Refused] = []
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        infos = archive.infolist()
        _check_total(path, len(infos), sum(info.file_size for info in infos))
        for info in infos:
            if info.is_dir():
                continue
            methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            reason = _unsafe(info.filename, info.file_size)
            if info.flag_bits & 1:
                reason = "encrypted"
            elif info.compress_type not in methods:
                reason = f"compression method {info.compress_type} is not supported"
            elif (start := _data_offset(file, info.header_offset)) is None:
                reason = "damaged in its archive"
            elif reason is None:
                deflated = info.compress_type == zipfile.ZIP_DEFLATED
                sizes = (info.compress_size, info.file_size)
                members.append(Member(_clean(info.filename), start, *sizes, deflated, info.CRC))
            if reason is not None:
                refused.append((info.filename, reason))
    return members, refused


def _data_offset(file: IO[bytes], header_offset: int) -> int | None:
    """Where a member's data starts: its own header may differ from the directory's entry."""
    file.seek(header_offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or not header.startswith(b"PK\x03\x04"):
        return None
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return header_offset + _LOCAL_HEADER + lengths


def _tar_members(path: Path) -> tuple[list[Member], list[Refused]]:
    members: list[Member] = []
    refused: list[Refused] = []
    with tarfile.open(path, "r:") as archive:
        for number, info in enumerate(archive):
            archive.members = []  # type: ignore[attr-defined]  # or it keeps them all
            if number >= _MAX_MEMBERS:
                _check_total(path, number + 1, 0)
            if info.isdir():
                continue
            reason = _unsafe(info.name, info.size)
            if not info.isreg() or info.issparse():
                reason = "a link or special file"
            if reason is None:
                name = _clean(info.name)
                members.append(Member(name, info.offset_data, info.size, info.size))
            else:
                refused.append((info.name, reason))
    return members, refused


def _check_total(path: Path, num_members: int, num_bytes: int) -> None:
    if num_members > _MAX_MEMBERS:
        raise StickerError(f"{path}: more than {_MAX_MEMBERS} members; split it")
    limit = max(_ALWAYS_ALLOWED_BYTES, _MAX_RATIO * path.stat().st_size)
    if num_bytes > limit:
        raise StickerError(
            f"{path}: unpacks to {num_bytes} bytes, more than {_MAX_RATIO} times its size; "
            "if it is no bomb, unpack it and name the folder"
        )


def _unsafe(name: str, size: int) -> str | None:
    """Why a member must not be used, if so."""
    clean = _clean(name)
    if clean.startswith(("/", "../")) or clean in ("..", ".") or ":" in clean or "\0" in name:
        return "its name points outside of the archive"
    if size > DEFAULT_BUDGET.max_bytes:
        return f"{size} bytes, more than the limit of {DEFAULT_BUDGET.max_bytes}"
    return None


def _clean(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/"))


def _unpacked_tar(path: Path, folder: Path | None) -> Path:
    if folder is None:
        raise StickerError(f"{path}: a compressed tar file is for `rdtf data prepare` only")
    about = path.stat()
    identity = f"{path}:{about.st_size}:{about.st_mtime_ns}"
    target = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.tar"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".part")
    opener = _OPENERS[path.suffix.lower()]
    limit = max(_ALWAYS_ALLOWED_BYTES, _MAX_RATIO * about.st_size)
    limit = min(limit, shutil.disk_usage(folder).free // 2)
    done = 0
    with opener(path, "rb") as source, partial.open("wb") as sink:
        for block in _blocks(source):
            done += len(block)
            if done > limit:
                partial.unlink()
                _check_total(path, 0, done)
                raise StickerError(f"{path}: too little room to unpack it")
            sink.write(block)
    partial.replace(target)
    return target


def _blocks(file: IO[bytes]) -> Iterable[bytes]:
    while block := file.read(2**20):
        yield block
