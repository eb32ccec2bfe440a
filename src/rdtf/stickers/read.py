"""Reading stickers: the format is decided by content, never by the name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rdtf.stickers.budget import DEFAULT_BUDGET, Budget
from rdtf.stickers.sticker import Sticker

SUPPORTED_SUFFIXES = (".gif", ".webp", ".apng", ".png", ".jpg", ".jpeg", ".webm", ".tgs", ".json")


@dataclass(frozen=True)
class StickerInfo:
    format: str
    num_frames: int
    width: int
    height: int
    total_ms: int


def read_sticker(
    path: Path | str, *, budget: Budget = DEFAULT_BUDGET, lottie_size: int = 256
) -> Sticker:
    raise NotImplementedError


def decode_sticker(
    data: bytes, name: str = "<bytes>", *, budget: Budget = DEFAULT_BUDGET, lottie_size: int = 256
) -> Sticker:
    raise NotImplementedError


def probe(path: Path | str, budget: Budget = DEFAULT_BUDGET) -> StickerInfo:
    raise NotImplementedError
