"""Source and target share nothing that is held apart; batches are what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rdtf.errors import ConfigError
from rdtf.method.objective import build_objective
from rdtf.method.tasks import TASKS as ALL_TASKS
from rdtf.research.comparison.clips import (
    SOURCE,
    TARGET,
    TASKS,
    EqualLengthBatches,
    PaddedBatches,
    _check_disjoint,
    batches_of,
    conditions,
)
from rdtf.research.comparison.methods import METHODS, pretraining
from rdtf.synthetic.characters import KINDS

from .micro import BUDGET

EVERY = dict.fromkeys(ALL_TASKS, 1.0)


def test_the_domains_share_no_kind_and_no_style():
    assert not SOURCE.kinds & TARGET.kinds and not SOURCE.styles & TARGET.styles
    assert SOURCE.kinds | TARGET.kinds == set(KINDS)
    assert SOURCE.seed != TARGET.seed


@pytest.mark.parametrize("domain", [SOURCE, TARGET], ids=lambda domain: domain.name)
def test_stickers_of_a_domain_belong_to_it(domain):
    for sticker in domain.stickers(5, BUDGET):
        assert sticker.metadata["kind"] in domain.kinds
        assert sticker.metadata["style"] in domain.styles
        assert sticker.num_frames > 1 and len(sticker.captions) == BUDGET.captions
        assert sticker.metadata["concept"] in domain.concepts(5, BUDGET)


def test_prepared_domains_are_what_was_drawn(experiment):
    source, target = experiment.domains.source, experiment.domains.target
    for dataset, domain in ((source, SOURCE), (target, TARGET)):
        kinds = {clip.concept.split(":")[0] for clip in dataset.clips()}
        assert kinds <= domain.kinds
    assert not source.clips("val") and target.clips("val")
    held_out = {clip.concept for clip in target.clips("val")}
    assert not held_out & {clip.concept for clip in target.clips("train")}


def test_a_concept_that_is_held_out_must_not_be_in_the_source(experiment):
    target = experiment.domains.target
    concept = target.clips("val")[0].concept
    _check_disjoint({"cat:wave"}, "source X", target)
    with pytest.raises(ConfigError, match="source X has 1 of the"):
        _check_disjoint({"cat:wave", concept}, "source X", target)


# ------------------------------------------------------------------------------ batches


def builder(experiment, kind=EqualLengthBatches, seed=0, name="dfgn"):
    config = METHODS[name].config(BUDGET, seed)
    return kind(experiment.train, config, build_objective(config.objective))


def test_batches_hold_one_length_and_no_padding(experiment):
    made = builder(experiment)
    lengths = set()
    for step in range(12):
        (batch,) = made.step_batches(step, EVERY)
        assert batch.valid.all() and len(set(batch.info.num_frames)) == 1
        lengths.add(batch.info.num_frames[0])
    assert len(lengths) > 2 and max(lengths) <= BUDGET.max_frames and min(lengths) > 1


@pytest.mark.parametrize("name", METHODS)
def test_every_method_sees_the_same_clips_noise_and_levels(experiment, name):
    """In the same order, at every point; without the dual mask, padded beyond the clip's end."""
    method = METHODS[name]
    kind = EqualLengthBatches if method.dual_mask else PaddedBatches
    for step in (0, 3):
        (mine,) = builder(experiment, kind, name=name).step_batches(step, EVERY)
        (expected,) = builder(experiment).step_batches(step, EVERY)
        assert mine.info.clips == expected.info.clips
        assert mine.noise_keys == expected.noise_keys
        assert mine.t.equal(expected.t)
        if method.dual_mask:
            assert mine.stored["pixels"].equal(expected.stored["pixels"])
        for point in (1, 64):  # only the curriculum's horizon and its rate tell points apart
            config = method.config(BUDGET, 0, point)
            assert config.steps == BUDGET.steps * point
            assert replace(config, steps=BUDGET.steps) == method.config(BUDGET, 0)


def test_seeds_differ(experiment):
    one, two = (builder(experiment, seed=seed).step_batches(3, EVERY)[0] for seed in (0, 1))
    assert one.noise_keys != two.noise_keys


def test_pre_training_gives_nothing_and_tuning_always_something(experiment):
    for method, stage, given in (
        (pretraining("motion"), "tune", False),
        (METHODS["customize-a-video"], "appearance", False),
        (METHODS["customize-a-video"], "motion", True),
        (METHODS["simda"], "tune", True),
    ):
        config = method.config(BUDGET, 0)
        weights = method.curriculum(stage, config).task_weights(0.5)
        tasks = {
            task
            for step in range(8)
            for task in builder(experiment).step_batches(step, weights)[0].info.tasks
        }
        assert ("t2v" in tasks) is not given and (len(tasks) > 1) is given


def test_without_the_dual_mask_clips_repeat_their_last_frame(experiment):
    """Padded to the longest, all frames valid, and at most the first one given."""
    made, seen = builder(experiment, PaddedBatches), set()
    for step in range(8):
        (batch,) = made.step_batches(step, EVERY)
        assert batch.valid.all() and batch.valid.shape[1] == BUDGET.max_frames
        assert not batch.given[:, 1:].any() and set(batch.info.tasks) == {"it2v"}
        for row, clip in enumerate(batch.info.clips):
            count = min(int(experiment.train.num_frames[clip]), BUDGET.max_frames)
            pixels = batch.stored["pixels"][row]
            assert all(frame.equal(pixels[count - 1]) for frame in pixels[count:])
            seen.add(count)
    assert min(seen) < BUDGET.max_frames


# ------------------------------------------------------------------------ held-out clips


def test_held_out_clips_go_together_by_length(experiment):
    clips = experiment.clips
    found = [i for indices, _ in batches_of(clips, "it2v", 2) for i in indices]
    assert sorted(found) == list(range(len(clips)))
    for _, members in batches_of(clips, "it2v", 2):
        assert len({clip.num_frames for clip in members}) == 1 and len(members) <= 2


@pytest.mark.parametrize("task", TASKS)
def test_a_method_is_told_nothing_about_hidden_frames(experiment, task):
    clip = experiment.clips[0]
    told = conditions([clip], task, experiment.sampler.text_widths, experiment.device)
    given = np.zeros(clip.num_frames, dtype=bool)
    given[list(clip.known(task))] = True
    assert told.given[0].tolist() == given.tolist()
    hidden = told.clean[0][:, ~told.given[0]]
    assert not hidden.any() and told.clean[0].transpose(0, 1)[given].any()
    padded = conditions([clip], task, experiment.sampler.text_widths, experiment.device, pad_to=8)
    assert padded.clean.shape[2] == 8 and not padded.given[:, clip.num_frames :].any()
