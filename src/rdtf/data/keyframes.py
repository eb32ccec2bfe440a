"""Key frames: the best piecewise-constant approximation of a clip in time.

A sticker of hundreds of native frames is reduced to at most K pictures, each shown for a while.
The clip is cut into K consecutive segments; each segment shows its medoid, the one of its own
frames that is nearest to all of them. Dynamic programming finds the cut with the smallest
duration-weighted squared distance (Fisher's exact method for ordered data). The paper clusters
features with k-means instead, which knows neither time nor durations: `method="clusters"`.

The number of key frames is the smallest that explains the motion: a still clip needs one, a GIF
that holds six different pictures keeps six.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from rdtf.errors import ConfigError, DataError
from rdtf.stickers.formats.webp import with_alpha

MAX_CANVAS = 4096
MAX_FRAMES = 256
# Measured on emoji and sprites at 128 pixels: 0.34 ms and 11.7 kB a frame; method 1 takes 1.35 ms
# for 10.5 kB. Key frames (of the codec) would cost 60 % more time: a clip is short and read from
# its start.
_EFFORT = {"lossless": True, "method": 0, "quality": 0, "exact": True}
_NO_CODEC_KEY_FRAMES = {"kmin": 0, "kmax": 0}


def encode_frames(frames: np.ndarray, durations_ms: Sequence[int] | np.ndarray) -> bytes:
    """Straight RGBA uint8 [F,H,W,4] -> bytes; `decode_frames` gives the same pixels back.

    Equal neighbours must have been merged, as the codec would. The colour of pixels of alpha 0 is
    not kept.
    """
    images = [Image.fromarray(frame) for frame in frames]
    animation = {
        "save_all": True,
        "append_images": images[1:],
        "duration": [int(duration) for duration in durations_ms],
        "loop": 0,
        **_NO_CODEC_KEY_FRAMES,
    }
    buffer = io.BytesIO()
    images[0].save(buffer, "WEBP", **_EFFORT, **(animation if len(images) > 1 else {}))
    data = buffer.getvalue()
    return with_alpha(data) if len(images) > 1 else data


def decode_frames(data: bytes, num_frames: int, canvas: int, what: str) -> np.ndarray:
    """Bytes -> straight RGBA uint8 [F,S,S,4].

    Raises:
        DataError: the bytes are damaged or hold another number or size of frames; names `what`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            found = (getattr(image, "n_frames", 1), *image.size)
            if found != (num_frames, canvas, canvas):
                raise DataError(
                    f"{what} holds {found[0]} frames of {found[1]} x {found[2]}, not {num_frames} "
                    f"of {canvas} x {canvas}; prepare the training set again"
                )
            frames = [np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(image)]
    except (OSError, UnidentifiedImageError, EOFError) as error:
        raise DataError(f"{what} is damaged ({error}); prepare the training set again") from error
    return without_hidden_colour(np.stack(frames))


def without_hidden_colour(frames: np.ndarray) -> np.ndarray:
    """Pixels of alpha 0 have no colour: the one form of a picture, whatever hid below."""
    pixels = np.ascontiguousarray(frames).view(np.uint32)[..., 0]  # whole pixels: four times faster
    return np.where(frames[..., 3] > 0, pixels, np.uint32(0))[..., None].view(np.uint8)


FEATURE_SIZE = 32  # pixels; enough to see a blink, small enough for 240 x 240 distances
_MAX_CANDIDATES = 240  # the cost table is cubic in this number
# Mean squared error, in [0,1] units, that nobody sees: a tenth of one grey level, everywhere.
INVISIBLE_ERROR = (0.1 / 255) ** 2

Method = Literal["piecewise", "equal", "clusters"]
METHODS: tuple[Method, ...] = ("piecewise", "equal", "clusters")


@dataclass(frozen=True)
class KeyFrames:
    """Which frames to keep, int64 [K] in increasing order, and how long each is shown, int64 [K].

    `motion` is the root mean square distance from the best single frame, over premultiplied RGBA in
    [0,1].
    """

    indices: np.ndarray
    durations_ms: np.ndarray
    motion: float


def frame_feature(frame: np.ndarray) -> np.ndarray:
    """Straight RGBA uint8 [H,W,4] -> premultiplied float32 [4 * FEATURE_SIZE**2] in [0,1]."""
    image = Image.fromarray(frame).convert("RGBa")
    side = (FEATURE_SIZE, FEATURE_SIZE)
    small = image.resize(side, Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(small, dtype=np.float32).reshape(-1) / 255


def candidate_frames(
    durations_ms: Sequence[int] | np.ndarray, limit: int = _MAX_CANDIDATES
) -> tuple[np.ndarray, np.ndarray]:
    """Thin N native frames out to at most `limit`: (indices [M], durations_ms [M]).

    Each candidate stands for an equal run of native frames and takes over all their time, so the
    total duration is kept exactly.
    """
    durations = np.asarray(durations_ms, dtype=np.int64)
    if len(durations) <= limit:
        return np.arange(len(durations)), durations
    edges = np.arange(limit + 1) * len(durations) // limit
    return (edges[:-1] + edges[1:] - 1) // 2, np.add.reduceat(durations, edges[:-1])


def choose_key_frames(
    features: np.ndarray,
    durations_ms: Sequence[int] | np.ndarray,
    max_frames: int = 16,
    *,
    method: Method = "piecewise",
    tolerance: float = 1e-5,
) -> KeyFrames:
    """Choose at most `max_frames` of N frames; `features` is float [N, ...], one row a frame.

    The durations of the result add up to the original total. `tolerance` is the share of the
    one-frame error that may stay unexplained; `equal` spaces the key frames evenly in time instead,
    `clusters` takes the frame nearest to each k-means centre of the features (the paper's way).
    """
    durations = _check(features, durations_ms, max_frames, method)
    distances = _pairwise_distances(np.asarray(features, np.float64).reshape(len(features), -1))
    costs, medoids = _segment_costs(distances, durations)
    single = _single_frame_error(distances, durations)
    if method == "equal":
        indices, kept = _equal_spacing(durations, max_frames)
    elif method == "clusters":
        indices, kept = _cluster_medoids(distances, durations, max_frames)
    else:
        goal = max(INVISIBLE_ERROR, tolerance * single) * durations.sum()
        edges = _best_segments(costs, min(max_frames, len(durations)), goal)
        indices = medoids[edges[:-1], edges[1:] - 1]
        kept = np.add.reduceat(durations, edges[:-1])
    return KeyFrames(indices, kept, float(np.sqrt(single)))


def clip_motion(features: np.ndarray, durations_ms: Sequence[int] | np.ndarray) -> float:
    """`KeyFrames.motion` of float features [N, ...], one row a frame."""
    distances = _pairwise_distances(np.asarray(features, np.float64).reshape(len(features), -1))
    return float(np.sqrt(_single_frame_error(distances, np.asarray(durations_ms, np.int64))))


def _single_frame_error(distances: np.ndarray, durations: np.ndarray) -> float:
    """Mean over time of the squared distance from the best single frame."""
    return float((distances @ durations).min() / durations.sum())


def _check(
    features: np.ndarray, durations_ms: Sequence[int] | np.ndarray, max_frames: int, method: str
) -> np.ndarray:
    durations = np.asarray(durations_ms, dtype=np.int64)
    if method not in METHODS:
        raise ConfigError(f"key frame method {method!r} is unknown; use one of {METHODS}")
    if max_frames < 1:
        raise ConfigError(f"max_frames is {max_frames}; it must be at least 1")
    if len(durations) == 0 or len(durations) != len(features) or durations.min() < 1:
        raise ConfigError(
            f"{len(features)} frames and {len(durations)} durations; "
            "a clip needs at least one frame, each shown for at least 1 ms"
        )
    return durations


def _pairwise_distances(rows: np.ndarray) -> np.ndarray:
    """Mean squared distance of each pair of rows, float64 [N,N]."""
    norms = np.einsum("nd,nd->n", rows, rows)
    squared = norms[:, None] + norms[None] - 2 * (rows @ rows.T)
    np.fill_diagonal(squared, 0)
    return np.maximum(squared, 0) / rows.shape[1]


def _segment_costs(distances: np.ndarray, durations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cost and medoid of each segment first..last (both included): [N,N], [N,N].

    Unused entries (last < first) stay infinite.
    """
    count = len(durations)
    # prefix[t, m]: cost of showing frame m during the frames before t.
    prefix = np.zeros((count + 1, count))
    np.cumsum(durations[:, None] * distances, axis=0, out=prefix[1:])
    costs = np.full((count, count), np.inf)
    medoids = np.zeros((count, count), dtype=np.int64)
    inside = np.tri(count, dtype=bool)
    for first in range(count):
        shown = prefix[first + 1 :, first:] - prefix[first, first:]
        shown = np.where(inside[: count - first, : count - first], shown, np.inf)
        best = shown.argmin(axis=1)
        medoids[first, first:] = first + best
        costs[first, first:] = np.take_along_axis(shown, best[:, None], axis=1)[:, 0]
    return costs, medoids


def _best_segments(costs: np.ndarray, max_segments: int, goal: float) -> np.ndarray:
    """Edges 0 = e0 < e1 < ... < eK = N of the fewest segments that cost at most `goal`.

    best[j] is the cost of the frames before j in exactly k segments. One more segment never costs
    more: a frame split off the end of a segment costs nothing on its own.
    """
    count = len(costs)
    best = np.concatenate([[0.0], costs[0]])
    best[0] = np.inf
    cuts: list[np.ndarray] = []
    while best[count] > goal and len(cuts) + 1 < max_segments:
        total = best[:count, None] + costs  # [start of the last segment, its last frame]
        start = total.argmin(axis=0)
        cuts.append(start)
        best = np.concatenate([[np.inf], total[start, np.arange(count)]])
    edges = [count]
    for start in reversed(cuts):
        edges.append(int(start[edges[-1] - 1]))
    return np.array([0, *reversed(edges)])


def _equal_spacing(durations: np.ndarray, max_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut the time into equal parts and show what is on screen in the middle of each."""
    if len(durations) <= max_frames:
        return np.arange(len(durations)), durations
    total = int(durations.sum())
    parts = min(max_frames, total)
    edges_ms = np.arange(parts + 1) * total // parts
    middle_ms = (edges_ms[:-1] + edges_ms[1:]) / 2
    indices = np.searchsorted(np.cumsum(durations), middle_ms, side="right")
    first = np.flatnonzero(np.diff(indices, prepend=-1))  # a long frame may be on screen twice
    return indices[first], np.add.reduceat(np.diff(edges_ms), first)


def _cluster_medoids(
    distances: np.ndarray, durations: np.ndarray, max_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """One frame of each cluster of alike frames, wherever they are in time; each is shown until
    half way to the next one.

    k-medoids on the squared distances: what k-means does, but for centres that are frames.
    """
    chosen = [int((distances @ durations).argmin())]
    while len(chosen) < min(max_frames, len(durations)):  # the farthest one, again and again
        nearest = distances[:, chosen].min(axis=1)
        if nearest.max() <= INVISIBLE_ERROR:
            break
        chosen.append(int(nearest.argmax()))
    medoids = np.sort(chosen)
    for _ in range(_MAX_ROUNDS):
        labels = distances[:, medoids].argmin(axis=1)
        inside = [np.flatnonzero(labels == label) for label in range(len(medoids))]
        costs = [distances[np.ix_(own, own)] @ durations[own] for own in inside]
        moved = np.sort([own[cost.argmin()] for own, cost in zip(inside, costs, strict=True)])
        if np.array_equal(moved, medoids):
            break
        medoids = moved
    cuts = (medoids[:-1] + medoids[1:] + 1) // 2
    return medoids, np.add.reduceat(durations, np.concatenate([[0], cuts]))


_MAX_ROUNDS = 50  # of k-medoids; a few are enough nearly always
