"""Frames that come back: chosen among the given ones, by a network trained on distances alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from rdtf.data.clip_store import StoredClip
from rdtf.errors import DataError
from rdtf.models.recurrence import RecurrencePredictor, frame_distances
from rdtf.training.recurrence import TrainRecurrence


def picture(place: int, size: int = 16) -> np.ndarray:
    frame = np.zeros((size, size, 4), np.uint8)
    frame[4:8, place : place + 3] = (200, 40, 90, 255)
    return frame


def premultiplied(frames: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy(frames).float() / 255
    rgb, alpha = pixels.split([3, 1], -1)
    return torch.cat([rgb * alpha, alpha], -1).permute(0, 3, 1, 2) * 2 - 1


def swing(length: int, start: int = 0, turn: int = 4) -> list[int]:
    """Places of something that goes to `turn` and back, again and again."""
    period = list(range(turn)) + list(range(turn, 0, -1))
    return [period[(start + step) % len(period)] for step in range(length)]


@pytest.fixture(scope="module")
def trained() -> RecurrencePredictor:
    frames, clips = [], []
    for start in range(8):
        for turn in (3, 4, 5):
            places = swing(14, start, turn)
            frames += [picture(2 * place) for place in places]
            clips.append(
                StoredClip(
                    start=len(frames) - len(places), count=len(places),
                    durations_ms=(80,) * len(places), captions=(), motion="",
                    source="swings", concept=f"{start}-{turn}",
                )
            )  # fmt: skip
    torch.manual_seed(0)
    network = RecurrencePredictor(width=64, dropout=0.0)
    train = TrainRecurrence(network, torch.from_numpy(np.array(frames)), clips, {"swings": 1.0}, 64)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for step in range(250):
        loss, _ = train.loss((step, train.draw(step, 0.0)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def test_swings_are_continued_by_frames_that_come_back(trained):
    error = {"chosen": 0.0, "nearest": 0.0}
    for start in range(8):
        places = swing(12, start)
        given, hidden = places[6::-1], places[7:]
        frames = premultiplied(np.array([picture(2 * place) for place in given]))
        chosen = trained.choose(frames, torch.full((7,), 80.0), torch.full((5,), 80.0))
        for place, index in zip(hidden, chosen, strict=True):
            error["chosen"] += abs(place - given[index or 0])
            error["nearest"] += abs(place - given[0])
    assert error["chosen"] < 0.4 * error["nearest"]


def test_nothing_jumps_that_did_not_jump_before():
    """The least error lies across the canvas; it is reached step by step, or not at all."""
    network = RecurrencePredictor(width=8).eval()
    with torch.no_grad():
        network.layers[-1].bias.view(15, 15)[:, 4] = -1.0
    frames = premultiplied(np.array([picture(2 * place, 24) for place in range(5)]))
    chosen = network.choose(frames, torch.full((5,), 80.0), torch.full((6,), 80.0))
    path = [0, *(index or 0 for index in chosen)]
    assert path[-1] == 4
    assert all(abs(after - before) <= 1 for before, after in pairwise(path))
    assert network.choose(frames[:1], torch.full((1,), 80.0), torch.full((2,), 80.0)) == [None] * 2


def test_an_untrained_network_chooses_nothing():
    network = RecurrencePredictor(width=16).eval()
    frames = premultiplied(np.array([picture(place) for place in (6, 4, 2)]))
    assert network.choose(frames, torch.full((3,), 90.0), torch.full((2,), 90.0)) == [None, None]


def test_what_lies_beyond_the_places_has_no_choice(trained):
    frames = premultiplied(np.array([picture(place % 12) for place in range(20)]))
    chosen = trained.choose(frames, torch.full((20,), 90.0), torch.full((20,), 90.0))
    assert len(chosen) == 20 and chosen[15:] == [None] * 5
    assert all(index is None or 0 < index < 15 for index in chosen)


def test_distances_are_those_on_white_at_any_size():
    frames = np.array([picture(2), picture(9), np.zeros_like(picture(2))])
    frames[2, ..., :3] = 77  # colours of transparent pixels are not seen
    small = frame_distances(premultiplied(frames))
    large = frame_distances(premultiplied(frames.repeat(8, 1).repeat(8, 2)))
    rgba = frames.astype(float) / 255
    white = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
    expected = ((white[:, None] - white[None]) ** 2).mean((2, 3, 4))
    np.testing.assert_allclose(small.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(large.numpy(), expected, atol=1e-6)


def test_batches_are_a_pure_function_of_seed_and_index():
    frames = torch.from_numpy(np.array([picture(place) for place in swing(9)]))
    clip = StoredClip(
        start=0, count=9, durations_ms=tuple(range(50, 59)), captions=(), motion="", source="a",
        concept="a",
    )  # fmt: skip
    made = [
        TrainRecurrence(RecurrencePredictor(width=8), frames, [clip], {"a": 1.0}, 16, seed=3)
        for _ in range(2)
    ]
    first, second = (each.draw(5, 0.0) for each in made)
    assert all(torch.equal(first[name], second[name]) for name in first)
    there = first["there"]
    given, hidden = there.chunk(2, 1)
    assert (given.sum(1) >= 2).all() and (hidden.sum(1) >= 1).all()
    assert (given.sum(1) + hidden.sum(1) <= 9).all()
    durations = first["durations_ms"][there]
    assert durations.min() >= 50 * 0.49 and durations.max() <= 58 * 4 * 2.02  # at other paces
    with pytest.raises(DataError, match="4 frames"):
        TrainRecurrence(RecurrencePredictor(width=8), frames, [], {"a": 1.0}, 4)
