"""Pixel arithmetic with transparency: premultiplying, compositing, letterboxing, cutting out.

Everything that averages colours does it premultiplied: the colour of a transparent pixel means
nothing and must not reach its neighbours.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

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
    return _join_planes(np.moveaxis(frames, -1, 0))


def _join_planes(planes: np.ndarray) -> np.ndarray:
    """`unpremultiply` of [4, ...]: plane by plane is twice as fast."""
    alpha = np.rint(planes[3].clip(0, 1) * 255).astype(np.float32)
    scale = np.where(alpha > 0, 255 * 255 / np.maximum(alpha, 1), 0).astype(np.float32)
    colour = planes[:3].clip(0, 1) * scale
    stored = np.empty((*alpha.shape, 4), np.uint8)
    stored[..., :3] = np.moveaxis(np.rint(np.minimum(colour, 255)), 0, -1)
    stored[..., 3] = alpha
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
    planes = np.ascontiguousarray(np.moveaxis(frame, -1, 0)).astype(np.float32)
    planes /= np.float32(255)
    planes[:3] *= planes[3]
    resized = [Image.fromarray(plane).resize((width, height), method) for plane in planes]
    return _join_planes(np.stack([np.asarray(plane) for plane in resized]))


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


def cut_background(frame: np.ndarray, like: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """What is joined to the border and `like` the background becomes transparent, with a soft edge.

    Pixels of the edge, mixed of picture and background, get the part that is picture as their
    alpha, and its colour: a pixel is as much picture as its colour has gone from the background's
    towards that of the picture behind the edge.

    Args:
        frame: uint8 [H, W, 4], straight RGBA.
        like: bool [H, W], pixels that may be background.
        palette: float [N, 3], the colours of the background.
    """
    from scipy import ndimage

    labels: Any = ndimage.label(like)[0]  # type: ignore[index]
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    background = np.isin(labels, np.unique(edges[edges > 0]))
    grown: Any = ndimage.binary_dilation(background, np.ones((3, 3), bool))
    rim = grown & ~background
    inside = ~background & ~rim
    alpha = np.where(background, 0.0, 1.0)
    made = frame.copy()
    if inside.any() and rim.any():
        colors = frame[..., :3].astype(np.float32)
        behind = _nearest_color(colors, background, palette)[rim]
        picture = colors[_nearest(inside)][rim]
        whole = np.maximum(np.linalg.norm(picture - behind, axis=-1), 1.0)
        share = np.clip(np.linalg.norm(colors[rim] - behind, axis=-1) / whole, 0.0, 1.0)
        kept = np.maximum(share, 1 / 255)[:, None]
        made[rim, :3] = np.rint(np.clip((colors[rim] - (1 - kept) * behind) / kept, 0, 255))
        alpha[rim] = share
    made[..., 3] = np.rint(frame[..., 3] * alpha)
    made[made[..., 3] == 0] = 0
    return made


def _nearest(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Index arrays [H, W] of the nearest of `pixels`, bool [H, W], to each pixel."""
    from scipy import ndimage

    found: Any = ndimage.distance_transform_edt(
        ~pixels, return_distances=False, return_indices=True
    )
    return tuple(found)


def _nearest_color(colors: np.ndarray, background: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """The colour of `palette` [H, W, 3] that the nearest pixel of the background is most like."""
    if len(palette) == 1:
        return np.broadcast_to(palette[0], colors.shape)
    distances = np.linalg.norm(colors[..., None, :] - palette, axis=-1)
    return palette[distances.argmin(axis=-1)][_nearest(background)]
