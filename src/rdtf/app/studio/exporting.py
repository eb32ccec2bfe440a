"""The export table: every platform, what it asks for, and how this sticker does there."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from rdtf.app.store import media_type
from rdtf.app.studio.board import ExportRow, Shelf, asks, open_rows
from rdtf.app.studio.session import Session
from rdtf.errors import UserError
from rdtf.fileio import size_text
from rdtf.stickers import Sticker
from rdtf.stickers.export import Export, ExportOptions, PackItem, export_pack, export_sticker
from rdtf.stickers.export.options import parse_color
from rdtf.stickers.export.packs import zipped
from rdtf.stickers.export.platforms import platforms
from rdtf.stickers.export.shapes import outline, trim_to_content

__all__ = ["ExportRow", "build_pack", "export_row", "make_options", "open_rows", "pack_platforms"]


_PREVIEW_SIDE = 512
# Least decibels on white, and what a person sees of such an error.
_QUALITY = (
    (42, "looks the same as the sticker"),
    (35, "nearly the same; differences show when enlarged"),
    (29, "slightly softer or with fewer colours"),
)


def make_options(
    outline_px: float, trim: bool, close: str, speed: float, time: str, background: str
) -> ExportOptions:
    """From the page's fields; an empty background keeps the transparency."""
    return ExportOptions(
        outline_px=outline_px,
        trim=trim,
        close=close,  # type: ignore[arg-type]
        speed=speed,
        time=time,  # type: ignore[arg-type]
        background=parse_color(background) if background.strip() else None,
    )


def export_row(
    session: Session, shelf: Shelf, clip: Sticker, platform: str, options: ExportOptions
) -> ExportRow:
    """Export one clip; a refusal is a row too, with the reason."""
    known = platforms()[platform]
    row = ExportRow(known.id, known.title, asks(known))
    try:
        export = export_sticker(clip, known, options)
        data, suffix = _one_file(export)
        stem = f"{(clip.captions or ('sticker',))[0]}-{known.id}"
        token = shelf.put(session.owner, data, stem, suffix)
    except UserError as error:
        words = re.sub(r"--(\w+)", r"\1", str(error).removeprefix(f"{known.title}: "))
        return ExportRow(row.platform, row.title, row.asks, "refused", words)
    report = export.report
    exact = report.is_exact and not report.gave_up
    words = "; ".join([quality_words(report.loss.psnr_white_db, exact), *report.gave_up])
    size = size_text(len(data))
    if report.max_bytes is not None:
        size += f" of {size_text(report.max_bytes)}"
    kind = media_type(suffix)
    shows = kind if kind.startswith(("image/", "video/")) else ""
    return ExportRow(row.platform, row.title, row.asks, "passed", words, size, token, shows)


def quality_words(psnr_db: float, exact: bool) -> str:
    """How the file looks beside the sticker, in words.

    Args:
        psnr_db: peak signal-to-noise ratio on white.
        exact: the file keeps every pixel.
    """
    if exact:
        return "every pixel as it is"
    for least_db, words in _QUALITY:
        if psnr_db >= least_db:
            return words
    return "clearly worse than the sticker"


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


def _one_file(export: Export) -> tuple[bytes, str]:
    """The export as one download; several files become a ZIP archive."""
    if len(export.files) == 1 and not export.suffix.startswith("/"):
        return export.data, export.suffix
    names = {
        ending.removeprefix("/") if ending.startswith("/") else f"sticker{ending}": data
        for ending, data in export.files.items()
    }
    return zipped(names), ".zip"


def pack_platforms() -> list[tuple[str, str]]:
    """Title and id of those that have packs."""
    return [(p.title, p.id) for p in platforms().values() if p.pack is not None]


def build_pack(
    session: Session, shelf: Shelf, platform: str, name: str, author: str, options: ExportOptions
) -> tuple[str, str]:
    """Export the session's pack; returns the token of the archive and the check's report.

    Raises:
        UserError: it does not comply; says why.
    """
    if not session.visitor.pack:
        raise UserError("the pack is empty; add stickers first")
    items: Sequence[PackItem] = [
        PackItem(session.visitor.packed_clip(entry), entry.name, entry.emojis)
        for entry in session.visitor.pack
    ]
    pack = export_pack(items, platform, name=name, author=author, options=options)
    suffix = pack.archive if pack.archive in (".wastickers", ".zip") else ".zip"
    token = shelf.put(session.owner, pack.to_bytes(), f"{name}-{platform}", suffix)
    return token, str(pack.check)
