"""One sticker before it is prepared: where its bytes are, what is said of it, and on which side of
the split it is. `rdtf.data.listing` finds stickers, `rdtf.data.decode` reads them."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rdtf.errors import ConfigError, StickerError
from rdtf.stickers import Budget, Sticker

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
