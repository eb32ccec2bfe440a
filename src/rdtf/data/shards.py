"""WebDataset shards: plain tar files of `ID.webp` (the frames) and `ID.json` (what is known).

Any WebDataset reader can stream them; this package reads single clips by their byte offsets.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from rdtf.errors import DataError
from rdtf.fileio import atomic_path

DATASET_FORMAT = "rdtf-dataset"
DATASET_VERSION = 1

HEAD_FILE = "dataset.json"
CLIPS_FILE = "clips.jsonl"
SKIPPED_FILE = "skipped.jsonl"
SHARDS_FOLDER = "shards"
CACHE_FOLDER = "cache"
INDEX_FILE = "index.npy"
DATASET_NAMES = frozenset(
    (HEAD_FILE, CLIPS_FILE, SKIPPED_FILE, INDEX_FILE, SHARDS_FOLDER, CACHE_FOLDER)
)


def _json_bytes(value: Any) -> bytes:
    """One line of JSON in UTF-8; what no UTF-8 file can hold becomes a question mark."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("wb") as file:
        file.writelines(_json_bytes(row) + b"\n" for row in rows)


def is_dataset(folder: Path) -> bool:
    return (folder / HEAD_FILE).is_file() and (folder / CLIPS_FILE).is_file()


def content_fingerprint(canvas: int, clips_file: Path, shard_hashes: Iterable[str]) -> str:
    """SHA-256 over all that training reads: the rows of the clips and the bytes of the shards."""
    digest = hashlib.sha256(f"{DATASET_FORMAT} {DATASET_VERSION} {canvas}\n".encode())
    with clips_file.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    for shard_hash in shard_hashes:
        digest.update(bytes.fromhex(shard_hash))
    return digest.hexdigest()


_HEADER_BYTES = 512  # a multiple of 8, so that values stay aligned
_MAX_HEADER_BYTES = 1 << 20
_NAMES = {"uint8": "U8", "float16": "F16", "float32": "F32", "int64": "I64"}
_DTYPES = {name: np.dtype(dtype) for dtype, name in _NAMES.items()}
_TENSOR = "rows"


class RowWriter:
    """Append arrays [N, *shape] to a safetensors file that holds one tensor called `rows`."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        self.num_rows = 0
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self._file.write(bytes(8 + _HEADER_BYTES))

    def append(self, rows: np.ndarray) -> None:
        if rows.shape[1:] != self._shape:
            raise ValueError(f"rows are {rows.shape[1:]}, not {self._shape}")
        self._file.write(np.ascontiguousarray(rows, self._dtype).tobytes())
        self.num_rows += len(rows)

    def close(self) -> None:
        num_bytes = self._file.tell() - 8 - _HEADER_BYTES
        tensor = {
            "dtype": _NAMES[self._dtype.name],
            "shape": [self.num_rows, *self._shape],
            "data_offsets": [0, num_bytes],
        }
        header = json.dumps({_TENSOR: tensor}).encode().ljust(_HEADER_BYTES)
        self._file.seek(0)
        self._file.write(struct.pack("<Q", _HEADER_BYTES) + header)
        self._file.close()

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_rows(path: Path) -> np.ndarray:
    """Memory-map the tensor `rows` of a safetensors file, read only.

    Raises:
        DataError: the file is missing, cut off, or no such file.
    """
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(min(length, _MAX_HEADER_BYTES)))
        tensor = header[_TENSOR]
        dtype, shape = _DTYPES[tensor["dtype"]], tuple(tensor["shape"])
        start, end = tensor["data_offsets"]
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if start != 0 or end != size or path.stat().st_size != 8 + length + size:
            raise ValueError("its size is wrong")
        if size == 0:
            return np.zeros(shape, dtype)  # nothing can't be mapped
        return np.memmap(path, dtype, mode="r", offset=8 + length, shape=shape)
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise DataError(f"cache file {path} is damaged ({error}); delete it") from error


MAX_SHARD_CLIPS = 1000
MAX_SHARD_BYTES = 256 * 2**20


@dataclass(frozen=True)
class ShardInfo:
    """One finished shard; `file` is relative to the training set."""

    file: str
    num_clips: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Location:
    """Where the frames of one clip are: a shard and a range of bytes in it."""

    shard: str
    offset: int
    num_bytes: int


def write_shard(
    folder: Path, name: str, clips: Iterable[tuple[str, bytes, Mapping[str, Any]]]
) -> tuple[ShardInfo, list[Location]]:
    """Write (id, frames, row) of each clip to `folder/shards/NAME.tar`, byte for byte equal for
    equal clips; the shard appears whole or not at all."""
    file = f"{SHARDS_FOLDER}/{name}.tar"
    locations: list[Location] = []
    with atomic_path(folder / file) as path:
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for clip_id, pixels, row in clips:
                offset = archive.offset + tarfile.BLOCKSIZE
                locations.append(Location(file, offset, len(pixels)))
                for suffix, data in (("webp", pixels), ("json", _json_bytes(row))):
                    member = tarfile.TarInfo(f"{clip_id}.{suffix}")
                    member.size, member.uname, member.gname = len(data), "rdtf", "rdtf"
                    archive.addfile(member, io.BytesIO(data))
        with path.open("rb") as shard:
            digest = hashlib.file_digest(shard, "sha256").hexdigest()
        num_bytes = path.stat().st_size
    return ShardInfo(file, len(locations), num_bytes, digest), locations


# ------------------------------------------------------------------------------- the index

_INDEX = np.dtype(
    [
        ("line", "<u8"),  # where the clip's row starts in clips.jsonl
        ("offset", "<u8"),  # of its frames in its shard
        ("num_bytes", "<u4"),
        ("shard", "<u4"),
        ("concept", "<u8"),  # a hash of its name
        ("total_ms", "<u4"),
        ("motion", "<f4"),
        ("num_frames", "<u2"),
        ("split", "u1"),
        ("entropy", "<f4"),
    ]
)


def describe_index(
    folder: Path, canvas: int, shards: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What dataset.json says of the files of a training set and their hashes."""
    hashes = [shard["sha256"] for shard in shards]
    with (folder / INDEX_FILE).open("rb") as file:
        index_hash = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "format": DATASET_FORMAT,
        "version": DATASET_VERSION,
        "fingerprint": content_fingerprint(canvas, folder / CLIPS_FILE, hashes),
        "shards": list(shards),
        "index_sha256": index_hash,
    }


def _concept_key(concept: str) -> int:
    """A number for a concept's name; two concepts share one with a chance of 1 in 2**64."""
    return int.from_bytes(hashlib.sha256(concept.encode()).digest()[:8], "little")


def index_rows(clips_file: Path, shards: Sequence[str], splits: Sequence[str]) -> np.ndarray:
    """What training must know of every clip at once, one record each, from `clips.jsonl`.

    Raises:
        KeyError, TypeError, ValueError: a row is damaged; the message starts with its line.
    """
    number_of = {file: number for number, file in enumerate(shards)}
    split_of = {split: number for number, split in enumerate(splits)}
    records = np.zeros(1024, _INDEX)
    count = line = 0
    with clips_file.open("rb") as lines:
        for text in lines:
            if count == len(records):
                records = np.concatenate([records, np.zeros_like(records)])
            try:
                row = json.loads(text)
                durations_ms = row["durations_ms"]
                if not durations_ms or min(durations_ms) < 1:
                    raise ValueError("its durations make no sense")
                records[count] = (
                    line,
                    row["offset"],
                    row["num_bytes"],
                    number_of[row["shard"]],
                    _concept_key(row["concept"]),
                    sum(durations_ms),
                    row["motion"],
                    len(durations_ms),
                    split_of[row["split"]],
                    row.get("statistics", {}).get("entropy", 0.0),
                )
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"{count + 1}: {type(error).__name__} {error}") from error
            count += 1
            line += len(text)
    return records[:count]
