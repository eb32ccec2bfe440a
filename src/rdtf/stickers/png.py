"""PNG and animated PNG: chunks in, chunks out, so that every frame and its duration is kept.

Each frame is coded by Pillow as a PNG of its own. Pillow's own APNG writer merges equal frames and
its reader blends half-transparent frames onto transparent canvas too faintly.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers.budget import Budget
from rdtf.stickers.compose import Region, changed_box, compose, crop
from rdtf.stickers.info import StickerInfo, checked_info
from rdtf.stickers.palette import reduce_rgba
from rdtf.stickers.pillow import encode_image, open_image, to_rgba
from rdtf.stickers.sticker import Sticker
from rdtf.stickers.timing import DEFAULT_DURATION_MS, whole_durations

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DISPOSE: tuple[Literal["keep", "clear", "restore"], ...] = ("keep", "clear", "restore")
_USED = {b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"IDAT", b"fdAT", b"IEND"}


@dataclass
class _Picture:
    """One stored picture and its fcTL fields; a still one covers the canvas."""

    box: tuple[int, int, int, int]  # left, top, width, height
    exact_ms: float
    dispose: int
    blend: int
    data: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class _Png:
    info: StickerInfo
    header: bytes  # IHDR without the size
    shared: bytes  # PLTE and tRNS chunks
    pictures: list[_Picture]


def inspect(data: bytes, name: str, budget: Budget) -> StickerInfo:
    """Frames, canvas and durations of a PNG or APNG, without its pixels."""
    return _parse(data, name, budget).info


def decode(data: bytes, name: str, budget: Budget) -> Sticker:
    """Decode a PNG or APNG; `StickerError` if it is cut off, damaged or over budget.

    A default image that is not part of the animation is left out.
    """
    png = _parse(data, name, budget)
    info = png.info
    regions = (_region(png, picture) for picture in png.pictures)
    frames = compose(regions, info.num_frames, info.width, info.height)
    return Sticker(frames, info.durations, info.loop_count)


def _chunks(data: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of each chunk up to IEND, checksums verified."""
    at = len(_SIGNATURE)
    while True:
        length, kind = struct.unpack_from(">I4s", data.ljust(at + 8, b"\0") if at + 8 > len(data) else data, at)
        yield kind, b""


def _damaged(name: str, what: str) -> StickerError:
    return StickerError(f"{name}: the PNG is damaged ({what}); get it again")
