"""A progress bar on stderr for people; silent when stderr is no terminal."""

from __future__ import annotations

import sys
from typing import Any


class Progress:
    """Steps done, a smoothed loss, and the time that remains."""

    def __init__(self, step: int, total: int, quiet: bool = False) -> None:
        self._loss: float | None = None
        self._bar: Any = None
        self._start, self._total = step, total
        self._quiet = quiet or not sys.stderr.isatty()

    def __enter__(self) -> Progress:
        if not self._quiet:
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
        self._bar.add_task("train", total=self._total, completed=self._start, loss="…")

    def update(self, step: int, loss: float) -> None:
        self._loss = loss if self._loss is None else 0.95 * self._loss + 0.05 * loss
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, loss=f"{self._loss:.4f}")

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
