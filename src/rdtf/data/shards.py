"""WebDataset shards: plain tar files of `ID.webp` (the frames) and `ID.json` (what is known).

Any WebDataset reader can stream them; this package reads single clips by their byte offsets.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from rdtf.errors import DataError

DATASET_FORMAT = "rdtf-dataset"
DATASET_VERSION = 1

HEAD_FILE = "dataset.json"
CLIPS_FILE = "clips.jsonl"
SKIPPED_FILE = "skipped.jsonl"
SHARDS_FOLDER = "shards"
CACHE_FOLDER = "cache"
DATASET_NAMES = frozenset((HEAD_FILE, CLIPS_FILE, SKIPPED_FILE, SHARDS_FOLDER, CACHE_FOLDER))


def json_bytes(value: Any) -> bytes:
    """One line of JSON in UTF-8; what no UTF-8 file can hold becomes a question mark."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("wb") as file:
        file.writelines(json_bytes(row) + b"\n" for row in rows)


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


class ShardWriter:
    """Write clips into `folder/shards/SPLIT-000000.tar`, ... of bounded size, byte for byte equal
    for equal clips."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder = folder
        self.split = split
        self.shards: list[ShardInfo] = []
        self.locations: dict[str, Location] = {}
        self._writer: Any = None
        self._file: IO[bytes] | None = None
        self._clips = 0
        self._bytes = 0

    def write(self, clip_id: str, pixels: bytes, row: dict[str, Any]) -> None:
        full = self._clips >= MAX_SHARD_CLIPS or self._bytes + len(pixels) > MAX_SHARD_BYTES
        if self._clips and full:
            self.close()
        if self._file is None:
            self._open()
        sample = {"__key__": clip_id, "webp": pixels, "json": json_bytes(row)}
        self._bytes += self._writer.write(sample)
        self._clips += 1

    def close(self) -> None:
        """Finish the open shard, if any; `locations` then holds its clips."""
        if self._file is None:
            return
        self._writer.close()
        self._file.close()
        path = self._path()
        for name, location in _index(path, self._name()).items():
            self.locations[name] = location
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.shards.append(ShardInfo(self._name(), self._clips, path.stat().st_size, digest))
        self._file, self._clips, self._bytes = None, 0, 0

    def _open(self) -> None:
        from webdataset.writer import (
            TarWriter,
        )  # loads torch, which workers and `--help` do without

        self._path().parent.mkdir(exist_ok=True)
        self._file = self._path().open("wb")
        owner = {"user": "rdtf", "group": "rdtf", "mode": 0o644, "mtime": 0}
        self._writer = TarWriter(self._file, encoder=False, **owner)

    def _name(self) -> str:
        return f"{SHARDS_FOLDER}/{self.split}-{len(self.shards):06d}.tar"

    def _path(self) -> Path:
        return self.folder / self._name()


def _index(path: Path, name: str) -> dict[str, Location]:
    with tarfile.open(path) as archive:
        return {
            member.name.removesuffix(".webp"): Location(name, member.offset_data, member.size)
            for member in archive
            if member.name.endswith(".webp")
        }
