"""Difficulty-adaptive curriculum (paper §3.4, Table 4): weight = static part + adaptive part.

Easy tasks (interpolation: most frames given) come first, hard ones (generation: none or one given)
later. The static part follows training progress; the adaptive part follows how well the model
copes right now, read from its loss through a PID signal.

The loss is divided by its running mean for that noise level and family first, so that the signal
measures difficulty and not the draw of the noise. (The released code feeds it the raw loss and
ranks it in a list that it sorts the wrong way round, which makes it nearly a constant.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rdtf.errors import ConfigError
from rdtf.method.tasks import FAMILIES, FAMILY, TASKS

MODES = ("none", "linear", "static", "adaptive")
NUM_NOISE_BINS = 10


@dataclass(frozen=True)
class CurriculumConfig:
    """Knots of the static part at start, middle and end of training, and the PID's gains.

    leave_out: tasks that are never drawn, such as t2v for a network too small to draw from nothing.
    """

    mode: str = "adaptive"
    leave_out: tuple[str, ...] = ()
    generation: tuple[float, float, float] = (0.1, 0.5, 0.9)
    interpolation: tuple[float, float, float] = (0.9, 0.5, 0.1)
    prediction: tuple[float, float, float] = (0.7, 0.5, 0.3)
    proportional_gain: float = 5.0
    integral_gain: float = 3.0
    derivative_gain: float = 1.3
    window: int = 1000


def static_weight(knots: Sequence[float], progress: float) -> float:
    """Piecewise linear over progress in [0, 1] through three knots."""
    return float(np.interp(progress, (0.0, 0.5, 1.0), knots))


def adaptive_weights(quantile: float) -> dict[str, float]:
    """Weights per family from the PID signal's percentile: 0 = copes well, 1 = struggles."""
    return {
        "generation": 0.1 + 0.8 * (1.0 - quantile),
        "interpolation": 0.9 - 0.8 * (1.0 - quantile),
        "prediction": 0.5,
    }


class Curriculum:
    """Task weights over a run. `observe` feeds it losses; its state is part of the checkpoint."""

    def __init__(self, config: CurriculumConfig | None = None) -> None:
        self.config = config or CurriculumConfig()
        if self.config.mode not in MODES:
            raise ConfigError(
                f"curriculum mode {self.config.mode!r} is unknown; choose from {', '.join(MODES)}"
            )
        unknown = sorted(set(self.config.leave_out) - set(TASKS))
        if unknown or set(self.config.leave_out) == set(TASKS):
            raise ConfigError(
                f"curriculum.leave_out names {', '.join(unknown or TASKS)}; "
                f"choose some, not all, of {', '.join(TASKS)}"
            )
        bins = (len(FAMILIES), NUM_NOISE_BINS)
        self._loss_sums = np.zeros(bins)
        self._loss_counts = np.zeros(bins)
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
        adaptive = adaptive_weights(self.quantile if quantile is None else quantile)
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
            weights[family] = static_weight(knots, min(max(progress, 0.0), 1.0))
        return weights

    # --------------------------------------------------------------- feedback

    def observe(
        self, losses: Sequence[float], noise_levels: Sequence[float], tasks: Sequence[str]
    ) -> None:
        """Feed one optimizer step: loss per sample, its noise level in [0, 1], its task.

        On several ranks, gather first: every rank must see the same lists in the same order.
        """
        if len(losses) == 0:
            return
        loss = float(np.mean(self._relative(losses, noise_levels, tasks)))
        previous = self._losses[-1] if self._losses else loss
        self._losses.append(loss)
        config = self.config
        signal = (
            config.proportional_gain * loss
            + config.integral_gain * float(np.mean(self._losses))
            + config.derivative_gain * (loss - previous)
        )
        self._signals.append(signal)
        self.quantile = _percentile(signal, self._signals)

    def _relative(
        self, losses: Sequence[float], noise_levels: Sequence[float], tasks: Sequence[str]
    ) -> list[float]:
        """Each loss over the running mean of its (family, noise level)."""
        relative = []
        for loss, noise_level, task in zip(losses, noise_levels, tasks, strict=True):
            family = FAMILIES.index(FAMILY[task])
            level = min(int(noise_level * NUM_NOISE_BINS), NUM_NOISE_BINS - 1)
            self._loss_sums[family, level] += loss
            self._loss_counts[family, level] += 1
            mean = self._loss_sums[family, level] / self._loss_counts[family, level]
            relative.append(loss / mean if mean > 0 else 1.0)
        return relative

    # ------------------------------------------------------------- checkpoint

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON values; floats survive JSON exactly."""
        return {
            "loss_sums": self._loss_sums.tolist(),
            "loss_counts": self._loss_counts.tolist(),
            "losses": list(self._losses),
            "signals": list(self._signals),
            "quantile": self.quantile,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._loss_sums = np.array(state["loss_sums"])
        self._loss_counts = np.array(state["loss_counts"])
        self._losses = deque(state["losses"], maxlen=self.config.window)
        self._signals = deque(state["signals"], maxlen=self.config.window)
        self.quantile = float(state["quantile"])


def _percentile(value: float, history: Sequence[float]) -> float:
    """Share of the history below `value`, ties counting half: a flat signal sits at 0.5."""
    values = np.asarray(history)
    return float(((values < value).sum() + 0.5 * (values == value).sum()) / len(values))
