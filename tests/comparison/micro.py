"""A comparison of seconds: networks of a few thousand parameters on a few dozen stickers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from rdtf.research.comparison.experiment import Experiment
from rdtf.research.comparison.fit import Fit
from rdtf.research.comparison.methods import Method, budget_named, build_network

SETTINGS = (
    "canvas=32",
    "patch=8",
    "channels=8,16",
    "attention_head_dim=8",
    "embedding_dim=16",
    "text_dim=16",
    "steps=4",
    "points=1,2",
    "batch_size=2",
    "warmup_steps=1",
    "pretrain_clips=6",
    "target_count=40",
    "source_count=10",
    "captions=1",
    "held_out=3",
    "reference_clips=20",
    "sampling_steps=2",
)
BUDGET = budget_named("tiny", SETTINGS)
TWO = ("dfgn", "customize-a-video")


def arguments(out: Path, *more: object) -> tuple[object, ...]:
    """`rdtf compare` at this size."""
    return ("compare", "--out", out, "--curve", "--set", *SETTINGS, *more)


def make_fit(
    experiment: Experiment, method: Method, folder: Path, *, seed: int = 0, **options: Any
) -> Fit:
    """A run of one method on the target, as the comparison makes it."""
    base = None
    if method.pretrained_base:
        base = experiment._base(method.base, BUDGET.pretrain_clips[0])
    network = build_network(method, BUDGET, seed, experiment.sizes, base)
    return Fit(experiment._plan(method, network, seed), folder, experiment.device, **options)


class SignalWhen:
    """A `say` that sends this process what a scheduler would, when a line has these words."""

    def __init__(self, words: str) -> None:
        self.words, self.lines = words, []

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if self.words in line:
            os.kill(os.getpid(), signal.SIGTERM)
