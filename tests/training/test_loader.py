"""The same batches from no worker, two and four; resumed at any step with another number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures_runs import tiny_config
from rdtf.method.curriculum import Curriculum
from rdtf.method.objective import build_objective
from rdtf.method.tasks import TASKS
from rdtf.training.batches import BatchBuilder, PackedBatch
from rdtf.training.config import TrainConfig
from rdtf.training.loader import (
    LEAD_STEPS,
    MAX_WORKERS,
    CurriculumLookahead,
    load_ahead,
    open_stores,
    resolve_workers,
)

from .stores import MemoryStore

STEPS = 24


def loaded(
    builder: BatchBuilder, foresight: CurriculumLookahead, steps: range, num_workers: int
) -> Iterator[list[PackedBatch]]:
    requests = ((step, foresight.task_weights(step)) for step in steps)
    return load_ahead(lambda it: builder.step_batches(*it), requests, num_workers=num_workers)


def feed(curriculum: Curriculum, step: int) -> None:
    random = np.random.default_rng(step)
    curriculum.observe(random.random(3).tolist(), [0.2, 0.5, 0.8], ["t2v", "i2v", "interpolation"])


def consume(
    config: TrainConfig,
    num_workers: int,
    first: int = 0,
    foresight: CurriculumLookahead | None = None,
) -> list[list[PackedBatch]]:
    """Batches of the steps from `first` on, the curriculum moving as in training."""
    curriculum = Curriculum(config.curriculum)
    foresight = CurriculumLookahead(curriculum, STEPS)
    for step in range(first):
        feed(curriculum, step)
        foresight.step_done()
    builder = BatchBuilder(
        MemoryStore((1, 6, 2, 4, 1, 3, 5, 2, 8, 4)), config, build_objective(config.objective)
    )
    loader = loaded(builder, foresight, range(first, STEPS), num_workers)
    seen = []
    for step, batches in enumerate(loader, first):
        seen.append(batches)
        feed(curriculum, step)
        foresight.step_done()
    return seen


def assert_same(actual: list[list[PackedBatch]], expected: list[list[PackedBatch]]) -> None:
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        for first, second in zip(a, b, strict=True):
            assert first.info == second.info and first.noise_keys == second.noise_keys
            assert torch.equal(first.given, second.given)
            assert torch.equal(first.stored["mean"], second.stored["mean"])
            assert torch.equal(first.text[0], second.text[0])


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    return tiny_config(batch_size=4, micro_batch_size=2, curriculum__mode="adaptive")


@pytest.mark.parametrize(("num_workers", "first"), [(1, 0), (2, 7), (4, 3), (MAX_WORKERS, 0)])
def test_the_same_batches_from_any_number_of_workers(config, num_workers, first):
    assert_same(consume(config, num_workers, first), consume(config, 0)[first:])


def test_the_curriculum_moves_the_tasks_of_the_test():
    """Otherwise the tests above would prove little."""
    adaptive = consume(tiny_config(batch_size=4, curriculum__mode="adaptive"), 0)
    fixed = consume(tiny_config(batch_size=4, curriculum__mode="static"), 0)
    pairs = zip(adaptive, fixed, strict=True)
    assert any(a[0].info.tasks != b[0].info.tasks for a, b in pairs)


def test_an_error_in_a_worker_reaches_the_trainer(training_set):
    config = tiny_config(steps=5, num_workers=2)
    store = open_stores(training_set, config)[1]
    store.clips = store.clips[:0]
    builder = BatchBuilder(store, config, build_objective(config.objective))
    foresight = CurriculumLookahead(Curriculum(config.curriculum), 5)
    with pytest.raises(IndexError):
        next(loaded(builder, foresight, range(5), 2))


def test_a_set_elsewhere_trains_as_one_here(training_set, tmp_path, monkeypatch):
    """At an fsspec address: the index and the caches are local, shards are read where they are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fsspec.filesystem("memory").put(str(training_set / "*"), "/bucket/train/", recursive=True)
    config = tiny_config(batch_size=4, data__sampling="concepts", curriculum__easy_until=0.5)
    objective = build_objective(config.objective)
    here, there = (
        BatchBuilder(open_stores(data, config)[1], config, objective)
        for data in (training_set, Path("memory://bucket/train"))
    )
    weights = dict.fromkeys(TASKS, 1.0)
    for step in (0, 3, 40):
        (ours,), (theirs,) = here.step_batches(step, weights), there.step_batches(step, weights)
        assert ours.info == theirs.info
        assert all(torch.equal(ours.stored[key], theirs.stored[key]) for key in ours.stored)


def test_workers_by_device():
    assert resolve_workers(-1, torch.device("cpu")) == 0
    assert 0 <= resolve_workers(-1, torch.device("cuda")) <= 4
    assert resolve_workers(3, torch.device("cpu")) == 3


# -------------------------------------------------------------------------- foresight


@settings(max_examples=20)
@given(st.integers(0, 30), st.lists(st.floats(0.1, 10), min_size=30, max_size=30))
def test_weights_are_settled_in_advance_and_by_what_was_seen(stop, losses):
    """Those of step k + LEAD_STEPS follow from steps before k + 1, also across a checkpoint."""
    curriculum, seen = Curriculum(), []
    foresight = CurriculumLookahead(curriculum, 100)
    expected: list[Callable[[], float] | float] = [0.5] * LEAD_STEPS
    for step, loss in enumerate(losses):
        ahead = [foresight.task_weights(k) for k in range(step, step + LEAD_STEPS)]
        seen.append(ahead[0])
        curriculum.observe([loss], [0.5], ["t2v"])
        foresight.step_done()
        expected.append(curriculum.quantile)
        assert [foresight.task_weights(k) for k in range(step + 1, step + LEAD_STEPS)] == ahead[1:]
        if step == stop:
            state, foresight = foresight.state_dict(), CurriculumLookahead(curriculum, 100)
            foresight.load_state_dict(state)
    assert seen == [
        Curriculum().task_weights(step / 100, expected[step]) for step in range(len(losses))
    ]
