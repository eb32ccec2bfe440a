"""Loops and speed: pure functions of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdtf.stickers import Sticker, StickerError
from rdtf.stickers.export import ExportOptions
from rdtf.stickers.export.edit import fit_time

from .clips import ball


def edited(clip: Sticker, **options: Any) -> Sticker:
    return ExportOptions(**options).apply(clip)[0]


def line(num_frames: int = 8, size: int = 64) -> Sticker:
    """A bar that moves to the right and never comes back: a loop with a jump."""
    frames = np.zeros((num_frames, size, size, 4), np.uint8)
    for index, frame in enumerate(frames):
        frame[:, index * 6 : index * 6 + 8] = (20, 120, 220, 255)
    return Sticker(frames, np.arange(50, 50 + 10 * num_frames, 10))


def test_a_round_loop_has_no_seam_and_a_jump_has_one():
    assert ball().seam_error() == pytest.approx(0, abs=0.05)
    assert ball().select(range(4)).seam_error() > 0.4
    assert ball().select([0, 0, 0]).seam_error() == 0
    assert ball(1).seam_error() == 0


def test_the_seam_is_measured_in_usual_steps():
    """A bar that jumps far changes as much as one that moves by its whole width."""
    step, jump = line(8).seam_error(), np.sqrt(16 / 12) - 1
    assert step == pytest.approx(jump, rel=0.01)


def test_what_hides_behind_transparency_is_no_change():
    clip = ball(4)
    loud = clip.frames.copy()
    loud[clip.frames[..., 3] == 0] = (255, 0, 255, 0)
    assert clip.replace(frames=loud).seam_error() == clip.seam_error()


def test_ping_pong_shows_no_end_twice():
    clip = line(5)
    there_and_back = edited(clip, close="ping-pong")
    order = [0, 1, 2, 3, 4, 3, 2, 1]
    np.testing.assert_array_equal(there_and_back.frames, clip.frames[order])
    assert there_and_back.durations_ms.tolist() == clip.durations_ms[order].tolist()
    assert there_and_back.seam_error() < 0.01
    assert (
        edited(line(1), close="ping-pong").num_frames == 1
        and edited(line(2), close="ping-pong").num_frames == 2
    )


def test_boomerang_keeps_the_time():
    clip = line(6)
    assert edited(clip, close="boomerang").total_ms == clip.total_ms
    assert edited(clip, close="boomerang").num_frames == 10


def test_cross_fade_leads_from_the_end_to_the_beginning():
    clip = line(8)
    faded = edited(clip, close="cross-fade")
    assert faded.num_frames == 6
    assert faded.durations_ms.tolist() == clip.durations_ms[2:].tolist()
    np.testing.assert_array_equal(faded.frames[:4], clip.frames[2:6])
    # A third of the way from frame 6 to frame 0: both bars, at two thirds and a third.
    assert faded.frames[4, 0, 38, 3] == 170 and faded.frames[4, 0, 2, 3] == 85
    assert faded.frames[4, 0, 2].tolist()[:3] == [20, 120, 220]  # the colour is not darkened
    assert faded.seam_error() < clip.seam_error()


@pytest.mark.parametrize("num_frames", [1, 2])
def test_a_cross_fade_needs_room(num_frames):
    with pytest.raises(StickerError, match="can't cross-fade"):
        edited(line(num_frames), close="cross-fade")


def test_start_at():
    clip = line(4)
    turned = edited(clip, first=1)
    np.testing.assert_array_equal(turned.frames, clip.frames[[1, 2, 3, 0]])
    assert turned.durations_ms.tolist() == [60, 70, 80, 50]
    growing = clip.replace(frames=np.where(np.arange(64)[:, None] < 60, clip.frames, 0))
    empty_first = growing.frames.copy()
    empty_first[:2] = 0
    fullest = edited(growing.replace(frames=empty_first), first="fullest")
    np.testing.assert_array_equal(fullest.frames[0], growing.frames[2])
    with pytest.raises(StickerError, match="start at frame 9"):
        edited(clip, first=9)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60), st.integers(1, 20_000))
def test_any_time_is_hit_to_the_millisecond(durations, total):
    pictures = np.arange(len(durations), dtype=np.uint8)
    frames = np.broadcast_to(pictures[:, None, None, None], (len(durations), 1, 1, 4)).copy()
    clip = Sticker(frames, np.asarray(durations))
    fitted = fit_time(clip, total)
    assert fitted.total_ms == total
    # Each moment shows what was shown then, to a millisecond of the new time.
    starts = np.cumsum(fitted.durations_ms) - fitted.durations_ms
    shown = fitted.frames[:, 0, 0, 0]
    exact = (np.cumsum(durations) - durations) * total / clip.total_ms
    assert np.abs(starts - exact[shown]).max() <= 1


def test_speed_is_named_and_bounded():
    clip = line(8)
    assert edited(clip, speed=2).total_ms == round(clip.total_ms / 2)
    assert edited(clip, speed=0.5).total_ms == clip.total_ms * 2
    for factor in (0, -1, 100, float("nan")):
        with pytest.raises(StickerError, match="speed"):
            edited(clip, speed=factor)
