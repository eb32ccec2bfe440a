from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rdtf.models.warp import _in_units, _RefinementStage, _total_flow, possible_widths

from .networks import perturb, unused_parameters

PIXELS, WIDTH, SIDE = 2, 6, 16  # channels of the references, width, pixels a side
STAGES = {"middle": (4, 5, False), "last": (2, 0, True), "coarse last": (4, 0, True)}
every_stage = pytest.mark.parametrize(
    ("cell", "context", "last"), STAGES.values(), ids=STAGES.keys()
)


def stage(cell: int, context: int, last: bool) -> _RefinementStage:
    return _RefinementStage(PIXELS, WIDTH, context, cell, last)


def inputs(cell: int) -> tuple[Tensor, ...]:
    """State on the grid before (cells twice as large), flow as matched, references, noisy frame."""
    before = SIDE // (2 * cell)
    return (
        torch.randn(1, 4 + 3 + PIXELS + WIDTH, before, before) * 0.1,
        torch.randn(1, 2, 2, 8, 8) * 0.1,
        torch.randn(1, 2, PIXELS, SIDE, SIDE),
        torch.randn(1, PIXELS, SIDE, SIDE),
    )


@every_stage
def test_a_new_stage_changes_nothing_but_the_grid(cell, context, last):
    given_state, *rest = inputs(cell)
    out = stage(cell, context, last)(given_state, *rest)
    finer = F.interpolate(given_state, scale_factor=2, mode="bilinear")
    per_cell = cell**2 if last else 1
    assert out.shape == (1, 4 + (3 + PIXELS) * per_cell + context, SIDE // cell, SIDE // cell)
    torch.testing.assert_close(out[:, :4], finer[:, :4])
    for kind in range(3 + PIXELS):  # every pixel of a cell starts with what its cell said
        of_cell = out[:, 4 + kind * per_cell : 4 + (kind + 1) * per_cell]
        expected = finer[:, 4 + kind, None].expand_as(of_cell.transpose(0, 1)).transpose(0, 1)
        torch.testing.assert_close(of_cell, expected)


@every_stage
@pytest.mark.parametrize("place", range(4))
def test_a_stage_looks_at_all_it_gets(cell, context, last, place):
    network, values = perturb(stage(cell, context, last)), list(inputs(cell))
    expected = network(*values)
    values[place] = values[place] + 0.5 * torch.randn_like(values[place])
    assert (network(*values) - expected).abs().max() > 1e-3


@every_stage
def test_gradients_reach_every_parameter(cell, context, last):
    network = perturb(stage(cell, context, last))
    network(*inputs(cell)).square().mean().backward()
    assert unused_parameters(network) == []


def test_units_are_half_cells_for_flows_alone():
    out = _in_units(torch.ones(1, 7, 2, 2), side=8)
    assert out[:, :4].eq(1 / 8).all() and out[:, 4:].eq(1).all()


def test_corrections_are_added_to_what_was_matched():
    base = torch.tensor([[[0.1, 0.2], [-0.3, 0.4]]])[..., None, None].expand(-1, -1, -1, 3, 3)
    corrections = torch.tensor([[1.0, 2.0, 3.0, 4.0]])[..., None, None].expand(-1, -1, 6, 6)
    total = _total_flow(corrections, base)
    assert total.shape == (1, 2, 2, 6, 6)
    expected = torch.tensor([[1.1, 2.2], [2.7, 4.4]])
    torch.testing.assert_close(total[0, :, :, 2, 3], expected)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("spoiled", [0, 1])
def test_total_flow_is_always_a_number(value, spoiled):
    parts = [torch.zeros(1, 4, 4, 4), torch.zeros(1, 2, 2, 4, 4)]
    parts[spoiled].view(-1)[5] = value
    assert _total_flow(*parts).isfinite().all()


# ------------------------------------------------------------------ how many


@pytest.mark.parametrize(
    ("patch", "expected"),
    [(1, ()), (2, ()), (3, ()), (4, (24,)), (6, ()), (8, (48, 24)), (12, (24,)), (16, (48, 24))],
)
def test_the_last_widths_are_kept(patch, expected):
    assert possible_widths((48, 24), patch) == expected


@given(widths=st.lists(st.integers(1, 99), max_size=5).map(tuple), patch=st.integers(1, 64))
def test_cells_stay_whole(widths, patch):
    kept = possible_widths(widths, patch)
    assert widths[len(widths) - len(kept) :] == kept
    assert not kept or patch % 2 ** (len(kept) + 1) == 0
    assert len(kept) == len(widths) or patch % 2 ** (len(kept) + 2)
