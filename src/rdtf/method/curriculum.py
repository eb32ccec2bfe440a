"""Difficulty-adaptive curriculum (paper §3.4, Table 4): weight = static part + adaptive part.

Easy tasks (interpolation: most frames given) come first, hard ones (generation: none or one given)
later. The static part follows training progress; the adaptive part follows how well the model
copes right now, read from its loss through a PID signal.

Losses of one step differ far more by task, noise level and clip than by what the model has learned,
so the signal is a loss smoothed over about 100 steps (`_SmoothedLoss`), which is then ranked. (The
released code feeds it the raw loss and ranks it in a list that it sorts the wrong way round, which
makes it nearly a constant.)
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rdtf.errors import ConfigError
from rdtf.method.tasks import FAMILIES, FAMILY, TASKS

CurriculumMode = Literal["adaptive", "static", "linear", "none"]
_NUM_NOISE_BINS = 10
# How fast what is smoothed forgets: the mean of a (family, noise level) per sample that falls into
# it, the level of the loss per step.
_BIN_DECAY = 1 - 1 / 50
_LOSS_DECAY = 1 - 1 / 100


@dataclass(frozen=True)
class CurriculumConfig:
    """How the weights of the task families move over a run."""

    mode: CurriculumMode = "adaptive"
    """Static and adaptive part, static part, straight line between the outer knots, or equal."""
    leave_out: tuple[str, ...] = ()
    """Tasks that are never drawn, such as t2v for a network too small to draw from nothing."""
    generation: tuple[float, float, float] = (0.1, 0.5, 0.9)
    """Static weight of t2v, i2v and it2v at start, middle and end of training."""
    interpolation: tuple[float, float, float] = (0.9, 0.5, 0.1)
    """The same of interpolation."""
    prediction: tuple[float, float, float] = (0.7, 0.5, 0.3)
    """The same of pre- and post-frame prediction."""
    easy_until: float = 0.0
    """Share of the run in which clips come in from easy to difficult (entropy, motion and length,
    as preparing measured them); 0: all of them from the start."""
    proportional_gain: float = 5.0
    """Of the PID signal: the smoothed loss."""
    integral_gain: float = 3.0
    """Of the PID signal: its mean over the window."""
    derivative_gain: float = 1.3
    """Of the PID signal: its change since the last step."""
    window: int = 1000
    """Steps that the signal's mean and percentile look back."""


def _adaptive_weights(quantile: float) -> dict[str, float]:
    """Weights per family from the PID signal's percentile: 0 = copes well, 1 = struggles."""
    return {
        "generation": 0.1 + 0.8 * (1.0 - quantile),
        "interpolation": 0.9 - 0.8 * (1.0 - quantile),
        "prediction": 0.5,
    }


_FIRST_COMPETENCE = 0.1


def competence(progress: float, easy_until: float) -> float:
    """Share of the clips, the easiest ones, that are drawn at `progress` in [0, 1] of the run.

    It grows with the square root of time (Platanios et al., 2019, arXiv:1903.09848) from a tenth
    to all of them at `easy_until`.
    """
    if progress >= easy_until:
        return 1.0
    first = _FIRST_COMPETENCE**2
    return math.sqrt(first + (1 - first) * progress / easy_until)


class _SmoothedLoss:
    """How high the loss is now, whatever tasks and noise levels the last step drew.

    Every (family, noise level) has an exponential mean of its losses. A sample's loss over that
    mean says how it compares; times the mean of all means, weighed by how often noise levels are
    drawn and evenly by family, that is an estimate of the loss over all of them. Means that lag
    behind a falling loss cancel out, and neither the luck of the draw nor the curriculum's own
    choice of families moves it. It is smoothed over about 100 steps.
    """

    def __init__(self) -> None:
        bins = (len(FAMILIES), _NUM_NOISE_BINS)
        self._sums, self._weights, self._counts = np.zeros(bins), np.zeros(bins), np.zeros(bins)
        self._sum = self._weight = 0.0

    def observe(
        self, losses: Sequence[float], noise_levels: Sequence[float], tasks: Sequence[str]
    ) -> float | None:
        """The loss after one more step; None if no loss says anything, all being zero."""
        ratios = []
        for loss, noise_level, task in zip(losses, noise_levels, tasks, strict=True):
            noise_bin = min(int(noise_level * _NUM_NOISE_BINS), _NUM_NOISE_BINS - 1)
            place = FAMILIES.index(FAMILY[task]), noise_bin
            self._sums[place] = _BIN_DECAY * self._sums[place] + loss
            self._weights[place] = _BIN_DECAY * self._weights[place] + 1.0
            self._counts[place] += 1
            if self._sums[place] > 0:
                ratios.append(loss * self._weights[place] / self._sums[place])
        if not ratios:
            return None
        loss = self._mean_of_means() * math.fsum(ratios) / len(ratios)
        self._sum = _LOSS_DECAY * self._sum + loss
        self._weight = _LOSS_DECAY * self._weight + 1.0
        return self._sum / self._weight

    def _mean_of_means(self) -> float:
        means = self._sums / np.maximum(self._weights, 1.0)
        drawn = self._counts.sum(axis=1, keepdims=True)
        by_family = (means * self._counts / np.maximum(drawn, 1.0)).sum(axis=1)
        return float(by_family.sum() / (drawn > 0).sum())

    def state_dict(self) -> dict[str, Any]:
        return {
            "sums": self._sums.tolist(),
            "weights": self._weights.tolist(),
            "counts": self._counts.tolist(),
            "sum": self._sum,
            "weight": self._weight,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums, self._weights = np.array(state["sums"]), np.array(state["weights"])
        self._counts = np.array(state["counts"])
        self._sum, self._weight = float(state["sum"]), float(state["weight"])


class Curriculum:
    """Task weights over a run. `observe` feeds it losses; its state is part of the checkpoint."""

    def __init__(self, config: CurriculumConfig | None = None) -> None:
        self.config = config or CurriculumConfig()
        unknown = sorted(set(self.config.leave_out) - set(TASKS))
        if unknown or set(self.config.leave_out) == set(TASKS):
            raise ConfigError(
                f"curriculum.leave_out names {', '.join(unknown or TASKS)}; "
                f"choose some, not all, of {', '.join(TASKS)}"
            )
        if not 0 <= self.config.easy_until <= 1:
            raise ConfigError(
                f"curriculum.easy_until is {self.config.easy_until}; it must be from 0 to 1"
            )
        self._level = _SmoothedLoss()
        self._losses: deque[float] = deque(maxlen=self.config.window)
        self._signals: deque[float] = deque(maxlen=self.config.window)
        self.quantile = 0.5

    # ---------------------------------------------------------------- weights

    def family_weights(self, progress: float, quantile: float | None = None) -> dict[str, float]:
        """Weight of each family at `progress` in [0, 1] of the run; `quantile`: now's if None."""
        mode = self.config.mode
        if mode == "none":
            return dict.fromkeys(FAMILIES, 1.0)
        static = self._static_part(progress)
        if mode != "adaptive":
            return static
        adaptive = _adaptive_weights(self.quantile if quantile is None else quantile)
        return {family: static[family] + adaptive[family] for family in FAMILIES}

    def task_weights(self, progress: float, quantile: float | None = None) -> dict[str, float]:
        """Weight of each of the six tasks: each carries the weight of its family."""
        families = self.family_weights(progress, quantile)
        left_out = self.config.leave_out
        return {task: families[FAMILY[task]] for task in TASKS if task not in left_out}

    def _static_part(self, progress: float) -> dict[str, float]:
        """`linear` takes the straight line between the outer knots; `static` uses the middle too.

        With the paper's knots, which lie on a line, the two coincide.
        """
        weights = {}
        for family in FAMILIES:
            knots = getattr(self.config, family)
            if self.config.mode == "linear":
                knots = (knots[0], (knots[0] + knots[2]) / 2, knots[2])
            weights[family] = float(np.interp(progress, (0.0, 0.5, 1.0), knots))
        return weights

    # --------------------------------------------------------------- feedback

    def observe(
        self, losses: Sequence[float], noise_levels: Sequence[float], tasks: Sequence[str]
    ) -> None:
        """Feed one optimizer step: loss per sample, its noise level in [0, 1], its task.

        On several ranks, gather first: every rank must see the same lists in the same order.
        """
        loss = self._level.observe(losses, noise_levels, tasks)
        if loss is None:
            return
        previous = self._losses[-1] if self._losses else loss
        self._losses.append(loss)
        config = self.config
        signal = (
            config.proportional_gain * loss
            + config.integral_gain * math.fsum(self._losses) / len(self._losses)
            + config.derivative_gain * (loss - previous)
        )
        self._signals.append(signal)
        self.quantile = _percentile(signal, self._signals)

    # ------------------------------------------------------------- checkpoint

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON values; floats survive JSON exactly."""
        return {
            "level": self._level.state_dict(),
            "losses": list(self._losses),
            "signals": list(self._signals),
            "quantile": self.quantile,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state_dict`."""
        self.quantile = float(state["quantile"])
        self._level.load_state_dict(state["level"])
        self._losses = deque(state["losses"], maxlen=self.config.window)
        self._signals = deque(state["signals"], maxlen=self.config.window)


def _percentile(value: float, history: Sequence[float]) -> float:
    """Share of the history below `value`, ties counting half: a flat signal sits at 0.5."""
    values = np.asarray(history)
    return float(((values < value).sum() + 0.5 * (values == value).sum()) / len(values))
