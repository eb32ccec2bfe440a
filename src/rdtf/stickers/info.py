"""What the headers of a sticker file say, checked against the budget, and durations as shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers.budget import Budget
from rdtf.stickers.formats.pillow import upright_size

#: How long a frame without a usable duration is shown: what browsers do.
DEFAULT_DURATION_MS = 100


@dataclass(frozen=True)
class StickerInfo:
    """The outline of a sticker file, known without decoding pixels.

    Attributes:
        format: "gif", "webp", "png", "jpeg", "avif", "webm", "mp4", "lottie" or "folder".
        num_frames: frames of one pass.
        width, height: canvas in pixels, upright (for Lottie the nominal one; it has no pixels).
        durations_ms: milliseconds that players show each frame.
        loop_count: how often it plays; 0 = for ever.
        stored_ms: milliseconds as the file states them, whatever players make of them.
        is_animated: it is stored as an animation, be it of one frame.
        has_hidden_picture: players without animation show a picture that is not the first frame.
        turned: how the stored pictures are turned, see `pillow.orientation`.
        end: where the picture ends in the file, in bytes; readers ignore what follows.
        not_drawn: parts of a Lottie animation that the renderer leaves out, in words.
    """

    format: str
    num_frames: int
    width: int
    height: int
    durations_ms: tuple[int, ...]
    loop_count: int = 0
    stored_ms: tuple[int, ...] = ()
    is_animated: bool = False
    has_hidden_picture: bool = False
    turned: int = 1
    end: int = 0
    not_drawn: tuple[str, ...] = ()

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) of the canvas as it is stored, before it is turned."""
        return upright_size((self.width, self.height), self.turned)  # which is its own inverse

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
    stored_ms: Sequence[float] | np.ndarray,
    loop_count: int = 0,
    *,
    end: int = 0,
    ignored_ms: float = 0,
    is_animated: bool | None = None,
    turned: int = 1,
) -> StickerInfo:
    """A `StickerInfo` for a clip that the budget allows.

    Args:
        size: (width, height) as stored.
        stored_ms: of each frame, as the file states it.
        ignored_ms: stored durations up to this one are not followed by players.
        is_animated: by default, more than one frame.
    """
    durations = whole_durations(stored_ms, ignored_ms=ignored_ms)
    budget.check_clip(name, len(durations), *size)
    budget.check_duration(name, int(durations.sum()))
    return StickerInfo(
        format,
        len(durations),
        *upright_size(size, turned),
        tuple(durations.tolist()),
        loop_count,
        tuple(_rounded_durations(stored_ms).tolist()),
        len(durations) > 1 if is_animated is None else is_animated,
        turned=turned,
        end=end,
    )


def whole_durations(exact_ms: Sequence[float] | np.ndarray, *, ignored_ms: float = 0) -> np.ndarray:
    """What players show: integer milliseconds, int64 [F], each >= 1.

    Frames of at most `ignored_ms` last `DEFAULT_DURATION_MS`; otherwise as `_rounded_durations`.
    """
    exact = np.asarray(exact_ms, dtype=np.float64)
    exact = np.where(exact > ignored_ms, exact, DEFAULT_DURATION_MS)
    return np.maximum(_rounded_durations(exact), 1)


def _rounded_durations(exact_ms: Sequence[float] | np.ndarray) -> np.ndarray:
    """Integer milliseconds, int64 [F], whose sum is the rounded sum of `exact_ms`.

    The running total is rounded, not each frame, so 60 frames a second stay 60 a second.
    """
    ends = np.rint(np.cumsum(np.asarray(exact_ms, np.float64))).astype(np.int64)
    return np.diff(ends, prepend=0)


def damaged(name: str, format: str, what: str) -> StickerError:
    return StickerError(f"{name}: the {format} is damaged ({what}); get it again")


def cut_off(name: str, format: str) -> StickerError:
    return StickerError(f"{name}: the {format} is cut off; get the whole file")
