"""The platforms and their limits as a table, for people: `rdtf export --list` and the docs."""

from __future__ import annotations

from collections.abc import Mapping

from rdtf.stickers.export.platforms import Limit, Platform, platforms

#: How sure a limit is.
LETTERS = {"official": "o", "secondary": "s", "conflict": "c", "recalled": "r", "unconfirmed": "u"}


HEADER = ["--to", "writes", "canvas", "bytes", "time", "frames", "plays", "pack"]


def platform_rows() -> list[list[str]]:
    """What `HEADER` names of each platform, as words."""
    return [_row(platform) for platform in platforms().values()]


def _row(platform: Platform) -> list[str]:
    limits: Mapping[str, Limit] = {**platform.advice, **platform.limits}
    return [
        f"`{platform.id}`",
        platform.format + {"no": "", "yes": ", also still", "only": ", still only"}[platform.still],
        _canvas(limits.get("canvas")),
        _one(limits.get("max_bytes"), "{:,}"),
        _time(limits),
        _frames(limits),
        _plays(limits.get("plays")),
        _pack(platform),
    ]


def _sure(limit: Limit) -> str:
    return f" ({LETTERS[limit.confidence]})"


def _one(limit: Limit | None, form: str) -> str:
    return "" if limit is None else form.format(limit.value) + _sure(limit)


def _canvas(limit: Limit | None) -> str:
    if limit is None:
        return "any"
    wide, high = limit.value
    words = {
        "exact": f"{wide} x {high}",
        "one side": f"longer side {wide}",
        "height": f"{high} high, up to {wide} wide",
        "square up to": f"{wide} x {high}",
    }
    return words[limit.rule] + _sure(limit)


def _time(limits: Mapping[str, Limit]) -> str:
    parts = []
    if longest := limits.get("max_total_ms"):
        parts.append(f"up to {longest.value / 1000:g} s{_sure(longest)}")
    if whole := limits.get("whole_ms"):
        parts.append(f"whole seconds{_sure(whole)}")
    return ", ".join(parts)


def _frames(limits: Mapping[str, Limit]) -> str:
    parts = []
    least, most = limits.get("min_frames"), limits.get("max_frames")
    if least and most:
        parts.append(f"{least.value} to {most.value}{_sure(least)}")
    elif least or most:
        words, limit = ("from", least) if least else ("up to", most)
        parts.append(_one(limit, words + " {}"))
    parts.append(_one(limits.get("max_fps"), "up to {} a second"))
    parts.append(_one(limits.get("min_frame_ms"), "each {} ms or more"))
    return ", ".join(part for part in parts if part)


def _plays(limit: Limit | None) -> str:
    if limit is None:
        return ""
    least, most = limit.value
    return ("forever" if most == 0 else f"{least} to {most}") + _sure(limit)


def _pack(platform: Platform) -> str:
    if platform.pack is None:
        return ""
    count = platform.pack.limits["count"]
    joint = " or " if count.rule == "one of" else " to "
    images = ", ".join(f"{n} {i.width} x {i.height}" for n, i in platform.pack.images.items())
    return joint.join(map(str, count.value)) + _sure(count) + (f"; {images}" if images else "")
