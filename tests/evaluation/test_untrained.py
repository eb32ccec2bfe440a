"""The same model with fresh weights: a row of every table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks.goals import find_goals, goals_table

from fixtures_runs import tiny_run, training_set
from rdtf.evaluation.evaluate import (
    UNTRAINED,
    evaluate,
    held_out_stickers,
    score_model,
    untrained_copy,
)
from rdtf.evaluation.results import MODEL, as_cell
from rdtf.training.run import load_pipeline

__all__ = ["tiny_run", "training_set"]


@pytest.fixture
def pipeline(tiny_run):
    pipe = load_pipeline(tiny_run)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def weights(pipeline):
    return {name: value.clone() for name, value in pipeline.denoiser.state_dict().items()}


def test_weights_are_fresh_and_all_else_is_the_same(pipeline):
    before, state = weights(pipeline), torch.random.get_rng_state()
    fresh, again, other = (weights(untrained_copy(pipeline, seed)) for seed in (0, 0, 1))
    assert torch.random.get_rng_state().equal(state)
    assert before.keys() == fresh.keys()
    assert any(not before[name].equal(fresh[name]) for name in before)
    assert all(again[name].equal(fresh[name]) for name in fresh)
    assert any(not other[name].equal(fresh[name]) for name in fresh)
    made = untrained_copy(pipeline)
    assert made.scheduler is pipeline.scheduler and made.canvas == pipeline.canvas
    assert made.denoiser.config == pipeline.denoiser.config and not made.denoiser.training
    assert all(before[name].equal(value) for name, value in weights(pipeline).items())


def test_it_is_what_a_run_begins_with(pipeline):
    """Where training starts at zero, the copy does, too."""
    zero = [name for name, value in weights(untrained_copy(pipeline)).items() if not value.any()]
    assert any("conv" in name for name in zero)
    assert any(weights(pipeline)[name].any() for name in zero)


def test_its_row_has_the_same_clips_and_the_same_noise(pipeline, training_set):
    stickers = held_out_stickers(training_set, pipeline)[:2]
    result = score_model(pipeline, stickers, tasks=("it2v",), num_inference_steps=2)
    found = {m: [r for r in result.records if r.method == m] for m in (MODEL, UNTRAINED)}
    assert [r.clip for r in found[MODEL]] == [r.clip for r in found[UNTRAINED]]
    assert all(record.scores["given_error"] == 0 for record in found[UNTRAINED])
    alone = evaluate(untrained_copy(pipeline), stickers, tasks=("it2v",), num_inference_steps=2)
    mine = [record.scores["psnr"] for record in alone.records if record.method == MODEL]
    assert mine == [record.scores["psnr"] for record in found[UNTRAINED]]
    without = score_model(pipeline, stickers, tasks=("it2v",), num_inference_steps=2,
                          untrained=False)  # fmt: skip
    assert UNTRAINED not in {row.method for row in without.rows}
    same = [r.scores["psnr"] for r in without.records if r.method == MODEL]
    assert same == [record.scores["psnr"] for record in found[MODEL]]


def test_every_table_has_it(pipeline, training_set):
    stickers = held_out_stickers(training_set, pipeline)[:2]
    result = score_model(pipeline, stickers, num_inference_steps=1, num_examples=1)
    tasks = {row.task for row in result.rows}
    for table in (result.score_table(), result.comparison_table()):
        rows = {(str(row[0]), str(row[1])) for row in table.rows}
        assert {(task, UNTRAINED) for task in tasks} <= rows
    assert all(UNTRAINED in example.results for example in result.examples)
    table = goals_table(find_goals(result.records))
    column = list(table.headers).index("untrained")
    cells = {row[1]: as_cell(row[column]).text for row in table.rows}
    before = {record.clip: record.scores["psnr"] for record in result.records
              if (record.task, record.method) == ("interpolation", UNTRAINED)}  # fmt: skip
    blend = [record.scores["psnr"] for record in result.records
             if (record.task, record.method) == ("interpolation", "linear blend")]  # fmt: skip
    gained = np.mean(list(before.values())) - np.mean(blend)
    assert cells["PSNR − linear blend"] == f"{gained:+.2f}"
    models = [record for record in result.records if record.method != UNTRAINED]
    assert "untrained" not in goals_table(find_goals(models)).headers
