"""From millions of colours to a palette: exact where the colours fit, else the nearest few."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image


def index_frames(
    frames: np.ndarray, visible: np.ndarray, colors: int, dither: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Palette indices and palette of each frame; index 0 is transparent.

    Args:
        frames: uint8 [F, H, W, 4]; only the colour is used.
        visible: bool [F, H, W]; the other pixels get index 0.
        colors: size of a palette, the transparent entry counted.
        dither: spread the error where colours have to be reduced.

    Yields:
        uint8 [H, W] and uint8 [n, 3], n <= colors; the same palette object for all frames if one
        holds every colour.
    """
    keys = _colour_keys(frames)
    shared = _few_unique(keys, visible, colors - 1)
    palette = None if shared is None else _key_palette(shared)
    for frame, key, shown in zip(frames, keys, visible, strict=True):
        if shared is not None and palette is not None:
            yield _exact(key, shown, shared), palette
        elif (own := _few_unique(key, shown, colors - 1)) is not None:
            yield _exact(key, shown, own), _key_palette(own)
        else:
            yield _reduced(frame, shown, colors - 1, dither)


def _colour_keys(frames: np.ndarray) -> np.ndarray:
    """Each colour as one uint32."""
    red, green, blue = (frames[..., channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _few_unique(keys: np.ndarray, visible: np.ndarray, limit: int) -> np.ndarray | None:
    """The sorted colours in use if there are at most `limit`, else None."""
    unique = np.unique(keys[visible])
    return unique if len(unique) <= limit else None


def _key_palette(keys: np.ndarray) -> np.ndarray:
    columns = [np.zeros(3, np.uint32)[None], np.stack([keys >> 16, keys >> 8 & 255, keys & 255], 1)]
    return np.concatenate(columns).astype(np.uint8)


def _exact(key: np.ndarray, visible: np.ndarray, unique: np.ndarray) -> np.ndarray:
    return np.where(visible, np.searchsorted(unique, key) + 1, 0).astype(np.uint8)


def _reduced(
    frame: np.ndarray, visible: np.ndarray, limit: int, dither: bool
) -> tuple[np.ndarray, np.ndarray]:
    # The palette is made of visible pixels only: hidden colours must not take entries.
    pixels = Image.fromarray(np.ascontiguousarray(frame[visible][None, :, :3]))
    reduced = pixels.quantize(limit, Image.Quantize.MEDIANCUT)
    method = Image.Dither.FLOYDSTEINBERG if dither else Image.Dither.NONE
    whole = Image.fromarray(np.ascontiguousarray(frame[..., :3]))
    nearest = np.asarray(whole.quantize(palette=reduced, dither=method)).astype(np.int64)
    listed = np.asarray(reduced.getpalette(), np.uint8).reshape(-1, 3)[:limit]
    palette = np.concatenate([np.zeros((1, 3), np.uint8), listed])
    return np.where(visible, np.minimum(nearest, limit - 1) + 1, 0).astype(np.uint8), palette
