"""The export table, the preview and the pack: how the open sticker does on every platform."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from rdtf.app.store import media_type, one_file
from rdtf.app.studio.session import Session
from rdtf.errors import UserError
from rdtf.fileio import size_text
from rdtf.stickers import Sticker
from rdtf.stickers.export import (
    ExportOptions,
    PackItem,
    Platform,
    export_pack,
    export_sticker,
)
from rdtf.stickers.export.edit import outline, parse_color, trim_to_content
from rdtf.stickers.export.platforms import platforms

_PREVIEW_SIDE = 512
# Least decibels on white, and what a person sees of such an error.
_QUALITY = (
    (42, "looks the same as the sticker"),
    (35, "nearly the same; differences show when enlarged"),
    (29, "slightly softer or with fewer colours"),
)


@dataclass(frozen=True)
class PlatformExport:
    """One platform's line of the table.

    Attributes:
        limits: those that matter most, in a few words.
        state: "open" (not tried), "busy", "passed" or "refused".
        words: what came of it.
        token: of the file in the clip library, if there is one.
        media_type: of that file if a browser can show it.
    """

    platform: str
    title: str
    limits: str
    state: str = "open"
    words: str = ""
    size: str = ""
    token: str = ""
    media_type: str = ""


def open_exports() -> list[PlatformExport]:
    """Every platform, none tried."""
    return [PlatformExport(p.id, p.title, _limits(p)) for p in platforms().values()]


def exports_of(session: Session, options: ExportOptions | None = None) -> list[PlatformExport]:
    """The lines so far, unless the open clip or the options are others now; None = any options."""
    clip, known = session.editor.clip, session.exports
    if known is None or known[0] is not clip or options not in (None, known[1]):
        session.exports = known = (clip, options, open_exports())
    return known[2]


def _limits(platform: Platform) -> str:
    words = []
    canvas = platform.canvas()
    if canvas is not None:
        words.append(f"{canvas.value[0]} x {canvas.value[1]}")
    if most := platform.value("max_bytes"):
        words.append(f"up to {size_text(most)}")
    if most := platform.value("max_total_ms"):
        words.append(f"up to {most / 1000:g} s")
    return ", ".join(word.replace(" ", "\u00a0") for word in [platform.format, *words])


def export_options(
    outline_px: float, trim: bool, close: str, speed: float, time: str, background: str
) -> ExportOptions:
    """From the page's fields; an empty background keeps the transparency."""
    return ExportOptions(
        outline_px=float(outline_px or 0),
        trim=bool(trim),
        close=close,  # type: ignore[arg-type]
        speed=float(speed or 1),
        time=time,  # type: ignore[arg-type]
        background=parse_color(background) if (background or "").strip() else None,
    )


def export_for(
    session: Session, clip: Sticker, line: PlatformExport, options: ExportOptions
) -> PlatformExport:
    """Export one clip; a refusal is a line too, with the reason."""
    platform = platforms()[line.platform]
    try:
        export = export_sticker(clip, platform, options)
        data, suffix = one_file(export)
        stem = f"{(clip.captions or ('sticker',))[0]}-{platform.id}"
        token = session.visitor.library.put(session.owner, data, stem, suffix)
    except UserError as error:
        words = re.sub(r"--(\w+)", r"\1", str(error).removeprefix(f"{platform.title}: "))
        return replace(line, state="refused", words=words)
    report = export.report
    exact = report.is_exact and not report.gave_up
    words = "; ".join([quality_words(report.loss.psnr_white_db, exact), *report.gave_up])
    size = size_text(len(data))
    if report.max_bytes is not None:
        size += f" of {size_text(report.max_bytes)}"
    kind = media_type(suffix)
    shown = kind if kind.startswith(("image/", "video/")) else ""
    return replace(line, state="passed", words=words, size=size, token=token, media_type=shown)


def quality_words(psnr_db: float, exact: bool) -> str:
    """How the file looks beside the sticker, in words.

    Args:
        psnr_db: peak signal-to-noise ratio on white.
        exact: the file keeps every pixel.
    """
    if exact:
        return "lossless"
    found = (words for least_db, words in _QUALITY if psnr_db >= least_db)
    return next(found, "clearly worse than the sticker")


def preview(clip: Sticker, options: ExportOptions) -> np.ndarray:
    """The first frame with trim, outline and background, uint8 [H, W, 4], on 512 pixels at most."""
    still = clip.select([0])
    if options.trim:
        still = trim_to_content(clip).select([0])
    still = outline(still.fit_canvas(_PREVIEW_SIDE), options.outline_px, options.outline_color)
    if options.background is not None:
        frame = np.empty_like(still.frames)
        frame[..., :3], frame[..., 3] = still.on_background(options.background), 255
        return frame[0]
    return still.frames[0]


def pack_platforms() -> list[tuple[str, str]]:
    """Title and id of those that have packs."""
    return [(p.title, p.id) for p in platforms().values() if p.pack is not None]


def build_pack(
    session: Session, platform: str, name: str, author: str, options: ExportOptions
) -> tuple[str, str]:
    """Export the session's pack; returns the token of the archive and the check's report.

    Raises:
        UserError: it does not comply; says why.
    """
    visitor = session.visitor
    if not visitor.pack:
        raise UserError("the pack is empty; add stickers first")
    items = [PackItem(visitor.load(entry.id), entry.name, entry.emojis) for entry in visitor.pack]
    pack = export_pack(items, platform, name=name, author=author, options=options)
    suffix = pack.archive if pack.archive in (".wastickers", ".zip") else ".zip"
    token = visitor.library.put(session.owner, pack.to_bytes(), f"{name}-{platform}", suffix)
    return token, str(pack.check)
