"""The export table: every platform, what it asks for, and how this sticker does there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rdtf.errors import UserError
from rdtf.export import Export, ExportOptions, PackItem, export_pack, export_sticker
from rdtf.export.options import parse_color
from rdtf.export.packs import zipped
from rdtf.export.platforms import platforms
from rdtf.fileio import size_text
from rdtf.stickers import Sticker
from rdtf.studio.rows import ExportRow, asks, open_rows
from rdtf.studio.session import Session
from rdtf.studio.shelf import Shelf

__all__ = ["ExportRow", "build_pack", "export_row", "make_options", "open_rows", "pack_platforms"]


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
    loss = (
        "exact" if report.is_exact and not report.gave_up else f"{report.loss.psnr_white_db:.1f} dB"
    )
    words = "; ".join([loss, *report.gave_up])
    size = size_text(len(data))
    if report.max_bytes is not None:
        size += f" of {size_text(report.max_bytes)}"
    return ExportRow(row.platform, row.title, row.asks, "passed", words, size, token)


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
    if not session.pack:
        raise UserError("the pack is empty; add stickers first")
    items: Sequence[PackItem] = [
        PackItem(session.packed_clip(entry), entry.name, entry.emojis) for entry in session.pack
    ]
    pack = export_pack(items, platform, name=name, author=author, options=options)
    suffix = pack.archive if pack.archive in (".wastickers", ".zip") else ".zip"
    token = shelf.put(session.owner, pack.to_bytes(), f"{name}-{platform}", suffix)
    return token, str(pack.check)
