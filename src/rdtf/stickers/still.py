"""JPEG stills: opaque pictures, turned as their camera says."""

from __future__ import annotations

from PIL import Image

from rdtf.stickers.budget import Budget
from rdtf.stickers.canvas import fitted_size
from rdtf.stickers.info import StickerInfo, checked_info
from rdtf.stickers.pillow import open_image, orientation, to_rgba, upright, upright_size
from rdtf.stickers.sticker import Sticker
from rdtf.stickers.timing import DEFAULT_DURATION_MS


def inspect(data: bytes, name: str, budget: Budget) -> StickerInfo:
    """The canvas of a JPEG, without its pixels; of a large one as it is decoded, reduced."""
    image = _open(data, budget)
    size = upright_size(image.size, orientation(image.info.get("exif")))
    return checked_info("jpeg", name, budget, size, [DEFAULT_DURATION_MS])


def _open(data: bytes, budget: Budget) -> Image.Image:
    image = open_image(data, "JPEG")
    if max(image.size) > budget.max_canvas:  # by halves, while decoding: it saves the memory
        width, height = image.size
        high, wide = fitted_size(height, width, budget.max_canvas, budget.max_canvas)
        image.draft(image.mode, (wide, high))
    return image


def decode(data: bytes, name: str, budget: Budget) -> Sticker:
    """Decode a JPEG as a sticker of one opaque frame."""
    info = inspect(data, name, budget)
    image = _open(data, budget)
    frames = upright(to_rgba(image)[None], orientation(image.info.get("exif")))
    return Sticker(frames, info.durations)
