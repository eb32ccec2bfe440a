"""Which runs there are, and how far each of them goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rdtf.research.comparison.fit import Milestone
from rdtf.research.comparison.methods import Method, choose_methods
from rdtf.research.comparison.variants import distinct_variants

CURVE_SHARES = (0.0, 0.25, 0.5, 1.0)  # of the FLOPs: where the held-out error is looked at
UNTRAINED, EQUAL_FLOPS, EQUAL_TIME = "untrained", "flops", "time"  # where runs are scored


@dataclass(frozen=True)
class Job:
    """One run: a method or a variant of the ablation, and a seed."""

    method: Method
    seed: int
    is_variant: bool = False

    @property
    def name(self) -> str:
        return f"{self.method.name}-{self.seed}"


@dataclass(frozen=True)
class Request:
    """What a call asks for; the budget is settled with the folder, the rest may grow."""

    methods: Sequence[str]
    seeds: int
    ablation: bool
    max_seconds: float | None = None

    def jobs(self) -> list[Job]:
        """Methods seed by seed, the DFGN first (it sets the budget), then the ablation."""
        methods = choose_methods(self.methods)
        variants = distinct_variants() if self.ablation else []
        jobs = [Job(method, seed) for seed in range(self.seeds) for method in methods]
        done = {method.name for method in methods}
        jobs += [
            Job(variant, seed, is_variant=True)
            for seed in range(self.seeds)
            for variant in variants
            if variant.name not in done
        ]
        return jobs


@dataclass(frozen=True)
class Limits:
    """How far a run goes, and where it is looked at.

    `steps` alone: the reference; else FLOPs, and seconds. A variant of the ablation is looked at
    when its FLOPs are used up, and nowhere else.
    """

    steps: int
    flops: float = float("inf")
    seconds: float = float("inf")
    is_variant: bool = False

    def milestones(self) -> list[Milestone]:
        return list(self._milestones())

    def _milestones(self) -> Iterator[Milestone]:
        is_reference = self.flops == float("inf")
        if self.is_variant:
            yield Milestone(EQUAL_FLOPS, flops=self.flops)
            return
        yield Milestone(UNTRAINED, steps=0)
        for share in CURVE_SHARES:
            name = f"curve-{share:g}"
            if is_reference:
                yield Milestone(name, steps=round(share * self.steps))
            else:
                yield Milestone(name, flops=share * self.flops)
        if is_reference:
            yield Milestone(EQUAL_FLOPS, steps=self.steps)
            return
        yield Milestone(EQUAL_FLOPS, flops=self.flops)
        yield Milestone(EQUAL_TIME, seconds=self.seconds)
