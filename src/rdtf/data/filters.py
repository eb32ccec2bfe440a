"""Which stickers are worth training on, backgrounds cut to alpha, and how difficult a clip is.

All of it is a pure function of the frames, straight RGBA uint8 [F,H,W,4], and of how long each is
shown. What looks at whole frames reads small copies of them (`thumbnails`, shared with
`rdtf.data.duplicates`); whoever calls several functions makes them once and passes them on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from rdtf.data.keyframes import FEATURE_SIZE, clip_motion
from rdtf.stickers.canvas import cut_background

REASONS = (
    "blank",
    "extreme aspect",
    "too little information",
    "nearly still",
    "text-heavy",
)


@dataclass(frozen=True)
class FilterOptions:
    """Limits of what is kept. The defaults drop 0.2 % of 15,000 real stickers.

    Attributes:
        min_motion: least motion of an animated clip (root mean square, 0 to 1); 0 keeps all.
        max_aspect: most times that what is visible is longer than wide, or wider than long.
        min_entropy: least bits a pixel of the colours of the frame that has most.
        max_letters: most signs that look like letters of a line of text.
        cut_background: make an even white or black background, or a drawn checkerboard,
            transparent.
    """

    min_motion: float = 0.002
    max_aspect: float = 8.0
    min_entropy: float = 0.25
    max_letters: int = 14
    cut_background: bool = False


def thumbnails(frames: np.ndarray) -> np.ndarray:
    """Premultiplied float32 [F,32,32,4] in [0,1] of straight RGBA uint8 [F,H,W,4].

    Sizes that are no multiple of 32 are reduced by a smooth filter, so that copies of another size
    look the same.
    """
    side = (FEATURE_SIZE, FEATURE_SIZE)
    even = not any(size % FEATURE_SIZE for size in frames.shape[1:3])
    method = Image.Resampling.BOX if even else Image.Resampling.HAMMING
    images = (Image.fromarray(frame).convert("RGBa") for frame in frames)
    small = [np.asarray(image.resize(side, method, reducing_gap=2.0)) for image in images]
    return np.stack(small).astype(np.float32) / 255


def check(
    frames: np.ndarray,
    durations_ms: Sequence[int],
    options: FilterOptions,
    small: np.ndarray | None = None,
) -> str | None:
    """Why a clip is to be left out, one of `REASONS`, or None. `small`: its `thumbnails`."""
    small = thumbnails(frames) if small is None else small
    if np.abs(small - small[0, 0, 0]).max() < _EVEN:
        return "blank"
    if _aspect(frames) > options.max_aspect:
        return "extreme aspect"
    if _entropies(small).max() < options.min_entropy:
        return "too little information"
    if len(frames) > 1 and clip_motion(small, durations_ms) < options.min_motion:
        return "nearly still"
    if num_letters(frames[len(frames) // 2]) > options.max_letters:
        return "text-heavy"
    return None


def statistics(
    frames: np.ndarray, durations_ms: Sequence[int], small: np.ndarray | None = None
) -> dict[str, float]:
    """How difficult a clip is.

    Returns:
        entropy: bits a pixel of the colours of its frames, mean over time, 0 to 10.
        motion: root mean square distance of its frames from the best single one, 0 to 1.
        length: number of frames.
    """
    small = thumbnails(frames) if small is None else small
    return {
        "entropy": float(np.average(_entropies(small), weights=durations_ms)),
        "motion": clip_motion(small, durations_ms),
        "length": float(len(frames)),
    }


_EVEN = 4 / 255  # a picture whose small copy varies less shows nothing


def _entropies(small: np.ndarray) -> np.ndarray:
    """Shannon entropy of each frame's colours in 16 steps a channel, bits a pixel, float [F]."""
    steps = np.minimum(small * 16, 15).astype(np.uint16).reshape(len(small), -1, 4)
    codes = np.sort(steps @ np.array([4096, 256, 16, 1], np.uint16), axis=1)
    starts = np.ones(codes.shape, bool)
    starts[:, 1:] = codes[:, 1:] != codes[:, :-1]
    first = np.flatnonzero(starts)
    shares = np.diff(np.append(first, codes.size)) / codes.shape[1]
    return np.bincount(first // codes.shape[1], -shares * np.log2(shares), len(small))


def _aspect(frames: np.ndarray) -> float:
    """Longer over shorter side of the box around all that any frame shows."""
    visible = frames[..., 3].max(axis=0) > 8
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    if not len(rows):
        return 1.0
    sides = sorted((rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1))
    return float(sides[1] / sides[0])


# ------------------------------------------------------------------------- text

_TEXT_SIDE = 256  # pixels; larger frames are reduced
_CONTRAST = 0.12  # of a letter against what is around it, in [0,1]


def num_letters(frame: np.ndarray) -> int:
    """How many signs of one straight RGBA uint8 [H,W,4] look like letters of lines of text.

    Letters are small even shapes that stand out from what is around them, four or more in a row,
    alike in height and near one another. No characters are read.
    """
    gray = _gray(frame)
    window = max(7, round(0.14 * max(gray.shape)) | 1)
    local = _local_mean(gray, window)
    return max(
        _letters_in_rows(gray < local - _CONTRAST), _letters_in_rows(gray > local + _CONTRAST)
    )


def _gray(frame: np.ndarray) -> np.ndarray:
    """Luma in [0,1] over middle grey, at most `_TEXT_SIDE` pixels a side."""
    image = Image.fromarray(frame).convert("RGBa")
    if (factor := -(-max(frame.shape[:2]) // _TEXT_SIDE)) > 1:
        image = image.reduce(factor)
    pixels = np.asarray(image, dtype=np.float32) / 255
    return pixels @ np.array([0.299, 0.587, 0.114, -0.5], np.float32) + np.float32(0.5)


def _local_mean(gray: np.ndarray, window: int) -> np.ndarray:
    from scipy import ndimage

    return np.asarray(ndimage.uniform_filter(gray, window, mode="nearest"))


def _letters_in_rows(mask: np.ndarray) -> int:
    """Shapes of `mask` that stand in rows of four or more of about one height."""
    from scipy import ndimage
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    labels, count = ndimage.label(mask)  # type: ignore[misc]
    if count < _ROW:
        return 0
    boxes = _letter_boxes(labels, count)
    if len(boxes) < _ROW:
        return 0
    top, bottom, left, right = boxes.T
    height, middle = bottom - top, (top + bottom) / 2
    taller = np.maximum(height[:, None], height)
    alike = np.minimum(height[:, None], height) > 0.55 * taller
    level = np.abs(middle[:, None] - middle) < 0.35 * taller
    gap = np.maximum(left[:, None], left) - np.minimum(right[:, None], right)
    near = (gap < 0.9 * taller) & (gap > -0.3 * taller)
    from_, to = np.nonzero(alike & level & near)
    graph = coo_array((np.ones(len(from_), np.int8), (from_, to)), shape=(len(boxes), len(boxes)))
    sizes = np.bincount(connected_components(graph, directed=False)[1])
    return int(sizes[sizes >= _ROW].sum())


_ROW = 4  # fewer letters in a row are no line of text


def _letter_boxes(labels: np.ndarray, count: int) -> np.ndarray:
    """Boxes (top, bottom, left, right) of the shapes that may be letters, int [N,4]."""
    from scipy import ndimage

    found: Any = ndimage.find_objects(labels)
    boxes = np.array([(y.start, y.stop, x.start, x.stop) for y, x in found])
    areas = np.bincount(labels.reshape(-1), minlength=count + 1)[1:]
    height, width = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    filled = areas / (height * width)
    fits = (height >= 4) & (height <= 0.22 * labels.shape[0]) & (width <= 2 * height)
    return boxes[fits & (width >= 0.12 * height) & (filled > 0.2)]


# ------------------------------------------------------------------------- backgrounds

_TOLERANCE = 24  # distance in RGB, 0 to 441, that compression may move a background by
_BORDER_SHARE = 0.9  # of the border's pixels must be background
_LEAST_LEFT = 0.02  # of the picture must be left


def normalise(frames: np.ndarray, options: FilterOptions) -> np.ndarray:
    """`frames`, with an even white or black background or a drawn checkerboard made transparent.

    The background is what is joined to the border; its edge becomes soft. Nothing is changed
    without `options.cut_background`, where a frame's border is something else, or where next to
    nothing would be left.
    """
    if not options.cut_background or (frames[:, _border(frames[0])][..., 3] < 255).any():
        return frames
    palette = _background_colors(frames)
    if palette is None:
        return frames
    cut = np.stack([cut_background(frame, _like(frame, palette), palette) for frame in frames])
    left = (cut[..., 3] > 127).mean(axis=(1, 2))
    return cut if left.max() >= _LEAST_LEFT else frames


def _border(frame: np.ndarray) -> np.ndarray:
    """bool [H,W]: the outermost pixels."""
    border = np.ones(frame.shape[:2], bool)
    border[1:-1, 1:-1] = False
    return border


def _background_colors(frames: np.ndarray) -> np.ndarray | None:
    """float [N,3] of a white or black border (N = 1) or a checkered one (N = 2)."""
    border = _border(frames[0])
    for palette in ([[255, 255, 255]], [[0, 0, 0]]):
        colors = np.array(palette, np.float32)
        if all(_like(frame, colors)[border].mean() >= _BORDER_SHARE for frame in frames):
            return colors
    return _checker_colors(frames)


def _like(frame: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """bool [H,W]: pixels of a colour of `palette`, or of a grey between its two."""
    rgb = frame[..., :3].astype(np.float32)
    if len(palette) == 1:
        return np.abs(rgb - palette[0]).max(axis=-1) <= _TOLERANCE
    gray = rgb.mean(axis=-1)
    low, high = np.sort(palette.mean(axis=-1))
    neutral = np.ptp(rgb, axis=-1) <= _TOLERANCE
    return neutral & (gray >= low - _TOLERANCE / 2) & (gray <= high + _TOLERANCE / 2)


def _checker_colors(frames: np.ndarray) -> np.ndarray | None:
    """The two greys of a checkerboard drawn behind all frames, float [2,3], or None.

    Along the border they change again and again, after stretches of one length.
    """
    palettes = [_checker_of(frame) for frame in frames]
    found = [palette for palette in palettes if palette is not None]
    if len(found) < len(frames) or np.ptp(found, axis=0).max() > _TOLERANCE:
        return None
    return np.repeat(np.median(found, axis=0)[:, None], 3, axis=1).astype(np.float32)


def _checker_of(frame: np.ndarray) -> np.ndarray | None:
    """The two greys of the border of one frame, float [2], or None."""
    sides = (frame[0], frame[-1], frame[:, 0], frame[:, -1])
    rgb = np.concatenate(sides)[:, :3].astype(np.float32)
    gray = rgb.mean(axis=-1)
    if (np.ptp(rgb, axis=-1) > _TOLERANCE).mean() > 1 - _BORDER_SHARE:
        return None
    middle = (gray.min() + gray.max()) / 2
    light, dark = gray[gray > middle], gray[gray <= middle]
    if not len(dark) or not 0.35 < len(light) / len(gray) < 0.65:
        return None
    greys = np.array([np.median(dark), np.median(light)])
    near = np.abs(gray[:, None] - greys).min(axis=1) <= _TOLERANCE / 2
    if np.diff(greys)[0] < 8 or near.mean() < _BORDER_SHARE or not _is_regular(sides, middle):
        return None
    return greys


def _is_regular(sides: Sequence[np.ndarray], middle: float) -> bool:
    """Whether light and dark take turns in equal stretches, four or more, along each side."""
    stretches = []
    for side in sides:
        light = side[:, :3].mean(axis=-1) > middle
        changes = np.flatnonzero(light[1:] != light[:-1])
        if len(changes) < 3:
            return False
        stretches.append(np.diff(changes))
    lengths = np.concatenate(stretches)
    usual = np.median(lengths)
    return bool((np.abs(lengths - usual) <= max(1.5, 0.1 * usual)).mean() > 0.8)
