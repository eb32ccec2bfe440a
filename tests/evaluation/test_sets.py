"""The set distance: unbiased, blind to what was given, and awake to what people would notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.stats import spearmanr

from rdtf.errors import ConfigError, DataError
from rdtf.evaluation.sets import (
    FeatureScale,
    WordClassifier,
    _polynomial_kernel,
    clip_features,
    clip_maps,
    nearest_distances,
    pair_terms,
    set_distance,
)
from rdtf.stickers import Sticker
from rdtf.synthetic.characters import SyntheticStickers

CANVAS, COUNT = 40, 44
Change = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def draw(first: int, count: int) -> list[Sticker]:
    """Synthetic stickers of 6 to 8 frames, from number `first` on."""
    drawn = SyntheticStickers(seed=5, canvas=CANVAS, max_frames=8)
    chosen = (i for i in range(first, first + 100 * count) if drawn.describe(i).num_frames >= 6)
    return [drawn[next(chosen)] for _ in range(count)]


def features(clips: Sequence[Sticker]) -> np.ndarray:
    return np.stack([clip_features(clip_maps(clip)) for clip in clips])


@pytest.fixture(scope="module")
def clips() -> list[Sticker]:
    return draw(0, COUNT)


@pytest.fixture(scope="module")
def scale() -> FeatureScale:
    return FeatureScale.of(features(draw(4000, COUNT)))


# --------------------------------------------------------------------------- estimator


def test_it_is_zero_on_the_average_for_equal_distributions():
    """Also for few clips, where a Fréchet distance would be far from it."""
    generator = np.random.default_rng(0)
    for count in (6, 24):
        values = [
            float(set_distance(pair_terms(*generator.normal(size=(2, count, 40)))))
            for _ in range(600)
        ]
        assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
        assert min(values) < 0 < max(values)


def test_pairs_that_belong_together_do_not_flatter():
    """Results that share half of their features with their true clips, but not the distribution.

    The mean over many draws is that of independent sets: what a plain estimator, which compares
    each clip with its own counterpart too, would understate.
    """
    generator = np.random.default_rng(1)
    count, values, plain, apart = 5, [], [], []
    for _ in range(1500):
        truth, other = generator.normal(size=(2, count, 20))
        made = truth.copy()
        made[:, :10] += 0.7
        values.append(float(set_distance(pair_terms(made, truth))))
        apart.append(float(set_distance(pair_terms(made, other))))
        cross = _polynomial_kernel(made, truth)
        off = ~np.eye(count, dtype=bool)
        same = (
            _polynomial_kernel(made, made)[off].mean()
            + _polynomial_kernel(truth, truth)[off].mean()
        )
        plain.append(same - 2 * cross.mean())
    error = 3 * np.std(apart) / np.sqrt(len(apart))
    assert np.mean(values) == pytest.approx(np.mean(apart), abs=error)
    assert np.mean(plain) < np.mean(values) - error


def test_it_is_the_mean_over_pairs():
    made, truth = np.random.default_rng(2).normal(size=(2, 4, 7))
    k = _polynomial_kernel
    expected = [
        (k(made, made) + k(truth, truth) - k(made, truth) - k(truth, made))[i, j]
        for i in range(4)
        for j in range(4)
        if i != j
    ]
    terms = pair_terms(made, truth)
    assert float(set_distance(terms)) == pytest.approx(np.mean(expected))
    assert not np.diag(terms).any()


def test_weights_count_clips_but_never_a_clip_with_itself():
    terms = pair_terms(*np.random.default_rng(3).normal(size=(2, 4, 7)))
    counts = np.array([2, 0, 1, 1])
    rows = np.repeat(np.arange(4), counts)
    pairs = [(i, j) for i in rows for j in rows if i != j]
    expected = np.mean([terms[i, j] for i, j in pairs])
    found = set_distance(terms, np.stack([counts, np.ones(4), [4, 0, 0, 0]]))
    assert found[0] == pytest.approx(expected)
    assert found[1] == pytest.approx(float(set_distance(terms)))
    assert np.isnan(found[2])  # one clip four times: there is no pair


def test_sets_that_can_not_be_compared_are_refused():
    with pytest.raises(ConfigError, match="can't be compared"):
        pair_terms(np.zeros((3, 4)), np.zeros((2, 4)))
    with pytest.raises(ConfigError, match="two or more"):
        pair_terms(np.zeros((1, 4)), np.zeros((1, 4)))
    with pytest.raises(ConfigError, match="has no spread"):
        FeatureScale.of(np.zeros((1, 4)))


def test_nearest_distances():
    reference = np.random.default_rng(4).normal(size=(5, 3))
    queries = np.concatenate([reference[[2]], reference[[4]] + 10])
    expected = [min(np.linalg.norm(q - r) for r in reference) for q in queries]
    np.testing.assert_allclose(nearest_distances(queries, reference), expected, atol=1e-6)


# ---------------------------------------------------------------------------- features


def test_features_are_of_hidden_frames_and_their_steps(clips):
    """A given frame counts only where the clip moves from it to a hidden one, or two steps on."""
    clip = clips[0]
    blank = np.zeros_like(clip.frames[0])
    known = [0, 1, 2]

    def changed(index: int) -> bool:
        frames = clip.frames.copy()
        frames[index] = blank
        before = clip_features(clip_maps(clip), known)
        return not np.allclose(before, clip_features(clip_maps(clip.replace(frames=frames)), known))

    assert not changed(0)
    assert changed(2) and changed(3)


@pytest.mark.parametrize("frames", [2, 3])
def test_short_clips_have_features_too(clips, frames):
    vector = clip_features(clip_maps(clips[0].select(range(frames))), [0])
    assert np.isfinite(vector).all() and vector.shape == features(clips[:1])[0].shape


def test_a_feature_that_hardly_varies_does_not_blow_up(clips, scale):
    assert np.abs(scale(features(clips))).max() <= 3
    assert np.isfinite(scale(np.full_like(features(clips[:1]), 1e6))).all()


# -------------------------------------------------------------- what it answers to, and how


def blur(x: np.ndarray, strength: float, _: np.random.Generator) -> np.ndarray:
    return gaussian_filter(x, (0, strength, strength, 0))


def noise(x: np.ndarray, strength: float, draws: np.random.Generator) -> np.ndarray:
    return np.clip(x + strength * draws.standard_normal(x.shape) * x[..., 3:], 0, 1)


def wash_out(x: np.ndarray, strength: float, _: np.random.Generator) -> np.ndarray:
    grey = x.copy()
    grey[..., :3] += strength * (x[..., :3].mean(axis=-1, keepdims=True) - x[..., :3])
    return grey


def tint(x: np.ndarray, strength: float, _: np.random.Generator) -> np.ndarray:
    return x * np.array([1, 1, 1 - strength, 1])


def freeze(x: np.ndarray, strength: float, _: np.random.Generator) -> np.ndarray:
    return (1 - strength) * x + strength * x[:1]


def shuffle(x: np.ndarray, strength: float, draws: np.random.Generator) -> np.ndarray:
    """So many times, on the average, two frames change places."""
    order = np.arange(len(x))
    for _ in range(int(strength + draws.random())):
        i, j = draws.choice(len(x), 2, replace=False)
        order[[i, j]] = order[[j, i]]
    return x[order]


def warp(x: np.ndarray, strength: float, draws: np.random.Generator, moving: bool) -> np.ndarray:
    """A smooth distortion, the same for all frames or another for each."""
    out = np.empty_like(x)
    for t in range(len(x)):
        if t == 0 or moving:
            field = draws.standard_normal((2, *x.shape[1:3]))
            field = strength * 10 * gaussian_filter(field, (0, 4, 4))
        places = np.indices(x.shape[1:3]) + field
        for channel in range(4):
            out[t, ..., channel] = map_coordinates(x[t, ..., channel], places, order=1)
    return out


def held_warp(x: np.ndarray, strength: float, draws: np.random.Generator) -> np.ndarray:
    return warp(x, strength, draws, moving=False)


def jittering_warp(x: np.ndarray, strength: float, draws: np.random.Generator) -> np.ndarray:
    return warp(x, strength, draws, moving=True)


def corrupted(clips: Sequence[Sticker], change: Change, strength: float) -> list[Sticker]:
    return [
        Sticker.from_premultiplied(
            change(clip.premultiplied(), strength, np.random.default_rng(row)), clip.durations_ms
        )
        for row, clip in enumerate(clips)
    ]


def distances(clips: list[Sticker], scale: FeatureScale, change: Change, strengths: list[float]):
    truth = scale(features(clips))
    made = (scale(features(corrupted(clips, change, strength))) for strength in strengths)
    return [float(set_distance(pair_terms(rows, truth))) for rows in made]


@pytest.mark.parametrize(
    ("change", "strengths"),
    [
        (blur, [0.4, 0.8, 1.2, 1.8, 2.5]),
        (noise, [0.02, 0.05, 0.1, 0.2, 0.3]),
        (wash_out, [0.1, 0.25, 0.45, 0.7, 1]),
        (tint, [0.05, 0.1, 0.2, 0.35, 0.5]),
        (freeze, [0.2, 0.4, 0.6, 0.8, 1]),
        (shuffle, [0.1, 0.25, 0.5, 1, 2]),
        (jittering_warp, [0.5, 1, 1.5, 2, 3]),
    ],
)
def test_it_grows_with_what_is_wrong(clips, scale, change, strengths):
    found = distances(clips, scale, change, strengths)
    assert spearmanr(strengths, found)[0] >= 0.9
    assert found[-1] > 0.1


def test_it_minds_distortion_over_time_more_than_in_space(clips, scale):
    """FVD fails here: the same spatial distortion, held still or changing from frame to frame."""
    strengths = [1.0, 2.0]
    held = distances(clips, scale, held_warp, strengths)
    moving = distances(clips, scale, jittering_warp, strengths)
    assert all(m > 3 * max(h, 0.01) for m, h in zip(moving, held, strict=True))


def test_it_notices_a_set_that_repeats_a_few_clips(clips, scale):
    truth = scale(features(clips))
    found = [float(set_distance(pair_terms(truth[np.arange(COUNT) % n], truth))) for n in (2, 6)]
    assert found[0] > found[1] > 0.5


def test_motion_features_do_not_see_how_still_frames_look(clips):
    """Another colour all along is another look and the same motion, but for its contrast."""
    still = clips[0].select([0, 0, 0, 0])
    other = clips[1].select([0, 0, 0, 0])
    looks = [clip_features(clip_maps(clip)) for clip in (still, other)]
    motion = [clip_features(clip_maps(clip), motion_only=True) for clip in (still, other)]
    assert np.abs(looks[0] - looks[1]).max() > 0.1
    assert not motion[0].any() and not motion[1].any()
    moving = clip_features(clip_maps(clips[0]), motion_only=True)
    assert moving.any() and len(moving) < len(looks[0])
    np.testing.assert_array_equal(np.setdiff1d(moving, clip_features(clip_maps(clips[0]))), [])


# -------------------------------------------------------------------------------- words


def test_the_classifier_tells_the_words_of_captions(scale):
    """Of clips that it has not seen: far above chance with their own captions, else at chance."""
    train, test = draw(2000, 150), draw(0, 30)
    classifier = WordClassifier.of(scale(features(train)), [clip.captions for clip in train])
    rows, captions = scale(features(test)), [clip.captions for clip in test]
    own = classifier.agreement(rows, captions)
    others = classifier.agreement(rows, captions[15:] + captions[:15])
    assert np.nanmean(own) > 0.75 and abs(np.nanmean(others) - 0.5) < 0.12
    assert np.nanmin(own) >= 0 and np.nanmax(own) <= 1
    unknown = classifier.agreement(rows, [("qqq",), *captions[1:]])
    assert np.isnan(unknown[0]) and np.isfinite(unknown[1:]).any()
    same = classifier.agreement(rows, [captions[0]] * len(rows))
    assert np.isnan(same).all()  # no other caption to prefer
    with pytest.raises(DataError, match="share no words"):
        WordClassifier.of(rows, [()] * len(rows))
