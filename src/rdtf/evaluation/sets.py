"""How far a set of generated clips is from a set of true ones, without downloading anything.

Fréchet distances are mostly bias at the sample sizes of a CPU, and the bias depends on the model.
The squared maximum mean discrepancy with a polynomial kernel (as in KID and KVD) has an unbiased
estimator at any size; it can come out slightly negative.

**Features**: a convolutional network of three levels with fixed random weights,
never trained, on frames on white at 32×32 pixels. Of each level's maps: mean and spread (what the
frames look like), mean change from frame to frame and mean change of that change (how they move);
and on a grid of 4×4 cells, colour and change of colour (what is where). Each is divided by its
spread over a reference set of true clips, and limited. tests/evaluation/test_sets.py shows what the
distance answers to: blur, noise, washed-out and tinted colours, freezing, shuffling and jitter of
frames (far more than to the same distortion held still), and sets that repeat a few clips. It
hardly notices that some kinds of drawing are missing.

**Hidden frames only.** Looks are of the hidden frames, motion of the steps that touch one.

**Pairs.** A generated clip shares its given frames with the true clip that it was made from, so the
two sets are not independent. The estimator here never compares a clip with its own counterpart
(it is a U-statistic over pairs of *pairs*), which keeps it unbiased.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rdtf.errors import ConfigError, DataError
from rdtf.evaluation.metrics import on_white
from rdtf.evaluation.tasks import hidden_frames
from rdtf.randomness import Purpose, stream
from rdtf.stickers import Sticker

_SIDE = 32  # pixels that frames are reduced to
_WIDTHS = (24, 48, 64)
_KERNELS = (5, 3, 3)
_GRID = 4
_SEED = 0
_KERNEL_DEGREE = 3
_LIMIT = 3.0


# ------------------------------------------------------------------------------ features


@dataclass(frozen=True)
class _ClipMaps:
    """Feature maps of one clip: per level `[F, C, h, w]`, and its colours on a grid `[F, G]`."""

    levels: tuple[Tensor, ...]
    colours: Tensor

    @property
    def num_frames(self) -> int:
        return len(self.colours)


@torch.no_grad()
def clip_maps(sticker: Sticker) -> _ClipMaps:
    """The maps of all frames of a clip; what is made of them depends on which frames count."""
    frames = torch.from_numpy(on_white(sticker)).permute(0, 3, 1, 2)
    frames = F.interpolate(frames, size=(_SIDE, _SIDE), mode="area") * 2 - 1
    levels, h = [], frames
    for level, weight in enumerate(_weights()):
        h = F.conv2d(F.avg_pool2d(h, 2) if level else h, weight, padding=_KERNELS[level] // 2)
        h = F.relu(h)
        levels.append(h)
    colours = F.adaptive_avg_pool2d(frames, _GRID).flatten(1)
    return _ClipMaps(tuple(levels), colours)


@lru_cache(maxsize=1)
def _weights() -> tuple[Tensor, ...]:
    """Filters of each level, `[out, in, k, k]`; each has mean zero over space and unit power.

    Without a mean they answer to edges and colour contrasts, not to how bright a frame is.
    """
    weights, channels = [], 3
    for level, (width, kernel) in enumerate(zip(_WIDTHS, _KERNELS, strict=True)):
        draw = stream(_SEED, Purpose.VALIDATION, 1000, level)
        weight = draw.standard_normal((width, channels, kernel, kernel))
        weight -= weight.mean(axis=(2, 3), keepdims=True) * (level == 0)
        weight *= np.sqrt(2 / np.square(weight).sum(axis=(1, 2, 3), keepdims=True))
        weights.append(torch.from_numpy(weight.astype(np.float32)))
        channels = width
    return tuple(weights)


def clip_features(
    maps: _ClipMaps, known: Sequence[int] = (), *, motion_only: bool = False
) -> np.ndarray:
    """One vector for the frames of a clip that are not `known`, float32 `[D]`, any length.

    motion_only: of the steps and turns alone, for a distance that hardly sees how frames look.
    """
    frames = maps.num_frames
    hidden = hidden_frames(frames, known)
    touched = set(hidden)
    steps = [t for t in range(frames - 1) if t in touched or t + 1 in touched]
    turns = [t for t in range(frames - 2) if touched & {t, t + 1, t + 2}]
    parts = []
    for level in maps.levels:
        looks, change = level[hidden], level[1:] - level[:-1]
        if not motion_only:
            parts += [looks.mean(dim=(0, 2, 3)), looks.std(dim=(2, 3)).mean(dim=0)]
        parts += [_mean(change[steps].abs(), level), _mean(change.diff(dim=0)[turns].abs(), level)]
    change = maps.colours.diff(dim=0).abs()[steps]
    grid = change.mean(dim=0) if len(change) else torch.zeros(maps.colours.shape[1])
    parts += [grid] if motion_only else [maps.colours[hidden].mean(dim=0), grid]
    return torch.cat(parts).numpy().astype(np.float32)


def _mean(change: Tensor, level: Tensor) -> Tensor:
    """Mean over steps and places; zero for a clip that is too short to change."""
    return change.mean(dim=(0, 2, 3)) if len(change) else torch.zeros(level.shape[1])


@dataclass(frozen=True)
class FeatureScale:
    """Mean and spread of each feature over a reference set of true clips, `[D]` each."""

    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> FeatureScale:
        """From reference features `[N, D]`, N ≥ 2."""
        if len(features) < 2:
            raise ConfigError(f"a reference set of {len(features)} clips has no spread; give more")
        spread = features.std(axis=0)
        # What hardly varies among true clips must not blow up what a model gets slightly wrong.
        return cls(features.mean(axis=0), np.maximum(spread, 0.1 * np.median(spread) + 1e-6))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """In units of the spread, and softly limited to three of them.

        The kernel is cubic: without a limit a few odd clips rule the distance.
        """
        units = (features - self.mean).astype(np.float64) / self.spread
        return _LIMIT * np.tanh(units / _LIMIT)


# ------------------------------------------------------------------------------ distance


def _polynomial_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x·y / D + 1)³ of all rows: `[N, D]`, `[M, D]` → `[N, M]`."""
    return (x @ y.T / x.shape[1] + 1) ** _KERNEL_DEGREE


def pair_terms(generated: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """h(i, j) of the U-statistic, `[N, N]` with a diagonal of zeros.

    Args:
        generated, truth: scaled features `[N, D]`; row i of one belongs to row i of the other.
    """
    if generated.shape != truth.shape or len(generated) < 2:
        raise ConfigError(
            f"sets of {len(generated)} and {len(truth)} clips can't be compared; "
            "give two or more, each with its true clip"
        )
    cross = _polynomial_kernel(generated, truth)
    terms = _polynomial_kernel(generated, generated) + _polynomial_kernel(truth, truth)
    terms = terms - cross - cross.T
    np.fill_diagonal(terms, 0.0)
    return terms


def set_distance(terms: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Squared MMD from `pair_terms`, unbiased; 0 in expectation for equal distributions.

    Args:
        terms: `[N, N]`.
        weights: how often each clip is counted, `[..., N]` (a bootstrap); once each if None. A clip
            is not compared with a copy of itself.

    Returns:
        An array of the leading shape of `weights`.
    """
    counts = np.ones(len(terms)) if weights is None else np.asarray(weights, dtype=np.float64)
    pairs = counts.sum(axis=-1) ** 2 - np.square(counts).sum(axis=-1)
    sums = ((counts @ terms) * counts).sum(axis=-1)
    return np.where(pairs > 0, sums / np.maximum(pairs, 1e-12), np.nan)


def clip_shares(terms: np.ndarray) -> np.ndarray:
    """Each clip's part in `set_distance`, `[N]`: jackknife pseudo-values.

    Their mean is the distance, and their spread over sqrt(N) its standard error, so that a distance
    can be averaged, subtracted and resampled clip by clip like any other score.
    """
    total, count = float(terms.sum()), len(terms)
    if count < 3:
        return np.full(count, float(set_distance(terms)))
    without = (total - 2 * terms.sum(axis=1)) / ((count - 1) * (count - 2))
    return count * total / (count * (count - 1)) - (count - 1) * without


def nearest_distances(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distance of each row of `[N, D]` to the nearest row of `reference` `[M, D]`, `[N]`."""
    squares = np.square(features).sum(axis=1)[:, None] + np.square(reference).sum(axis=1)[None]
    nearest = (squares - 2 * features @ reference.T).min(axis=1)
    return np.sqrt(np.maximum(nearest, 0.0))


# ---------------------------------------------------------------------------------- text

_RIDGE = 0.3  # per training clip
_WORD_SHARE = (0.01, 0.5)  # of the training clips: rarer words can't be learned, others say nothing


@dataclass(frozen=True)
class WordClassifier:
    """Tells the words of a clip's caption from its features: ridge regression, trained here.

    words: word → column; mean, spread: of each column over the training clips; weights `[D, V]`.
    """

    words: dict[str, int]
    mean: np.ndarray
    spread: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, captions: Sequence[Sequence[str]]) -> WordClassifier:
        """From scaled features `[N, D]` of training clips and the captions of each.

        Raises:
            DataError: no word is said of enough clips and not of most.
        """
        said = [_words(texts) for texts in captions]
        counts = Counter(word for words in said for word in words)
        low, high = (share * len(said) for share in _WORD_SHARE)
        known = sorted(word for word, count in counts.items() if max(low, 3) <= count <= high)
        if not known:
            raise DataError(
                "the training clips' captions share no words; there is nothing to learn"
            )
        columns = {word: column for column, word in enumerate(known)}
        targets = _word_matrix(said, columns)
        mean = targets.mean(axis=0)
        spread = np.sqrt(mean * (1 - mean))
        system = features.T @ features + _RIDGE * len(features) * np.eye(features.shape[1])
        weights = np.linalg.solve(system, features.T @ ((targets - mean) / spread))
        return cls(columns, mean, spread, weights)

    def agreement(self, features: np.ndarray, captions: Sequence[Sequence[str]]) -> np.ndarray:
        """For each clip, the share of the others' captions that suit it less than its own, `[N]`.

        In [0, 1]; 0.5 is chance. NaN for a clip whose captions have no word that was learned.
        """
        said = [_words(texts) for texts in captions]
        rows = _word_matrix(said, self.words)
        targets = (rows - self.mean) / self.spread
        fit = _unit(features @ self.weights) @ _unit(targets).T
        own = np.diag(fit)[:, None]
        different = (rows[:, None] != rows[None]).any(axis=2)
        wins = (((own > fit) + 0.5 * (own == fit)) * different).sum(axis=1)
        compared = different.sum(axis=1)
        usable = rows.any(axis=1) & (compared > 0)
        return np.where(usable, wins / np.maximum(compared, 1), np.nan)


def _words(captions: Sequence[str]) -> set[str]:
    return {word for text in captions for word in re.findall(r"[^\W\d_]{3,}", text.lower())}


def _word_matrix(said: Sequence[set[str]], columns: dict[str, int]) -> np.ndarray:
    """`[N, V]`: 1 where a clip's captions have the word."""
    rows = np.zeros((len(said), len(columns)))
    for row, words in zip(rows, said, strict=True):
        row[[columns[word] for word in words if word in columns]] = 1
    return rows


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
