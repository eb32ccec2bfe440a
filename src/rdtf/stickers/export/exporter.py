"""One clip to one platform: edits, time, canvas, the search for what fits, the check."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rdtf.errors import UserError
from rdtf.fileio import atomic_folder, atomic_path, size_text
from rdtf.stickers import Budget, Sticker
from rdtf.stickers.export.check import CheckReport, checked
from rdtf.stickers.export.edit import ExportOptions
from rdtf.stickers.export.encoders import ENCODERS
from rdtf.stickers.export.measured import Measured
from rdtf.stickers.export.platforms import FILE_FORMATS, ExportError, Platform, find_platform
from rdtf.stickers.export.prepare import TOTAL_TOLERANCE_MS, Prepared, prepare, visible
from rdtf.stickers.export.search import Found, search
from rdtf.stickers.files import DURATIONS_FILE, frame_files
from rdtf.stickers.sheet import sprite_sheet

_MAX_DB = 99.0
_MAX_MOMENTS = 60


@dataclass(frozen=True)
class Loss:
    """Error of a clip against its source."""

    # peak signal-to-noise ratio of the pictures on white; 99 is no difference
    psnr_white_db: float = _MAX_DB
    alpha_psnr_db: float = _MAX_DB  # the same for the opacity
    alpha_error: float = 0.0  # mean error of the opacity, in [0, 1]

    def __str__(self) -> str:
        if min(self.psnr_white_db, self.alpha_psnr_db) >= _MAX_DB:
            return "exact"
        alpha = "exact" if self.alpha_psnr_db >= _MAX_DB else f"{self.alpha_psnr_db:.1f} dB"
        return f"{self.psnr_white_db:.1f} dB on white, alpha {alpha}"


def _visual_loss(
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
    """How a clip became a file."""

    platform: str  # platform, format: where it goes and as what
    format: str
    num_bytes: int  # num_bytes, max_bytes: of the file, and what is allowed (None: anything)
    width: int  # width, height: canvas in pixels
    height: int
    # num_frames, source_frames: in the file, and in the clip after the edits that were asked
    # for
    num_frames: int
    source_frames: int
    total_ms: int  # total_ms, source_ms: the same of durations
    source_ms: int
    edits: tuple[str, ...]  # what was asked for and done
    gave_up: tuple[str, ...]  # what the limits cost, in words; empty if nothing
    seam_error: float  # see `Sticker.seam_error`
    notes: tuple[str, ...]  # what else to know, such as that the picture was enlarged, in words
    max_bytes: int | None = None
    settings: str = "all colours"  # quality or colours, in words
    is_exact: bool = True  # the settings keep every pixel of the canvas
    # of the frames that are shown, against the source at the canvas of the export
    loss: Loss = Loss()
    # the same at each moment, so that frames that were left out count
    loss_over_time: Loss = Loss()
    tries: int = 1  # files encoded to find this one
    # the file held against the rules of the platform; None for files for programs
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


#: Worse is not recognisable; then it is refused. Decibels on white, and of opacity.
_MIN_PSNR_DB, _MIN_ALPHA_DB = 14.0, 8.0


@dataclass(frozen=True)
class Export:
    """A finished export.

    Attributes:
        files: content by the ending of the name: {".webm": ...}; a sheet has two, a folder of
            frames has names with a slash.
        report: how it was made and what it cost.
    """

    files: Mapping[str, bytes]
    report: ExportReport

    @property
    def data(self) -> bytes:
        """The first file."""
        return next(iter(self.files.values()))

    @property
    def suffix(self) -> str:
        return next(iter(self.files))

    def save(self, folder: Path | str, stem: str) -> list[Path]:
        """Write the files as `folder`/`stem`.suffix; they appear whole or not at all.

        A folder of frames appears as a whole and replaces only one like it.

        Raises:
            UserError: it can't be written, or the folder holds something else.
        """
        if self.suffix.startswith("/"):
            path = Path(folder) / stem
            return [save_folder(path, self.files, DURATIONS_FILE, "folder of frames")]
        paths = [Path(folder) / f"{stem}{ending}" for ending in self.files]
        with contextlib.ExitStack() as all_or_none:
            for path, data in zip(paths, self.files.values(), strict=True):
                all_or_none.enter_context(atomic_path(path)).write_bytes(data)
        return paths


def save_folder(path: Path, files: Mapping[str, bytes], mark: str, what: str) -> Path:
    """Write a folder of files, whole or not at all; it replaces only one that holds `mark`, too.

    Raises:
        UserError: it can't be written, or the folder holds something else than `what`.
    """
    if path.is_dir() and any(path.iterdir()) and not (path / mark).is_file():
        raise UserError(f"{path} is not empty and not a {what}; choose another")
    with atomic_folder(path) as temporary:
        for name, data in files.items():
            (temporary / name.removeprefix("/")).write_bytes(data)
    return path


def export_sticker(
    sticker: Sticker, platform: str | Platform, options: ExportOptions | None = None, **changes: Any
) -> Export:
    """Make the file that `platform` takes, or refuse with the reason.

    Args:
        sticker: the clip.
        platform: an id such as "telegram"; see `platforms.platforms()`.
        options: edits and choices.
        changes: single ones by name: `export_sticker(s, "line", time="speed", outline_px=8)`.

    The canvas is always the platform's. The speed is that of the clip unless `speed` or `time` say
    otherwise; the total is exact to 10 ms. Within the byte limit first quality or colours are given
    up, then frames (`search`); what was given up is in the report.

    Raises:
        ExportError: the clip can't comply, or an option does not fit; `reason` says which.
    """
    platform = find_platform(platform)
    if unknown := set(changes) - set(ExportOptions.__dataclass_fields__):
        known = ", ".join(ExportOptions.__dataclass_fields__)
        raise ExportError("option", f"unknown option {min(unknown)!r}; the options are {known}")
    options = replace(options or ExportOptions(), **changes)
    prepared = prepare(sticker, platform, options)
    if platform.format in FILE_FORMATS:
        clip = prepared.clip()  # exact, and no platform to check it
        files = (sprite_sheet if platform.format == "sheet" else frame_files)(clip)
        return Export(files, _report(prepared, clip, num_bytes=sum(map(len, files.values()))))
    limit = options.byte_limit(platform)
    encoder = ENCODERS[platform.format](prepared.frames, prepared.loop_count)
    least = platform.value("min_frames", 1)
    try:
        found = search(encoder, prepared.clip(), limit, least)
    except ExportError as error:
        raise ExportError(error.reason, f"{platform.title}: {error}") from error
    return _finished(prepared, found, limit)


def _finished(prepared: Prepared, found: Found, max_bytes: int | None) -> Export:
    """Re-open the bytes, hold them against the rules, and measure the loss."""
    platform, title = prepared.platform, prepared.platform.title
    suffix = ".apng" if platform.id == "apng" and len(found.keep) > 1 else f".{platform.format}"
    budget = _own_budget(prepared, found)
    report, measured = checked(found.data, platform, f"sticker{suffix}", budget)
    if measured is None or not report.passed:
        failed = report.failures[0]
        if failed.rule == "animated":
            why = "the motion is too small to survive the compression; the file would be a still"
            raise ExportError("still", f"{title}: {why}")
        raise ExportError("validation", f"{title}: the file fails its check: {failed}")
    problem = _differences(prepared, found, measured)
    if problem:
        raise ExportError("validation", f"{title}: the written file is wrong: {problem}")
    loss, over_time = _losses(prepared, found, measured)
    if loss.psnr_white_db < _MIN_PSNR_DB or loss.alpha_psnr_db < _MIN_ALPHA_DB:
        hint = ", or set a background with --background" if platform.format == "gif" else ""
        raise ExportError(
            "quality",
            f"{title}: within the limits the result no longer resembles the clip "
            f"({loss}); make the clip shorter or simpler{hint}",
        )
    gave_up = []
    fitted = f"to fit into {size_text(max_bytes or 0)}"
    if found.quality != found.best:
        steps = f"{found.best.words} to {found.quality.words}"
        gave_up.append(f"quality reduced from {steps}, {fitted}")
    if len(found.keep) < len(prepared.frames):
        counts = f"{len(prepared.frames)} to {len(found.keep)}"
        gave_up.append(f"frames reduced from {counts}, {fitted}")
    own = _report(
        prepared,
        prepared.clip().select(found.keep).with_durations(found.durations_ms),
        gave_up,
        num_bytes=len(found.data),
        max_bytes=max_bytes,
        settings=found.quality.words,
        is_exact=found.quality.exact,
        loss=loss,
        loss_over_time=over_time,
        tries=found.tries,
        check=report,
    )
    return Export({suffix: found.data}, own)


def _losses(prepared: Prepared, found: Found, measured: Measured) -> tuple[Loss, Loss]:
    """Of the frames that are shown, and of the clip over time, left-out frames included."""
    _, height, width, _ = prepared.frames.shape  # MP4 may have a row or column more
    seen = measured.seen_frames[:, :height, :width]
    times = np.maximum(measured.info.stored_ms, 1)  # a plain picture has no time
    loss = _visual_loss(lambda index: prepared.frames[found.keep[index]], times, seen, times)
    if len(found.keep) >= prepared.source.num_frames:
        return loss, loss
    return loss, _visual_loss(prepared.draw, prepared.source.durations_ms, seen, times)


def _own_budget(prepared: Prepared, found: Found) -> Budget:
    """Room for what was just made, which no one else could have sent."""
    least = Budget()
    num_frames, height, width, _ = prepared.frames.shape
    return Budget(
        max_bytes=max(least.max_bytes, len(found.data)),
        max_canvas=max(least.max_canvas, height + 1, width + 1),
        max_frames=max(least.max_frames, num_frames),
        max_total_pixels=max(least.max_total_pixels, num_frames * (height + 1) * (width + 1)),
        max_duration_ms=max(least.max_duration_ms, 2 * int(found.durations_ms.sum())),
    )


def _differences(prepared: Prepared, found: Found, measured: Measured) -> str:
    """How the file, read back, differs from what was meant; "" if it does not."""
    if measured.info.num_frames != len(found.keep):
        return f"{measured.info.num_frames} frames instead of {len(found.keep)}"
    total = prepared.source.total_ms
    if measured.info.num_frames > 1 and abs(measured.total_ms - total) > TOTAL_TOLERANCE_MS:
        return f"{measured.total_ms} ms instead of {total} ms"
    seen = visible(measured.seen_frames)
    if measured.frames is not measured.seen_frames and (visible(measured.frames) != seen).any():
        return "decoders give different pictures"
    if found.quality.exact and (visible(prepared.frames[found.keep]) != seen).any():
        return "pixels changed in a lossless format"
    return ""


def _report(
    prepared: Prepared, clip: Sticker, gave_up: Iterable[str] = (), **facts: Any
) -> ExportReport:
    """The report on `clip`, the frames that were kept; `facts` are fields of the report."""
    return ExportReport(
        platform=prepared.platform.id,
        format=prepared.platform.format,
        width=clip.width,
        height=clip.height,
        num_frames=clip.num_frames,
        source_frames=prepared.source.num_frames,
        total_ms=clip.total_ms,
        source_ms=prepared.source.total_ms,
        edits=tuple(prepared.edits),
        gave_up=(*prepared.gave_up, *gave_up),
        seam_error=clip.seam_error(),
        notes=tuple(prepared.notes),
        **facts,
    )
