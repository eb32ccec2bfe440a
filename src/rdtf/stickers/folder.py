"""A folder of still pictures as a clip: sorted by name, with durations beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from rdtf.errors import StickerError
from rdtf.fileio import read_json
from rdtf.stickers.budget import Budget
from rdtf.stickers.info import StickerInfo, checked_info
from rdtf.stickers.timing import DEFAULT_DURATION_MS

FRAME_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")
DURATIONS_FILE = "durations.json"


def frame_files(folder: Path, budget: Budget) -> list[Path]:
    """The pictures of a folder, frame2 before frame10; `StickerError` if there is none."""
    try:
        files = [path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES]
    except OSError as error:
        raise StickerError(f"{folder} can't be read: {error.strerror}") from error
    files = [path for path in files if not path.name.startswith(".")]
    if not files:
        raise StickerError(f"{folder} holds no frames; put PNG or WebP pictures there")
    budget.check_clip(str(folder), len(files), 1, 1)
    budget.check_bytes(str(folder), sum(path.stat().st_size for path in files))
    return sorted(files, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key: numbers by value, everything else by letter."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def folder_info(folder: Path, frames: list[StickerInfo], budget: Budget) -> StickerInfo:
    """The clip that `frames` make: each still, all of one size, with the folder's durations."""
    sizes = {(frame.width, frame.height) for frame in frames}
    if len(sizes) > 1:
        listed = " and ".join(f"{width} x {height}" for width, height in sorted(sizes)[:2])
        raise StickerError(f"{folder}: frames of different sizes ({listed}); make them equal")
    if any(frame.num_frames > 1 for frame in frames):
        raise StickerError(f"{folder}: a frame is itself animated; name that file, not the folder")
    durations = _durations(folder, len(frames))
    return checked_info("folder", str(folder), budget, sizes.pop(), durations)


def _durations(folder: Path, num_frames: int) -> np.ndarray:
    """From `durations.json`: one integer, a list of them, or {"durations_ms": either}."""
    path = folder / DURATIONS_FILE
    if not path.exists():
        return np.full(num_frames, DEFAULT_DURATION_MS)
    value: Any = read_json(path, "durations")
    if isinstance(value, dict):
        value = value.get("durations_ms")
    values = [value] * num_frames if isinstance(value, int) else value
    is_list = isinstance(values, list) and len(values) == num_frames
    if not is_list or not all(type(item) is int and 0 <= item < 2**31 for item in values):
        raise StickerError(f"{path} must hold {num_frames} durations, whole milliseconds")
    return np.asarray([item or DEFAULT_DURATION_MS for item in values])
