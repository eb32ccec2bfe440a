"""What an export gave up, in numbers and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rdtf.fileio import size_text
from rdtf.stickers.export.check import CheckReport
from rdtf.stickers.export.search import Loss


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
    max_bytes: int | None
    width: int
    height: int
    num_frames: int
    source_frames: int
    total_ms: int
    source_ms: int
    settings: str
    is_exact: bool
    edits: tuple[str, ...]
    gave_up: tuple[str, ...]
    loss: Loss
    loss_over_time: Loss
    seam_error: float
    tries: int
    check: CheckReport | None
    notes: tuple[str, ...] = ()

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
            lines.append(
                f"note: the loop jumps at its end, by {self.seam_error + 1:.1f} times a usual step"
            )
        lines += [f"note: {remark}" for remark in self.remarks]
        return "\n".join(lines)
