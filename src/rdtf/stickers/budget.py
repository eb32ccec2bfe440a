"""What a file may cost: checked against headers, before any pixel is decoded.

A three-kilobyte WebP can hold sixty frames of 3000 x 3000 pixels and Pillow's own guard looks at
one frame at a time, so the limit that matters here is pixels x frames.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np

from rdtf.errors import StickerError


@dataclass(frozen=True)
class Budget:
    """Limits for one file that may be untrusted; every limit is inclusive.

    Attributes:
        max_bytes: size of the file, and of what it unpacks to where it is compressed as a whole.
        max_canvas: pixels on the longer side of a clip; larger stills are reduced to it.
        max_frames: frames of the clip.
        max_total_pixels: width x height x frames; four bytes each once decoded.
        max_duration_ms: length of one pass through the clip, in milliseconds.
    """

    max_bytes: int = 64 * 2**20
    max_canvas: int = 4096
    max_frames: int = 1000
    max_total_pixels: int = 2**28  # 1 GiB of RGBA: 1000 frames at 512 x 512
    max_duration_ms: int = 120_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise StickerError(f"budget {field.name} is {value!r}; it must be an integer >= 1")

    def check_bytes(self, name: str, num_bytes: int) -> None:
        """Refuse a file of `num_bytes` bytes that is too large."""
        self._check(name, num_bytes, self.max_bytes, "bytes", "max_bytes")

    def check_clip(self, name: str, num_frames: int, width: int, height: int) -> None:
        """Refuse a clip by its frame count and canvas in pixels."""
        if num_frames < 1 or width < 1 or height < 1:
            size = f"{num_frames} frames of {width} x {height} pixels"
            raise StickerError(f"{name} contains no picture ({size}); get it again")
        side = max(width, height)
        if num_frames > 1:
            self._check(name, side, self.max_canvas, "pixels on one side", "max_canvas")
        self._check(name, num_frames, self.max_frames, "frames", "max_frames")
        total = num_frames * width * height
        self._check(name, total, self.max_total_pixels, "pixels in all frames", "max_total_pixels")

    def check_duration(self, name: str, total_ms: int) -> None:
        """Refuse a clip that plays for `total_ms` milliseconds if that is too long."""
        self._check(name, total_ms, self.max_duration_ms, "ms", "max_duration_ms")

    def _check(self, name: str, value: int, limit: int, unit: str, field: str) -> None:
        if value > limit:
            raise StickerError(
                f"{name}: {value} {unit}, more than the limit of {limit}; "
                f"shrink the file or raise Budget.{field}"
            )


DEFAULT_BUDGET = Budget()


#: How long a frame without a usable duration is shown: what browsers do.
DEFAULT_DURATION_MS = 100
_GIF_MIN_CS = 2  # 50 frames a second is the fastest that browsers play a GIF


def whole_durations(exact_ms: Sequence[float] | np.ndarray, *, ignored_ms: float = 0) -> np.ndarray:
    """What players show: integer milliseconds, int64 [F], each >= 1.

    Frames of at most `ignored_ms` last `DEFAULT_DURATION_MS`; otherwise as `rounded_durations`.
    """
    exact = np.asarray(exact_ms, dtype=np.float64)
    exact = np.where(exact > ignored_ms, exact, DEFAULT_DURATION_MS)
    return np.maximum(rounded_durations(exact), 1)


def rounded_durations(exact_ms: Sequence[float] | np.ndarray) -> np.ndarray:
    """Integer milliseconds, int64 [F], whose sum is the rounded sum of `exact_ms`.

    The running total is rounded, not each frame, so 60 frames a second stay 60 a second.
    """
    ends = np.rint(np.cumsum(np.asarray(exact_ms, np.float64))).astype(np.int64)
    return np.diff(ends, prepend=0)


def gif_delays_cs(durations_ms: np.ndarray) -> np.ndarray:
    """GIF delays in hundredths of a second, int64 [F], each >= 2.

    The total is that of `durations_ms` to 10 ms: rounding errors are carried on, and what raising
    very short frames to 20 ms adds is taken from the longest frames, as far as they have it.
    """
    ends = np.rint(np.cumsum(durations_ms) / 10).astype(np.int64)
    delays = np.maximum(np.diff(ends, prepend=0), _GIF_MIN_CS)
    for _ in range(int(delays.sum() - ends[-1])):
        longest = int(delays.argmax())
        if delays[longest] <= _GIF_MIN_CS:
            break
        delays[longest] -= 1
    return delays


T = TypeVar("T")
R = TypeVar("R")

_MAX_THREADS = 4  # each holds a frame and what the encoder needs for it


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`[work(item) for item in items]`, by as many threads as there are processors, at most 4."""
    threads = min(_MAX_THREADS, os.cpu_count() or 1, len(items))
    if threads <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def read_bytes(path: Path | str, budget: Budget) -> bytes:
    """The content of a regular file of at most `budget.max_bytes` bytes."""
    path = Path(path)
    try:
        if not path.exists():
            raise StickerError(f"{path} does not exist; check the name")
        if not path.is_file():
            raise StickerError(f"{path} is not a file; name a sticker file")
        budget.check_bytes(str(path), path.stat().st_size)
        with path.open("rb") as file:
            return file.read(budget.max_bytes)
    except OSError as error:
        raise StickerError(f"{path} can't be read: {error.strerror or error}") from error


def recognise(data: bytes, name: str) -> str:
    """The format by its first bytes: "gif", "webp", "png", "jpeg", "webm" or "lottie"."""
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    for magic, format in _MAGIC.items():
        if data.startswith(magic):
            return format
    text = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        return "lottie"
    raise StickerError(f"{name} {_describe(data, text)}; give a {_KNOWN} file")


_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"\x1a\x45\xdf\xa3": "webm",
    b"\x1f\x8b": "lottie",
}
_KNOWN = "GIF, WebP, PNG, APNG, WebM, Lottie, TGS or JPEG"


def _describe(data: bytes, text: bytes) -> str:
    if not data:
        return "is empty"
    if text[:1] == b"<":
        return "is a web page or other markup, not a picture"
    if data[4:8] == b"ftyp":
        return "is an MP4, HEIC or AVIF file, which is not supported"
    return "is not a supported picture"
