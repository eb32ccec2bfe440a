"""Random clips as stickers are, and as they are not."""

from __future__ import annotations

import numpy as np

from rdtf.stickers import Sticker

_ALPHAS = ("hard", "soft", "opaque", "faint", "noise", "half", "empty first", "gone", "hole")
_ODDS = (0.2, 0.3, 0.1, 0.06, 0.08, 0.1, 0.06, 0.02, 0.08)
_PICTURES = ("disc", "stripes", "gradient", "noise", "flat")


def random_clip(seed: int, max_frames: int = 60, large: bool = True) -> Sticker:
    """1 to 60 frames, 1 x 1 to 700 x 300 pixels, alpha of many kinds, repeats, odd durations.

    Args:
        max_frames: fewer for cheap tests.
        large: whether one in ten may be larger than 140 x 140.
    """
    random = np.random.default_rng(seed)
    lengths = [1, 2, 3, *random.integers(4, 20, 4), *random.integers(20, 61, 2)]
    num_frames = min(int(random.choice(lengths)), max_frames)
    height, width = _size(random)
    if large and random.random() < 0.1:
        height, width = int(random.integers(1, 301)), int(random.integers(1, 701))
    picture, alpha = random.choice(_PICTURES), random.choice(_ALPHAS, p=_ODDS)
    num_pictures = int(random.choice([1, 2, *[num_frames] * 5]))
    shares = np.arange(num_pictures) / num_pictures
    frames = np.stack([_frame(random, (height, width), picture, alpha, s) for s in shares])
    order = np.arange(num_frames) % num_pictures
    if random.random() < 0.5:
        order = np.sort(random.integers(0, num_pictures, num_frames))
    if alpha == "empty first":
        frames[0, ..., 3] = 0
    return Sticker(frames[order], _durations(random, num_frames), int(random.integers(0, 4)))


def _size(random: np.random.Generator) -> tuple[int, int]:
    side = int(random.integers(1, 141))
    other = int(random.choice([side, side, int(random.integers(1, 141)), 1]))
    return (side, other) if random.random() < 0.5 else (other, side)


def _durations(random: np.random.Generator, num_frames: int) -> np.ndarray:
    kind = random.integers(7)
    if kind == 0:
        return np.full(num_frames, random.choice([33, 40, 50, 100, 125]))
    if kind == 1:  # whole seconds, as LINE wants them
        total = int(random.integers(1, 5)) * 1000
        ends = np.rint(np.linspace(0, total, num_frames + 1)).astype(np.int64)
        return np.diff(ends)
    if kind == 2:  # 60 a second
        return np.diff(np.rint(np.arange(num_frames + 1) * 1000 / 60).astype(np.int64))
    if kind == 3:
        return random.integers(1, 30, num_frames)
    if kind == 4:
        return random.integers(1, 3000, num_frames)
    if kind == 5:  # from one millisecond to 20 seconds
        return random.choice([1, 2, 40, 100, 20_000], num_frames)
    return random.choice([10, 20, 34, 70, 100, 400], num_frames)


def _frame(
    random: np.random.Generator, size: tuple[int, int], picture: str, alpha: str, share: float
) -> np.ndarray:
    """One frame, `share` of the way through the clip."""
    height, width = size
    rows, columns = np.indices(size).astype(np.float64)
    turn = 2 * np.pi * share
    middle = np.array(size) * (0.5 + 0.15 * np.array([np.sin(turn), np.cos(turn)]))
    distance = np.hypot(rows - middle[0], columns - middle[1])
    radius = max(min(size) / 3, 0.5)
    frame = np.zeros((*size, 4), np.uint8)
    if picture == "noise":
        frame[..., :3] = random.integers(0, 256, (*size, 3))
    elif picture == "gradient":
        frame[..., 0], frame[..., 1] = rows * 255 / height, columns * 255 / width
        frame[..., 2] = share * 255
    elif picture == "stripes":
        frame[..., :3] = np.where((rows + 8 * share) // 4 % 2, 220, 30)[..., None]
    else:
        frame[..., :3] = (200, 40 + share * 200, 60)
        if picture == "disc":
            frame[distance < radius / 2, :3] = (20, 30, 200)
    coverage = np.clip(radius - distance + 0.5, 0, 1)
    frame[..., 3] = {
        "hard": (coverage > 0.5) * 255,
        "soft": coverage * 255,
        "opaque": np.full_like(rows, 255),
        "faint": np.full_like(rows, random.choice([1, 60, 127])),
        "noise": random.integers(0, 256, size),
        "half": np.where(columns < width / 2, 255, 0),
        "empty first": coverage * 255,
        "gone": np.zeros_like(rows),
        "hole": (1 - coverage) * 255,
    }[alpha]
    return frame


def ball(num_frames: int = 8, size: int = 64, duration_ms: int = 100) -> Sticker:
    """A soft ball that goes round, with a gradient in it: a loop without a seam."""
    rows, columns = np.indices((size, size)).astype(np.float64)
    frames = np.zeros((num_frames, size, size, 4), np.uint8)
    for index, frame in enumerate(frames):
        turn = 2 * np.pi * index / num_frames
        row, column = size * (0.5 + 0.2 * np.sin(turn)), size * (0.5 + 0.2 * np.cos(turn))
        distance = np.hypot(rows - row, columns - column)
        frame[..., 0] = 200
        frame[..., 1] = np.clip(255 - 3 * distance, 0, 255)
        frame[..., 2] = 40
        frame[..., 3] = np.clip((size / 5 - distance) + 0.5, 0, 1) * 255
    return Sticker(frames, np.full(num_frames, duration_ms))


def noise(num_frames: int = 8, size: int = 128, duration_ms: int = 100) -> Sticker:
    """What no codec can make small."""
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (num_frames, size, size, 4), dtype=np.uint8)
    frames[..., 3] = 255
    return Sticker(frames, np.full(num_frames, duration_ms))
