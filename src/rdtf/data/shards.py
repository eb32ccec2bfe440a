"""WebDataset shards: plain tar files of `ID.webp` (the frames) and `ID.json` (what is known).

Any WebDataset reader can stream them; this package reads single clips by their byte offsets.
"""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rdtf.data.layout import SHARDS_FOLDER, json_bytes

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
