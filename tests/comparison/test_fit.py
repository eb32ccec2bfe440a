"""The training loop: milestones, stages, and stopping at any step without a trace."""

from __future__ import annotations

import shutil

import pytest
import torch

from rdtf.errors import UserError
from rdtf.research.comparison.fit import Fit, Milestone, Stopped, Watch
from rdtf.research.comparison.methods import METHODS
from rdtf.training.progress import StopSignals

from .micro import make_fit

STEPS = 6


@pytest.fixture(scope="module")
def with_bases(experiment):
    """The experiment, with a motion U-Net too: full fine-tuning has dropout."""
    experiment._pretrain("motion")
    return experiment


def weights(fit: Fit) -> dict[str, torch.Tensor]:
    own = {f"own {name}": p for name, p in fit.network.own_parameters().items()}
    with fit.averaged():
        averages = {f"avg {n}": p.detach().clone() for n, p in fit.view.named_parameters()}
    return {name: p.detach().clone() for name, p in own.items()} | averages


def run(experiment, method, folder, *, stop_at: int = -1, **limits) -> Fit:
    """Six steps, looked at after each; a signal comes when step `stop_at` is looked at."""
    signals = StopSignals()
    fit = make_fit(experiment, method, folder, **limits)

    def look(milestone: Milestone, fit: Fit) -> dict[str, float]:
        signals.received = signals.received or fit.step == stop_at
        total = sum(float(p.detach().double().sum()) for p in fit.view.parameters())
        return {"sum": total}

    fit.run([Milestone(f"at {n}", steps=n) for n in range(STEPS + 1)], look, Watch(signals))
    return fit


@pytest.mark.parametrize("name", ["dfgn", "customize-a-video", "full-fine-tuning"])
def test_stopping_changes_nothing(with_bases, tmp_path, name):
    """At every step in turn, the first one and those around a change of stage included."""
    method = METHODS[name]
    probe = run(with_bases, method, tmp_path / "probe")
    limits = {"flops": probe.flops * 0.9}  # the second stage begins in the middle
    whole = run(with_bases, method, tmp_path / "whole", **limits)
    folder = tmp_path / "parts"
    for stop_at in range(STEPS):
        with pytest.raises(Stopped, match="interrupted"):
            run(with_bases, method, folder, stop_at=stop_at, **limits)
    parts = run(with_bases, method, folder, **limits)
    assert parts.losses == whole.losses and parts.shapes == whole.shapes
    assert (parts.step, parts.clips, parts.flops) == (whole.step, whole.clips, whole.flops)
    for key, seen in whole.passed.items():
        assert seen["sum"] == parts.passed[key]["sum"], key
    mine, theirs = weights(whole), weights(parts)
    assert mine.keys() == theirs.keys()
    assert all(mine[key].equal(theirs[key]) for key in mine)
    assert whole.stage == len(whole.network.stages) - 1


def test_milestones_come_with_whatever_is_used_up_first(experiment, tmp_path):
    fit = make_fit(experiment, METHODS["dfgn"], tmp_path)
    passed = []
    milestones = [
        Milestone("start", flops=0.0),
        Milestone("flops", flops=1.0),
        Milestone("steps", steps=3),
        Milestone("time", seconds=1e-9),
    ]
    fit.run(milestones, lambda m, f: passed.append((m.name, f.step)) or {}, Watch(StopSignals()))
    assert passed == [("start", 0), ("flops", 1), ("time", 1), ("steps", 3)]
    assert fit.passed["steps"]["clips"] == 3 * 2
    assert 0 < fit.passed["flops"]["flops"] < fit.passed["steps"]["flops"] == fit.flops


def test_flops_are_those_of_the_batches(experiment, tmp_path):
    fit = make_fit(experiment, METHODS["dfgn"], tmp_path)
    fit.run([Milestone("end", steps=5)], lambda m, f: {}, Watch(StopSignals()))
    (table,) = fit.plan.tables.values()
    expected = sum(count * table.per_batch(*shape) for shape, count in fit.shapes.items())
    assert fit.flops == expected and sum(fit.shapes.values()) == 5


def test_the_deadline_is_kept_before_a_step(experiment, tmp_path):
    fit = make_fit(experiment, METHODS["dfgn"], tmp_path)
    with pytest.raises(Stopped, match="time is up"):
        fit.run([Milestone("end", steps=5)], lambda m, f: {}, Watch(StopSignals(), deadline=0.0))
    assert fit.step == 0 and (tmp_path / "checkpoints").is_dir()
    fit.remove_checkpoints()
    assert not (tmp_path / "checkpoints").exists()


def test_what_a_stage_has_learned_stays_as_its_average(experiment, tmp_path):
    """In the second stage of Customize-A-Video the absorber is frozen at its averaged weights."""
    method = METHODS["customize-a-video"]
    probe = run(experiment, method, tmp_path / "probe")
    fit = make_fit(experiment, method, tmp_path / "fit", flops=probe.flops)
    seen = {}

    def look(milestone: Milestone, fit: Fit) -> dict[str, float]:
        seen[fit.step] = (
            fit.stage,
            {n: p.detach().clone() for n, p in fit.network.own_parameters().items()},
        )
        return {}

    milestones = [Milestone(str(n), steps=n) for n in range(STEPS + 1)]
    fit.run(milestones, look, Watch(StopSignals()))
    stages = [stage for stage, _ in seen.values()]
    assert stages == sorted(stages) and set(stages) == {0, 1}
    last, first = stages.index(1) - 1, stages.index(1)
    for name, value in seen[last][1].items():
        if name.startswith("appearance"):
            assert value.equal(seen[first][1][name]) and value.equal(seen[STEPS][1][name])
    assert any(
        not value.equal(seen[STEPS][1][name])
        for name, value in seen[first][1].items()
        if name.startswith("motion")
    )


def test_a_run_that_diverges_is_told(experiment, tmp_path):
    fit = make_fit(experiment, METHODS["dfgn"], tmp_path)
    with torch.no_grad():
        next(iter(fit.network.parameters())).fill_(float("nan"))
    with pytest.raises(UserError, match="dfgn diverged at step"):
        fit.run([Milestone("end", steps=20)], lambda m, f: {}, Watch(StopSignals()))


def test_a_checkpoint_of_another_network_is_refused(experiment, tmp_path):
    run(experiment, METHODS["dfgn"], tmp_path / "run").save()
    with pytest.raises(UserError, match="does not fit"):
        make_fit(experiment, METHODS["dfgn-warp-decoder"], tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
