"""JPEG stills: opaque pictures, turned as their camera says."""

from __future__ import annotations

import numpy as np
from PIL import ImageOps

from rdtf.stickers.budget import Budget
from rdtf.stickers.info import StickerInfo, checked_info
from rdtf.stickers.pillow import open_image, to_rgba
from rdtf.stickers.sticker import Sticker
from rdtf.stickers.timing import DEFAULT_DURATION_MS

_SIDEWAYS = range(5, 9)  # EXIF orientations that swap width and height
_ORIENTATION = 0x0112


def inspect(data: bytes, name: str, budget: Budget) -> StickerInfo:
    """The canvas of a JPEG, without its pixels."""
    image = open_image(data, "JPEG")
    width, height = image.size
    if image.getexif().get(_ORIENTATION) in _SIDEWAYS:
        width, height = height, width
    return checked_info("jpeg", name, budget, (width, height), [DEFAULT_DURATION_MS])


def decode(data: bytes, name: str, budget: Budget) -> Sticker:
    """Decode a JPEG as a sticker of one opaque frame."""
    info = inspect(data, name, budget)
    pixels = to_rgba(ImageOps.exif_transpose(open_image(data, "JPEG")))
    return Sticker(np.ascontiguousarray(pixels[None]), info.durations)
