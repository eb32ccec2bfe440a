"""Stickers → a folder of files with their captions, as `rdtf data prepare` reads it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rdtf.errors import UserError
from rdtf.fileio import atomic_folder
from rdtf.stickers import Sticker


def write_sticker_files(stickers: Iterable[Sticker], out: Path, suffix: str) -> int:
    """Write each sticker to `out` as `000000.SUFFIX` and all captions to `captions.jsonl`.

    Returns how many. The folder appears whole or not at all; one that holds something is refused.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"output {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; name a new folder")
    rows = []
    with atomic_folder(out) as folder:
        for number, sticker in enumerate(stickers):
            name = f"{number:06d}.{suffix}"
            sticker.save(folder / name)
            rows.append(json.dumps(_row(name, sticker), ensure_ascii=False))
        (folder / "captions.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    return len(rows)


def _row(name: str, sticker: Sticker) -> dict[str, Any]:
    """What is known of a sticker, in the words that `rdtf data prepare` reads."""
    about = {
        "concept": sticker.metadata.get("concept"),
        "motion": sticker.metadata.get("motion"),
        "license": sticker.license,
        "attribution": sticker.attribution,
    }
    known = {key: value for key, value in about.items() if isinstance(value, str)}
    return {"file": name, "captions": list(sticker.captions), **known}
