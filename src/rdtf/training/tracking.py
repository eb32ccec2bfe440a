"""Where numbers go: a JSON line per interval always, TensorBoard when it is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rdtf.fileio import write_text


class Tracker:
    """Appends rows to `RUN/metrics.jsonl`.

    Rows beyond the checkpoint that the run resumes from (`resume_step`; None = from the start) are
    dropped first: they will come again.
    """

    def __init__(self, run: Path, resume_step: int | None) -> None:
        self.path = run / "metrics.jsonl"
        last = -1 if resume_step is None else resume_step
        kept = [row for row in read_metrics(run) if row["step"] <= last]
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = self.path.open("a", encoding="utf-8")
        self._board = _tensorboard(run / "tensorboard")

    def log(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """One row: `step`, `kind` ("train", "validation"), and the values."""
        self._file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in _scalars(values):
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(run: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Rows of a run's `metrics.jsonl`; a torn last line (power cut) is dropped."""
    path = run / "metrics.jsonl"
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return [row for row in rows if kind is None or row["kind"] == kind]


def _scalars(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            found.append((prefix + name, float(value)))
    return found


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
