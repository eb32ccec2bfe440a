"""What the benchmarks share: the table that they print, the machine, timing side by side."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import torch

from rdtf.training.device import device_name, processor_name, resolve_precision


@dataclass(frozen=True)
class Table:
    """A result: `rows` for people, `values` for machines."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    values: Mapping[str, Any]
    notes: Sequence[str] = field(default=())

    def text(self, where: str) -> str:
        """Columns aligned, numbers as given, under what they were measured on."""
        lines = [list(self.columns), *[list(row) for row in self.rows]]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.columns))]
        drawn = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        drawn.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(
            [self.title, f"on {where}", "", *drawn, *[f"  {note}" for note in self.notes]]
        )


def say(text: str) -> None:
    """Progress, for people who look on."""
    if sys.stderr.isatty():
        print(f"  … {text}", file=sys.stderr)


def machine(device: torch.device) -> str:
    """What the numbers are of: processor, its vector units, threads, load, torch, and the date."""
    beside = f" beside {processor_name()}" if device.type == "cuda" else ""
    bf16 = "bf16" if has_bf16(device) else "no bf16"
    load = f"load {os.getloadavg()[0]:.1f} before"
    return (
        f"{device_name(device)}{beside}, {bf16}, {load}, torch {torch.__version__}, "
        f"{date.today().isoformat()}"
    )


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16; emulated products tell nothing and take minutes."""
    return resolve_precision("auto", device) == "bf16"


def refuse_emulation(precision: str, device: torch.device) -> None:
    """Leave with one line where `precision` would be emulated."""
    if precision == "bf16" and not has_bf16(device):
        raise SystemExit(f"benchmarks: {processor_name()} has no bf16 units; use --precision fp32")


def side_by_side(
    contestants: Mapping[str, Callable[[], object]], runs: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each contestant in each of `runs` rounds, after one to warm up.

    They take turns, first one first and then the other, so that what else the machine does falls on
    both.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(runs + 1):
        order = list(contestants)[:: 1 if round_ % 2 else -1]
        for name in order:
            started = _now(device)
            contestants[name]()
            elapsed = _now(device) - started
            if round_:
                seconds[name].append(elapsed)
    return seconds


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def ratio_text(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, str]:
    """Median over rounds of theirs / ours, and it with its range."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    median = statistics.median(ratios)
    return median, f"{median:.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
