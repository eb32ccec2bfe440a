"""All that the runs have left, gathered for tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rdtf.evaluation.baselines import BASELINES
from rdtf.research.comparison.domains import Domains
from rdtf.research.comparison.flops import FlopTable
from rdtf.research.comparison.jobs import EQUAL_FLOPS, EQUAL_TIME, UNTRAINED, Job
from rdtf.research.comparison.methods import COMPOSER, METHODS, REFERENCE
from rdtf.research.comparison.results import NO_SEED, Group
from rdtf.research.comparison.scoring import Scorer, Scores
from rdtf.research.comparison.settings import Budget
from rdtf.research.comparison.variants import distinct_variants, variant_label


@dataclass(frozen=True)
class Findings:
    """What a comparison has found until now.

    results: run → its result.json; bases: kind → cost of its pre-training; flops: network → stage →
    operations per clip.
    """

    out: Path
    budget: Budget
    domains: Domains
    scorer: Scorer
    jobs: Sequence[Job]
    results: Mapping[str, Mapping[str, Any]]
    bases: Mapping[str, Mapping[str, Any]]
    flops: Mapping[str, Mapping[str, FlopTable]]

    @property
    def is_complete(self) -> bool:
        return len(self.results) == len(self.jobs)

    @cached_property
    def naive(self) -> list[Group]:
        """The naive rows; they have no seed."""
        folder = self.out / "naive"
        return [
            Group(name, name, {NO_SEED: Scores.load(folder, name)})
            for name in BASELINES
            if (folder / f"{name}.json").is_file()
        ]

    @cached_property
    def at_flops(self) -> list[Group]:
        """Every method when its FLOPs are used up, but for the composer."""
        return [group for group in self._methods(EQUAL_FLOPS) if group.name != COMPOSER]

    @cached_property
    def at_time(self) -> list[Group]:
        """Every method when the DFGN's seconds are used up; the DFGN itself at its end."""
        return [group for group in self._methods(EQUAL_TIME) if group.name != COMPOSER]

    @cached_property
    def composer(self) -> list[Group]:
        """The DFGN with the frame composer when its FLOPs are used up, and before any training."""
        groups = [*self._methods(EQUAL_FLOPS), *self.untrained]
        return [group for group in groups if group.method == COMPOSER]

    @cached_property
    def untrained(self) -> list[Group]:
        """Every method before its first step on the target."""
        return self._methods(UNTRAINED)

    @cached_property
    def untrained_reference(self) -> list[Group]:
        """The DFGN of the headline before its first step: a row of every table."""
        return [group for group in self.untrained if group.method == REFERENCE]

    @cached_property
    def ablation(self) -> list[Group]:
        """The variants that were run, in the order of the table."""
        if not any(job.is_variant for job in self.jobs):
            return []
        groups = [
            self._group(variant.name, variant_label(variant.name), EQUAL_FLOPS)
            for variant in distinct_variants()
        ]
        return [group for group in groups if group.by_seed]

    def _methods(self, point: str) -> list[Group]:
        names = dict.fromkeys(job.method.name for job in self.jobs if not job.is_variant)
        groups = []
        for name in (name for name in METHODS if name in names):
            label = METHODS[name].label
            if point == UNTRAINED:
                label += ", not tuned" if METHODS[name].pretrained_base else ", untrained"
            # The reference ends where its FLOPs do; that is its equal time, too.
            ends = point == EQUAL_TIME and name == REFERENCE
            groups.append(self._group(name, label, EQUAL_FLOPS if ends else point))
        return [group for group in groups if group.by_seed]

    def _group(self, name: str, label: str, point: str) -> Group:
        """Runs of one name at a point; those that were made for the ablation have one only."""
        seeds = {
            job.seed: self.out / "runs" / job.name
            for job in self.jobs
            if job.method.name == name and job.name in self.results
        }
        return Group(
            f"{name}, untrained" if point == UNTRAINED else name,
            label,
            {
                seed: Scores.load(folder, point)
                for seed, folder in seeds.items()
                if (folder / f"{point}.json").is_file()
            },
            method=name,
            point=point,
        )

    def runs_of(self, name: str) -> list[Mapping[str, Any]]:
        """Results of one network, seed by seed."""
        return [result for result in self.results.values() if result["method"] == name]
