"""What is said of stickers in files beside them: rows of tables, sidecars, sprite sheets.

No pixels are decoded here.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from rdtf.data.sources import CAPTION_KEYS, FILE_KEYS, Member, clean_captions, read_member
from rdtf.errors import StickerError, UserError
from rdtf.stickers import SUPPORTED_SUFFIXES, Budget

TABLE_SUFFIXES = (".jsonl", ".csv", ".parquet")
_MAX_SIDECAR_BYTES = 1 << 16
_MAX_TABLE = Budget(max_bytes=2**30)  # of a table inside of an archive


@dataclass(frozen=True)
class Entry:
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


def table_rows(entry: Entry) -> Iterator[tuple[int, Any]]:
    """(line, row) of a table; in place of a row that can't be read, the ValueError."""
    try:
        if entry.suffix == ".parquet":
            yield from enumerate(_parquet_rows(entry), start=1)
            return
        with entry.open() as file, io.TextIOWrapper(file, "utf-8-sig", "replace") as lines:
            if entry.suffix == ".csv":
                for number, cells in enumerate(csv.DictReader(lines), start=2):
                    yield number, {key: cell for key, cell in cells.items() if key and cell}
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


def _parquet_rows(entry: Entry) -> Iterator[dict[str, Any]]:
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


def file_named(row: Mapping[str, Any]) -> str | None:
    name = next((row[key] for key in FILE_KEYS if row.get(key)), None)
    return name if isinstance(name, str) else None


def captions_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    return clean_captions(text for key in CAPTION_KEYS for text in as_list(row.get(key)))


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def emoji_name(emoji: Any) -> str:
    """`😂` -> `face with tears of joy`."""
    if not isinstance(emoji, str) or not emoji:
        return ""
    return unicodedata.name(emoji[0], "").lower()


def text_row(path: Path) -> dict[str, Any] | None:
    if not path.is_file() or path.stat().st_size > _MAX_SIDECAR_BYTES:
        return None
    return {"captions": text_lines(Entry("", path).read_small())}


def text_lines(data: bytes) -> tuple[str, ...]:
    return clean_captions(data.decode("utf-8-sig", "replace").splitlines())


def parse_sprite(value: Any) -> tuple[Any, ...]:
    """`32x48`, [32, 48] or a list of [x, y, width, height, duration_ms]."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+)\s*[xX*]\s*(\d+)\s*", value)):
        value = [int(match[1]), int(match[2])]
    values = as_list(value)
    if len(values) == 2 and all(isinstance(v, int) and 0 < v <= 4096 for v in values):
        return tuple(values)
    cells = [tuple(cell) if isinstance(cell, list | tuple) else () for cell in values]
    if cells and all(len(c) == 5 and all(isinstance(v, int) for v in c) for c in cells):
        return tuple(cells)
    raise ValueError(f"sprite {value!r} is no frame size; say for example 32x48")


def atlas_cells(frames: Any) -> list[list[int]]:
    """Cells of an atlas as Aseprite and TexturePacker write them."""
    listed = list(frames.values()) if isinstance(frames, dict) else frames
    cells = []
    for frame in (frame for frame in listed if isinstance(frame, dict)):
        inner = frame.get("frame")
        place = inner if isinstance(inner, dict) else frame
        cell = [place.get(key) for key in ("x", "y", "w", "h")] + [frame.get("duration", 100)]
        cells.append([value if isinstance(value, int) else -1 for value in cell])
    return cells
