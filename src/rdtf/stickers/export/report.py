"""What an export gave up, in numbers and in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rdtf.fileio import size_text
from rdtf.stickers.export.check import CheckReport

_MAX_DB = 99.0
_MAX_MOMENTS = 60


@dataclass(frozen=True)
class Loss:
    """Error of a clip against its source.

    Attributes:
        psnr_white_db: peak signal-to-noise ratio of the pictures on white; 99 is no difference.
        alpha_psnr_db: the same for the opacity.
        alpha_error: mean error of the opacity, in [0, 1].
    """

    psnr_white_db: float = _MAX_DB
    alpha_psnr_db: float = _MAX_DB
    alpha_error: float = 0.0

    def __str__(self) -> str:
        if min(self.psnr_white_db, self.alpha_psnr_db) >= _MAX_DB:
            return "exact"
        alpha = "exact" if self.alpha_psnr_db >= _MAX_DB else f"{self.alpha_psnr_db:.1f} dB"
        return f"{self.psnr_white_db:.1f} dB on white, alpha {alpha}"


def visual_loss(
    source: Callable[[int], np.ndarray],
    source_ms: np.ndarray,
    frames: np.ndarray,
    frames_ms: np.ndarray,
) -> Loss:
    """Compare what is on the screen at each moment, so that frames left out count.

    At most 60 moments are looked at, evenly spread over those where one of the two changes.

    Args:
        source: gives frame i of the source, uint8 [H, W, 4].
        source_ms: int64 [S], how long each is shown.
        frames: uint8 [F, H, W, 4].
        frames_ms: int64 [F].
    """
    sums, total = np.zeros(3), 0.0
    last, white, alpha = -1, frames[0], frames[0]
    for first, second, weight in _pairs(source_ms, frames_ms):
        if last != first:
            last, (white, alpha) = first, _on_white(source(first))
        seen_white, seen_alpha = _on_white(frames[second])
        off = alpha - seen_alpha
        errors = np.square(white - seen_white).mean(), np.square(off).mean(), np.abs(off).mean()
        sums += weight * np.array(errors, np.float64)
        total += weight
    colour, alpha_square, alpha_error = (sums / total).tolist()
    return Loss(_psnr(colour), _psnr(alpha_square), alpha_error)


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


def _on_white(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of uint8 [H, W, 4]: on white, float32 [H, W, 3], and alpha, float32 [H, W], in [0, 1]."""
    shares = frame.astype(np.float32) / 255
    alpha = shares[..., 3]
    return 1 + (shares[..., :3] - 1) * alpha[..., None], alpha


def _psnr(mean_square: float) -> float:
    return min(_MAX_DB, -10 * float(np.log10(mean_square))) if mean_square > 0 else _MAX_DB


@dataclass(frozen=True)
class ExportReport:
    """How a clip became a file.

    Attributes:
        platform, format: where it goes and as what.
        num_bytes, max_bytes: of the file, and what is allowed (None: anything).
        width, height: canvas in pixels.
        num_frames, source_frames: in the file, and in the clip after the edits that were asked for.
        total_ms, source_ms: the same of durations.
        settings: quality or colours, in words.
        is_exact: the settings keep every pixel of the canvas.
        edits: what was asked for and done.
        gave_up: what the limits cost, in words; empty if nothing.
        loss: of the frames that are shown, against the source at the canvas of the export.
        loss_over_time: the same at each moment, so that frames that were left out count.
        seam_error: see `loops.seam_error`.
        tries: files encoded to find this one.
        notes: what else to know, such as that the picture was enlarged, in words.
        check: the file held against the rules of the platform; None for files for programs.
    """

    platform: str
    format: str
    num_bytes: int
    width: int
    height: int
    num_frames: int
    source_frames: int
    total_ms: int
    source_ms: int
    edits: tuple[str, ...]
    gave_up: tuple[str, ...]
    seam_error: float
    notes: tuple[str, ...]
    max_bytes: int | None = None
    settings: str = "all colours"
    is_exact: bool = True
    loss: Loss = Loss()
    loss_over_time: Loss = Loss()
    tries: int = 1
    check: CheckReport | None = None

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and the platform's advice that the file does not follow."""
        advice = () if self.check is None else self.check.remarks
        return (*self.notes, *(f"{f.rule}: {f.found}; better: {f.asked}" for f in advice))

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        values["check"] = None if self.check is None else self.check.to_dict()
        return {**values, "remarks": list(self.remarks)}

    def __str__(self) -> str:
        limit = f" of {size_text(self.max_bytes)}" if self.max_bytes else ""
        lines = [
            f"{self.width} x {self.height}, {self.num_frames} frames, {self.total_ms} ms, "
            f"{size_text(self.num_bytes)}{limit}; {self.settings}; {self.loss}"
        ]
        lines += [f"did: {edit}" for edit in self.edits]
        lines += [f"gave up: {what}" for what in self.gave_up]
        if self.loss_over_time != self.loss:
            lines.append(f"including the frames left out: {self.loss_over_time}")
        if self.num_frames > 1 and self.seam_error > 1:
            steps = f"{self.seam_error + 1:.1f} times a usual step"
            lines.append(f"note: the loop jumps at its end, by {steps}")
        lines += [f"note: {remark}" for remark in self.remarks]
        return "\n".join(lines)
