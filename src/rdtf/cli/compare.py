"""`rdtf compare`: the DFGN from scratch against adapters of a larger pre-trained U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

INTERRUPTED = 75


@dataclass
class Compare:
    """Measure the DFGN from scratch against tuning of a larger U-Net, same data and budget.

    Pre-trains U-Nets of about four times the DFGN's size on a source domain, tunes each on the
    target (I2V-Adapter, SimDA, Customize-A-Video, all of it), and trains the DFGN on the same
    target clips with the same FLOPs; then the ablation of the paper. Every table has an untrained
    row; the frame composer, which is not the paper's, is in an appendix. Without --target and
    --source it draws synthetic stickers that share no kind and no style. Needs peft
    (`pip install 'rdtf[adapters]'`).

    Budgets: tiny (minutes on two CPU cores: shows that it runs), small (an hour or more), full (a
    GPU). The same command again goes on where it stopped. Ends with status 0 when all is done or
    the time is up, and with 75 after SIGINT or SIGTERM.

    Example: rdtf compare --out out/compare --budget tiny
    """

    out: Path
    """Folder for everything; made, or gone on in."""
    budget: str = "tiny"
    """tiny, small or full."""
    target: Path | None = None
    """Training set to compare on; its validation split is what is scored."""
    source: Path | None = None
    """Training set that the U-Nets are pre-trained on."""
    seeds: int | None = None
    """How many seeds; default: 1 for tiny, else 3. More can be added later."""
    methods: tuple[str, ...] = ()
    """Which; default: all. The DFGN, whose cost is the budget, is always one of them."""
    no_ablation: bool = False
    """Leave out the ablation (temporal layer, dual mask, curriculum)."""
    max_seconds: float | None = None
    """Save and stop after this long."""
    set: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE")] = ()
    """Any setting of the budget, e.g. steps=1000 pretrain_factor=10."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        from rdtf.cli.output import note, show
        from rdtf.research.comparison.compare import compare
        from rdtf.research.comparison.jobs import Request
        from rdtf.research.comparison.methods import DEFAULT_METHODS
        from rdtf.research.comparison.settings import budget_named

        budget = budget_named(self.budget, self.set)
        request = Request(
            methods=self.methods or DEFAULT_METHODS,
            seeds=budget.seeds if self.seeds is None else self.seeds,
            ablation=not self.no_ablation,
            max_seconds=self.max_seconds,
        )
        result = compare(
            budget, self.out, request, source=self.source, target=self.target, say=note
        )
        text = f"{result['reason']}: {result['runs_done']} of {result['runs']} runs are done"
        if "report" in result:
            text += f"; report: {result['report']}"
        show(result, self.json, text)
        return INTERRUPTED if result["reason"] == "interrupted" else 0
