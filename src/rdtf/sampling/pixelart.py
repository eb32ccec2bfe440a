"""Pixel art: made frames get the colours and the hard edges of the given ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import distance_transform_edt

from rdtf.sampling.requests import ClipRequest

_MOST_COLOURS = 64
_LARGEST_PLAIN_SIDE = 128  # pixels; larger pictures are pixel art only if they are in blocks
_WORKING_SIDE = 256  # pixels; small art is enlarged to it while it is made
_TOLERANCE = 24  # in RGB, of a colour that is one of the given ones


@dataclass(frozen=True)
class PixelArt:
    """The colours that pixel art is made of: straight RGBA uint8 `[N, 4]`, transparent included."""

    colours: np.ndarray

    @classmethod
    def of(cls, request: ClipRequest) -> PixelArt | None:
        """None unless the given frames have few colours, no partial alpha, and are small or made of
        blocks."""
        frames = request.frames[request.known]
        if not len(frames) or not np.isin(frames[..., 3], (0, 255)).all():
            return None
        if max(frames.shape[1:3]) > _LARGEST_PLAIN_SIDE and not _has_blocks(frames):
            return None
        values = np.union1d(_packed(frames), np.zeros(1, np.uint32))
        return cls(_unpacked(values)) if len(values) <= _MOST_COLOURS else None

    def enlarged(self, request: ClipRequest) -> ClipRequest:
        """The request at 256 pixels or more, by whole pixels."""
        factor = math.ceil(_WORKING_SIDE / max(request.frames.shape[1:3]))
        frames = request.frames.repeat(factor, axis=1).repeat(factor, axis=2)
        return replace(request, frames=frames)

    def restored(self, frames: np.ndarray, request: ClipRequest) -> np.ndarray:
        """Frames made of the enlarged request, at the size of `request`; given ones as they came.

        A pixel takes the colour that most of the enlarged ones have.
        """
        height, width = request.frames.shape[1:3]
        factor, count = frames.shape[1] // height, len(self.colours)
        cells = np.arange(height * width).reshape(height, 1, width, 1)
        made = request.frames.copy()
        for index in np.flatnonzero(~request.known):
            colours = self._indices(frames[index]).reshape(height, factor, width, factor)
            votes = np.bincount((cells * count + colours).ravel(), minlength=cells.size * count)
            made[index] = self.colours[votes.reshape(height, width, count).argmax(axis=-1)]
        return made

    def _indices(self, frame: np.ndarray) -> np.ndarray:
        """Which colour each pixel has, `[H, W]`; a mixed one has that of the nearest that has one."""
        values, where = np.unique(_packed(frame), return_inverse=True)
        seen, own = (_unpacked(v).astype(int) for v in (values, _packed(self.colours)))
        seen[:, 3] = np.where(seen[:, 3] < 128, 0, 255)
        seen[seen[:, 3] == 0] = 0
        distances = np.square(seen[:, None] - own[None]).sum(axis=-1)
        nearest, is_mixed = distances.argmin(axis=1), distances.min(axis=1) > _TOLERANCE**2
        nearest, is_mixed = (x[where].reshape(frame.shape[:2]) for x in (nearest, is_mixed))
        if is_mixed.all():
            return nearest
        where = distance_transform_edt(is_mixed, return_distances=False, return_indices=True)
        return nearest[tuple(where)]


def _packed(frames: np.ndarray) -> np.ndarray:
    """One uint32 per pixel; colours of transparent pixels mean nothing."""
    frames = np.where(frames[..., 3:] > 0, frames, 0).astype(np.uint8)
    return np.ascontiguousarray(frames).view(np.uint32)[..., 0]


def _unpacked(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint8).reshape(-1, 4)


def _has_blocks(frames: np.ndarray) -> bool:
    """Whether all edges lie on a grid of 2 pixels or more."""
    packed = _packed(frames)
    edges = [
        np.flatnonzero((np.diff(packed, axis=axis) != 0).any(axis=(0, 3 - axis))) + 1
        for axis in (1, 2)
    ]
    return math.gcd(*packed.shape[1:], *np.concatenate(edges).tolist()) > 1
