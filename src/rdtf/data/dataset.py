"""A prepared training set, opened and checked: on a local disk, or at any fsspec address.

Opening reads an index of fixed-size records (`rdtf.data.shards.index_rows`, mapped into memory);
what else is known of a clip is read from `clips.jsonl` when it is asked for. So a million clips are
open in a second and take little memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from rdtf.data.keyframes import MAX_CANVAS, MAX_FRAMES, decode_frames
from rdtf.data.shards import (
    CLIPS_FILE,
    DATASET_FORMAT,
    DATASET_VERSION,
    HEAD_FILE,
    INDEX_FILE,
    SHARDS_FOLDER,
    Location,
    content_fingerprint,
    index_rows,
)
from rdtf.data.sources import SPLITS, Split
from rdtf.errors import DataError, UserError
from rdtf.fileio import ensure_folder, read_json, write_bytes
from rdtf.stickers import Sticker

# Up to this size clips.jsonl is hashed whenever the set is opened; beyond, by `verify` alone.
_ALWAYS_HASHED_BYTES = 64 * 2**20
_PREPARE_AGAIN = "prepare the training set again"
_ADDRESS = re.compile(r"([A-Za-z][\w+.-]+):/+(.*)", re.DOTALL)


@dataclass(frozen=True)
class Clip:
    """One clip of a training set: everything but its pixels.

    Attributes:
        index: position in `PreparedDataset`, and in its caches.
        id: name that stays the same when other stickers come or go.
        captions: best first; may be empty.
        durations_ms: one per key frame, each >= 1.
        native_frames: frames that the file had.
        motion: root mean square change about the best single frame, 0 to 1.
        statistics: measures of difficulty, see `rdtf.data.filters.statistics`.
    """

    index: int
    id: str
    split: Split
    concept: str
    captions: tuple[str, ...]
    durations_ms: tuple[int, ...]
    native_frames: int
    motion: float
    file: str
    source: str | None
    license: str | None
    attribution: str | None
    attributes: Mapping[str, Any]
    location: Location
    statistics: Mapping[str, float]

    @property
    def num_frames(self) -> int:
        return len(self.durations_ms)

    @property
    def total_ms(self) -> int:
        return sum(self.durations_ms)


class PreparedDataset:
    """Read a training set that `prepare` has made. Small, and safe to send to other processes.

    Args:
        path: its folder, or an address that fsspec opens, such as `s3://bucket/set`: the index is
            copied into the user's cache folder then, and clips are read where they are.

    Raises:
        DataError: the folder is missing, of another version, or damaged.
    """

    def __init__(self, path: Path | str) -> None:
        # A `Path` has made one slash of two.
        match = _ADDRESS.fullmatch(str(path))
        #: Folder or address of the shards.
        self.address = str(path) if match is None else f"{match[1]}://{match[2]}"
        #: Folder of dataset.json and clips.jsonl.
        self.path = Path(path) if match is None else _mirrored(self.address)
        self.head = _read_head(self.path, is_local=match is None)
        self.canvas: int = self.head["canvas"]
        self.max_frames: int = self.head["max_frames"]
        self.fingerprint: str = self.head["fingerprint"]
        self._index = _open_index(self.path, self.head)
        # Frames of clip i are rows frame_offsets[i] to frame_offsets[i + 1] of the caches.
        counts = self._index["num_frames"]
        self.frame_offsets: np.ndarray = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def __reduce__(self) -> tuple[Any, ...]:
        return PreparedDataset, (self.address,)

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        return f"PreparedDataset({self.address!r}, {len(self)} clips, canvas {self.canvas})"

    @property
    def num_frames(self) -> int:
        return int(self.frame_offsets[-1])

    def clip(self, index: int) -> Clip:
        with (self.path / CLIPS_FILE).open("rb") as file:
            file.seek(int(self._index["line"][index]))
            return self._parse(index, file.readline())

    def clips(self, split: Split | None = None) -> Clips:
        """The clips of one split, or all, in a fixed order."""
        if split is not None and split not in SPLITS:
            raise DataError(f"split {split!r} is unknown; use one of {SPLITS}")
        if split is None:
            return Clips(self, np.arange(len(self)))
        return Clips(self, np.flatnonzero(self._index["split"] == SPLITS.index(split)))

    def captions(self) -> list[str]:
        """All different captions, in a fixed order."""
        return list(dict.fromkeys(text for clip in self.clips() for text in clip.captions))

    def read_frames(self, index: int) -> np.ndarray:
        """Straight RGBA uint8 [F,S,S,4] of one clip."""
        return read_clip_frames(self.address, self.clip(index), self.canvas)

    def read_sticker(self, index: int) -> Sticker:
        """One clip as a `Sticker`, with its captions and licence."""
        clip = self.clip(index)
        return Sticker(
            frames=read_clip_frames(self.address, clip, self.canvas),
            durations_ms=np.array(clip.durations_ms),
            captions=clip.captions,
            source=clip.source,
            license=clip.license,
            attribution=clip.attribution,
            metadata={**clip.attributes, "id": clip.id, "concept": clip.concept},
        )

    def verify(self) -> None:
        """Hash everything: a `DataError` names the first file that is not as it was written."""
        _check_rows(self.path, self.head)
        for shard in self.head["shards"]:
            with _open(f"{self.address}/{shard['file']}") as file:
                digest = hashlib.sha256()
                while block := file.read(2**20):
                    digest.update(block)
            if digest.hexdigest() != shard["sha256"]:
                raise DataError(
                    f"shard {self.address}/{shard['file']} has changed; {_PREPARE_AGAIN}"
                )

    def _parse(self, index: int, line: bytes) -> Clip:
        try:
            return _parse_clip(index, json.loads(line))
        except (KeyError, TypeError, ValueError) as error:
            where = f"{self.path / CLIPS_FILE}:{index + 1}"
            raise DataError(f"{where} is damaged: {error}; {_PREPARE_AGAIN}") from error

    def _read(self, indices: np.ndarray) -> Iterator[Clip]:
        """The clips of ascending numbers, in one pass through the file."""
        with (self.path / CLIPS_FILE).open("rb") as file:
            following = -1
            for index in indices.tolist():
                if index != following:
                    file.seek(int(self._index["line"][index]))
                yield self._parse(index, file.readline())
                following = index + 1


class Clips(Sequence[Clip]):
    """Some clips of a training set, read when they are asked for.

    Attributes:
        indices: int64 [N], their numbers in the training set, ascending.
        num_frames: int64 [N], frames of each.
    """

    def __init__(self, dataset: PreparedDataset, indices: np.ndarray) -> None:
        self._dataset = dataset
        self.indices = indices
        self.num_frames = np.diff(dataset.frame_offsets)[indices]

    @property
    def concepts(self) -> np.ndarray:
        """uint64 [N]: clips of one concept have one number."""
        return self._dataset._index["concept"][self.indices]

    @property
    def difficulty(self) -> np.ndarray:
        """float64 [N] in [0,1]: the mean rank of entropy, motion and length, easy ones first."""
        index = self._dataset._index
        names = [
            name
            for name in ("entropy", "motion", "num_frames")
            if name in (index.dtype.names or ())
        ]
        ranks = [_ranks(index[name][self.indices]) for name in names]
        return np.mean(ranks, axis=0)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Clip]:
        return self._dataset._read(self.indices)

    @overload
    def __getitem__(self, place: int) -> Clip: ...
    @overload
    def __getitem__(self, place: slice) -> Clips: ...
    def __getitem__(self, place: int | slice) -> Clip | Clips:
        if isinstance(place, slice):
            return Clips(self._dataset, self.indices[place])
        return self._dataset.clip(int(self.indices[place]))


def _ranks(values: np.ndarray) -> np.ndarray:
    """float64 [N]: the share of values that are smaller, equal ones alike."""
    return np.searchsorted(np.sort(values), values) / max(len(values), 1)


def read_clip_frames(address: Path | str, clip: Clip, canvas: int) -> np.ndarray:
    """Straight RGBA uint8 [F,S,S,4] of one clip of the training set at `address`."""
    path = f"{address}/{clip.location.shard}"
    with _open(path) as file:
        try:
            file.seek(clip.location.offset)
            data = file.read(clip.location.num_bytes)
        except OSError as error:
            raise DataError(f"shard {path} can't be read: {error.strerror or error}") from error
    return decode_frames(data, clip.num_frames, canvas, f"clip {clip.id} in {path}")


def user_cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "rdtf"


# ------------------------------------------------------------------------ other addresses


def _open(path: str) -> Any:
    """A file of a folder or of an address, for reading bytes of any part of it."""
    try:
        if "://" not in path:
            return Path(path).open("rb")
        import fsspec

        # A clip is one short stretch: reading ahead would fetch megabytes for each.
        system, place = fsspec.url_to_fs(path)
        return system.open(place, "rb", cache_type="none")
    except (OSError, ImportError, ValueError) as error:
        raise DataError(f"{path} can't be read: {error}") from error


def _mirrored(address: str) -> Path:
    """A local folder with all but the shards of a training set elsewhere, as it is now."""
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    folder = ensure_folder(user_cache_folder() / "remote" / name, "cache folder")
    with _open(f"{address}/{HEAD_FILE}") as file:
        head = file.read()
    if not (folder / HEAD_FILE).is_file() or (folder / HEAD_FILE).read_bytes() != head:
        for file_name in (CLIPS_FILE, INDEX_FILE):
            with _open(f"{address}/{file_name}") as file:
                write_bytes(folder / file_name, file.read())
        write_bytes(folder / HEAD_FILE, head)  # last: it tells that the others are there
    return folder


# ------------------------------------------------------------------------ checks


def check_dataset(path: Path | str) -> None:
    """Refuses a local folder that is no training set, before anything heavy is loaded.

    Raises:
        DataError: what is wrong with it.
    """
    if not _ADDRESS.fullmatch(str(path)):
        _read_head(Path(path), is_local=True)


def _read_head(path: Path, is_local: bool) -> dict[str, Any]:
    """dataset.json, after checks of everything that the rest relies on."""
    if not (path / HEAD_FILE).is_file():
        raise DataError(f"{path} holds no training set ({HEAD_FILE} is missing); prepare one there")
    try:
        head = read_json(path / HEAD_FILE, "training set")
    except UserError as error:
        raise DataError(str(error)) from error
    if not isinstance(head, dict) or head.get("format") != DATASET_FORMAT:
        raise DataError(f"{path / HEAD_FILE} describes no training set; {_PREPARE_AGAIN}")
    if head.get("version") != DATASET_VERSION:
        raise DataError(
            f"{path} is a training set of version {head.get('version')!r}, this program reads "
            f"version {DATASET_VERSION}; {_PREPARE_AGAIN}"
        )
    try:
        _check_head(path, head, is_local)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path / HEAD_FILE} is damaged: {error}; {_PREPARE_AGAIN}") from error
    return head


def _check_head(path: Path, head: dict[str, Any], is_local: bool) -> None:
    for key in ("splits", "skipped", "made"):
        if not isinstance(head[key], dict):
            raise TypeError(f"{key} is no object")
    if not 1 <= head["canvas"] <= MAX_CANVAS or not 1 <= head["max_frames"] <= MAX_FRAMES:
        raise ValueError("canvas or max_frames is out of range")
    if not isinstance(head["fingerprint"], str):
        raise TypeError("fingerprint is no text")
    is_long = (path / CLIPS_FILE).stat().st_size > _ALWAYS_HASHED_BYTES
    if not is_long or not (path / INDEX_FILE).is_file():
        _check_rows(path, head)
    for shard in head["shards"]:
        file = path / shard["file"]
        if file.parent != path / SHARDS_FOLDER or file.suffix != ".tar":
            raise ValueError(f"shard {shard['file']} lies elsewhere")
        if is_local and (not file.is_file() or file.stat().st_size != shard["num_bytes"]):
            raise ValueError(f"shard {shard['file']} is missing or cut off")


def _check_rows(path: Path, head: dict[str, Any]) -> None:
    hashes = [shard["sha256"] for shard in head["shards"]]
    if content_fingerprint(head["canvas"], path / CLIPS_FILE, hashes) != head["fingerprint"]:
        raise DataError(f"{path / CLIPS_FILE} does not fit to {HEAD_FILE}; {_PREPARE_AGAIN}")


def _open_index(path: Path, head: dict[str, Any]) -> np.ndarray:
    """The index, mapped into memory; made from clips.jsonl for a set that has none."""
    shards = [shard["file"] for shard in head["shards"]]
    try:
        if (path / INDEX_FILE).is_file():
            with (path / INDEX_FILE).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != head.get("index_sha256"):
                raise DataError(f"{path / INDEX_FILE} has changed; {_PREPARE_AGAIN}")
            index = np.load(path / INDEX_FILE, mmap_mode="r", allow_pickle=False)
        else:
            index = index_rows(path / CLIPS_FILE, shards, SPLITS)
    except (OSError, ValueError) as error:
        raise DataError(f"{path / CLIPS_FILE} is damaged: {error}; {_PREPARE_AGAIN}") from error
    if not len(index):
        raise DataError(f"{path} holds no clip; {_PREPARE_AGAIN}")
    sizes = np.array([shard["num_bytes"] for shard in head["shards"]], np.uint64)
    ends = index["offset"] + index["num_bytes"]
    counts = index["num_frames"]
    is_inside = (index["num_bytes"] > 0) & (ends <= sizes[index["shard"]])
    if not is_inside.all() or counts.min() < 1 or counts.max() > MAX_FRAMES:
        raise DataError(f"{path}: clips lie outside of their shards; {_PREPARE_AGAIN}")
    return index


def _parse_clip(index: int, row: dict[str, Any]) -> Clip:
    if row["split"] not in SPLITS:
        raise ValueError(f"split {row['split']!r} is unknown")
    return Clip(
        index=index,
        id=str(row["id"]),
        split=row["split"],
        concept=str(row["concept"]),
        captions=tuple(str(text) for text in row["captions"]),
        durations_ms=tuple(int(duration) for duration in row["durations_ms"]),
        native_frames=int(row["native_frames"]),
        motion=float(row["motion"]),
        file=str(row["file"]),
        source=row["source"],
        license=row["license"],
        attribution=row["attribution"],
        attributes=dict(row["attributes"]),
        location=Location(row["shard"], int(row["offset"]), int(row["num_bytes"])),
        statistics=dict(row.get("statistics", {})),
    )
