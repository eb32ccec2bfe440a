"""The platforms and their limits: one dated data file, `platforms.json`, read into dataclasses.

A limit that a platform changes is changed there, in one line, with its source; nothing else knows
numbers of platforms.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from rdtf.errors import StickerError


class ExportError(StickerError):
    """The clip can't comply with the platform's rules; one line says why and what to do.

    Attributes:
        reason: a word for programs:
            "option" (an option that does not exist or does not fit),
            "empty" (nothing is visible), "still" (one picture, but the platform wants motion),
            "moving" (motion, but the platform wants one picture),
            "duration" (the clip's length is not one that the platform takes),
            "frames" (too few or too many frames remain),
            "bytes" (it doesn't get small enough), "quality" (what is small enough is too poor),
            "pack" (number, names or emojis of a pack),
            "validation" (the finished file failed its own check; a mistake of this program).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


#: Formats that a browser or a messenger shows, and the two that are files for programs.
PICTURE_FORMATS = ("webm", "webp", "png", "gif", "jpeg", "avif", "mp4")
FILE_FORMATS = ("sheet", "frames")


@dataclass(frozen=True)
class Limit:
    """One number or word that a platform asks for, and who says so."""

    value: Any  # a number, or a list of them
    source: str  # who says so
    confidence: str  # a key of `confidence_levels()`
    checked_on: str  # date of the look-up, ISO
    note: str = ""  # what else to know
    rule: str = ""  # how the value is meant where that is not plain ("exact", "one side", ...)
    min: int = 1  # the least, where the value is a most


@dataclass(frozen=True)
class _PackImage:
    """A picture that a pack needs beside its stickers."""

    format: Literal["png", "apng", "webm"]
    width: int
    height: int
    max_bytes: Limit
    each: bool = False  # one for each sticker
    opaque: bool = False


@dataclass(frozen=True)
class _PackRules:
    """What holds for several stickers together; `limits` as in `Platform`."""

    limits: Mapping[str, Limit]
    images: Mapping[str, _PackImage]

    def value(self, name: str, otherwise: Any = None) -> Any:
        limit = self.limits.get(name)
        return otherwise if limit is None else limit.value


@dataclass(frozen=True)
class Platform:
    """Where a sticker can go."""

    id: str  # what `--to` takes
    title: str  # its name for people
    formats: tuple[str, ...]  # containers that it takes; the first is the one that is written
    still: Literal["no", "yes", "only"]  # whether one picture is taken: "no", "yes", or "only"
    limits: Mapping[str, Limit]  # what it asks for, by name; see docs/export.md for the names
    # what it recommends; not keeping to it is no mistake
    advice: Mapping[str, Limit] = field(default_factory=dict)
    pack: _PackRules | None = None  # rules for several stickers together; None if it has no packs

    @property
    def format(self) -> str:
        return self.formats[0]

    @property
    def is_plain(self) -> bool:
        """No messenger: the format alone sets the limits, and the canvas is free."""
        return not self.limits

    @property
    def pack_rules(self) -> _PackRules:
        """`pack`, or an `ExportError` where there are no packs."""
        if self.pack is None:
            known = ", ".join(p.id for p in platforms().values() if p.pack)
            message = f"{self.title} has no sticker packs; export single files, or to {known}"
            raise ExportError("pack", message)
        return self.pack

    def value(self, name: str, otherwise: Any = None) -> Any:
        """The value of a limit, or `otherwise` if the platform has none of that name."""
        limit = self.limits.get(name)
        return otherwise if limit is None else limit.value

    def format_value(self, name: str, otherwise: Any = None) -> Any:
        """What the file format itself asks for, whatever the platform; a number."""
        return _data()["formats"].get(self.format, {}).get(name, {"value": otherwise})["value"]

    def image(self, name: str) -> Platform:
        """A picture of the pack as something to export to and to check."""
        image = self.pack_rules.images[name]
        size = replace(image.max_bytes, value=[image.width, image.height], rule="exact", note="")
        own = {"canvas": size, "max_bytes": image.max_bytes}
        id, title = f"{self.id}-{name}", f"{self.title}, {name} of the pack"
        if image.format == "png":
            return Platform(id, title, ("png",), "only", own)
        container = "png" if image.format == "apng" else image.format
        return Platform(id, title, (container,), self.still, {**self.limits, **own})

    def canvas(self) -> Limit | None:
        """The canvas to write: what is asked for, else what is recommended."""
        return self.limits.get("canvas") or self.advice.get("canvas")


@cache
def _data() -> dict[str, Any]:
    text = files("rdtf.stickers.export").joinpath("platforms.json").read_text("utf-8")
    return json.loads(text)


def dated() -> str:
    """When the limits were last looked up, ISO date."""
    return _data()["dated"]


def confidence_levels() -> dict[str, str]:
    """The words of `Limit.confidence` and what they mean."""
    return dict(_data()["confidence"])


@cache
def platforms() -> Mapping[str, Platform]:
    """Every platform by its id, in the order of the data file."""
    return {id: _platform(id, entry) for id, entry in _data()["platforms"].items()}


def find_platform(name: str | Platform) -> Platform:
    """The platform called `name`; `ExportError` with the nearest names if there is none."""
    if isinstance(name, Platform):
        return name
    known = platforms()
    found = known.get(name.strip().lower())
    if found is None:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(known)}"
        raise ExportError("option", f"unknown platform {name!r}; {hint}")
    return found


def _platform(id: str, entry: dict[str, Any]) -> Platform:
    return Platform(
        id=id,
        title=entry["title"],
        formats=tuple(entry["formats"]),
        still=entry["still"],
        limits=_limits(entry["limits"]),
        advice=_limits(entry.get("advice", {})),
        pack=_pack(**entry["pack"]) if "pack" in entry else None,
    )


def _limits(entries: dict[str, Any]) -> dict[str, Limit]:
    return {name: Limit(**{"checked_on": dated(), **entry}) for name, entry in entries.items()}


def _pack(images: dict[str, Any], **limits: Any) -> _PackRules:
    made = {}
    for name, entry in images.items():
        width, height = entry["size"]
        flags = {flag: entry[flag] for flag in ("each", "opaque") if flag in entry}
        max_bytes = _limits({"": entry["max_bytes"]})[""]
        made[name] = _PackImage(entry["format"], width, height, max_bytes, **flags)
    return _PackRules(_limits(limits), made)
