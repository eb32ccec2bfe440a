"""Near duplicates: one picture or clip in many files.

A mirrored, reversed, re-timed, re-encoded or scaled copy counts as a duplicate, a recolour does
not. A clip is known by a fingerprint of fixed size: the mean of its frames along the path that they
take through the space of pictures, and how far they stray from it. Neither depends on how long a
frame is shown, on the direction of time, or (in loops) on the frame that comes first.

Fingerprints that are to be compared are found by locality-sensitive hashing (Datar et al., 2004):
in each of `_NUM_TABLES` tables the key of a fingerprint is made of random projections of its coarse
picture in steps, so that copies share at least one key nearly for sure. Keys are of the part of a
picture that is symmetric from left to right, so that mirrored copies share them too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rdtf.data.filters import thumbnails

_FINE, _COARSE = 16, 8
_LUMA = slice(0, 256)  # 16 x 16
_CHROMA = slice(256, 384)  # 2 x 8 x 8
_ALPHA = slice(384, 448)  # 8 x 8
_SPREAD = slice(448, 512)  # 8 x 8
_ASPECT = 512
FINGERPRINT_BYTES = 513

_NOISE = 1 / 64  # change between frames, root mean square, that may come of compression alone


def fingerprint(frames: np.ndarray, small: np.ndarray | None = None) -> bytes:
    """What a clip looks like, in `FINGERPRINT_BYTES` bytes.

    Args:
        frames: straight RGBA uint8 [F,H,W,4].
        small: `rdtf.data.filters.thumbnails` of them, if they are made already.
    """
    small = thumbnails(frames) if small is None else small
    pictures = small.copy()
    pictures[..., :3] += 1 - small[..., 3:]  # over white
    pictures = _halved(pictures)
    weights = _path_weights(pictures.reshape(len(pictures), -1))
    mean = np.tensordot(weights, pictures, 1)
    luma = pictures[..., :3] @ _LUMA_WEIGHTS
    variance = np.tensordot(weights, (luma - np.tensordot(weights, luma, 1)) ** 2, 1)
    mean_luma = mean[..., :3] @ _LUMA_WEIGHTS
    chroma = [0.5 + 0.75 * (mean[..., channel] - mean_luma) for channel in (0, 2)]
    parts = [
        mean_luma,
        *(_means(plane) for plane in chroma),
        _means(mean[..., 3]),
        np.minimum(2 * np.sqrt(_means(variance)), 1),
    ]
    flat = np.concatenate([part.reshape(-1) for part in parts])
    aspect = 128 + 32 * np.log2(frames.shape[2] / frames.shape[1])
    return np.rint(np.append(flat * 255, aspect)).clip(0, 255).astype(np.uint8).tobytes()


_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


def _halved(pictures: np.ndarray) -> np.ndarray:
    """[F,32,32,C] -> [F,16,16,C] by a tent filter, which minds little where its pixels begin."""
    for axis in (1, 2):
        pictures = np.moveaxis(pictures, axis, 0)
        even, odd = pictures[::2], pictures[1::2]
        before = np.concatenate([even[:1], odd[:-1]])
        after = np.concatenate([even[1:], odd[-1:]])
        pictures = np.moveaxis((before + 3 * even + 3 * odd + after) / 8, 0, axis)
    return pictures


def _path_weights(rows: np.ndarray) -> np.ndarray:
    """Share of each frame, float32 [F], of the closed path from frame to frame through [F,D]."""
    change = np.sqrt(((rows - np.roll(rows, -1, axis=0)) ** 2).mean(axis=1))
    length = np.maximum(change - _NOISE, 0) + 1e-6
    weights = length + np.roll(length, 1)
    return (weights / weights.sum()).astype(np.float32)


def _means(plane: np.ndarray) -> np.ndarray:
    """[16,16] -> [8,8]."""
    return plane.reshape(_COARSE, 2, _COARSE, 2).mean(axis=(1, 3))


# ------------------------------------------------------------------------- comparison


def _planes(prints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """uint8 [N, FINGERPRINT_BYTES] -> luma [N,16,16], chroma [N,2,8,8], alpha, spread [N,8,8]."""
    values = prints[:, :_ASPECT].astype(np.float32)
    side = (len(prints), _COARSE, _COARSE)
    return (
        values[:, _LUMA].reshape(-1, _FINE, _FINE),
        values[:, _CHROMA].reshape(-1, 2, _COARSE, _COARSE),
        values[:, _ALPHA].reshape(side),
        values[:, _SPREAD].reshape(side),
    )


# Differences, in 1/255, that copies may have; measured on known edits. Those of single cells grow
# with the spread there: where things move, another choice of frames shows them elsewhere.
_MAX_LUMA, _LUMA_PER_SPREAD = 16.0, 0.3
_MAX_SPREAD, _SPREAD_PER_SPREAD = 4.0, 0.5
_MEAN_SHARE = 0.2  # root mean square of the luma's differences in units of what is allowed
_MAX_CHROMA, _MAX_CHROMA_BLOCK, _MEAN_CHROMA = 14.0, 8.0, 2.5
_MEAN_ALPHA = 8.0
_MAX_ASPECT = 6  # of 32 steps for twice as wide
_OPAQUE, _CONTRAST = 250.0, 6.0


def are_copies(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether each two of uint8 [N, FINGERPRINT_BYTES] are copies of one clip, bool [N]."""
    rows = np.flatnonzero(_may_match(first, second))
    ours, theirs = _planes(first[rows]), _planes(second[rows])
    mirrored = tuple(plane[..., ::-1] for plane in theirs)
    found = np.zeros(len(first), bool)
    found[rows] = _match(ours, theirs) | _match(ours, mirrored)
    return found


def _may_match(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """False where mean luma or aspect alone tells two apart, which is quick to see."""
    luma = first[:, _LUMA].astype(np.int16).reshape(-1, _FINE, _FINE)
    other = second[:, _LUMA].astype(np.int16).reshape(-1, _FINE, _FINE)
    straight = np.abs(luma - other).sum(axis=(1, 2))
    mirrored = np.abs(luma - other[..., ::-1]).sum(axis=(1, 2))
    most = _MAX_LUMA + _LUMA_PER_SPREAD * first[:, _SPREAD].max(axis=1)
    aspects = first[:, _ASPECT].astype(np.int16) - second[:, _ASPECT]
    close = np.minimum(straight, mirrored) <= _MEAN_SHARE * most * _FINE**2
    return close & (np.abs(aspects) <= _MAX_ASPECT)


_Planes = tuple[np.ndarray, ...]


def _match(ours: _Planes, theirs: _Planes) -> np.ndarray:
    luma, chroma, alpha, spread = (a - b for a, b in zip(ours, theirs, strict=True))
    least = np.minimum(ours[3], theirs[3])
    moving = least.repeat(2, axis=1).repeat(2, axis=2)
    luma = np.abs(luma) / (_MAX_LUMA + _LUMA_PER_SPREAD * moving)
    spread = np.abs(spread) / (_MAX_SPREAD + _SPREAD_PER_SPREAD * least)
    chroma = (chroma**2).sum(axis=1)
    blocks = chroma.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))
    # A copy without alpha is the picture on white, which says all where there is a picture on it.
    flattened = (ours[2].min(axis=(1, 2)) > _OPAQUE) | (theirs[2].min(axis=(1, 2)) > _OPAQUE)
    flattened &= ours[0].std(axis=(1, 2)) > _CONTRAST
    return (
        (luma.max(axis=(1, 2)) <= 1)
        & ((luma**2).mean(axis=(1, 2)) <= _MEAN_SHARE**2)
        & (spread.max(axis=(1, 2)) <= 1)
        & (chroma.max(axis=(1, 2)) <= _MAX_CHROMA**2)
        & (blocks.max(axis=(1, 2)) <= _MAX_CHROMA_BLOCK**2)
        & (chroma.mean(axis=(1, 2)) <= 2 * _MEAN_CHROMA**2)
        & (flattened | ((alpha**2).mean(axis=(1, 2)) <= _MEAN_ALPHA**2))
    )


# ------------------------------------------------------------------------- search

_NUM_TABLES, _NUM_PROJECTIONS = 12, 10
# Distances of coarse pictures, in 1/255: copies are 3 apart, 98 % of them at most 9 (measured on
# known edits), and 99.9 % of distinct stickers at least 27.
_STEP_WIDTH, _MAX_COARSE = 60.0, 16.0
_WINDOW = 16  # neighbours in the order of a table that a fingerprint is compared with
_CHUNK = 1 << 14


def clusters(fingerprints: Sequence[bytes] | np.ndarray) -> list[int]:
    """The index of the first fingerprint of each one's cluster; its own where there is no copy.

    Every member of a cluster is a copy of its first one (in piles of more than `_WINDOW` copies, of
    a copy of it). A million fingerprints take minutes.

    Args:
        fingerprints: from `fingerprint`, or the same as uint8 [N, FINGERPRINT_BYTES], which need
            not be in memory (a `numpy.memmap`).
    """
    prints = _as_rows(fingerprints)
    first_of = np.arange(len(prints))
    active = first_of
    while len(active) > 1:
        pairs, crowded = _copies(prints, active)
        first_of = _assign(first_of, pairs)[first_of]
        firsts = crowded[first_of[crowded] == crowded]
        if not len(pairs) or len(firsts) == len(active):
            break
        active = firsts
    return first_of.tolist()


def _as_rows(fingerprints: Sequence[bytes] | np.ndarray) -> np.ndarray:
    if isinstance(fingerprints, np.ndarray):
        return fingerprints
    joined = b"".join(fingerprints)
    return np.frombuffer(joined, np.uint8).reshape(-1, FINGERPRINT_BYTES)


def _copies(prints: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of copies (lower index first), int64 [P,2], and the fingerprints of crowded keys.

    A key is crowded where more than `_WINDOW` fingerprints share it: not all of them are compared.
    """
    keys, coarse = _keys(prints, active)
    tested, copies = np.empty(0, np.int64), [np.empty((0, 2), np.int64)]
    crowded = np.zeros(len(active), bool)
    for table in keys:
        order = np.argsort(table)
        same = table[order] >> np.uint64(16)
        crowded[order[_WINDOW:][same[_WINDOW:] == same[:-_WINDOW]]] = True
        fresh = _different(np.concatenate([*_codes(order, same, coarse)]))
        fresh = fresh[~_contains(tested, fresh)]
        tested = np.sort(np.concatenate([tested, fresh]))
        for start in range(0, len(fresh), _CHUNK):
            lower, higher = np.divmod(fresh[start : start + _CHUNK], len(active))
            pairs = active[np.stack([lower, higher], axis=1)]
            copies.append(pairs[are_copies(prints[pairs[:, 0]], prints[pairs[:, 1]])])
    return np.concatenate(copies), active[crowded]


def _codes(order: np.ndarray, same: np.ndarray, coarse: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs near in the order of a table that share a key and look alike, as lower * N + higher."""
    for step in range(1, _WINDOW + 1):
        for start in range(0, len(order) - step, 16 * _CHUNK):
            chunk = slice(start, min(start + 16 * _CHUNK, len(order) - step))
            ahead = slice(chunk.start + step, chunk.stop + step)
            at = np.flatnonzero(same[chunk] == same[ahead])
            first, second = order[chunk][at], order[ahead][at]
            alike = ((coarse[first] - coarse[second]) ** 2).sum(axis=1) <= _MAX_COARSE**2
            first, second = first[alike], second[alike]
            yield np.minimum(first, second) * len(order) + np.maximum(first, second)


def _different(values: np.ndarray) -> np.ndarray:
    """The different ones of `values`, sorted."""
    ordered = np.sort(values)
    return ordered[np.diff(ordered, prepend=-1) > 0]


def _contains(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which of `values` are in `ordered`, bool of the length of `values`."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return ordered[places] == values


def _keys(prints: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of every table, uint64 [T,N], and the coarse pictures, float32 [N,D].

    The upper 48 bits of a key are its bucket; the lower ones only bring neighbours together.
    """
    coarse = np.concatenate(
        [
            _coarse(np.asarray(prints[active[start : start + _CHUNK]]))
            for start in range(0, len(active), _CHUNK)
        ]
    )
    draws = np.random.default_rng(0)
    keys = np.empty((_NUM_TABLES, len(active)), np.uint64)
    for table in range(_NUM_TABLES):
        directions = draws.standard_normal((coarse.shape[1], _NUM_PROJECTIONS + 1))
        shifts = draws.uniform(0, 1, _NUM_PROJECTIONS + 1)
        factors = draws.integers(1, 2**62, _NUM_PROJECTIONS, dtype=np.uint64) | np.uint64(1)
        steps = coarse @ (directions / _STEP_WIDTH).astype(np.float32) + shifts
        buckets = np.floor(steps[:, :-1]).astype(np.int64).astype(np.uint64) @ factors
        within = np.clip(steps[:, -1] * 1024 + 2**15, 0, 2**16 - 1).astype(np.uint64)
        keys[table] = (buckets >> np.uint64(16) << np.uint64(16)) | within
    return keys, coarse


def _coarse(prints: np.ndarray) -> np.ndarray:
    """float32 [N,14]: what is left of a picture in few numbers, and in a mirrored one alike."""
    luma, chroma, _, spread = _planes(prints)
    parts = [_folded(luma, 4, 2), 2 * _folded(chroma, 2, 1), _folded(spread, 2, 1)]
    return np.concatenate([part.reshape(len(prints), -1) for part in parts], axis=1)


def _folded(planes: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Means of the left half of [..., S, S] folded onto the right one, [..., rows, columns]."""
    size = planes.shape[-1]
    half = (planes + planes[..., ::-1])[..., : size // 2] / 2
    shape = (*planes.shape[:-2], rows, size // rows, columns, size // 2 // columns)
    return half.reshape(shape).mean(axis=(-3, -1))


def _assign(first_of: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """`first_of` with the larger of each pair given to the smaller, in order of index.

    One that is given away takes no other: all of a cluster are copies of its first.
    """
    first_of = first_of.copy()
    while len(pairs):
        lower, higher = pairs.T
        waits = np.zeros(len(first_of), bool)
        waits[higher] = True
        firsts = ~waits[lower]  # no smaller copy is undecided: it is the first of a cluster
        np.minimum.at(given := np.full(len(first_of), len(first_of)), higher[firsts], lower[firsts])
        taken = given < len(first_of)
        first_of[taken] = given[taken]
        decided = taken.copy()
        decided[lower[firsts]] = True
        pairs = pairs[~decided[lower] & ~decided[higher]]
    return first_of
