"""`rdtf quickstart`: the main job on the embedded default, with a report at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass
class Quickstart:
    """Make synthetic stickers, train `nano` from scratch on them, use it, and write a report.

    Needs no download and no GPU. Everything lands in one folder; run it again to go on.
    """

    out: Path = Path("out/quickstart")
    """Folder for the stickers, the run and report.html."""
    minutes: float = 7.0
    """About how long to take in all, on this machine."""
    stickers: int | None = None
    """How many synthetic stickers; default: what suits the time."""
    seed: int = 0
    """Settles everything."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        from rdtf.cli.output import note, show
        from rdtf.quickstart import quickstart

        result = quickstart(
            self.out, minutes=self.minutes, num_stickers=self.stickers, seed=self.seed, say=note
        )
        show(result, self.json, f"report: {result['report']}")
        return 0
