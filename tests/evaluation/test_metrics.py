from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter

from rdtf.errors import ConfigError
from rdtf.evaluation.metrics import (
    _MAX_PSNR_DB,
    METRICS,
    _given_frame_error,
    _still_pixels,
    colour_drift,
    motion_magnitude,
    motion_ratio,
    on_white,
    psnr,
    score_hidden,
    ssim,
)

from .drawings import ball, moving_ball, scene, sticker

KNOWN = (0, 2, 4, 6)
pictures = arrays(
    np.float32, (2, 9, 13, 3), elements=st.floats(0, 1, width=32, allow_subnormal=False)
)


def test_the_truth_scores_perfectly():
    truth = scene()
    scores = score_hidden(truth, truth, KNOWN)
    assert set(scores) == set(METRICS)
    perfect = {"psnr": _MAX_PSNR_DB, "ssim": 1.0, "motion_ratio": 1.0}
    zeros = ("line_distance", "alpha_mae", "colour_drift", "given_error")
    for metric, value in {**perfect, **dict.fromkeys(zeros, 0.0)}.items():
        assert scores[metric] == pytest.approx(value, abs=1e-6), metric


def test_a_frozen_clip_has_no_motion():
    truth = moving_ball()
    frozen = truth.replace(frames=truth.frames[[0] * 8])
    scores = score_hidden(truth, frozen, [0])
    assert scores["motion_ratio"] == 0
    assert scores["psnr"] < 30 and scores["line_distance"] > 1


def test_scores_get_worse_with_shift_blur_and_noise():
    truth = on_white(sticker([ball(28, 32)]))
    noise = np.random.default_rng(0).normal(size=truth.shape)
    ladders = [
        [on_white(sticker([ball(28 + shift, 32)])) for shift in (0, 1, 2, 4, 8)],
        [gaussian_filter(truth, (0, sigma, sigma, 0)) for sigma in (0, 0.5, 1, 2, 4)],
        [np.clip(truth + strength * noise, 0, 1) for strength in (0, 0.02, 0.05, 0.1, 0.3)],
    ]
    for ladder in ladders:
        for metric in (psnr, ssim):
            assert np.all(np.diff([metric(truth, image) for image in ladder]) < 0)


def test_psnr_of_a_known_error():
    truth = np.zeros((2, 8, 8, 3), np.float32)
    assert psnr(truth, truth + 0.1) == pytest.approx(20.0, abs=1e-4)


def test_psnr_pools_frames_so_that_repeated_ones_do_not_rule():
    truth = np.zeros((2, 8, 8, 3))
    result = truth.copy()
    result[0] = 0.1
    assert psnr(truth, result) == pytest.approx(20 + 10 * math.log10(2), abs=1e-6)


def test_ssim_agrees_with_the_definition_window_by_window():
    random = np.random.default_rng(1)
    x, y = random.random((1, 13, 12, 1)), random.random((1, 13, 12, 1))
    profile = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(profile, profile) / np.outer(profile, profile).sum()
    values = []
    for top in range(3):
        for left in range(2):
            a, b = (z[0, top : top + 11, left : left + 11, 0] for z in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variance_a = (window * (a - mean_a) ** 2).sum()
            variance_b = (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + 1e-4)
                * (2 * covariance + 9e-4)
                / ((mean_a**2 + mean_b**2 + 1e-4) * (variance_a + variance_b + 9e-4))
            )
    assert ssim(x, y) == pytest.approx(np.mean(values), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(x=pictures, y=pictures, side=st.sampled_from([1, 2, 5, 9]))
def test_picture_scores_are_symmetric_and_bounded(x: np.ndarray, y: np.ndarray, side: int):
    x, y = x[:, :side], y[:, :side]
    assert ssim(x, x) == pytest.approx(1)
    assert ssim(x, y) == pytest.approx(ssim(y, x)) and -1 <= ssim(x, y) <= 1 + 1e-9
    assert psnr(x, x) == _MAX_PSNR_DB
    assert psnr(x, y) == pytest.approx(psnr(y, x)) and 0 <= psnr(x, y) <= _MAX_PSNR_DB


# -------------------------------------------------------------------------- time


def ramp(num_frames: int, step: float) -> np.ndarray:
    return np.full((num_frames, 4, 4, 3), step) * np.arange(num_frames)[:, None, None, None]


def test_motion_magnitude_and_its_ratio():
    assert motion_magnitude(ramp(5, 0.1)) == pytest.approx(0.1)
    assert motion_magnitude(ramp(1, 0.1)) == 0
    assert motion_ratio(ramp(5, 0.1), ramp(5, 0.2), range(4)) == pytest.approx(2)
    assert motion_ratio(ramp(5, 0.1), ramp(5, 0), range(4)) == 0
    assert motion_ratio(ramp(5, 0), ramp(5, 0), range(4)) == 1
    assert math.isnan(motion_ratio(ramp(5, 0), ramp(5, 0.1), range(4)))


def test_motion_counts_only_steps_that_touch_a_hidden_frame():
    """Frames 0–3 given: the step 3 → 4 is the method's, the steps before it are not."""
    truth = moving_ball()
    stops = truth.replace(frames=truth.frames[[0, 1, 2, 3, 3, 3, 3, 3]])
    assert score_hidden(truth, stops, range(4))["motion_ratio"] == 0


def test_drift_looks_at_still_pixels_only():
    truth = on_white(scene())
    still = _still_pixels(truth)
    assert still[10, 32] and not still[32, 32]
    darker = truth * 0.9
    assert colour_drift(truth, darker, still) == pytest.approx(0.09, abs=0.02)

    noisy = truth + np.random.default_rng(0).normal(0, 0.1, truth.shape)
    assert colour_drift(truth, noisy, still) < 0.01
    nothing = np.zeros_like(still)
    assert math.isnan(colour_drift(truth, truth, nothing))


# ------------------------------------------------------------------------ clips


def test_changed_given_frames_are_noticed_and_not_scored():
    truth = moving_ball()
    frames = truth.frames.copy()
    frames[2, 32, 32] = 255 - frames[2, 32, 32]
    scores = score_hidden(truth, truth.replace(frames=frames), KNOWN)
    assert scores["given_error"] > 0.5 and scores["psnr"] == _MAX_PSNR_DB


def test_colour_under_full_transparency_does_not_count():
    truth = moving_ball()
    frames = truth.frames.copy()
    frames[..., :3][frames[..., 3] == 0] = 77
    assert _given_frame_error(truth, truth.replace(frames=frames), KNOWN) == 0


def test_lost_transparency_has_a_score_of_its_own():
    """White instead of transparent is invisible on white; the alpha error sees it."""
    truth = moving_ball()
    opaque = np.full((8, 64, 64, 4), 255, np.uint8)
    opaque[..., :3] = truth.on_background((255, 255, 255))
    scores = score_hidden(truth, truth.replace(frames=opaque), [0])
    assert scores["psnr"] > 50 and scores["alpha_mae"] > 0.5


def test_text_to_clip_has_no_given_frames():
    truth = moving_ball()
    assert score_hidden(truth, truth, [])["given_error"] == 0


def test_clips_that_differ_in_size_are_refused():
    with pytest.raises(ConfigError, match="7 frames of 64×64 and 8 frames"):
        score_hidden(moving_ball(8), moving_ball(7), KNOWN)
