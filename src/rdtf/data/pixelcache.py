"""The pixel cache: every frame at the size that a model works on, mapped into memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from rdtf.data.cachefolder import build_once
from rdtf.data.dataset import Clip, PreparedDataset, read_clip_frames
from rdtf.data.pool import default_workers, ordered_map
from rdtf.data.progress import track
from rdtf.data.tensorfile import RowWriter, open_rows
from rdtf.errors import DataError

_FRAMES_FILE = "frames.safetensors"


class PixelCache:
    """Premultiplied frames of a training set, uint8, at `canvas` pixels."""

    def __init__(self, rows: np.ndarray, frame_offsets: np.ndarray) -> None:
        if len(rows) != frame_offsets[-1]:
            raise DataError(f"pixel cache holds {len(rows)} frames, not {frame_offsets[-1]}")
        self.rows = rows
        self._offsets = frame_offsets

    @property
    def canvas(self) -> int:
        return int(self.rows.shape[1])

    def frames(self, index: int) -> np.ndarray:
        """Premultiplied RGBA uint8 [F,S,S,4] of clip `index`; a view into the file."""
        return self.rows[self._offsets[index] : self._offsets[index + 1]]


def ensure_pixels_cache(
    dataset: PreparedDataset,
    canvas: int | None = None,
    *,
    workers: int | None = None,
    progress: bool | None = None,
) -> PixelCache:
    """The pixel cache of `dataset` at `canvas` (its own canvas if None), built if needed.

    Raises:
        DataError: `canvas` is larger than what the training set was prepared at, or it is damaged.
    """
    canvas = check_canvas(dataset, canvas)

    def build(folder: Path) -> None:
        clips = iterate_pixels(dataset, canvas, workers=workers, progress=progress)
        with RowWriter(folder / _FRAMES_FILE, (canvas, canvas, 4), "uint8") as writer:
            for frames in clips:
                writer.append(frames)

    def open_cache(folder: Path) -> PixelCache:
        return PixelCache(open_rows(folder / _FRAMES_FILE), dataset.frame_offsets)

    return build_once(dataset, "pixels", {"canvas": canvas}, build, open_cache)


def check_canvas(dataset: PreparedDataset, canvas: int | None) -> int:
    canvas = dataset.canvas if canvas is None else canvas
    if not 1 <= canvas <= dataset.canvas:
        raise DataError(
            f"{dataset.path} was prepared at {dataset.canvas} pixels, {canvas} are wanted; "
            f"prepare it again with a canvas of at least {canvas}"
        )
    return canvas


def iterate_pixels(
    dataset: PreparedDataset,
    canvas: int,
    *,
    workers: int | None = None,
    progress: bool | None = None,
) -> Iterator[np.ndarray]:
    """The frames of each clip in order: premultiplied RGBA uint8 [F,S,S,4]."""
    clips = dataset.clips()
    if workers is None:
        workers = default_workers(len(clips) // 8)  # reading a clip back costs little
    results = ordered_map(
        partial(_load_reduced, folder=dataset.path, stored=dataset.canvas, canvas=canvas),
        clips,
        workers=workers,
        crashed=_crashed,
    )
    return track(results, f"frames at {canvas} pixels", len(clips), show=progress)


def _load_reduced(clip: Clip, folder: Path, stored: int, canvas: int) -> np.ndarray:
    return reduce_premultiplied(read_clip_frames(folder, clip, stored), canvas)


def _crashed(clip: Clip) -> np.ndarray:
    raise DataError(f"the decoder crashed on clip {clip.id}; prepare the training set again")


def reduce_premultiplied(frames: np.ndarray, canvas: int) -> np.ndarray:
    """Straight RGBA uint8 [F,S,S,4] -> premultiplied RGBA uint8 [F,canvas,canvas,4].

    Each pixel is the mean over its area, taken after colour was multiplied with alpha, so that
    hidden colours never bleed into edges. Colour never exceeds alpha.
    """
    return np.stack([_reduce(Image.fromarray(frame), canvas) for frame in frames])


def _reduce(image: Image.Image, canvas: int) -> np.ndarray:
    premultiplied = image.convert("RGBa")
    factor, rest = divmod(image.width, canvas)
    if rest:
        reduced = premultiplied.resize((canvas, canvas), Image.Resampling.BOX)
    else:
        reduced = premultiplied.reduce(factor)  # rounds once
    return np.asarray(reduced)
