"""Affine motion: flows, fitting, another frame as the reference."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rdtf.models.matching import grid_positions
from rdtf.models.motion_latents import (
    NUM_PARAMETERS,
    _decompose,
    _inverse_2x2,
    backward_flow,
    fit,
    linear_part,
    relative_to,
)

MOVES = {
    "nothing": [0, 0, 0, 0, 0, 0],
    "shift": [0.3, -0.2, 0, 0, 0, 0],
    "turn": [0, 0, 0.9, 0, 0, 0],
    "turn back": [0, 0, -2.8, 0, 0, 0],
    "grow": [0, 0, 0, 0.4, 0.4, 0],
    "squash": [0, 0.2, 0, 0.3, -0.6, 0],
    "shear": [0, 0, 0, 0, 0, 0.5],
    "all": [-0.25, 0.1, 0.6, 0.2, -0.3, 0.25],
}


def moves(count: int, spread: float = 0.3) -> torch.Tensor:
    return torch.randn(count, NUM_PARAMETERS, dtype=torch.float64) * spread


def forward(parameters: torch.Tensor, centre: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Where points `[n, 2]` of the reference go: q = c + shift + G (p − c)."""
    moved = (points - centre) @ linear_part(parameters).mT
    return centre + parameters[..., :2] + moved


def test_positions_are_of_cell_centres():
    places = grid_positions(2, 4, torch.zeros(()))
    assert places[0, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert places[1, :, 0].tolist() == [-0.5, 0.5]


@pytest.mark.parametrize("move", MOVES)
def test_flow_looks_back_where_points_came_from(move):
    parameters = torch.tensor(MOVES[move], dtype=torch.float64)
    centre = torch.tensor([0.2, -0.1], dtype=torch.float64)
    flow = backward_flow(parameters, centre, 5, 7)
    assert flow.shape == (2, 5, 7)
    here = grid_positions(5, 7, flow).flatten(1).T
    came_from = here + flow.flatten(1).T
    assert torch.allclose(forward(parameters, centre, came_from), here)
    assert (move == "nothing") == (flow.abs().max().item() < 1e-12)


def test_a_shift_moves_pixels():
    """One pixel to the right is 2 / width; the flow points back to the left."""
    picture = torch.zeros(1, 1, 8, 8)
    picture[0, 0, 3, 4] = 1
    flow = backward_flow(torch.tensor([[2 / 8, 0, 0, 0, 0, 0.0]]), torch.zeros(1, 2), 8, 8)
    places = (flow + grid_positions(8, 8, flow)).permute(0, 2, 3, 1)
    moved = F.grid_sample(picture, places, align_corners=False)
    assert moved[0, 0].argmax().item() == 3 * 8 + 5


@pytest.mark.parametrize("move", MOVES)
def test_fit_recovers_parameters(move):
    parameters = torch.tensor(MOVES[move], dtype=torch.float64)
    centre = torch.tensor([-0.1, 0.15], dtype=torch.float64)
    flow = backward_flow(parameters, centre, 16, 16)
    found = fit(flow, torch.ones(16, 16, dtype=torch.float64), centre)
    assert torch.allclose(found, parameters, atol=0.01), found - parameters


def test_fit_looks_where_something_is():
    """A thing in one corner moves; what flows elsewhere does not count."""
    parameters = moves(3)
    centre = torch.full((3, 2), -0.4, dtype=torch.float64)
    flow = backward_flow(parameters, centre, 16, 16)
    weight = torch.zeros(3, 16, 16, dtype=torch.float64)
    weight[:, 2:9, 1:8] = 1
    noisy = torch.where(weight[:, None] > 0, flow, torch.randn_like(flow))
    found = fit(noisy, weight, centre)
    assert torch.allclose(found, fit(flow, weight, centre))
    assert (found - parameters).abs().max() < 0.05


def test_fit_of_nothing_is_no_motion():
    flow = torch.randn(2, 2, 16, 16)
    assert fit(flow, torch.zeros(2, 16, 16), torch.zeros(2, 2)).abs().max() < 1e-4


def test_inverse_and_decomposition():
    linear = linear_part(moves(50))
    identity = torch.eye(2, dtype=torch.float64).expand(50, 2, 2)
    assert torch.allclose(_inverse_2x2(linear) @ linear, identity)
    assert _inverse_2x2(torch.zeros(2, 2)).isfinite().all()
    parameters = moves(50)
    assert torch.allclose(_decompose(linear_part(parameters)), parameters[:, 2:])


def test_decomposition_counts_whole_turns():
    parameters = torch.tensor([[0, 0, 7.0, 0.1, 0.2, 0.3]], dtype=torch.float64)
    linear = linear_part(parameters)
    assert torch.allclose(_decompose(linear, torch.tensor([6.5])), parameters[:, 2:])
    assert _decompose(linear)[0, 0] == pytest.approx(7.0 - 2 * torch.pi)


def test_relative_to_composes():
    """Rest → reference, then reference → frame, is rest → frame."""
    parameters, reference = moves(12, 0.2).view(3, 4, 6), moves(3, 0.2)
    centre = torch.randn(3, 2, dtype=torch.float64) * 0.2
    centre_then = centre + reference[:, :2]
    relative = relative_to(parameters, reference, centre, centre_then)
    points = torch.randn(20, 2, dtype=torch.float64)
    for clip in range(3):
        then = forward(reference[clip], centre[clip], points)
        for frame in range(4):
            directly = forward(parameters[clip, frame], centre[clip], points)
            composed = forward(relative[clip, frame], centre_then[clip], then)
            assert torch.allclose(composed, directly)


def test_relative_to_itself_is_no_motion_and_to_rest_changes_nothing():
    parameters = moves(8).view(2, 4, 6)
    centre = torch.tensor([[0.1, 0.2], [-0.3, 0.0]], dtype=torch.float64)
    then = parameters[:, 1]
    itself = relative_to(parameters, then, centre, centre + then[:, :2])[:, 1]
    assert itself.abs().max() < 1e-9
    rest = torch.zeros(2, 6, dtype=torch.float64)
    assert torch.allclose(relative_to(parameters, rest, centre, centre), parameters)


def test_relative_turns_go_on_counting():
    turns = torch.linspace(0, 12, 5, dtype=torch.float64)
    parameters = torch.zeros(1, 5, 6, dtype=torch.float64)
    parameters[0, :, 2] = turns
    centre = torch.zeros(1, 2, dtype=torch.float64)
    relative = relative_to(parameters, parameters[:, 1], centre, centre)
    assert torch.allclose(relative[0, :, 2], turns - turns[1])
