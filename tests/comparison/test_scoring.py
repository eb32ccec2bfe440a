"""How networks are sampled, and whether the scores say what they should."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.test_perceptual import real_network
from rdtf.evaluation.metrics import PERCEPTUAL
from rdtf.evaluation.perceptual import I3D, Lpips, frechet_distance
from rdtf.evaluation.sets import pair_terms, set_distance
from rdtf.method.objective import build_objective
from rdtf.research.comparison.clips import TASKS, HeldOutClip
from rdtf.research.comparison.curve import Row, differences, values_at
from rdtf.research.comparison.methods import METHODS, REFERENCE, build_network
from rdtf.research.comparison.scoring import (
    _CORRUPTIONS,
    COMPARED,
    EXPECTED,
    FVD,
    KVD,
    LPIPS,
    MOTION_DISTANCE,
    SET_DISTANCE,
    TEXT,
    Judge,
    _corrupted,
    check_metrics,
    is_ordered,
)
from rdtf.stickers import Sticker
from rdtf.synthetic.characters import SyntheticStickers

from .micro import BUDGET

STEPS = 4


def first_inputs(experiment, name, seed=0):
    """Levels of all evaluations, and the first noisy latents and given frames of each batch."""
    budget = replace(BUDGET, sampling_steps=STEPS)
    sampler = replace(experiment.sampler, budget=budget, clips=experiment.clips[:2])
    network = build_network(METHODS[REFERENCE], budget, 0, experiment.sizes)
    network.pad_to = None if METHODS[name].dual_mask else BUDGET.max_frames
    config = METHODS[name].config(budget, 0)
    seen = []
    network.begin("sampling")
    network.register_forward_pre_hook(lambda module, args: seen.append(args))
    sampler(METHODS[name], network, build_objective(config.objective), config, seed)
    starts = [(noisy, told.given) for noisy, _, told in seen[::STEPS]]
    return [float(t[0]) for _, t, _ in seen], starts


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_sampled_at_even_levels_from_the_same_noise(experiment, name):
    """Down to one step above zero: none of them sees nearly finished latents at the end."""
    levels, starts = first_inputs(experiment, name)
    first = levels[0]
    assert first == pytest.approx(1.0 if METHODS[name].prior is None else 0.8)
    expected = [first * (1 - step / STEPS) for step in range(STEPS)]
    assert levels == pytest.approx(expected * (len(levels) // STEPS), abs=2e-3)
    _, others = first_inputs(experiment, REFERENCE)
    for (noisy, given), (noise, told) in zip(starts, others, strict=True):
        frames = told.shape[1]
        assert given[:, :frames].equal(told) and not given[:, frames:].any()
        if METHODS[name].prior is None:  # else it starts from the given frame, blurred and noised
            assert noisy[:, :, :frames].equal(noise)
    _, seeded = first_inputs(experiment, name, seed=1)
    assert not seeded[0][0].equal(starts[0][0])


def test_given_frames_come_back_and_the_noise_is_the_clips_own(experiment):
    network = build_network(METHODS[REFERENCE], BUDGET, 0, experiment.sizes)
    network.begin("sampling")
    config = METHODS[REFERENCE].config(BUDGET, 0)
    objective = build_objective(config.objective)
    made, seconds = experiment.sampler(METHODS[REFERENCE], network, objective, config, 0)
    assert seconds > 0
    for (task, index), sticker in made.items():
        clip = experiment.clips[index]
        known = list(clip.known(task))
        assert np.array_equal(sticker.frames[known], clip.truth.frames[known])
    last = replace(experiment.sampler, clips=experiment.clips[-1:])
    alone, _ = last(METHODS[REFERENCE], network, objective, config, 0)
    for task in TASKS:
        together = made[task, len(experiment.clips) - 1].premultiplied()
        assert np.abs(alone[task, 0].premultiplied() - together).max() < 0.02


# ---------------------------------------------------------------------------- validity


@cache
def drawn_stickers() -> list[Sticker]:
    drawn = SyntheticStickers(seed=5, canvas=32, max_frames=8)
    return [drawn[i] for i in range(400) if drawn.describe(i).num_frames >= 6]


def judge_of(count: int, **networks: Any) -> Judge:
    """Over synthetic clips of 6 to 8 frames."""
    chosen = drawn_stickers()
    clips = [
        HeldOutClip(str(i), sticker, torch.zeros(0), []) for i, sticker in enumerate(chosen[:count])
    ]
    return Judge(clips, chosen[30:230], **networks)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return judge_of(30)


def assert_ordered(found: Any, wanted: set[str]) -> None:
    for task, metrics in found.items():
        assert set(metrics) >= wanted
        for metric in wanted:
            for name in EXPECTED[metric]:
                assert is_ordered(metric, metrics[metric][name]), (task, metric, name)


@pytest.fixture(scope="module")
def validity(judge) -> Any:
    return check_metrics(judge)


def test_every_metric_orders_known_corruptions(validity):
    """Truth before mild before strong, in every task; the page shows it of a target."""
    assert_ordered(validity, set(EXPECTED) - set(PERCEPTUAL))
    for metrics in validity.values():
        own, others = metrics[TEXT]["captions"]
        assert own > 0.75 and abs(others - 0.5) < 0.15


def test_lpips_orders_known_corruptions():
    assert_ordered(check_metrics(judge_of(12, lpips=real_network(Lpips))), {LPIPS})


@pytest.mark.slow
def test_fvd_and_kvd_order_known_corruptions():
    """In one task, of eight clips: I3D takes two seconds a clip."""
    i3d, clips = real_network(I3D), judge_of(8).clips

    def features(change: Any) -> np.ndarray:
        made = _corrupted(clips, change)
        return np.stack([i3d(made["it2v", index]) for index in range(len(clips))])

    truth = features(lambda frames, *_: frames)
    for name in EXPECTED[KVD]:
        ladder = [truth, *map(features, _CORRUPTIONS[name])]
        fvd = [frechet_distance(made, truth) for made in ladder]
        kvd = [float(set_distance(pair_terms(made, truth))) for made in ladder]
        print(name, fvd, kvd)
        assert is_ordered(FVD, fvd) and is_ordered(KVD, kvd), name


def test_a_score_that_older_results_lack_is_left_open(judge):
    """Features of a made-up network: KVD has a share for every clip, FVD is the whole set's."""
    truth = {(task, i): clip.truth for task in TASKS for i, clip in enumerate(judge.clips)}
    flat = judge_of(
        30,
        lpips=lambda a, b: float(np.abs(a - b).mean()),
        i3d=lambda s: s.frames[0, 0, :9, 3] / 255.0,
    )
    scores = flat(truth)["it2v"]
    assert scores[LPIPS] == scores[KVD] == scores[FVD] == [0.0] * 30
    runs = {0: {"points": {"1": {"scores": flat(truth)}}}}
    row, older = Row("new", "new", runs), Row("old", "old", {}, judge(truth))
    assert row.metrics == set(COMPARED) and older.metrics == set(COMPARED) - set(PERCEPTUAL)
    assert np.isnan(values_at(older, -1, "it2v", LPIPS)).all()
    assert differences(row, older, 1, "it2v", LPIPS) is None
    assert differences(row, older, 1, "it2v", "psnr") is not None


def test_motion_is_told_from_looks(validity):
    """Freezing costs the motion set distance more than the plain one; blur costs it less."""
    plain, motion = validity["it2v"][SET_DISTANCE], validity["it2v"][MOTION_DISTANCE]
    assert motion["freeze"][1] / motion["blur"][2] > 3 * plain["freeze"][1] / plain["blur"][2]


def test_scores_are_json_and_one_number_a_clip(judge):
    truth = {(task, i): clip.truth for task in TASKS for i, clip in enumerate(judge.clips)}
    scores = judge(truth)
    assert json.loads(json.dumps(scores)) == scores
    for metrics in scores.values():
        assert set(metrics) == set(COMPARED) - set(PERCEPTUAL)
        assert all(len(values) == len(judge.clips) for values in metrics.values())
        assert set(metrics["psnr"]) == {60.0} and set(metrics[SET_DISTANCE]) == {0.0}
