from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdtf.errors import UserError
from rdtf.sampling.requests import ClipRequest
from rdtf.stickers import Sticker

durations = st.lists(st.integers(1, 500), min_size=1, max_size=9)


def clip(durations_ms: list[int], size: tuple[int, int] = (2, 3)) -> Sticker:
    """Frame i is of colour i + 1."""
    frames = np.zeros((len(durations_ms), *size, 4), np.uint8)
    frames += np.arange(1, len(durations_ms) + 1, dtype=np.uint8)[:, None, None, None]
    return Sticker(frames, np.asarray(durations_ms), captions=("a cat", "cat"))


def slots(request: ClipRequest) -> list[int]:
    """Colour in every slot; 0 = to be made. Checks that known frames alone hold pixels."""
    assert request.frames.shape[0] == len(request.known) == len(request.durations_ms)
    assert request.frames.dtype == np.uint8 and request.known.dtype == bool
    assert not request.frames[~request.known].any()
    colors = request.frames.reshape(request.num_frames, -1)
    assert (colors == colors[:, :1]).all()
    return colors[:, 0].tolist()


# ------------------------------------------------------------------ placing


def test_blank():
    request = ClipRequest.blank(3, (4, 5), 80)
    assert slots(request) == [0, 0, 0] and request.frames.shape == (3, 4, 5, 4)
    assert request.durations_ms.tolist() == [80, 80, 80]
    assert ClipRequest.blank(2, (4, 4), [10, 20]).durations_ms.tolist() == [10, 20]


def test_placed_frames_keep_pixels_and_captions():
    request = ClipRequest.place(clip([10, 20]), [1, 4], 6, 50)
    assert slots(request) == [0, 1, 0, 0, 2, 0]
    assert request.captions == ("a cat", "cat")


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([], "ascending and distinct"),
        ([2, 1], "ascending and distinct"),
        ([1, 1], "ascending and distinct"),
        ([-1, 1], "must lie in 0…3"),
        ([1, 4], "must lie in 0…3"),
    ],
)
def test_impossible_places(positions, message):
    with pytest.raises(UserError, match=message):
        ClipRequest.place(clip([10] * max(len(positions), 1)), positions, 4, 50)


def test_impossible_lengths():
    with pytest.raises(UserError, match="at least 1 frame, 0 were asked for"):
        ClipRequest.blank(0, (4, 4), 80)
    with pytest.raises(UserError, match="3 frames need 3 durations, got 2"):
        ClipRequest.blank(3, (4, 4), [10, 20])


# ------------------------------------------------------------------ fill


def test_fill_keeps_the_known_frames():
    request = ClipRequest.fill(clip([10, 20, 30, 40]), [0, 3])
    assert slots(request) == [1, 0, 0, 4]
    assert request.durations_ms.tolist() == [10, 20, 30, 40]


def test_fill_extends_at_the_median_duration():
    request = ClipRequest.fill(clip([10, 20, 90]), [0, 2], num_frames=5)
    assert slots(request) == [1, 0, 3, 0, 0]
    assert request.durations_ms.tolist() == [10, 20, 90, 20, 20]


def test_fill_cuts_what_is_beyond_the_length():
    request = ClipRequest.fill(clip([10, 20, 30, 40]), [0, 1], num_frames=3)
    assert slots(request) == [1, 2, 0]
    assert request.durations_ms.tolist() == [10, 20, 30]


@pytest.mark.parametrize("num_frames", [None, 8])
def test_key_frames_alone_are_placed(num_frames):
    request = ClipRequest.fill(clip([40, 40, 70]), [0, 3, 7], num_frames)
    assert slots(request) == [1, 0, 0, 2, 0, 0, 0, 3]
    assert request.durations_ms.tolist() == [40] * 8


def test_durations_as_asked_for():
    assert ClipRequest.fill(clip([10, 20]), [0], durations_ms=70).durations_ms.tolist() == [70, 70]
    placed = ClipRequest.fill(clip([10, 20]), [0, 2], durations_ms=[5, 6, 7])
    assert placed.durations_ms.tolist() == [5, 6, 7]


@pytest.mark.parametrize(
    ("known", "num_frames", "message"),
    [
        ([0, 4], None, "frame 4 can't be given: the clip has frames 0…2"),
        ([-1], None, "frame -1 can't be given"),
        ([0, 0], None, "ascending and distinct"),
        ([2, 0], None, "ascending and distinct"),
        ([], None, "no frames selected"),
        ([0, 2], 2, "must lie in 0…1"),
        ([0], 0, "at least 1 frame, 0 were asked for"),
    ],
)
def test_impossible_fills(known, num_frames, message):
    with pytest.raises(UserError, match=message):
        ClipRequest.fill(clip([10, 10, 10]), known, num_frames)


@given(durations_ms=durations, data=st.data())
def test_fill_puts_every_known_frame_in_its_place(durations_ms, data):
    indices = st.integers(0, len(durations_ms) - 1)
    known = sorted(data.draw(st.sets(indices, min_size=1)))
    request = ClipRequest.fill(clip(durations_ms), known)
    expected = [index + 1 if index in known else 0 for index in range(len(durations_ms))]
    assert slots(request) == expected
    assert request.durations_ms.tolist() == durations_ms


# ------------------------------------------------------------------ interpolate


@given(
    factor=st.integers(2, 6),
    durations_ms=st.lists(st.integers(6, 500), min_size=2, max_size=9),
)
def test_interpolation_keeps_frames_and_their_times(factor, durations_ms):
    request = ClipRequest.interpolate(clip(durations_ms), factor)
    colors = slots(request)
    assert colors[::factor] == list(range(1, len(durations_ms) + 1))
    assert sum(color > 0 for color in colors) == len(durations_ms)
    assert (request.durations_ms >= 1).all()
    # Every given frame comes at the time at which it came.
    starts = np.cumsum([0, *request.durations_ms])[:-1][::factor]
    assert starts.tolist() == np.cumsum([0, *durations_ms])[:-1].tolist()
    assert request.durations_ms.sum() == sum(durations_ms)


def test_frame_of_one_millisecond_is_not_split_to_nothing():
    assert ClipRequest.interpolate(clip([1, 50]), 3).durations_ms.tolist() == [1, 1, 1, 50]


def test_impossible_interpolations():
    with pytest.raises(UserError, match="factor must be 2 or more, got 1"):
        ClipRequest.interpolate(clip([10, 10]), 1)
    with pytest.raises(UserError, match="2 frames or more; to animate a still"):
        ClipRequest.interpolate(clip([10]), 2)


# ------------------------------------------------------------------ predict


@given(
    durations_ms=durations,
    extra=st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(any),
)
def test_prediction_adds_at_the_ends(durations_ms, extra):
    before, after = extra
    request = ClipRequest.predict(clip(durations_ms), after=after, before=before)
    inner = slice(before, before + len(durations_ms))
    expected = [0] * before + list(range(1, len(durations_ms) + 1)) + [0] * after
    assert slots(request) == expected
    assert request.durations_ms[inner].tolist() == durations_ms
    assert set(request.durations_ms[~request.known].tolist()) == {int(np.median(durations_ms))}


@pytest.mark.parametrize("ask", [{}, {"after": -1}, {"after": 2, "before": -1}])
def test_impossible_predictions(ask):
    with pytest.raises(UserError, match="after the clip or before it: at least 1"):
        ClipRequest.predict(clip([10, 10]), **ask)


# ------------------------------------------------------------------ back to the input's size


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    side=st.sampled_from([8, 16, 32]),
)
def test_made_frames_fill_the_size_that_came_in(size, side):
    """Whatever the aspect: an opaque frame stays opaque to the last pixel."""
    request = ClipRequest.place(clip([10, 10], size), [0, 2], 3, 50)
    made = np.full((3, side, side, 4), 255, np.uint8)
    frames = request.at_own_size(made)
    assert frames.shape == request.frames.shape
    assert np.array_equal(frames[[0, 2]], request.frames[[0, 2]])
    assert (frames[1] == 255).all()


def test_letterbox_of_the_canvas_is_cut():
    request = ClipRequest.place(clip([10], (8, 16)), [0], 2, 50)
    made = np.zeros((2, 8, 8, 4), np.uint8)
    made[1, 2:6] = 200
    assert (request.at_own_size(made)[1] == 200).all()
