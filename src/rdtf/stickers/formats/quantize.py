"""Fewer colours for a whole clip: one palette, found in the colours that are really used.

Colours are split where they vary most, then moved to the means of what they stand for (k-means).
Distances are premultiplied, weights are how many pixels have the colour. Fully transparent pixels
are one colour; opaque ones are kept apart from the others, so that what is opaque stays opaque.
"""

from __future__ import annotations

import heapq

import numpy as np

from rdtf.stickers.canvas import in_threads, premultiply, unpremultiply

_MAX_COLOURS = 2**16  # more are first rounded to fewer bits
_MEANS_STEPS = 4


class ColourTable:
    """The colours of uint8 [F, H, W, 4] straight RGBA frames, ready to be reduced to any number.

    Attributes:
        num_colours: how many different ones there are, fully transparent ones counted as one.
        has_hidden: whether there are fully transparent ones.
    """

    def __init__(self, frames: np.ndarray) -> None:
        colours, self._inverse, counts = _used_colours(frames)
        self.num_colours = len(colours)
        self.has_hidden = bool(colours[0, 3] == 0)  # they are sorted
        self._exact = colours if len(colours) <= 256 else None
        if len(colours) > _MAX_COLOURS:
            colours, self._inverse, counts = _binned(colours, self._inverse, counts)
        self._colours, self._counts = colours, counts.astype(np.float64)
        self._points = premultiply(colours)

    def reduce(self, num_colours: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices uint8 [F, H, W] and palette uint8 [n, 4], n <= `num_colours` (2 to 256).

        Exact if there are no more colours. A palette entry that is fully transparent is the first.
        """
        if self._exact is not None and len(self._exact) <= num_colours:
            return self._inverse.astype(np.uint8), self._exact
        alpha = self._colours[:, 3]
        hidden = np.flatnonzero(alpha == 0)[:1]
        kinds = [np.flatnonzero((alpha > 0) & (alpha < 255)), np.flatnonzero(alpha == 255)]
        room = num_colours - len(hidden)
        kinds = [kind for kind in kinds if len(kind)] if room > 1 else [np.flatnonzero(alpha)]
        labels = np.zeros(len(alpha), np.int64)
        centres = [np.zeros((len(hidden), 4), np.float32)]
        for kind, clusters in zip(kinds, self._split(kinds, room), strict=True):
            found, members = self._means(kind, clusters)
            labels[kind] = sum(map(len, centres)) + members
            centres.append(found)
        palette = unpremultiply(np.concatenate(centres))
        return labels.astype(np.uint8)[self._inverse], palette

    def _split(self, kinds: list[np.ndarray], room: int) -> list[list[np.ndarray]]:
        """For each kind its clusters, `room` in all: what varies most is cut at its mean."""
        heap = [self._spread(number, kind) for number, kind in enumerate(kinds)]
        heapq.heapify(heap)
        parts: list[list[np.ndarray]] = [[] for _ in kinds]
        for _ in range(room - len(kinds)):
            _, _, number, axis, cluster = heap[0]
            values = self._points[cluster, axis]
            below = values <= np.average(values, weights=self._counts[cluster])
            if below.all() or not below.any():
                break  # the one that varies most is a single colour
            heapq.heapreplace(heap, self._spread(number, cluster[below]))
            heapq.heappush(heap, self._spread(number, cluster[~below]))
        for *_, number, _, cluster in heap:
            parts[number].append(cluster)
        return parts

    def _spread(self, kind: int, cluster: np.ndarray) -> tuple[float, int, int, int, np.ndarray]:
        """Minus the largest variance times pixels, a tie breaker, the kind, its axis, the cluster.

        The tie breaker is different for each cluster, so arrays are never compared.
        """
        points, weights = self._points[cluster], self._counts[cluster]
        mean = np.average(points, axis=0, weights=weights)
        spread = (weights[:, None] * np.square(points - mean)).sum(axis=0)
        axis = int(np.argmax(spread))
        return -float(spread[axis]), int(cluster[0]), kind, axis, cluster

    def _means(
        self, members: np.ndarray, clusters: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Centres float32 [k, 4] for k clusters of `members`, and the centre of each member."""
        from scipy.spatial import KDTree  # heavy; only who reduces colours waits for it

        points, weights = self._points[members], self._counts[members]
        centres = np.stack(
            [np.average(self._points[c], axis=0, weights=self._counts[c]) for c in clusters]
        )
        for _ in range(_MEANS_STEPS):
            labels = KDTree(centres).query(points)[1]
            total = np.bincount(labels, weights, minlength=len(centres))
            sums = [np.bincount(labels, weights * axis, len(centres)) for axis in points.T]
            means = np.stack(sums, axis=1) / np.maximum(total, 1)[:, None]
            centres = np.where(total[:, None] > 0, means, centres)
        # Judged by the colours as they are stored.
        stored = premultiply(unpremultiply(centres))
        return stored, np.asarray(KDTree(stored).query(points)[1])


def _used_colours(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Different colours uint8 [n, 4], the number of each pixel's int32 [F, H, W], and counts.

    Frame by frame: sorting a whole clip at once takes twenty bytes a pixel.
    """
    found = in_threads(_frame_colours, list(frames))
    unique = np.unique(np.concatenate([colours for colours, _, _ in found]))
    counts = np.zeros(len(unique), np.int64)
    inverse = np.empty(frames.shape[:-1], np.int32)
    for numbers, (colours, places, shares) in zip(inverse, found, strict=True):
        own = np.searchsorted(unique, colours).astype(np.int32)
        counts[own] += shares
        numbers[:] = own[places].reshape(numbers.shape)
    return unique.view(np.uint8).reshape(-1, 4), inverse, counts


def _frame_colours(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of uint8 [H, W, 4]: colours uint32 [n], the number of each pixel's int32 [H * W], counts."""
    keys = np.ascontiguousarray(frame).view(np.uint32)[..., 0]
    keys = np.where(frame[..., 3] > 0, keys, np.uint32(0)).reshape(-1)
    unique = np.unique(keys)  # a fraction of the time that it takes with `return_inverse`
    inverse = np.searchsorted(unique, keys).astype(np.int32)
    return unique, inverse, np.bincount(inverse, minlength=len(unique))


def _binned(
    colours: np.ndarray, inverse: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neighbouring colours as one, their mean, with as many bits as leave few enough."""
    for bits in (6, 5, 4):
        coarse = colours >> (8 - bits)
        # The ends stay apart: transparent and opaque are no neighbours of anything.
        coarse[colours[:, 3] == 255, 3] = 255
        coarse[colours[:, 3] == 0] = 0
        keys = np.ascontiguousarray(coarse).view(np.uint32)[:, 0]
        unique, bins = np.unique(keys, return_inverse=True)
        if len(unique) <= _MAX_COLOURS or bits == 4:
            break
    totals = np.bincount(bins, counts)
    sums = [np.bincount(bins, counts * colours[:, axis].astype(np.float64)) for axis in range(4)]
    means = np.rint(np.stack(sums, axis=1) / totals[:, None]).astype(np.uint8)
    return means, bins.astype(np.int32)[inverse], totals
