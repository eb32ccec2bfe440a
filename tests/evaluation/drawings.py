"""Small drawings for the tests: outlined balls on a transparent canvas."""

from __future__ import annotations

import numpy as np

from rdtf.stickers import Sticker


def ball(x: float, y: float, size: int = 64, radius: float = 12.0) -> np.ndarray:
    """Premultiplied float RGBA `[size,size,4]`: an orange ball with a dark outline 3 px wide."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    distance = np.hypot(columns - x, rows - y)
    alpha = np.clip(radius - distance + 0.5, 0, 1)[..., None]
    inside = np.clip(radius - 3 - distance + 0.5, 0, 1)[..., None]
    colour = inside * np.array([1.0, 0.6, 0.1]) + (1 - inside) * np.array([0.1, 0.05, 0.05])
    return np.concatenate([colour * alpha, alpha], axis=-1).astype(np.float32)


def sticker(frames: list[np.ndarray], **fields) -> Sticker:
    return Sticker.from_premultiplied(np.stack(frames), 100, **fields)


def moving_ball(num_frames: int = 8, size: int = 64, step: float = 4.0, **fields) -> Sticker:
    """A ball that moves to the right by `step` pixels a frame."""
    start = size / 2 - step * (num_frames - 1) / 2
    radius = size * 3 / 16
    frames = [ball(start + step * index, size / 2, size, radius) for index in range(num_frames)]
    return sticker(frames, **fields)


def scene(num_frames: int = 8, step: float = 4.0, **fields) -> Sticker:
    """A ball that moves below one that stays."""
    moving = moving_ball(num_frames, step=step).premultiplied()
    staying = np.roll(ball(32, 32, radius=8), -22, axis=0)
    return sticker(list(np.maximum(moving, staying)), **fields)
