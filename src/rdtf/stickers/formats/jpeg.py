"""JPEG stills: opaque pictures, turned as their camera says."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from rdtf.stickers.budget import Budget
from rdtf.stickers.canvas import fitted_size
from rdtf.stickers.formats.pillow import open_image, orientation, to_rgba, upright, upright_size
from rdtf.stickers.info import DEFAULT_DURATION_MS, StickerInfo, checked_info
from rdtf.stickers.sticker import Sticker


def inspect(data: bytes, name: str, budget: Budget) -> StickerInfo:
    """The canvas of a JPEG, without its pixels."""
    return _open(data, name, budget)[0]


def decode(data: bytes, name: str, budget: Budget) -> Sticker:
    """Decode a JPEG as a sticker of one opaque frame."""
    info, image = _open(data, name, budget)
    return Sticker(upright(to_rgba(image)[None], info.turned), info.durations)


def _open(data: bytes, name: str, budget: Budget) -> tuple[StickerInfo, Image.Image]:
    """What the headers say, and the image; a large one is reduced by halves while it is decoded."""
    image = open_image(data, "JPEG")
    size, turned = image.size, orientation(image.info.get("exif"))
    if max(size) > budget.max_canvas:
        high, wide = fitted_size(size[1], size[0], budget.max_canvas, budget.max_canvas)
        image.draft(image.mode, (wide, high))
    # After the last end marker: thumbnails inside have their own. Without one it is no whole JPEG.
    end = data.rfind(b"\xff\xd9") + 2
    # The budget is for the pixels that are decoded.
    stored_ms = [DEFAULT_DURATION_MS]
    info = checked_info("jpeg", name, budget, image.size, stored_ms, end=end, turned=turned)
    width, height = upright_size(size, turned)
    return replace(info, width=width, height=height), image
