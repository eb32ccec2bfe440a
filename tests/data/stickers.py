"""Small sticker files for the tests of data preparation, made with Pillow alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def moving_square(
    num_frames: int, size: int = 32, color: Sequence[int] = (200, 40, 40)
) -> np.ndarray:
    """A square that moves right: straight RGBA uint8 [F,H,W,4] with hard edges."""
    frames = np.zeros((num_frames, size, size, 4), np.uint8)
    side = size // 4
    for index in range(num_frames):
        left = round(index * (size - side) / max(num_frames - 1, 1))
        frames[index, side : 2 * side, left : left + side] = (*color, 255)
    return frames


def soft_disc(size: int = 32, color: Sequence[int] = (20, 160, 220)) -> np.ndarray:
    """A still disc with half transparent edges: straight RGBA uint8 [1,H,W,4]."""
    grid = np.arange(size) - (size - 1) / 2
    distance = np.hypot(grid[:, None], grid[None])
    alpha = np.clip(size / 3 - distance, 0, 1) * 255
    frame = np.empty((size, size, 4), np.uint8)
    frame[..., :3] = color
    frame[..., 3] = np.rint(alpha)
    return frame[None]


def save_webp(path: Path, frames: np.ndarray, durations_ms: Sequence[int] | int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [Image.fromarray(frame) for frame in frames]
    animation: dict[str, Any] = {"duration": durations_ms, "append_images": images[1:]}
    options = {"save_all": True, **animation} if len(images) > 1 else {}
    images[0].save(path, "WEBP", lossless=True, exact=True, **options)
    return path


def save_gif(path: Path, frames: np.ndarray, durations_ms: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [Image.fromarray(frame) for frame in frames]
    options = {"duration": durations_ms, "loop": 0, "disposal": 2}
    images[0].save(path, "GIF", save_all=True, append_images=images[1:], **options)
    return path


def write_rows(path: Path, rows: Sequence[dict[str, Any] | str]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def lottie(num_frames: int = 30, fps: float = 30) -> dict[str, Any]:
    """A Lottie animation: a red square of 40 moves over a canvas of 100."""
    position = {
        "a": 1,
        "k": [
            {"t": 0, "s": [20, 50, 0], "i": {"x": 1, "y": 1}, "o": {"x": 0, "y": 0}},
            {"t": num_frames - 1, "s": [80, 50, 0]},
        ],
    }
    fixed = {"a": 0, "k": [0, 0, 0]}
    transform = {
        "o": {"a": 0, "k": 100},
        "r": {"a": 0, "k": 0},
        "p": position,
        "a": fixed,
        "s": {"a": 0, "k": [100, 100, 100]},
    }
    square = [
        {
            "ty": "rc",
            "p": {"a": 0, "k": [0, 0]},
            "s": {"a": 0, "k": [40, 40]},
            "r": {"a": 0, "k": 0},
        },
        {"ty": "fl", "c": {"a": 0, "k": [1, 0, 0, 1]}, "o": {"a": 0, "k": 100}, "r": 1},
        {
            "ty": "tr",
            "p": {"a": 0, "k": [0, 0]},
            "a": {"a": 0, "k": [0, 0]},
            "s": {"a": 0, "k": [100, 100]},
            "r": {"a": 0, "k": 0},
            "o": {"a": 0, "k": 100},
        },
    ]
    layer = {
        "ty": 4,
        "ind": 1,
        "nm": "square",
        "ks": transform,
        "shapes": [{"ty": "gr", "nm": "square", "it": square}],
        "ip": 0,
        "op": num_frames,
        "st": 0,
        "sr": 1,
    }
    size = {"w": 100, "h": 100}
    return {
        "v": "5.5.2",
        "fr": fps,
        "ip": 0,
        "op": num_frames,
        **size,
        "layers": [layer],
        "assets": [],
    }
