"""JPEG stills: opaque pictures, turned as their camera says."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from rdtf.stickers.budget import DEFAULT_DURATION_MS, Budget
from rdtf.stickers.canvas import fitted_size
from rdtf.stickers.formats.pillow import open_image, orientation, to_rgba, upright, upright_size
from rdtf.stickers.info import StickerInfo, checked_info
from rdtf.stickers.sticker import Sticker


def inspect(data: bytes, name: str, budget: Budget) -> StickerInfo:
    """The canvas of a JPEG, without its pixels."""
    return _open(data, name, budget)[0]


def _open(data: bytes, name: str, budget: Budget) -> tuple[StickerInfo, Image.Image]:
    """What the headers say, and the image; a large one is reduced by halves while it is decoded."""
    image = open_image(data, "JPEG")
    width, height = image.size
    turned = orientation(image.info.get("exif"))
    if max(image.size) > budget.max_canvas:
        high, wide = fitted_size(height, width, budget.max_canvas, budget.max_canvas)
        image.draft(image.mode, (wide, high))
    # The budget is for the pixels that are decoded.
    info = checked_info("jpeg", name, budget, image.size, [DEFAULT_DURATION_MS], turned=turned)
    width, height = upright_size((width, height), turned)
    return replace(info, width=width, height=height), image


def decode(data: bytes, name: str, budget: Budget) -> Sticker:
    """Decode a JPEG as a sticker of one opaque frame."""
    info, image = _open(data, name, budget)
    return Sticker(upright(to_rgba(image)[None], info.turned), info.durations)
