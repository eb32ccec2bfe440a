"""A still set in motion by the grammar, at its own resolution (numpy only).

The motion is exact: each frame looks backwards at the still, premultiplied and bilinear, and sees
nothing outside its canvas. Positions are normalised: -1 to 1 over the longer side.
`models/motion_latents.py` and `training/motion.py` do the same in torch.
"""

from __future__ import annotations

import math

import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers import Sticker
from rdtf.stickers.canvas import premultiply, unpremultiply
from rdtf.synthetic.grammar import MotionDraw, motion_parameters

_LEAST_DETERMINANT = 1e-4
_MOST_SAMPLES = 4  # a side of a pixel, where things become smaller


def animate(
    still: Sticker, draw: MotionDraw, num_frames: int, duration_ms: int, *, deform_seed: float = 0.0
) -> Sticker:
    """The still in motion, as in training; its first frame is the still, bit for bit.

    Args:
        still: of one frame; if it isn't square, it moves as on the square canvas around it.
        duration_ms: how long each frame is shown.
        deform_seed: in [0, 1): where a melting thing has its drops.

    Returns:
        A sticker of `num_frames` frames of the still's size; its other fields are the still's.

    Raises:
        StickerError: more than one frame given, or none asked for.
    """
    if still.num_frames != 1:
        raise StickerError(f"only stills can be animated; this clip has {still.num_frames} frames")
    if num_frames < 1 or duration_ms < 1:
        raise StickerError(
            f"{num_frames} frames of {duration_ms} ms can't be made; use 1 or more of each"
        )
    box = alpha_box(still.frames[0, ..., 3] / 255)
    times_ms = np.arange(num_frames) * float(duration_ms)
    affine, strength = motion_parameters(draw, times_ms, num_frames * float(duration_ms), box)
    picture = premultiply(still.frames[0])
    frames = np.repeat(still.frames, num_frames, axis=0)
    for index in range(num_frames):
        if np.abs(affine[index]).max() < 1e-9 and abs(strength[index]) < 1e-9:
            continue  # bit for bit
        moved = _frame(picture, affine[index], draw.deform, strength[index], deform_seed, box)
        frames[index] = unpremultiply(moved)
    return still.replace(frames=frames, durations_ms=np.full(num_frames, duration_ms))


def _frame(
    picture: np.ndarray,
    affine: np.ndarray,
    deform: str,
    strength: float,
    seed: float,
    box: np.ndarray,
) -> np.ndarray:
    """One frame of a premultiplied float picture `[H, W, 4]`."""
    height, width = picture.shape[:2]
    samples = _samples(affine)
    here = _grid_positions(height, width, samples)
    frame = np.zeros_like(picture)
    rows, columns = (
        (slice(0, height), slice(0, width)) if deform else _reached(picture, affine, box)
    )
    here = here[:, _finer(rows, samples), _finer(columns, samples)]
    places = _backward_places(here, affine, box[:2])
    places = places + _deformation(places, deform, strength, seed, box)
    seen = look(picture, places)
    size = (rows.stop - rows.start, samples, columns.stop - columns.start, samples, 4)
    frame[rows, columns] = seen.reshape(size).mean(axis=(1, 3))
    return frame


def _reached(picture: np.ndarray, affine: np.ndarray, box: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a frame that the still's canvas can reach; the rest stays empty."""
    height, width = picture.shape[:2]
    side = max(height, width)
    # A pixel more on each side: the outermost one is seen half a pixel beyond its edge.
    far = np.array([width + 2, height + 2]) / side
    corners = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]) * far
    reached = box[:2] + affine[:2] + (corners - box[:2]) @ _linear_part(affine).T
    pixels = (reached * side + [width, height]) / 2
    low = np.floor(pixels.min(axis=0)).clip(0, [width, height]).astype(int)
    high = np.ceil(pixels.max(axis=0)).clip(0, [width, height]).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _finer(pixels: slice, samples: int) -> slice:
    return slice(pixels.start * samples, pixels.stop * samples)


def _samples(affine: np.ndarray) -> int:
    """Samples a side of a pixel, so that what becomes smaller is averaged."""
    stretch = np.linalg.norm(_inverse(_linear_part(affine)), ord=2)
    return min(max(1, round(float(stretch))), _MOST_SAMPLES)


def alpha_box(alpha: np.ndarray) -> np.ndarray:
    """Centre and box of what is there: alpha `[H, W]` in [0, 1] → float `[6]`.

    (centre x, centre y, left, top, right, bottom) in normalised coordinates; the whole canvas if
    it is empty. On a square canvas that is `models.motion_latents.alpha_box`.
    """
    x, y = _grid_positions(*alpha.shape)
    mass = float(alpha.sum())
    present = alpha > 0.1
    if mass <= 1e-3 or not present.any():
        half_height, half_width = np.array(alpha.shape) / max(alpha.shape)
        return np.array([0.0, 0.0, -half_width, -half_height, half_width, half_height])
    centre = (alpha * x).sum() / mass, (alpha * y).sum() / mass
    x, y = x[present], y[present]
    return np.array([*centre, x.min(), y.min(), x.max(), y.max()])


def _grid_positions(height: int, width: int, samples: int = 1) -> np.ndarray:
    """Normalised positions (x, y), `[2, h, w]`.

    `samples` places a side of each pixel: h = height · samples.
    """
    side = max(height, width)
    ys = ((np.arange(height * samples) + 0.5) * 2 / samples - height) / side
    xs = ((np.arange(width * samples) + 0.5) * 2 / samples - width) / side
    return np.stack(np.meshgrid(xs, ys))


def _linear_part(affine: np.ndarray) -> np.ndarray:
    """G = R(turn) · [[e^log_x, shear], [0, e^log_y]] of six parameters, `[2, 2]`."""
    turn, log_x, log_y, shear = affine[2:]
    cos, sin = math.cos(turn), math.sin(turn)
    scaled = np.array([[math.exp(log_x), shear], [0.0, math.exp(log_y)]])
    return np.array([[cos, -sin], [sin, cos]]) @ scaled


def _inverse(matrix: np.ndarray) -> np.ndarray:
    (a, b), (c, d) = matrix
    determinant = a * d - b * c
    safe = math.copysign(max(abs(determinant), _LEAST_DETERMINANT), determinant)
    return np.array([[d, -b], [-c, a]]) / safe


def _backward_places(here: np.ndarray, affine: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Where each place of a frame is on the still: `[2, h, w]` → `[2, h, w]`."""
    offset = here - (centre + affine[:2])[:, None, None]
    looked = np.tensordot(_inverse(_linear_part(affine)), offset, axes=1)
    return looked + np.asarray(centre)[:, None, None]


def _deformation(
    still: np.ndarray, kind: str, strength: float, seed: float, box: np.ndarray
) -> np.ndarray:
    """Flow of a smooth deformation on top of the affine part.

    Args:
        still: places on the still `[2, h, w]`; kind: "", "ripple", "swirl" or "drip";
        strength: phase or amount, 0 = none; seed: in [0, 1]; box: as `alpha_box` gives it.

    Returns:
        `[2, h, w]`.
    """
    if not kind:
        return np.zeros_like(still)
    x, y = still
    centre_x, centre_y, left, top, right, bottom = box
    width, height = max(right - left, 0.2), max(bottom - top, 0.2)
    along = ((x - left) / width).clip(-0.2, 1.2)
    turn = 2 * np.pi
    if kind == "ripple":
        wave = np.sin(turn * (1.2 * along - strength)) - np.sin(turn * 1.2 * along)
        return np.stack([np.zeros_like(wave), 0.11 * along.clip(0) * wave])
    if kind == "swirl":
        off_x, off_y = x - centre_x, y - centre_y
        radius = np.hypot(off_x, off_y) / (0.6 * max(width, height))
        angle = -2.0 * strength * (1 - radius).clip(0) ** 2
        cos, sin = np.cos(angle), np.sin(angle)
        return np.stack([cos * off_x - sin * off_y - off_x, sin * off_x + cos * off_y - off_y])
    assert kind == "drip"
    low = ((y - top) / height).clip(0, 1.2)
    drops = np.sin(turn * (2.0 * along + seed))
    side = 0.05 * strength * np.sin(turn * (low + seed))
    return np.stack([side, -0.16 * strength * low * (0.5 + 0.5 * drops)])


def look(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A float picture `[H, W, c]` at places `[2, h, w]`, bilinear, as `[h, w, c]`; 0 outside."""
    height, width = picture.shape[:2]
    side = max(height, width)
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)))
    x = ((places[0] * side + width + 1) / 2).clip(0, width + 1)
    y = ((places[1] * side + height + 1) / 2).clip(0, height + 1)
    left, top = np.minimum(x.astype(np.int64), width), np.minimum(y.astype(np.int64), height)
    right_share = (x - left).astype(picture.dtype)[..., None]
    low_share = (y - top).astype(picture.dtype)[..., None]
    upper = padded[top, left] * (1 - right_share) + padded[top, left + 1] * right_share
    lower = padded[top + 1, left] * (1 - right_share) + padded[top + 1, left + 1] * right_share
    return upper * (1 - low_share) + lower * low_share
