"""The lines of the export table."""

from __future__ import annotations

from dataclasses import dataclass

from rdtf.fileio import size_text
from rdtf.stickers.export import Platform
from rdtf.stickers.export.platforms import platforms


@dataclass(frozen=True)
class ExportRow:
    """One platform's line.

    Attributes:
        state: "open" (not tried), "busy", "passed" or "refused".
        words: what came of it.
        token: of the file on the shelf, if there is one.
        shows: media type of that file if a browser can show it.
    """

    platform: str
    title: str
    asks: str
    state: str = "open"
    words: str = ""
    size: str = ""
    token: str = ""
    shows: str = ""


def open_rows() -> list[ExportRow]:
    """Every platform, none tried."""
    return [ExportRow(p.id, p.title, asks(p)) for p in platforms().values()]


def asks(platform: Platform) -> str:
    """The limits that matter most, in a few words."""
    words = []
    canvas = platform.canvas()
    if canvas is not None:
        words.append(f"{canvas.value[0]} x {canvas.value[1]}")
    if most := platform.value("max_bytes"):
        words.append(f"up to {size_text(most)}")
    if most := platform.value("max_total_ms"):
        words.append(f"up to {most / 1000:g} s")
    return ", ".join(word.replace(" ", "\u00a0") for word in [platform.format, *words])
