"""Loops: the last frame leads back to the first, which is not shown twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures_runs import CANVAS, MAX_FRAMES
from rdtf.errors import UserError
from rdtf.sampling.requests import without_closing_copy
from rdtf.stickers import Sticker

from .test_pipeline import FAST, clip, same, seeded


def bar(num_frames: int, size: int = CANVAS) -> Sticker:
    """Something that grows and never shrinks again: as a loop it jumps."""
    frames = np.zeros((num_frames, size, size, 4), np.uint8)
    for index, frame in enumerate(frames):
        frame[:, : (index + 1) * size // num_frames] = (20, 120, 220, 255)
    return Sticker(frames, [80] * num_frames)


def fade(num_frames: int) -> Sticker:
    """All frames change by the same amount: from the last to the first by all of them at once."""
    frames = np.full((num_frames, 4, 4, 4), 255, np.uint8)
    frames[..., 3] = (np.arange(num_frames) * 5)[:, None, None]
    return Sticker(frames, [50] * num_frames)


# ---------------------------------------------------------------------- given frames stay


@settings(max_examples=12)
@given(st.integers(1, 3 * MAX_FRAMES), st.data())
def test_a_loop_keeps_the_given_frames_and_its_length(pipeline, num_frames, data):
    known = sorted(data.draw(st.sets(st.integers(0, num_frames - 1), min_size=1)))
    sticker = clip(num_frames)
    result = pipeline.fill(sticker, known, loop=True, generator=seeded(), **FAST)
    assert np.array_equal(result.frames[known], sticker.frames[known])
    assert result.durations_ms.tolist() == sticker.durations_ms.tolist()
    made = [result.frames[index] for index in range(num_frames) if index not in known]
    assert len({frame.tobytes() for frame in [*made, sticker.frames[known[0]]]}) == len(made) + 1


@settings(max_examples=5)
@given(st.integers(2, 5), st.integers(2, 4))
def test_interpolation_of_a_loop_has_frames_behind_the_last_too(pipeline, num_frames, factor):
    sticker = clip(num_frames)
    result = pipeline.interpolate(sticker, factor, loop=True, generator=seeded(), **FAST)
    assert result.num_frames == num_frames * factor
    assert np.array_equal(result.frames[::factor], sticker.frames)
    assert result.total_ms == sticker.total_ms


@pytest.mark.parametrize("num_frames", [1, 2, MAX_FRAMES, 2 * MAX_FRAMES + 1])
@pytest.mark.parametrize("image_index", [None, 0, -1])
def test_generation_of_loops_of_any_length(pipeline, num_frames, image_index):
    still = clip(1)
    given_index = 0 if image_index is None else image_index % num_frames
    result = pipeline(
        *("a cat", None if image_index is None else still),
        num_frames=num_frames,
        image_index=given_index,
        loop=True,
        generator=seeded(),
        **FAST,
    )
    assert result.frames.shape == (num_frames, CANVAS, CANVAS, 4)
    assert len({frame.tobytes() for frame in result.frames}) == num_frames
    if image_index is not None:
        assert np.array_equal(result.frames[given_index], still.frames[0])


# ------------------------------------------------------------------------ the end leads back


def test_the_end_of_a_long_loop_depends_on_its_beginning(pipeline):
    """The first frame lies outside every window that predicts, but a loop goes on there."""
    sticker = clip(2 * MAX_FRAMES)
    other = sticker.replace(frames=sticker.frames.copy())
    other.frames[0] = 255

    def last(start: Sticker, loop: bool) -> np.ndarray:
        return pipeline.predict(start, after=2, loop=loop, generator=seeded(), **FAST).frames[-1]

    assert np.array_equal(last(sticker, False), last(other, False))
    assert not np.array_equal(last(sticker, True), last(other, True))


def test_frames_in_front_of_a_loop_lead_to_it_from_its_end(pipeline):
    sticker = clip(2 * MAX_FRAMES)
    result = pipeline.predict(sticker, after=1, before=1, loop=True, generator=seeded(), **FAST)
    turned = pipeline.predict(sticker, after=2, loop=True, generator=seeded(), **FAST)
    assert np.array_equal(result.frames, np.roll(turned.frames, 1, axis=0))


@pytest.mark.parametrize("after", [1, 2, 5])
def test_a_jump_gets_smaller(pipeline, after):
    sticker = bar(8)
    closed = pipeline.predict(sticker, after=after, loop=True, generator=seeded(), **FAST)
    assert closed.seam_error() < sticker.seam_error()


# ---------------------------------------------------------------------------- the seam error


@given(st.integers(2, 40))
def test_the_seam_error_counts_usual_steps(num_frames):
    assert fade(num_frames).seam_error() == pytest.approx(num_frames - 2, abs=1e-4)


@given(st.integers(2, 12), st.integers(0, 11))
def test_a_loop_may_begin_anywhere(num_frames, turn):
    """Of a round motion every step is as large as the others, wherever it begins."""
    there = np.abs(np.arange(2 * num_frames) - num_frames)  # down and up again
    sticker = fade(num_frames + 1).select(np.roll(there, turn))
    assert sticker.seam_error() == pytest.approx(0, abs=1e-4)


def test_nothing_moves():
    assert fade(5).select([2]).seam_error() == 0
    assert fade(5).select([2, 2, 2]).seam_error() == 0


# ------------------------------------------------------------------------- no frame twice


def test_a_last_frame_that_repeats_the_first_is_left_out(pipeline):
    open_clip = clip(3)
    closed = open_clip.select([0, 1, 2, 0])
    result = pipeline.interpolate(closed, 2, loop=True, generator=seeded(), **FAST)
    assert result.num_frames == 6 and result.total_ms == closed.total_ms
    assert np.array_equal(result.frames[::2], open_clip.frames)
    kept = pipeline.interpolate(closed, 2, generator=seeded(), **FAST)
    assert kept.num_frames == 7 and np.array_equal(kept.frames[-1], closed.frames[-1])


def test_colours_behind_transparency_do_not_hide_the_repetition():
    closed = clip(3).select([0, 1, 0])
    closed.frames[-1][closed.frames[-1][..., 3] == 0] = (9, 9, 9, 0)
    trimmed = without_closing_copy(closed)
    assert trimmed.num_frames == 2 and trimmed.total_ms == closed.total_ms
    assert same(without_closing_copy(trimmed), trimmed)
    assert without_closing_copy(clip(1)).num_frames == 1


# --------------------------------------------------------------------- closing what is there


def test_closing_keeps_the_clip_at_its_own_size(pipeline):
    sticker = bar(6, size=50).replace(source="here", license="CC0-1.0", captions=("a bar",))
    closed = pipeline.close_loop(sticker, 2, generator=seeded(), **FAST)
    assert closed.frames.shape == (8, 50, 50, 4)
    assert np.array_equal(closed.frames[:6], sticker.frames)
    assert closed.durations_ms.tolist() == [80] * 8
    assert (closed.source, closed.license, closed.captions) == ("here", "CC0-1.0", ("a bar",))
    assert closed.seam_error() < sticker.seam_error()


def test_closing_makes_as_many_frames_as_the_jump_is_long(pipeline):
    jump = fade(4)  # 2 steps too large: 2 frames
    assert pipeline.close_loop(jump, generator=seeded(), **FAST).num_frames == 6
    far = fade(9)  # 7 steps, but only half a window is made
    assert pipeline.close_loop(far, generator=seeded(), **FAST).num_frames == 9 + MAX_FRAMES // 2
    closed = fade(4).select([0, 1, 2, 3, 2, 1])
    assert same(pipeline.close_loop(closed), closed)
    assert same(pipeline.close_loop(closed.select([0, 1, 2, 1, 0])), _merged(closed))


def _merged(closed: Sticker) -> Sticker:
    return closed.select([0, 1, 2, 1]).with_durations([100, 50, 50, 50])


def test_a_still_has_no_loop_to_close(pipeline):
    with pytest.raises(UserError, match="no loop to close"):
        pipeline.close_loop(clip(1))
