from __future__ import annotations

import pytest
import torch
from torch import nn

from rdtf.training.distributed import Ranks
from rdtf.training.optimizer import EMA


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def averages(ema: EMA, index: int = 0) -> dict[str, torch.Tensor]:
    return ema.state_tensors(Ranks())[index]


def move(model: nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by)


def assert_equal(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=0)


def test_swapped_shows_the_averages_and_gives_the_own_weights_back():
    model = small_model()
    ema = EMA(model, decays=[0.5])
    expected = weights(model)
    move(model, 1.0)
    own = weights(model)
    with ema.swapped(model):
        assert_equal(weights(model), expected)
    assert_equal(weights(model), own)


def test_swapped_gives_the_own_weights_back_after_an_error():
    model = small_model()
    ema = EMA(model, decays=[0.5])
    move(model, 1.0)
    own = weights(model)
    with pytest.raises(RuntimeError, match="in the block"), ema.swapped(model):
        raise RuntimeError("in the block")
    assert_equal(weights(model), own)


def test_what_the_block_does_to_the_weights_reaches_neither_copy():
    model = small_model()
    ema = EMA(model, decays=[0.5])
    own, kept = weights(model), {k: v.clone() for k, v in averages(ema).items()}
    with ema.swapped(model):
        move(model, 100.0)
    assert_equal(weights(model), own)
    assert_equal(averages(ema), kept)


def test_the_decay_warms_up_to_its_final_value():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = EMA(model, decays=[0.25])
    nn.init.ones_(model.weight)
    seen = []
    for _ in range(3):
        before = float(averages(ema)["weight"])
        ema.update(model)
        seen.append((1 - float(averages(ema)["weight"])) / (1 - before))
    assert seen == pytest.approx([2 / 11, 3 / 12, 0.25], abs=1e-5)


def test_a_loaded_state_is_a_copy_and_goes_on_exactly():
    model = small_model()
    first = EMA(model, decays=[0.9])
    for _ in range(3):
        move(model, 0.1)
        first.update(model)
    saved = {name: value.clone() for name, value in averages(first).items()}
    second = EMA(small_model(), decays=[0.9])
    second.load_state_tensors([saved], first.num_updates)
    for value in saved.values():
        value.fill_(float("nan"))
    assert_equal(averages(second), averages(first))
    move(model, 0.1)
    first.update(model)
    second.update(model)
    assert second.num_updates == first.num_updates == 4
    assert_equal(averages(second), averages(first))


def test_averages_are_float32_and_buffers_are_left_alone():
    model = small_model().to(torch.bfloat16)
    ema = EMA(model, decays=[0.9])
    ema.update(model)
    assert {value.dtype for value in averages(ema).values()} == {torch.float32}
    assert "1.running_mean" not in averages(ema)


def test_several_averages_each_follow_their_own_decay():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = EMA(model, decays=[0.0, 0.15])
    nn.init.ones_(model.weight)
    ema.update(model)
    assert float(averages(ema, 0)["weight"]) == 1.0
    assert float(averages(ema, 1)["weight"]) == pytest.approx(0.85)
    with ema.swapped(model, 1):
        assert float(model.weight) == pytest.approx(0.85)


def test_rare_updates_move_as_far():
    """Every 4th step by decay⁴: the same where the weights stand still."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    often, rarely = EMA(model, [0.9]), EMA(model, [0.9], every=4)
    nn.init.ones_(model.weight)
    for _ in range(400):
        often.update(model)
        rarely.update(model)
    assert float(averages(often)["weight"]) == pytest.approx(1.0, abs=1e-4)
    assert float(averages(rarely)["weight"]) == pytest.approx(1.0, abs=1e-4)
    fresh = EMA(model, [0.9], every=4)
    nn.init.zeros_(model.weight)
    for _ in range(3):
        fresh.update(model)
    assert float(averages(fresh)["weight"]) == 1.0
