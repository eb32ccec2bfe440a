"""Pixel arithmetic with transparency: premultiplying, compositing, letterboxing.

Everything that averages colours does it premultiplied: the colour of a transparent pixel means
nothing and must not reach its neighbours.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from PIL import Image

from rdtf.errors import StickerError

T = TypeVar("T")
R = TypeVar("R")

_MAX_THREADS = 4  # each holds a frame and what the encoder needs for it


def premultiply(frames: np.ndarray) -> np.ndarray:
    """uint8 [..., 4] straight RGBA -> float32 [..., 4] in [0, 1], colour times alpha."""
    scaled = frames.astype(np.float32) / np.float32(255)
    scaled[..., :3] *= scaled[..., 3:]
    return scaled


def unpremultiply(frames: np.ndarray) -> np.ndarray:
    """float [..., 4] premultiplied -> uint8 [..., 4] straight RGBA; alpha 0 gives colour 0.

    Colour is divided by the alpha that is stored (8 bits), not by the exact one, so that what a
    viewer composites is as close as 8 bits allow, and uint8 -> float -> uint8 is exact.
    """
    stored = np.empty(frames.shape, np.uint8)
    alpha = np.rint(frames[..., 3:].clip(0, 1) * 255).astype(np.float32)
    scale = np.where(alpha > 0, 255 * 255 / np.maximum(alpha, 1), 0).astype(np.float32)
    colour = frames[..., :3].clip(0, 1) * scale
    stored[..., :3] = np.rint(np.minimum(colour, 255))
    stored[..., 3:] = alpha
    return stored


def on_background(frames: np.ndarray, rgb: tuple[int, int, int]) -> np.ndarray:
    """uint8 [..., 4] straight RGBA over one opaque colour -> uint8 [..., 3]."""
    background = np.asarray(rgb)
    if background.shape != (3,) or background.min() < 0 or background.max() > 255:
        raise StickerError(f"background {rgb!r} must be three numbers from 0 to 255")
    alpha = frames[..., 3:].astype(np.uint32)
    mixed = frames[..., :3] * alpha + background.astype(np.uint32) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def composite_over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Straight RGBA uint8 [..., 4] over straight RGBA uint8 of the same shape."""
    top_alpha = top[..., 3:].astype(np.float32) / 255
    bottom_weight = bottom[..., 3:].astype(np.float32) / 255 * (1 - top_alpha)
    alpha = top_alpha + bottom_weight
    colour = (top[..., :3] * top_alpha + bottom[..., :3] * bottom_weight) / np.maximum(alpha, 1e-6)
    mixed = np.concatenate([colour, alpha * 255], axis=-1)
    return np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)


def letterbox(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Centre uint8 [h, w, 4] on a transparent uint8 [height, width, 4]; h <= height, w <= width."""
    canvas = np.zeros((height, width, 4), np.uint8)
    top, left = (height - frame.shape[0]) // 2, (width - frame.shape[1]) // 2
    canvas[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    return canvas


def fitted_size(height: float, width: float, max_height: int, max_width: int) -> tuple[int, int]:
    """The largest (height, width) of the same aspect inside the given box, each >= 1."""
    scale = min(max_height / height, max_width / width)
    return (
        min(max_height, max(1, round(height * scale))),
        min(max_width, max(1, round(width * scale))),
    )


def fit_frame(frame: np.ndarray, height: int, width: int, *, crisp: bool) -> np.ndarray:
    """Scale uint8 [h, w, 4] into [height, width, 4], aspect kept, the rest transparent.

    `crisp` enlarges by whole pixels first, so that hard edges stay hard.
    """
    inner_height, inner_width = fitted_size(frame.shape[0], frame.shape[1], height, width)
    if (inner_height, inner_width) != frame.shape[:2]:
        if crisp:
            factor = math.ceil(max(inner_height / frame.shape[0], inner_width / frame.shape[1]))
            frame = frame.repeat(max(factor, 1), axis=0).repeat(max(factor, 1), axis=1)
        frame = _resample(frame, inner_height, inner_width)
    return letterbox(frame, height, width)


def _resample(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    if (height, width) == frame.shape[:2]:
        return frame
    method = _resampling(frame.shape[:2], (height, width))
    planes = np.moveaxis(premultiply(frame), -1, 0)
    resized = [Image.fromarray(plane).resize((width, height), method) for plane in planes]
    return unpremultiply(np.stack([np.asarray(plane) for plane in resized], axis=-1))


def _resampling(old: tuple[int, ...], new: tuple[int, int]) -> Image.Resampling:
    if new[0] > old[0] or new[1] > old[1]:
        return Image.Resampling.LANCZOS
    if old[0] % new[0] == 0 and old[1] % new[1] == 0:
        return Image.Resampling.BOX  # exact means over whole pixels
    return Image.Resampling.HAMMING  # an area mean without ringing at uneven ratios


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`[work(item) for item in items]`, by as many threads as there are processors, at most 4."""
    threads = min(_MAX_THREADS, os.cpu_count() or 1, len(items))
    if threads <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))
