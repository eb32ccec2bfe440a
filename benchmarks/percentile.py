"""What the curriculum's percentile q says of losses that fall, stay, or rise.

`python -m benchmarks percentile --seeds 8 --figure docs/images/percentile.png`

No model is trained: losses follow a trend, and on top of it differ by task (up to 6 ×), by noise
level (up to 20 ×) and by clip, as those of a real run do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import Table
from rdtf.method.curriculum import Curriculum
from rdtf.method.tasks import TASKS
from rdtf.training.loader import LEAD_STEPS

_INK, _PALE = "#23272f", "#c9ced8"
TRENDS: dict[str, Callable[[float], float]] = {
    "falling": lambda progress: math.exp(-2 * progress),
    "flat": lambda progress: 1.0,
    "rising": lambda progress: math.exp(2 * progress),
    "falling, then flat": lambda progress: 0.2 + 0.8 * math.exp(-40 * progress),
}


@dataclass(frozen=True)
class Simulated:
    """Per step: the batch's mean loss, the mean noise level, and q after it."""

    losses: np.ndarray
    levels: np.ndarray
    quantiles: np.ndarray
    curriculum: Curriculum

    def autocorrelation(self, lag: int = LEAD_STEPS) -> float:
        """Of q; LEAD_STEPS is the delay at which it is applied."""
        return float(np.corrcoef(self.quantiles[:-lag], self.quantiles[lag:])[0, 1])


def simulate(
    trend: Callable[[float], float],
    seed: int = 0,
    steps: int = 6000,
    batch_size: int = 8,
    shares: Callable[[float], np.ndarray] | None = None,
) -> Simulated:
    """A run of `steps` whose loss follows `trend` over progress in [0, 1].

    Args:
        shares: how often each task is drawn, by progress; evenly if None.
    """
    curriculum, random = Curriculum(), np.random.default_rng(seed)
    rows = []
    for step in range(steps):
        progress = step / steps
        noise_levels = random.random(batch_size)
        chances = None if shares is None else shares(progress)
        tasks = random.choice(len(TASKS), batch_size, p=chances)
        scales = (0.05 + noise_levels) * (1 + tasks)
        losses = trend(progress) * scales * random.lognormal(0, 0.8, batch_size)
        names = [TASKS[task] for task in tasks]
        curriculum.observe(losses.tolist(), noise_levels.tolist(), names)
        rows.append((losses.mean(), noise_levels.mean(), curriculum.quantile))
    return Simulated(*np.array(rows).T, curriculum)


@dataclass(frozen=True)
class Percentile:
    """Mean of q over each quarter of simulated runs, and how steady it is."""

    seeds: int = 4
    """Runs of each trend."""
    steps: int = 6000
    """Steps of each run."""
    figure: Path | None = None
    """Draw losses and q of the first run of each trend here; needs matplotlib (extra `docs`)."""

    def run(self) -> Table:
        runs = {
            name: [simulate(trend, seed, self.steps) for seed in range(self.seeds)]
            for name, trend in TRENDS.items()
        }
        rows, values = [], {}
        for name, simulated in runs.items():
            quarters = np.mean([r.quantiles.reshape(4, -1).mean(axis=1) for r in simulated], axis=0)
            steady = float(np.mean([r.autocorrelation() for r in simulated]))
            rows.append((name, *(f"{value:.2f}" for value in quarters), f"{steady:.2f}"))
            values[name] = {"quarters": quarters.tolist(), "autocorrelation": steady}
        if self.figure is not None:
            _draw({name: simulated[0] for name, simulated in runs.items()}, self.figure)
        columns = ("loss", *(f"q, quarter {n}" for n in range(1, 5)), f"alike after {LEAD_STEPS}")
        title = f"Percentile q: 0 = copes well, 1 = struggles; {self.seeds} runs of {self.steps}"
        note = f"alike after {LEAD_STEPS}: autocorrelation of q at the delay at which it is applied"
        return Table(title, columns, rows, values, (note,))


def _draw(runs: dict[str, Simulated], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(runs), figsize=(11, 3.6), sharex=True, layout="constrained")
    for (name, run), (above, below) in zip(runs.items(), axes.T, strict=True):
        steps = np.arange(len(run.losses))
        above.semilogy(steps[::10], run.losses[::10], ".", color=_PALE, ms=2)
        above.semilogy(steps, _trend(name, steps), color=_INK, lw=1.4)
        above.set_title(name, fontsize=10, loc="left", color=_INK)
        below.plot(steps, run.quantiles, color="#d1495b", lw=0.9)
        below.axhline(0.5, color=_PALE, lw=0.8)
        below.set(ylim=(-0.03, 1.03), xlabel="step", xlim=(0, len(steps)))
    axes[0, 0].set_ylabel("loss of a step")
    axes[1, 0].set_ylabel("percentile q")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _trend(name: str, steps: np.ndarray) -> np.ndarray:
    """The trend on the scale of a step's mean loss: mean scale × mean of the clips' factor."""
    scale = 0.55 * 3.5 * math.exp(0.8**2 / 2)
    return np.array([TRENDS[name](step / len(steps)) for step in steps]) * scale
