"""What a file may cost: checked against headers, before any pixel is decoded.

A three-kilobyte WebP can hold sixty frames of 3000 x 3000 pixels and Pillow's own guard looks at
one frame at a time, so the limit that matters here is pixels x frames.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

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
