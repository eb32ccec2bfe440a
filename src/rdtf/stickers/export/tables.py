"""The platforms and their limits as a table, for people: `rdtf export --list` and the docs."""

from __future__ import annotations

from rdtf.stickers.export.check import RULES
from rdtf.stickers.export.packcheck import check_count
from rdtf.stickers.export.platforms import Limit, Platform, platforms

#: How sure a limit is.
LETTERS = {"official": "o", "secondary": "s", "conflict": "c", "recalled": "r", "unconfirmed": "u"}
_LIMITS = {
    "canvas": ("canvas",),
    "bytes": ("max_bytes",),
    "time": ("max_total_ms", "whole_ms"),
    "frames": ("min_frames", "max_frames", "max_fps", "min_frame_ms"),
    "plays": ("plays",),
}
HEADER = ["--to", "writes", *_LIMITS, "pack"]


def platform_rows() -> list[list[str]]:
    """What `HEADER` names of each platform, as words."""
    return [_row(platform) for platform in platforms().values()]


def _row(platform: Platform) -> list[str]:
    limits = {**platform.advice, **platform.limits}
    still = {"no": "", "yes": ", also still", "only": ", still only"}[platform.still]
    cells = [
        ", ".join(
            _sure(RULES[name].asked(limits[name]), limits[name]) for name in names if name in limits
        )
        for names in _LIMITS.values()
    ]
    cells[0] = cells[0] or "any"
    return [f"`{platform.id}`", platform.format + still, *cells, _pack(platform)]


def _sure(words: str, limit: Limit) -> str:
    return f"{words} ({LETTERS[limit.confidence]})"


def _pack(platform: Platform) -> str:
    if platform.pack is None:
        return ""
    count = platform.pack.limits["count"]
    images = [f"{n} {i.width} x {i.height}" for n, i in platform.pack.images.items()]
    parts = [_sure(check_count(0, count).asked, count), ", ".join(images)]
    return "; ".join(part for part in parts if part)
