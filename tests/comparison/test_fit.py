"""The training loop: decays branched off the main run, stages, stopping without a trace."""

from __future__ import annotations

import pytest
import torch

from rdtf.errors import UserError
from rdtf.research.comparison.fit import Fit, Stopped, Watch
from rdtf.research.comparison.methods import METHODS
from rdtf.training.distributed import Ranks
from rdtf.training.progress import StopSignals

from .micro import BUDGET, make_fit


@pytest.fixture
def watch() -> Watch:
    return Watch(StopSignals())


class StopAt(Watch):
    """Asked to stop before the step of this number."""

    def __init__(self, step: int) -> None:
        super().__init__(StopSignals())
        self.left = step

    def reason(self) -> str:
        self.left -= 1
        return "interrupted" if self.left < 0 else ""


def state(fit: Fit) -> dict[str, torch.Tensor]:
    own = {name: p.detach().clone() for name, p in fit.network.own_parameters().items()}
    moments = fit.trainer.optimizer.state_tensors(Ranks())
    return own | {name: value.clone() for name, value in moments.items()}


def assert_same(a: Fit, b: Fit) -> None:
    mine, theirs = state(a), state(b)
    assert mine.keys() == theirs.keys() and all(mine[key].equal(theirs[key]) for key in mine)
    assert (a.step, a.clips, a.flops, a.losses) == (b.step, b.clips, b.flops, b.losses)
    assert a.curriculum.state_dict() == b.curriculum.state_dict()


@pytest.mark.parametrize("name", ["dual-mask", "customize-a-video", "full-fine-tuning"])
def test_a_branch_is_a_run_that_decayed_there_and_leaves_the_main_run(
    experiment, watch, tmp_path, name
):
    """Equal bits, optimizer included; the second stage begins between the branches."""
    method, unit = METHODS[name], experiment.unit
    make = lambda folder, **options: make_fit(experiment, method, tmp_path / folder, **options)  # noqa: E731
    for point in (1, 2):  # as the comparison does it
        branched = experiment._train(
            make("probe").plan, tmp_path / "curve", point * unit, lambda text: None
        )
        straight = make(f"straight {point}")
        straight.run(0.8 * point * unit, watch)
        straight.decay = 0.8 * point * unit, point * unit
        straight.run(point * unit, watch)
        assert_same(straight, branched)
        assert branched.stage == len(branched.network.stages) - 1
        Fit.remove(tmp_path / "curve" / "branch")
    main, never = make("curve"), make("never branched")
    never.run(2 * 0.8 * unit, watch)
    assert_same(main, never)
    constant = make("constant")
    constant.run(unit, watch)
    kept, decayed = state(constant), state(make("again", start=tmp_path / "curve"))
    assert any(not kept[key].equal(decayed[key]) for key in kept)


@pytest.mark.parametrize("name", ["dfgn", "customize-a-video"])
def test_stopping_changes_nothing(experiment, watch, tmp_path, name):
    """At every step in turn, the first one and those around a change of stage included."""
    method, unit = METHODS[name], experiment.unit
    whole = experiment._train(
        make_fit(experiment, method, tmp_path / "x").plan, tmp_path / "whole", 1.5 * unit, print
    )
    parts, stops = None, 0
    while parts is None:
        try:
            plan = make_fit(experiment, method, tmp_path / "x").plan
            experiment.watch, kept = StopAt(1), experiment.watch
            parts = experiment._train(plan, tmp_path / "parts", 1.5 * unit, lambda text: None)
        except Stopped:
            stops += 1
        finally:
            experiment.watch = kept
    assert stops >= whole.step - 2
    assert_same(whole, parts)


def test_the_rate_is_constant_and_falls_to_zero_in_the_branch(experiment, watch, tmp_path):
    fit = make_fit(experiment, METHODS["dfgn"], tmp_path)
    fit.run(experiment.unit / 2, watch)
    rate = fit.trainer.optimizer.learning_rate
    assert rate == METHODS["dfgn"].learning_rate
    fit.decay = fit.spent, 2 * fit.spent
    start, rates = fit.spent, []
    while fit.spent < 2 * start:
        expected = rate * (2 * start - fit.spent) / start
        fit.run(fit.spent + 1, watch)
        rates.append(fit.trainer.optimizer.learning_rate)
        assert rates[-1] == pytest.approx(expected)
    assert rates == sorted(rates, reverse=True) and 0 < rates[-1] < rate


def test_flops_are_those_of_the_batches(experiment, watch, tmp_path):
    fit = make_fit(experiment, METHODS["dfgn"], tmp_path)
    builder, (table,) = fit.plan.batches, fit.plan.tables.values()
    fit.run(experiment.unit, watch)
    weights = fit.curriculum.task_weights(0.5)  # which tasks are drawn changes no shape
    expected = 0
    for step in range(fit.step):
        (batch,) = builder.step_batches(step, weights)
        tokens = max(mask.shape[1] for mask in batch.text_mask)
        expected += table.per_batch(batch.valid.shape[1], tokens)
    assert fit.clips == 2 * fit.step and fit.flops == pytest.approx(expected, rel=0.1)
    assert 0.5 * BUDGET.steps <= fit.step <= 2 * BUDGET.steps


def test_the_deadline_is_kept_before_a_step(experiment, tmp_path):
    fit = make_fit(experiment, METHODS["dfgn"], tmp_path)
    with pytest.raises(Stopped, match="time is up"):
        fit.run(1.0, Watch(StopSignals(), deadline=0.0))
    assert fit.step == 0 and (tmp_path / "checkpoints").is_dir()


def test_a_run_that_diverges_is_told(experiment, watch, tmp_path):
    fit = make_fit(experiment, METHODS["dfgn"], tmp_path)
    with torch.no_grad():
        next(iter(fit.network.parameters())).fill_(float("nan"))
    with pytest.raises(UserError, match="dfgn diverged: "):
        fit.run(100 * experiment.unit, watch)


def test_a_checkpoint_of_another_network_is_refused(experiment, tmp_path):
    make_fit(experiment, METHODS["dfgn"], tmp_path).save()
    with pytest.raises(UserError, match="does not fit"):
        make_fit(experiment, METHODS["conv3d"], tmp_path)
