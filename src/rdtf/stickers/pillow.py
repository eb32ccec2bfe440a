"""The only door to Pillow's decoders: one named format, no bombs, straight RGBA out."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError


def open_image(data: bytes, format: str) -> Image.Image:
    """Open `data` as `format` ("GIF", "PNG", "WEBP" or "JPEG") and nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return Image.open(io.BytesIO(data), formats=[format])
        except UnidentifiedImageError as error:  # it would name a memory address
            raise ValueError("its beginning can't be read") from error


def to_rgba(image: Image.Image) -> np.ndarray:
    """Pixels as uint8 [h, w, 4], straight RGBA; 16-bit grey is cut to its upper 8 bits."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.array(image.convert("RGBA"))


def encode_image(pixels: np.ndarray, format: str, **options: object) -> bytes:
    """Encode uint8 [h, w], [h, w, 3] or [h, w, 4] with Pillow."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, format=format, **options)
    return stream.getvalue()
