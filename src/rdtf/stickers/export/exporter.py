"""One clip to one platform: edits, time, canvas, the search for what fits, and the check."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from rdtf.errors import UserError
from rdtf.fileio import atomic_folder, atomic_path, size_text
from rdtf.stickers import Budget, Sticker
from rdtf.stickers.export import check, sheets
from rdtf.stickers.export.encoders import encoder_for
from rdtf.stickers.export.loops import seam_error
from rdtf.stickers.export.measured import Measured
from rdtf.stickers.export.options import ExportOptions
from rdtf.stickers.export.platforms import FILE_FORMATS, ExportError, Platform, find_platform
from rdtf.stickers.export.prepare import Prepared, prepare, visible
from rdtf.stickers.export.report import ExportReport
from rdtf.stickers.export.search import NO_LOSS, Found, Loss, search, visual_loss
from rdtf.stickers.export.timing import TOTAL_TOLERANCE_MS
from rdtf.stickers.read import DURATIONS_FILE

#: Worse is not recognisable; then it is refused. Decibels on white, and of opacity.
MIN_PSNR_DB, MIN_ALPHA_DB = 14.0, 8.0


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
            return [self._save_folder(Path(folder) / stem)]
        paths = [Path(folder) / f"{stem}{ending}" for ending in self.files]
        with contextlib.ExitStack() as all_or_none:
            for path, data in zip(paths, self.files.values(), strict=True):
                all_or_none.enter_context(atomic_path(path)).write_bytes(data)
        return paths

    def _save_folder(self, path: Path) -> Path:
        if path.is_dir() and any(path.iterdir()) and not (path / DURATIONS_FILE).is_file():
            raise UserError(f"{path} is not empty and not a folder of frames; choose another")
        with atomic_folder(path) as temporary:
            for ending, data in self.files.items():
                (temporary / ending.removeprefix("/")).write_bytes(data)
        return path


def export_sticker(
    sticker: Sticker,
    platform: str | Platform,
    options: ExportOptions | None = None,
    **changes: Any,
) -> Export:
    """Make the file that `platform` takes, or refuse with the reason.

    Args:
        sticker: the clip.
        platform: an id such as "telegram"; see `platforms.platforms()`.
        options: edits and choices.
        changes: the same by name: `export_sticker(s, "line", time="speed", outline_px=8)`.

    The canvas is always the platform's. The speed is that of the clip unless `speed` or `time` say
    otherwise; the total is exact to 10 ms. Within the byte limit first quality or colours are given
    up, then frames (`search`); what was given up is in the report.

    Raises:
        ExportError: the clip can't comply, or an option does not fit; `reason` says which.
    """
    platform = find_platform(platform)
    options = _options(options, changes)
    prepared = prepare(sticker, platform, options)
    if platform.format in FILE_FORMATS:
        return _as_files(prepared)
    limit = options.byte_limit(platform)
    encoder = encoder_for(platform.format, prepared.frames, prepared.loop_count)
    least = platform.value("min_frames", 1)
    try:
        found = search(encoder, prepared.clip(), limit, least)
    except ExportError as error:
        raise ExportError(error.reason, f"{platform.title}: {error}") from error
    return _finished(prepared, found, limit)


def _options(options: ExportOptions | None, changes: dict[str, Any]) -> ExportOptions:
    if options is not None and changes:
        raise ExportError("option", "give either options or single changes, not both")
    unknown = set(changes) - set(ExportOptions.__dataclass_fields__)
    if unknown:
        known = ", ".join(ExportOptions.__dataclass_fields__)
        raise ExportError("option", f"unknown option {min(unknown)!r}; the options are {known}")
    return options or ExportOptions(**changes)


def _finished(prepared: Prepared, found: Found, max_bytes: int | None) -> Export:
    """Re-open the bytes, hold them against the rules, and measure the loss."""
    platform = prepared.platform
    suffix = _suffix(platform, len(found.keep))
    report, measured = check.checked(
        found.data, platform, f"sticker{suffix}", _own_budget(prepared, found)
    )
    if measured is None or not report.passed:
        _explain(report, platform)
    problem = _differences(prepared, found, measured)
    if problem:
        raise ExportError("validation", f"{platform.title}: the written file is wrong: {problem}")
    loss, over_time = _losses(prepared, found, measured)
    if loss.psnr_white_db < MIN_PSNR_DB or loss.alpha_psnr_db < MIN_ALPHA_DB:
        raise ExportError(
            "quality",
            f"{platform.title}: within the limits the result no longer resembles the clip "
            f"({loss}); make the clip shorter or simpler{_hint(prepared)}",
        )
    own = _report(prepared, found, max_bytes, (loss, over_time), report)
    return Export({suffix: found.data}, own)


def _losses(prepared: Prepared, found: Found, measured: Measured) -> tuple[Loss, Loss]:
    """Of the frames that are shown, and of the clip over time, left-out frames included."""
    _, height, width, _ = prepared.frames.shape  # MP4 may have a row or column more
    seen = measured.seen_frames[:, :height, :width]
    times = np.maximum(measured.info.stored_ms, 1)  # a plain picture has no time
    loss = visual_loss(lambda index: prepared.frames[found.keep[index]], times, seen, times)
    if len(found.keep) >= prepared.source.num_frames:
        return loss, loss
    return loss, visual_loss(prepared.draw, prepared.source.durations_ms, seen, times)


def _suffix(platform: Platform, num_frames: int) -> str:
    if platform.id == "apng" and num_frames > 1:
        return ".apng"
    return f".{platform.format}"


def _hint(prepared: Prepared) -> str:
    return ", or set a background with --background" if prepared.platform.format == "gif" else ""


def _explain(report: check.CheckReport, platform: Platform) -> NoReturn:
    failed = report.failures[0]
    if failed.rule == "animated":
        message = "the motion is too small to survive the compression; the file would be a still"
        raise ExportError("still", f"{platform.title}: {message}")
    raise ExportError("validation", f"{platform.title}: the file fails its check: {failed}")


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
    if found.rung.exact and (visible(prepared.frames[found.keep]) != seen).any():
        return "pixels changed in a lossless format"
    return ""


def _report(
    prepared: Prepared,
    found: Found,
    max_bytes: int | None,
    losses: tuple[Loss, Loss],
    checked: check.CheckReport,
) -> ExportReport:
    gave_up = list(prepared.gave_up)
    if found.rung != found.best:
        steps = f"{found.best.words} to {found.rung.words}"
        gave_up.append(f"quality reduced from {steps}, to fit into {size_text(max_bytes or 0)}")
    if len(found.keep) < len(prepared.frames):
        counts = f"{len(prepared.frames)} to {len(found.keep)}"
        gave_up.append(f"frames reduced from {counts}, to fit into {size_text(max_bytes or 0)}")
    _, height, width, _ = prepared.frames.shape
    return ExportReport(
        platform=prepared.platform.id,
        format=prepared.platform.format,
        num_bytes=len(found.data),
        max_bytes=max_bytes,
        width=width,
        height=height,
        num_frames=len(found.keep),
        source_frames=prepared.source.num_frames,
        total_ms=int(found.durations_ms.sum()),
        source_ms=prepared.source.total_ms,
        settings=found.rung.words,
        is_exact=found.rung.exact,
        edits=tuple(prepared.edits),
        gave_up=tuple(gave_up),
        loss=losses[0],
        loss_over_time=losses[1],
        seam_error=seam_error(prepared.clip().select(found.keep)),
        tries=found.tries,
        check=checked,
        notes=tuple(prepared.notes),
    )


def _as_files(prepared: Prepared) -> Export:
    """A sprite sheet or a folder of frames: exact, and no platform to check it."""
    clip = prepared.clip()
    write = sheets.sprite_sheet if prepared.platform.format == "sheet" else sheets.frame_files
    files = write(clip)
    report = ExportReport(
        platform=prepared.platform.id,
        format=prepared.platform.format,
        num_bytes=sum(map(len, files.values())),
        max_bytes=None,
        width=clip.width,
        height=clip.height,
        num_frames=clip.num_frames,
        source_frames=prepared.source.num_frames,
        total_ms=clip.total_ms,
        source_ms=prepared.source.total_ms,
        settings="all colours",
        is_exact=True,
        edits=tuple(prepared.edits),
        gave_up=tuple(prepared.gave_up),
        loss=NO_LOSS,
        loss_over_time=NO_LOSS,
        seam_error=seam_error(clip),
        tries=1,
        check=None,
        notes=tuple(prepared.notes),
    )
    return Export(files, report)
