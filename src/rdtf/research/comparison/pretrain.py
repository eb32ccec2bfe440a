"""The larger U-Nets before the comparison: text to video (or image) on the source domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rdtf.fileio import read_json, write_json
from rdtf.method.objective import build_objective
from rdtf.research.adapters import AdaptedUNet
from rdtf.research.adapters.use import TEXT_ONLY
from rdtf.research.comparison.clips import EqualLengthBatches
from rdtf.research.comparison.fit import Fit, Milestone, Plan, Watch
from rdtf.research.comparison.methods import Method, Sizes, build_network
from rdtf.research.comparison.networks import FlopTable
from rdtf.research.comparison.settings import Budget
from rdtf.training.loader import PreparedStore

KINDS = {"motion": "text to video", "image": "text to image, frame by frame", "video":
         "text to video"}  # fmt: skip
# The largest of 1e-3 and 3e-3 with which each trains well; with 3e-3 the image U-Net collapses.
_RATES = {"motion": 3e-3, "image": 1e-3, "video": 1e-3}


def pretraining(kind: str) -> Method:
    """All of a new U-Net trained on text alone: nothing is given."""
    return Method(
        f"pretrain-{kind}",
        f"pre-training of the {kind} U-Net",
        _RATES[kind],
        base=kind,
        adapter="full-fine-tuning",
        pretrained=False,
        stage_tasks={"tune": TEXT_ONLY},
    )


def _last_quarter(losses: Sequence[float]) -> float | None:
    """Mean loss of the last quarter of the steps: tells whether a base has learned anything."""
    last = losses[-max(len(losses) // 4, 1) :]
    return sum(last) / len(last) if last else None


@dataclass(frozen=True)
class Pretrainer:
    """Pre-trains U-Nets into `folder`, one folder for each kind, each once and for all seeds."""

    folder: Path
    budget: Budget
    sizes: Sizes
    store: PreparedStore
    device: torch.device
    flops: float

    def cost(self, kind: str) -> Mapping[str, Any] | None:
        """What it took; None if the U-Net is not there yet."""
        path = self.folder / f"{kind}.json"
        return read_json(path, "cost of pre-training") if path.is_file() else None

    def run(self, kind: str, tables: Mapping[str, FlopTable], watch: Watch, say: Any) -> None:
        """Train until the FLOPs are used up, from where an earlier call stopped."""
        method = pretraining(kind)
        network = build_network(method, self.budget, 0, self.sizes, None)
        config = method.config(self.budget, 0)
        plan = Plan(
            method=method,
            config=config,
            network=network,
            batches=EqualLengthBatches(self.store, config, build_objective(config.objective)),
            tables=tables,
            flops=self.flops,
        )
        fit = Fit(plan, self.folder / f"{kind}-run", self.device, say)

        def keep(milestone: Milestone, fit: Fit) -> dict[str, Any]:
            adapter = network.network
            assert isinstance(adapter, AdaptedUNet)
            adapter.save(self.folder / kind)
            return {}

        fit.run([Milestone("done", flops=self.flops)], keep, watch)
        write_json(
            self.folder / f"{kind}.json",
            {
                **fit.used(),
                "kind": kind,
                "task": KINDS[kind],
                "parameters": network.num_parameters,
                "loss": _last_quarter(fit.losses),
            },
        )
        fit.remove_checkpoints()
