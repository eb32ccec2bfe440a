"""What is given up, and in which order."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rdtf.stickers import Sticker
from rdtf.stickers.export import ExportError
from rdtf.stickers.export.encoders import ENCODERS, Encoder, QualityStep
from rdtf.stickers.export.search import SMOOTH_RATE, search

from .clips import ball, noise


class Weighed(Encoder):
    """An encoder whose files weigh what a formula says, to see what the search asks for."""

    ladder = tuple(
        QualityStep({"level": level}, f"level {level}", good=level < 6) for level in range(12)
    )

    def __init__(self, bytes_per_frame: float, estimates: float | None = None) -> None:
        self.bytes_per_frame, self.estimates = bytes_per_frame, estimates
        self.files = 0

    def size(self, num_frames: int, level: int) -> int:
        return round(self.bytes_per_frame * num_frames * 0.8**level)

    def encode(self, keep: np.ndarray, durations_ms: np.ndarray, step: QualityStep) -> bytes:
        self.files += 1
        return bytes(self.size(len(keep), step.settings["level"]))

    def estimate(
        self, keep: np.ndarray, durations_ms: np.ndarray, step: QualityStep
    ) -> float | None:
        if self.estimates is None:
            return None
        return self.size(len(keep), step.settings["level"]) * self.estimates


CLIP = ball(60, size=16, duration_ms=33)
SMOOTH = math.ceil(60 * 33 * SMOOTH_RATE / 1000)


@pytest.mark.parametrize("estimates", [None, 1.0, 0.7, 1.4])
@pytest.mark.parametrize(
    ("limit", "num_frames", "level"),
    [
        (10**6, 60, 0),
        (30_000, 60, 4),
        (19_700, 60, 5),
        (15_000, 45, 5),
        (7_800, SMOOTH, 7),
        (2_200, 25, 11),
    ],
)
def test_settings_then_frames_then_worse_settings_then_fewer_frames(
    limit, num_frames, level, estimates
):
    encoder = Weighed(1000, estimates)
    found = search(encoder, CLIP, limit)
    assert len(found.data) <= limit
    assert found.quality.settings["level"] == level
    assert abs(len(found.keep) - num_frames) <= 2
    assert len(found.data) >= 0.78 * limit or limit == 10**6
    assert found.durations_ms.sum() == CLIP.total_ms
    assert encoder.files <= 9


@pytest.mark.parametrize("estimates", [None, 0.5, 2.0])
def test_what_can_not_fit_is_refused(estimates):
    with pytest.raises(ExportError, match="10 of 60 frames") as caught:
        search(Weighed(1000, estimates), CLIP, 500)
    assert caught.value.reason == "bytes"


def test_without_a_limit_the_best_is_taken_at_once():
    encoder = Weighed(1000)
    assert search(encoder, CLIP, None).quality is encoder.ladder[0] and encoder.files == 1


def test_a_platform_may_want_more_frames():
    with pytest.raises(ExportError, match="58 of 60 frames"):
        search(Weighed(1000), CLIP, 500, min_frames=58)


@pytest.mark.parametrize("format", sorted(ENCODERS))
def test_sizes_fall_along_every_ladder(format):
    """On the whole: no step is more than a tenth larger than the best one before it."""
    clip = ball(6, 96)
    rough = clip.frames + np.random.default_rng(1).integers(0, 9, clip.frames.shape, np.uint8)
    rough[..., 3] = clip.frames[..., 3]
    encoder = ENCODERS[format](rough.clip(0, 255).astype(np.uint8), 0)
    sizes = [
        len(encoder.encode(np.arange(6), clip.durations_ms, step))
        for step in encoder.ladder
        if not step.exact
    ]
    assert (np.asarray(sizes[1:]) <= 1.1 * np.minimum.accumulate(sizes[:-1])).all(), sizes
    assert sizes[-1] < 0.8 * sizes[0]
    goods = [step.good for step in encoder.ladder]
    assert goods == sorted(goods, reverse=True) and goods[0] and not goods[-1]


@pytest.mark.parametrize("format", sorted(ENCODERS))
def test_estimates_are_near(format):
    clip = noise(30, 48)
    encoder = ENCODERS[format](clip.frames, 0)
    step = encoder.ladder[2]
    keep = np.arange(30)
    estimate = encoder.estimate(keep, clip.durations_ms, step)
    assert estimate is not None
    size = len(encoder.encode(keep, clip.durations_ms, step))
    # Noise is the worst case: drafts of what is drawn are a third larger, those of noise are not.
    assert size / 1.6 < estimate < size * 1.6


def test_one_frame_is_enough_for_every_encoder():
    still = Sticker(ball(1, 33).frames, np.array([100]))
    for format in ENCODERS:
        found = search(ENCODERS[format](still.frames, 0), still, 50_000)
        assert len(found.keep) == 1 and len(found.data) <= 50_000
