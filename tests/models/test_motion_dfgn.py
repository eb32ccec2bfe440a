from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rdtf.models.motion_dfgn import MotionConditions, MotionDFGN
from rdtf.models.motion_latents import LATENT_DIM
from training.resident_parts import CANVAS, TEXT_WIDTH, small_motion_dfgn


@pytest.fixture(scope="module")
def network() -> MotionDFGN:
    """As if trained: nothing is zero."""
    network = small_motion_dfgn().eval().requires_grad_(False)
    torch.manual_seed(1)
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    return network


def inputs(slots: int, lengths: tuple[int, ...] = (3, 5)) -> dict[str, Any]:
    """Clips of the lengths in `slots` slots, the second frame given; equal for any `slots`."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    count = len(lengths)
    valid = torch.arange(slots) < torch.tensor(lengths)[:, None]
    longest = max(lengths)

    def padded(values: Tensor) -> Tensor:
        more = torch.zeros(count, slots - longest, *values.shape[2:])
        return torch.cat([values, more], dim=1)

    given = torch.zeros(count, slots, dtype=torch.bool)
    given[:, 1] = True
    return {
        "noisy": padded(drawn(count, longest, LATENT_DIM)),
        "t": torch.tensor([0.3, 0.8][:count]),
        "clean": padded(drawn(count, longest, LATENT_DIM)),
        "given": given,
        "valid": valid,
        "reference": drawn(count, 4, CANVAS, CANVAS).clamp(-1, 1),
        "centre": drawn(count, 2) * 0.2,
        "times_ms": padded(torch.arange(longest).repeat(count, 1) * 80.0 - 80.0),
        "text": [drawn(count, 4, TEXT_WIDTH)],
        "text_mask": [torch.tensor([[True] * 4, [False] * 4])[:count]],
    }


def run(network: MotionDFGN, told: dict[str, Any]) -> Tensor:
    fields = {name: value for name, value in told.items() if name not in ("noisy", "t")}
    return network(told["noisy"], told["t"], MotionConditions(**fields))


def test_content_of_padded_slots_changes_nothing(network):
    told = inputs(6)
    valid = told["valid"]
    expected = run(network, told)[valid]
    torch.manual_seed(2)
    for name in ("noisy", "clean", "times_ms"):
        values = told[name]
        keep = valid[..., None] if values.ndim == 3 else valid
        told[name] = torch.where(keep, values, 50 * torch.randn(values.shape))
    told["given"] = told["given"] | ~valid
    assert torch.equal(run(network, told)[valid], expected)


def test_more_slots_change_nothing(network):
    short, long = inputs(5), inputs(8)
    expected = run(network, short)[short["valid"]]
    found = run(network, long)[long["valid"]]
    assert torch.allclose(found, expected, atol=2e-5, rtol=1e-4)


def test_given_frames_may_hold_any_noise(network):
    told = inputs(5)
    hidden = told["valid"] & ~told["given"]
    expected = run(network, told)[hidden]
    noise = torch.randn(told["noisy"].shape, generator=torch.Generator().manual_seed(3))
    other = {**told, "noisy": torch.where(told["given"][..., None], noise, told["noisy"])}
    assert torch.equal(run(network, other)[hidden], expected)
    # And what is given is read: other motion there gives other motion elsewhere.
    moved = {**told, "clean": told["clean"] + 0.5}
    assert not torch.allclose(run(network, moved)[hidden], expected, atol=1e-3)


def test_what_is_not_given_is_not_read(network):
    told = inputs(5)
    hidden = told["valid"] & ~told["given"]
    expected = run(network, told)[hidden]
    truth = torch.where(told["given"][..., None], told["clean"], told["clean"] + 1)
    assert torch.equal(run(network, {**told, "clean": truth})[hidden], expected)


def test_a_saved_network_has_the_same_weights(network, tmp_path):
    network.save_pretrained(tmp_path)
    loaded = MotionDFGN.from_pretrained(tmp_path)
    assert list(loaded.config["channels"]) == list(network.config["channels"])
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in loaded.state_dict().items())
    assert all(value.data_ptr() % 64 == 0 for value in loaded.parameters())
