from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter

from rdtf.evaluation.metrics import (
    _MAX_DISTANCE_PERCENT,
    _chamfer_distance,
    _line_mask,
    line_distance,
    on_white,
    psnr,
)

from .drawings import ball, sticker

masks = arrays(bool, (12, 17), elements=st.booleans())


def picture(*frames: np.ndarray) -> np.ndarray:
    return on_white(sticker(list(frames)))


def test_lines_of_a_ball_are_its_outline():
    mask = _line_mask(picture(ball(32, 32))[0])
    rows, columns = np.nonzero(mask)
    distance = np.hypot(columns + 0.5 - 32, rows + 0.5 - 32)
    assert mask.sum() > 100
    assert distance.min() > 7 and distance.max() < 14
    assert not _line_mask(np.ones((20, 30, 3))).any()


def test_borders_of_flat_colours_are_lines():
    """Equally bright red and green: only the colour channels see the border."""
    image = np.zeros((32, 32, 3))
    image[:, :16, 0] = image[:, 16:, 1] = 0.8
    columns = np.nonzero(_line_mask(image))[1]
    assert columns.size and set(columns) <= set(range(11, 21))


def test_two_parallel_lines_are_as_far_as_they_are():
    a, b = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    a[:, 10] = b[:, 13] = True
    assert np.isclose(_chamfer_distance(a, b), 3 / 50 * 100)


def test_empty_drawings():
    empty, line = np.zeros((30, 40), bool), np.eye(30, 40, dtype=bool)
    assert _chamfer_distance(empty, empty) == 0
    assert _chamfer_distance(empty, line) == _chamfer_distance(line, empty) == _MAX_DISTANCE_PERCENT


@settings(max_examples=50, deadline=None)
@given(a=masks, b=masks)
def test_symmetric_bounded_and_zero_for_equal(a: np.ndarray, b: np.ndarray):
    assert _chamfer_distance(a, a) == 0
    assert 0 <= _chamfer_distance(a, b) <= _MAX_DISTANCE_PERCENT
    assert _chamfer_distance(a, b) == _chamfer_distance(b, a)


def test_grows_with_shift_and_noise():
    truth = picture(ball(24, 32))
    shifted = [line_distance(truth, picture(ball(24 + shift, 32))) for shift in (0, 1, 2, 4, 8)]
    assert shifted[0] == 0 and np.all(np.diff(shifted) > 0)

    noise = np.random.default_rng(0).normal(size=truth.shape)
    noisy = [line_distance(truth, np.clip(truth + s * noise, 0, 1)) for s in (0, 0.05, 0.1, 0.2)]
    assert noisy[0] == 0 and np.all(np.diff(noisy) > 0)


def test_a_vanishing_drawing_is_not_better_than_a_blurred_one():
    truth = picture(ball(24, 32))
    blurred = [gaussian_filter(truth, (0, s, s, 0), mode="nearest") for s in (0, 1, 2, 4, 16)]
    distances = [line_distance(truth, image) for image in blurred]
    assert distances[0] == 0 and np.all(np.diff(distances) >= 0)
    assert distances[-1] == _MAX_DISTANCE_PERCENT


def test_the_same_drawing_keeps_its_distance_at_another_size():
    small = line_distance(picture(ball(24, 32)), picture(ball(28, 32)))
    large = line_distance(
        picture(ball(96, 128, 256, radius=48)), picture(ball(112, 128, 256, radius=48))
    )
    assert abs(large / small - 1) < 0.35


def test_prefers_a_sharp_drawing_nearby_over_a_double_exposure():
    """What the metric is for: PSNR chooses the ghost, the lines choose the drawing."""
    truth = picture(ball(32, 32))
    double_exposure = (picture(ball(22, 32)) + picture(ball(42, 32))) / 2
    sharp = picture(ball(36, 32))
    assert line_distance(truth, sharp) < line_distance(truth, double_exposure)

    # Thin lines that do not overlap: now PSNR even prefers the ghost.
    outline = np.ones((1, 64, 64, 3))
    outline[:, 16:48, [20, 44]] = 0
    moved = np.roll(outline, 2, axis=2)
    faint = (np.roll(outline, 6, axis=2) + np.roll(outline, -6, axis=2)) / 2
    assert psnr(outline, faint) > psnr(outline, moved)
    assert line_distance(outline, moved) < line_distance(outline, faint)
