"""One large array in a safetensors file: written row by row, read without loading it.

Caches are larger than memory. The format is a length, a JSON header and the plain values, so that
rows can be appended and the header, whose room is reserved, is filled in last.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import TracebackType

import numpy as np

from rdtf.errors import DataError

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
