"""The only door to Pillow's decoders: one named format, no bombs, straight sRGB RGBA out.

JPEG, which needs no more than that, is read here.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from rdtf.stickers.canvas import composite_over, fitted_size
from rdtf.stickers.sticker import (
    DEFAULT_DURATION_MS,
    Budget,
    Sticker,
    StickerInfo,
)

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Region:
    """One stored picture: where it goes, how it is drawn, and what is left of it afterwards.

    What reaches beyond the canvas is cut off. `blend` "source" replaces what is there, "over" draws
    on it. Before the next frame `dispose` "keep" keeps the canvas, "clear" makes the region
    transparent, and "restore" brings back what was there.
    """

    box: tuple[int, int, int, int]  # left, top, width, height
    duration_ms: float  # as stored
    decode: Callable[[], np.ndarray]  # the pixels, uint8 [h, w, 4], straight RGBA
    blend: Literal["source", "over"]
    dispose: Literal["keep", "clear", "restore"]


def compose(regions: Sequence[Region], width: int, height: int) -> np.ndarray:
    """Play the regions on a transparent canvas: uint8 [F, height, width, 4]."""
    frames = np.zeros((len(regions), height, width, 4), np.uint8)
    canvas = np.zeros((height, width, 4), np.uint8)
    for frame, region in zip(frames, regions, strict=True):
        pixels, (left, top, *_) = region.decode(), region.box
        part = canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]]
        before = part.copy() if region.dispose == "restore" else None
        _draw(pixels[: part.shape[0], : part.shape[1]], region.blend, part)
        frame[:] = canvas
        if region.dispose != "keep":
            part[:] = 0 if before is None else before
    return frames


def _draw(pixels: np.ndarray, blend: str, part: np.ndarray) -> None:
    if blend == "source":
        part[:] = pixels
        return
    alpha = pixels[..., 3]
    opaque, partial = alpha == 255, (alpha > 0) & (alpha < 255)
    part[opaque] = pixels[opaque]
    if partial.any():
        part[partial] = composite_over(pixels[partial], part[partial])


def bounding_box(mask: np.ndarray) -> Box | None:
    """The smallest box that holds every true value of a bool [h, w]; None if there is none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def changed_box(previous: np.ndarray, frame: np.ndarray) -> Box | None:
    """The box in which two uint8 [h, w, 4] differ; None if they are equal."""
    return bounding_box((previous != frame).any(axis=-1))


def crop(frame: np.ndarray, box: Box) -> np.ndarray:
    left, top, right, bottom = box
    return frame[top:bottom, left:right]


_ORIENTATION = 0x0112  # the EXIF tag
_SAME_COLOUR = 3  # levels that profiles which all mean sRGB differ by
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def open_image(data: bytes, format: str) -> Image.Image:
    """Open `data` as `format` ("GIF", "PNG", "WEBP" or "JPEG") and nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damage that does not matter
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return Image.open(io.BytesIO(data), formats=[format])
        except UnidentifiedImageError as error:  # it would name a memory address
            raise ValueError("its beginning can't be read") from error


def to_rgba(image: Image.Image) -> np.ndarray:
    """Pixels as uint8 [h, w, 4], straight RGBA; 16-bit grey is cut to its upper 8 bits.

    The colours are converted to sRGB if the file says what else they are; those of files without a
    profile, or with one that means sRGB, stay as they are, to the bit.
    """
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    pixels = np.array(image.convert("RGBA"))
    found = _to_srgb(profile) if isinstance(profile, bytes) else None
    if found is not None:
        mode, transform = found
        # A grey profile says nothing of colours, nor one of inks of anything else.
        if mode == "RGB" or (mode == image.mode[:1] == "L") or mode == image.mode:
            colours = ImageCms.applyTransform(image.convert(mode), transform)
            pixels[..., :3] = np.asarray(colours)
    return pixels


@lru_cache(maxsize=8)
def _to_srgb(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform] | None:
    """The mode that a profile is for and the way from there to sRGB.

    None if it is sRGB already, or can't be read: then browsers ignore it, too.
    """
    try:
        parsed = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _PROFILE_MODES[parsed.profile.xcolor_space.strip()]  # type: ignore[attr-defined]
        transform = ImageCms.buildTransform(parsed, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError):
        return None
    if mode == "RGB":
        steps = np.arange(0, 256, 15, dtype=np.uint8)
        grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        moved = np.asarray(ImageCms.applyTransform(Image.fromarray(grid), transform))
        if np.abs(moved.astype(int) - grid).max() <= _SAME_COLOUR:
            return None
    return mode, transform


def orientation(exif: bytes | None) -> int:
    """How the camera was held, 1 (upright) to 8, from the EXIF data of a file."""
    tags = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damage, which is nothing to the picture
            tags.load(exif or b"")
            value = tags.get(_ORIENTATION)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright(frames: np.ndarray, turned: int) -> np.ndarray:
    """[F, h, w, 4] turned and mirrored as `orientation` asks for."""
    if turned >= 5:
        frames = frames.swapaxes(1, 2)
    rows = -1 if turned in (3, 4, 7, 8) else 1
    columns = -1 if turned in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(frames[:, ::rows, ::columns])


def encode_image(pixels: np.ndarray, format: str, **options: object) -> bytes:
    """Encode uint8 [h, w], [h, w, 3] or [h, w, 4] with Pillow."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, format=format, **options)
    return stream.getvalue()


def parse_jpeg(data: bytes, name: str, budget: Budget) -> tuple[StickerInfo, Callable[[], Sticker]]:
    """What the headers of a JPEG say, and a function that decodes it as one opaque frame.

    A large one is reduced by halves while it is decoded.
    """
    image = open_image(data, "JPEG")
    size, turned = image.size, orientation(image.info.get("exif"))
    if max(size) > budget.max_canvas:
        high, wide = fitted_size(size[1], size[0], budget.max_canvas, budget.max_canvas)
        image.draft(image.mode, (wide, high))
    # After the last end marker: thumbnails inside have their own. Without one it is no whole JPEG.
    end = data.rfind(b"\xff\xd9") + 2
    # The budget is for the pixels that are decoded.
    stored_ms = [DEFAULT_DURATION_MS]
    info = StickerInfo.checked("jpeg", name, budget, image.size, stored_ms, end=end, turned=turned)
    width, height = size[::-1] if turned >= 5 else size
    info = replace(info, width=width, height=height)
    return info, lambda: Sticker(upright(to_rgba(image)[None], turned), info.durations)
