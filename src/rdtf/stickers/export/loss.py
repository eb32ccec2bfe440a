"""What an export lost against its source: measured in decibels, over time, as it is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: Above this nobody sees a difference, and rounding alone decides the number.
MAX_DB = 99.0
_MAX_MOMENTS = 60


@dataclass(frozen=True)
class Loss:
    """Error of a clip against its source.

    Attributes:
        psnr_white_db: peak signal-to-noise ratio of the pictures on white; 99 is no difference.
        alpha_psnr_db: the same for the opacity.
        alpha_error: mean error of the opacity, in [0, 1].
    """

    psnr_white_db: float
    alpha_psnr_db: float
    alpha_error: float

    def __str__(self) -> str:
        if min(self.psnr_white_db, self.alpha_psnr_db) >= MAX_DB:
            return "exact"
        alpha = "exact" if self.alpha_psnr_db >= MAX_DB else f"{self.alpha_psnr_db:.1f} dB"
        return f"{self.psnr_white_db:.1f} dB on white, alpha {alpha}"


NO_LOSS = Loss(MAX_DB, MAX_DB, 0.0)


def visual_loss(
    source: Callable[[int], np.ndarray],
    source_ms: np.ndarray,
    frames: np.ndarray,
    frames_ms: np.ndarray,
) -> Loss:
    """Compare what is on the screen at each moment, so that frames left out count.

    Args:
        source: gives frame i of the source, uint8 [H, W, 4].
        source_ms: int64 [S], how long each is shown.
        frames: uint8 [F, H, W, 4].
        frames_ms: int64 [F].

    At most 60 moments are looked at, evenly spread over those where one of the two changes.
    """
    pairs = _pairs(source_ms, frames_ms)
    colour = alpha_square = alpha_error = total = 0.0
    cache: tuple[int, np.ndarray] = (-1, frames[0])
    for first, second, weight in pairs:
        if cache[0] != first:
            cache = first, source(first)
        white, alpha = _differences(cache[1], frames[second])
        colour += weight * float(np.mean(np.square(white)))
        alpha_square += weight * float(np.mean(np.square(alpha)))
        alpha_error += weight * float(np.mean(np.abs(alpha)))
        total += weight
    return Loss(_psnr(colour / total), _psnr(alpha_square / total), alpha_error / total)


def _pairs(source_ms: np.ndarray, frames_ms: np.ndarray) -> list[tuple[int, int, float]]:
    """(frame of the source, frame, milliseconds that both are seen), of at most 60 moments."""
    source_ends, ends = np.cumsum(source_ms), np.cumsum(frames_ms)
    total = min(source_ends[-1], ends[-1])
    moments = np.unique(np.concatenate([[0], source_ends, ends]))
    moments = moments[moments <= total]
    middles, lengths = (moments[1:] + moments[:-1]) / 2, np.diff(moments)
    if len(middles) > _MAX_MOMENTS:
        chosen = np.linspace(0, len(middles) - 1, _MAX_MOMENTS).round().astype(int)
        middles, lengths = middles[chosen], lengths[chosen]
    first = np.searchsorted(source_ends, middles, side="right")
    second = np.searchsorted(ends, middles, side="right")
    return list(zip(first.tolist(), second.tolist(), lengths.tolist(), strict=True))


def _differences(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of two uint8 [H, W, 4]: on white, float32 [H, W, 3], and of alpha, float32 [H, W]."""
    (first_white, first_alpha), (second_white, second_alpha) = map(_on_white, (first, second))
    return first_white - second_white, first_alpha - second_alpha


def _on_white(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    alpha = frame[..., 3].astype(np.float32) / 255
    colour = frame[..., :3].astype(np.float32) / 255
    return 1 + (colour - 1) * alpha[..., None], alpha


def _psnr(mean_square: float) -> float:
    if mean_square <= 0:
        return MAX_DB
    return min(MAX_DB, float(-10 * np.log10(mean_square)))
