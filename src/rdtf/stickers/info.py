"""What the headers of a sticker file say, checked against the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rdtf.stickers.budget import Budget


@dataclass(frozen=True)
class StickerInfo:
    """The outline of a sticker file, known without decoding pixels.

    Attributes:
        format: "gif", "webp", "png", "jpeg", "webm", "lottie" or "folder".
        num_frames: frames of one pass.
        width, height: canvas in pixels (for Lottie the nominal one; it has no pixels).
        durations_ms: milliseconds of each frame.
        loop_count: how often it plays; 0 = for ever.
    """

    format: str
    num_frames: int
    width: int
    height: int
    durations_ms: tuple[int, ...]
    loop_count: int = 0

    @property
    def total_ms(self) -> int:
        return sum(self.durations_ms)

    @property
    def durations(self) -> np.ndarray:
        """`durations_ms` as int64 [F], as a `Sticker` wants it."""
        return np.asarray(self.durations_ms, dtype=np.int64)


def checked_info(
    format: str,
    name: str,
    budget: Budget,
    size: tuple[int, int],
    durations_ms: Sequence[int] | np.ndarray,
    loop_count: int = 0,
) -> StickerInfo:
    """A `StickerInfo` for a canvas of `size` = (width, height) that the budget allows."""
    durations = tuple(int(duration) for duration in durations_ms)
    budget.check_clip(name, len(durations), *size)
    budget.check_duration(name, sum(durations))
    return StickerInfo(format, len(durations), *size, durations, loop_count)
