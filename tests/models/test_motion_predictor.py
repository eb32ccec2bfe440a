from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rdtf.models.motion_dfgn import MotionConditions
from rdtf.models.motion_latents import LATENT_DIM
from rdtf.models.motion_predictor import MotionPredictor
from training.resident_parts import CANVAS, TEXT_WIDTH, small_predictor

from .networks import perturb


@pytest.fixture(scope="module")
def network() -> MotionPredictor:
    """As if trained: nothing is zero."""
    return perturb(small_predictor(), std=0.1).eval().requires_grad_(False)


def inputs(slots: int = 6, anchor: int = 2) -> dict[str, Any]:
    """Two clips of 4 and 6 frames, given up to the anchor."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    clean, reference, text = (
        drawn(2, 6, LATENT_DIM),
        drawn(2, 4, CANVAS, CANVAS),
        drawn(2, 4, TEXT_WIDTH),
    )
    clean[:, anchor] = 0.0
    more = torch.zeros(2, slots - 6, LATENT_DIM)
    return {
        "clean": torch.cat([clean, more], dim=1),
        "given": (torch.arange(slots) <= anchor).expand(2, -1),
        "valid": torch.arange(slots) < torch.tensor([[4], [6]]),
        "reference": reference.clamp(-1, 1),
        "centre": drawn(2, 2) * 0.2,
        "times_ms": (torch.arange(slots) - anchor).expand(2, -1) * 80.0,
        "anchor": torch.full((2,), anchor),
        "text": [text],
        "text_mask": [torch.tensor([[True] * 4, [False] * 4])],
    }


def through(network: MotionPredictor, told: dict[str, Any]) -> Tensor:
    anchor = told["anchor"]
    return network(MotionConditions(**{k: v for k, v in told.items() if k != "anchor"}), anchor)


def test_an_untrained_one_says_that_nothing_moves():
    found = through(small_predictor().eval(), inputs())
    assert torch.equal(found, torch.zeros_like(found))


def test_more_slots_change_nothing(network):
    short, long = inputs(6), inputs(9)
    expected, found = through(network, short)[short["valid"]], through(network, long)[long["valid"]]
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("content", [3.0, float("nan")])
def test_hidden_and_padded_frames_are_never_read(network, content):
    told = inputs(8)
    expected = through(network, told)[told["valid"]]
    hidden = ~(told["given"] & told["valid"])
    told["clean"] = told["clean"].masked_fill(hidden[..., None], content)
    told["times_ms"] = told["times_ms"].masked_fill(~told["valid"], content)
    assert torch.equal(through(network, told)[told["valid"]], expected)


def test_clips_do_not_mix(network):
    told = inputs()
    both = through(network, told)
    for row in range(2):
        alone = {
            name: [part[row : row + 1] for part in value] if isinstance(value, list)
            else value[row : row + 1]
            for name, value in told.items()
        }  # fmt: skip
        valid = told["valid"][row]
        assert torch.allclose(through(network, alone)[0, valid], both[row, valid], atol=1e-5)


@pytest.mark.parametrize("name", ["clean", "reference", "times_ms", "text"])
def test_everything_that_is_told_counts(network, name):
    told = inputs()
    expected = through(network, told)[0, 3]
    value = told[name]
    told[name] = [1.5 * value[0]] if name == "text" else 1.5 * value
    assert not torch.allclose(through(network, told)[0, 3], expected, atol=1e-6)


def test_a_given_motion_can_be_taken_over():
    """The way back: frame 2 + k as frame 2 − k."""
    network = small_predictor().eval().requires_grad_(False)
    places = network.places
    middle = places // 2
    shares = torch.zeros(2, places, places)
    for step in range(1, middle + 1):
        shares[:, middle + step, middle - step] = 1.0
    network.copy_out[-1].bias.copy_(shares.flatten())
    told = inputs()
    found = through(network, told)
    torch.testing.assert_close(found[1, 3], told["clean"][1, 1])
    torch.testing.assert_close(found[1, 4], told["clean"][1, 0])
    assert not found[1, 5].any()  # there was nothing so long ago


def test_weights_in_half_give_about_the_same(network, tmp_path):
    network.save_pretrained(tmp_path)
    again = MotionPredictor.from_pretrained(tmp_path)
    told = inputs()
    assert torch.equal(through(again, told), through(network, told))
    with torch.autocast("cpu", torch.bfloat16):
        lower = through(network, told)
    expected = through(network, told)
    valid = told["valid"]
    assert (lower - expected)[valid].norm() < 0.05 * expected[valid].norm()
