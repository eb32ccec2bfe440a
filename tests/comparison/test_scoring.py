"""How networks are sampled: the same number of evaluations, at evenly spaced levels, for all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rdtf.method.objective import build_objective
from rdtf.research.comparison.methods import METHODS, REFERENCE, build_network

from .micro import BUDGET

STEPS = 4


@pytest.mark.parametrize("name", METHODS)
def test_levels_are_evenly_spaced_for_every_method(experiment, name):
    """Down to one step above zero: none of them sees nearly finished latents at the end."""
    budget = replace(BUDGET, sampling_steps=STEPS)
    scorer = replace(experiment.scorer, budget=budget)
    network = build_network(METHODS[REFERENCE], budget, 0, experiment.sizes, None)
    config = METHODS[name].config(budget, 0)
    levels: list[float] = []
    network.begin("sampling")
    network.register_forward_pre_hook(lambda module, args: levels.append(float(args[1][0])))
    scorer.score(METHODS[name], network, build_objective(config.objective), config, 0)
    first = levels[0]
    assert first == pytest.approx(1.0 if METHODS[name].prior is None else 0.8)
    expected = [first * (1 - step / STEPS) for step in range(STEPS)]
    assert levels == pytest.approx(expected * (len(levels) // STEPS), abs=2e-3)
