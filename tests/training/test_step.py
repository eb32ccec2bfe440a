"""What an optimizer step weighs."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rdtf.method.loss import blend_error
from rdtf.method.objective import ObjectiveConfig, build_objective
from rdtf.models.conditions import Conditions
from rdtf.training.batches import Batch, SampleInfo
from rdtf.training.step import batch_errors

OBJECTIVE = build_objective(ObjectiveConfig())


def batch(frames: list[list[float]], given: list[list[bool]], slots: int = 0) -> Batch:
    """Clips of flat frames of these values, with `slots` empty ones behind each."""
    values = nn.functional.pad(torch.tensor(frames), (0, slots))
    clean = values[:, None, :, None, None].expand(-1, 2, -1, 3, 3).contiguous()
    count, length = len(frames), len(frames[0])
    conditions = Conditions(
        clean=clean,
        valid=(torch.arange(length + slots) < length).expand(count, -1),
        given=nn.functional.pad(torch.tensor(given), (0, slots)),
        mean_duration_ms=torch.full((count,), 100.0),
    )
    rows = tuple(range(count))
    return Batch(
        SampleInfo(("interpolation",) * count, rows, rows, (0.25,) * count, (length,) * count),
        conditions,
        noise=torch.zeros_like(clean),
        motion_noise=torch.zeros_like(clean),
        t=torch.full((count,), 0.25),
    )


class Says(nn.Module):
    """A denoiser that says the same for every pixel."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, noisy: Tensor, *_: object, **__: object) -> Tensor:
        return torch.full_like(noisy, self.value)


# ------------------------------------------------------------------ what there is to do

ENDS = [True, False, True]


def to_do(clips: Batch) -> Tensor:
    told = clips.conditions
    return blend_error(told.clean, told.given, told.valid)


@pytest.mark.parametrize(
    ("frames", "mask", "expected"),
    [
        ([0.5, 0.5, 0.5], ENDS, 0.0),  # nothing moves
        ([0.0, 2.0, 4.0], ENDS, 0.0),  # the blend is right
        ([0.0, 5.0, 4.0], ENDS, 9.0),
        ([0.0, 1.0, 2.0, 3.0], [True, False, False, True], 0.0),  # by distance in time
        ([0.0, 0.0, 0.0, 3.0], [True, False, False, True], (1 + 4) / 2),
        ([1.0, 2.0, 4.0], [True, False, False], (1 + 9) / 2),  # prediction: the frame itself
        ([3.0, 0.0, 0.0], [True, True, False], 1.0),  # a third of the one before the last
        ([1.0, 2.0, 3.0], [False] * 3, (1 + 4 + 9) / 3),  # nothing given
        ([1.0, 2.0], [True, True], 0.0),  # nothing hidden
    ],
)
@pytest.mark.parametrize("slots", [0, 2])
def test_blend_error(frames, mask, expected, slots):
    found = to_do(batch([frames], [mask], slots))
    torch.testing.assert_close(found, torch.tensor([expected]), rtol=1e-5, atol=1e-6)


@given(given=st.lists(st.booleans(), min_size=1, max_size=6).filter(any), value=st.floats(-1, 1))
@settings(max_examples=30)
def test_still_clips_leave_nothing_to_do(given, value):
    found = to_do(batch([[value] * len(given)], [given]))
    assert found.item() < 1e-10


def test_blend_error_is_each_clips_own():
    clips = [[0.0, 5.0, 4.0], [1.0, 1.0, 1.0], [0.0, 3.0, 0.0]]
    found = to_do(batch(clips, [ENDS] * 3))
    torch.testing.assert_close(found, torch.tensor([9.0, 0.0, 9.0]))


# ------------------------------------------------------------------ weights


@pytest.mark.parametrize("floor", [0.02, 0.5])
def test_errors_count_relative_to_what_there_is_to_do(floor):
    clips = batch([[0.0, 5.0, 4.0], [1.0, 1.0, 1.0]], [ENDS] * 2)
    plain, errors, counts = batch_errors(Says(2.0), OBJECTIVE, clips)
    weighted, same_errors, same_counts = batch_errors(
        Says(2.0), OBJECTIVE, clips, relative_loss_floor=floor
    )
    torch.testing.assert_close(plain, errors)  # below the floor of levels all weigh the same
    torch.testing.assert_close(errors, torch.tensor([9.0, 1.0]) * 2 * 3 * 3)
    assert torch.equal(same_errors, errors) and torch.equal(same_counts, counts)
    expected = plain / (torch.tensor([9.0, 0.0]) + floor)
    torch.testing.assert_close(weighted, expected)


def test_relative_weights_come_on_top_of_those_of_the_noise_level():
    clips = batch([[0.0, 5.0, 4.0]], [ENDS])
    noisy = replace(clips, t=torch.ones(1))
    weighted, errors, _ = batch_errors(Says(2.0), OBJECTIVE, noisy, relative_loss_floor=1.0)
    expected = errors * OBJECTIVE.loss_weight(noisy.t) / 10
    torch.testing.assert_close(weighted, expected)
    assert OBJECTIVE.loss_weight(noisy.t).item() != 1


# ------------------------------------------------------------------ motion


class Moves(nn.Module):
    """A denoiser of one latent channel and two of motion that says zero for all of them."""

    motion_channels = 2
    config = SimpleNamespace(patch=1)

    def forward(self, noisy: Tensor, *_: object, motion_only: bool = False, **__: object) -> Tensor:
        return torch.zeros_like(noisy[:, -2:] if motion_only else noisy)


def sliding() -> Batch:
    """A bright square that goes right, the first frame given, and the same clip standing still."""
    frames = torch.full((2, 1, 3, 16, 16), -1.0)
    for index in range(3):
        frames[0, :, index, 4:12, 2 + 2 * index : 8 + 2 * index] = 1.0
        frames[1, :, index, 4:12, 2:8] = 1.0
    flat = batch([[0.0] * 3] * 2, [[True, False, False]] * 2)
    return replace(
        flat,
        conditions=replace(flat.conditions, clean=frames),
        noise=torch.zeros_like(frames),
        motion_noise=torch.zeros(2, 2, 3, 16, 16),
    )


def test_learning_motion_only_counts_what_moved():
    errors, plain, counts = batch_errors(Moves(), OBJECTIVE, sliding(), learn="motion")
    assert plain[0] > 100 * plain[1]
    assert counts.tolist() == [2 * 2 * 16 * 16] * 2  # two frames, two channels
    # Relative to how much the clip moves; all of a frame's motion as much as all of its pixels.
    torch.testing.assert_close(errors, plain / (plain / counts + 1) / 2)


def test_motion_comes_on_top_of_the_pixels():
    clips = sliding()
    errors, plain, counts = batch_errors(Moves(), OBJECTIVE, clips)
    assert counts.tolist() == [2 * 16 * 16] * 2
    torch.testing.assert_close(
        plain, clips.conditions.clean[:, :, 1:].square().sum(dim=(1, 2, 3, 4))
    )
    of_pixels = plain * OBJECTIVE.loss_weight(clips.t)
    of_motion, _, _ = batch_errors(Moves(), OBJECTIVE, clips, learn="motion")
    torch.testing.assert_close(errors, of_pixels + of_motion)
