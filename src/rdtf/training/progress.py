"""Progress for people, on stderr, and the signals by which they stop a run."""

from __future__ import annotations

import importlib.util
import math
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rdtf.errors import ConfigError
from rdtf.fileio import size_text

if TYPE_CHECKING:
    import torch


_SHORT = {"generation": "gen", "interpolation": "int", "prediction": "pred"}


class Progress:
    """Steps done, a smoothed loss, and the time that remains.

    Args:
        step, total: where it starts and ends.
        quiet: show nothing at all.
        lines: where stderr is no terminal, `line` prints a line; else nothing is shown there.
    """

    def __init__(self, step: int, total: int, quiet: bool = False, lines: bool = False) -> None:
        terminal = sys.stderr.isatty() and importlib.util.find_spec("rich") is not None
        self._loss: float | None = None
        self._bar: Any = None
        self._step, self._total = step, total
        self._draws = terminal and not quiet
        self._prints = lines and not terminal and not quiet

    def __enter__(self) -> Progress:
        if self._draws:
            self._open()
        return self

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._bar.start()
        self._bar.add_task("train", total=self._total, completed=self._step, loss="…")

    def update(self, step: int, loss: float, total: int | None = None) -> None:
        """Take note of one more step; a non-finite loss yet changes only the step.

        Args:
            total: of steps, where it has changed.
        """
        self._step, self._total = step, self._total if total is None else total
        if math.isfinite(loss):
            self._loss = loss if self._loss is None else 0.95 * self._loss + 0.05 * loss
        if self._bar is not None:
            text = "…" if self._loss is None else f"{self._loss:.4f}"
            self._bar.update(self._bar.task_ids[0], completed=step, total=self._total, loss=text)

    def line(self, values: Mapping[str, Any]) -> None:
        """Print what an interval measured, see `log_line`; silent beside a bar."""
        if self._prints:
            text = log_line({"step": self._step, "steps": self._total, **values})
            print(text, file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def planned_seconds(seconds: float) -> float | None:
    """The time that a run is planned for, as a user said it; None for no end."""
    if not seconds > 0:
        raise ConfigError(f"max_seconds is {seconds:g}; a run needs more than 0 seconds")
    return None if math.isinf(seconds) else float(seconds)


def check_times(max_seconds: float | None, stop_after: float | None) -> None:
    """Refuse times that make no sense, before anything is made."""
    if max_seconds is not None:
        planned_seconds(max_seconds)
    if stop_after is not None and not stop_after >= 0:
        raise ConfigError(f"stop_after is {stop_after:g}; it must be at least 0 seconds")


# ------------------------------------------------------------------------ the line


def log_line(values: Mapping[str, Any]) -> str:
    """One line of what the trainer logs; keys that are missing are left out.

    >>> log_line({"step": 1200, "steps": 60_000, "loss": 0.0421, "eta_seconds": 12e3})
    'step 1200/60000  loss 0.0421  ETA 3 h 20 min'
    """
    steps = "" if values.get("steps") is None else f"/{values['steps']}"
    families = _families(values.get("loss_by_family") or {})
    parts = {
        "step": lambda step: f"step {step}{steps}",
        "clips": lambda clips: f"{count_text(clips)} clips",
        "loss": lambda loss: f"loss {loss:#.3g}{families}",
        "clips_per_second": lambda speed: f"{speed:.{0 if speed >= 10 else 2}f} clips/s",
        "memory_bytes": lambda size: f"mem {size_text(size)}",
        "eta_seconds": lambda seconds: f"ETA {eta_text(seconds)}",
    }
    return "  ".join(say(values[key]) for key, say in parts.items() if values.get(key) is not None)


def _families(losses: Mapping[str, float]) -> str:
    """` (gen .051 int .032 pred .043)`, or nothing."""
    names = [family for family in _SHORT if family in losses]
    told = [f"{_SHORT[name]} {losses[name]:#.2g}".replace(" 0.", " .") for name in names]
    return f" ({' '.join(told)})" if told else ""


def count_text(count: float) -> str:
    """`950`, `76.8k`, `1.23M`: at most three digits."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            return f"{float(f'{count / size:.3g}'):g}{letter}"
    return f"{count:.0f}"


def eta_text(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2 d 5 h`; `?` if it is not finite."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 59.5:
        return f"{max(seconds, 0):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours + (minutes >= 30), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def memory_in_use(device: torch.device) -> int:
    """Bytes at the peak: of tensors on a GPU; on a CPU, of this process."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    return process_peak_bytes()


def process_peak_bytes() -> int:
    """The most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux a child starts with the peak of the process that started it.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# --------------------------------------------------------------------- signals


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Inside the block a first signal only sets `received`."""

    def __init__(self) -> None:
        self.received = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        try:
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        except ValueError:  # not the main thread: whoever runs us handles signals
            self._previous.clear()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = True
