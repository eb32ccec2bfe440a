"""JPEG stills: opaque pictures, turned as their camera says."""

from __future__ import annotations

from rdtf.stickers.budget import Budget
from rdtf.stickers.info import StickerInfo, checked_info
from rdtf.stickers.pillow import open_image, orientation, to_rgba, upright, upright_size
from rdtf.stickers.sticker import Sticker
from rdtf.stickers.timing import DEFAULT_DURATION_MS

def inspect(data: bytes, name: str, budget: Budget) -> StickerInfo:
    """The canvas of a JPEG, without its pixels."""
    image = open_image(data, "JPEG")
    size = upright_size(image.size, orientation(image.info.get("exif")))
    return checked_info("jpeg", name, budget, size, [DEFAULT_DURATION_MS])


def decode(data: bytes, name: str, budget: Budget) -> Sticker:
    """Decode a JPEG as a sticker of one opaque frame."""
    info = inspect(data, name, budget)
    image = open_image(data, "JPEG")
    frames = upright(to_rgba(image)[None], orientation(image.info.get("exif")))
    return Sticker(frames, info.durations)
