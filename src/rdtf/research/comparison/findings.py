"""All that the runs have left, gathered for tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rdtf.evaluation.baselines import BASELINES
from rdtf.evaluation.results import Table, difference_cell, metric_header, score_cells
from rdtf.evaluation.tasks import TASK_LABELS
from rdtf.research.comparison.clips import TASKS, Domains
from rdtf.research.comparison.methods import (
    KNOWN,
    METHODS,
    REFERENCE,
    VARIANTS,
    WARP_DECODER,
    Job,
)
from rdtf.research.comparison.networks import FlopTable
from rdtf.research.comparison.results import (
    COMPARED,
    NO_SEED,
    SET_DISTANCE,
    TRAIN_DISTANCE,
    Group,
    difference,
    estimate,
)
from rdtf.research.comparison.scoring import Scorer, Scores
from rdtf.research.comparison.settings import EQUAL_FLOPS, EQUAL_TIME, UNTRAINED, Budget

HEADLINE = ("psnr", "ssim", "line_distance", "motion_ratio", SET_DISTANCE)
MORE = ("alpha_mae", "flicker", "colour_drift", TRAIN_DISTANCE)
_DIFFERENCES = ("psnr", "ssim", "line_distance", SET_DISTANCE)
_SCORE_NOTE = (
    "Hidden frames only; mean over clips and seeds, of ratios the median; 95 % bootstrap interval "
    "over seeds and clips in brackets (with one seed, over clips). Clips differ more than methods: "
    "read the differences too. Untrained: before the first step; what is no better is not learned. "
    "Clips, TFLOP: seen and spent in training, in pre-training + on the target."
)
POINT_TITLES = {
    EQUAL_FLOPS: "equal training FLOPs",
    EQUAL_TIME: "equal wall-clock of training",
}


def all_tables(findings: Findings) -> list[Table]:
    """In the order of the report; what has no rows is left out."""
    tables = []
    for point, groups in ((EQUAL_FLOPS, findings.at_flops), (EQUAL_TIME, findings.at_time)):
        tables.append(_score_table(findings, groups, f"Scores at {POINT_TITLES[point]}", HEADLINE))
        tables.append(_difference_table(findings, groups, REFERENCE, point))
    tables.append(_cost_table(findings))
    tables.append(_pretraining_table(findings))
    if findings.ablation:
        title = "Ablation at equal training FLOPs (the paper's Tables 3 and 4)"
        tables.append(_score_table(findings, findings.ablation, title, HEADLINE, baselines=False))
    title = f"More scores at {POINT_TITLES[EQUAL_FLOPS]}"
    tables.append(_score_table(findings, findings.at_flops, title, MORE))
    return [table for table in [*tables, *_appendix(findings)] if table.rows]


def _appendix(findings: Findings) -> list[Table]:
    """What every network does before training, and the warp decoder, which is not the paper's."""
    title = "Appendix: every network before its first step on the target"
    others = [group for group in findings.untrained if group.method != REFERENCE]
    tables = [_score_table(findings, others, title, HEADLINE)]
    if findings.warp_decoder:
        title = f"Appendix: with the warp decoder, at {POINT_TITLES[EQUAL_FLOPS]}"
        tables.append(_score_table(findings, findings.warp_decoder, title, HEADLINE))
        groups = [*findings.warp_decoder, *findings.at_flops]
        tables.append(_difference_table(findings, groups, WARP_DECODER, EQUAL_FLOPS))
    return tables


# ------------------------------------------------------------------------------- scores


def _score_table(
    findings: Findings,
    groups: Sequence[Group],
    title: str,
    metrics: Sequence[str],
    *,
    baselines: bool = True,
) -> Table:
    """Rows: methods, then the untrained row and the baselines; by task. The best is marked."""
    truth, rows = findings.scorer.reference.truth, []
    shown = [*groups, *findings.untrained_reference, *(findings.baselines if baselines else [])]
    for task in TASKS:
        columns = [
            score_cells([estimate(g, task, m, truth[task]) for g in shown], COMPARED[m])
            for m in metrics
        ]
        for group, *cells in zip(shown, *columns, strict=True):
            seeds = "–" if NO_SEED in group.by_seed else str(len(group.by_seed))
            counts = f"{seeds} × {len(truth[task])}"
            rows.append([TASK_LABELS[task], group.label, *cells, *_spent(findings, group), counts])
    names = [metric_header(COMPARED[metric]) for metric in metrics]
    headers = ["task", "method", *names, "clips", "TFLOP", "seeds × clips"]
    return Table(title, headers, rows if groups else [], _SCORE_NOTE)


def _spent(findings: Findings, group: Group) -> tuple[str, str]:
    """Clips that were seen and TFLOP that were spent, of pre-training and of training."""
    if not group.method:
        return "–", "–"
    used = _mean_used(findings.runs_of(group.method), group.point)
    clips, tflop = f"{used['clips']:,.0f}", f"{used['flops'] / 1e12:.3f}"
    kind = METHODS[group.method].pretrained_base if group.method in METHODS else ""
    if kind:
        base = findings.bases[kind]
        return f"{base['clips']:,} + {clips}", f"{base['flops'] / 1e12:.3f} + {tflop}"
    return clips, tflop


def _difference_table(findings: Findings, groups: Sequence[Group], name: str, point: str) -> Table:
    """One method minus each other; marked where the whole interval is on its better side."""
    own = next((group for group in groups if group.name == name), None)
    below = [*findings.untrained_reference, *findings.baselines]
    others = [] if own is None else [group for group in (*groups, *below) if group.name != name]
    truth, rows = findings.scorer.reference.truth, []
    for task in TASKS:
        for other in others:
            assert own is not None
            cells = [
                difference_cell(difference(own, other, task, metric, truth[task]), COMPARED[metric])
                for metric in _DIFFERENCES
            ]
            rows.append([TASK_LABELS[task], other.label, *cells])
    label = name if own is None else own.label
    note = (
        "Same clips, same seeds, same noise; 95 % bootstrap interval. Marked where the whole "
        f"interval is in favour of {label}; ✗ where it is against it."
    )
    headers = ["task", "minus", *(metric_header(COMPARED[metric]) for metric in _DIFFERENCES)]
    return Table(f"{label}, minus the others, at {POINT_TITLES[point]}", headers, rows, note)


# -------------------------------------------------------------------------------- costs


def _cost_table(findings: Findings) -> Table:
    """What every method and variant is, and what it spent; means over seeds."""
    frames, tokens = findings.budget.max_frames, _usual_tokens(findings)
    trained = [group for group in findings.warp_decoder if group.point == EQUAL_FLOPS]
    groups = {group.name: group for group in (*findings.at_flops, *trained, *findings.ablation)}
    rows = [_cost_row(findings, group, frames, tokens) for group in groups.values()]
    note = (
        f"Operations of a clip of {frames} frames and {tokens} text tokens, frozen parts included; "
        "two numbers where training has two stages. Steps, clips, TFLOP and seconds: of tuning on "
        "the target alone, when the FLOPs of the DFGN are used up, and when its seconds are."
    )
    return _table("Cost of training on the target", rows, note)


def _cost_row(findings: Findings, group: Group, frames: int, tokens: int) -> dict[str, str]:
    runs = findings.runs_of(group.name)
    stages = findings.flops[KNOWN[group.name].network_key].values()
    costs = [(t.forward_per_clip(frames, tokens), t.per_clip(frames, tokens)) for t in stages]
    at_flops = _mean_used(runs, EQUAL_FLOPS)
    at_time = _mean_used(runs, EQUAL_TIME) or at_flops
    sampling = np.mean([list(s.seconds.values()) for s in group.by_seed.values()])
    return {
        "method": group.label,
        "run": group.name,
        "parameters (M)": f"{runs[0]['parameters'] / 1e6:.2f}",
        "trained (M)": f"{runs[0]['trained_parameters'] / 1e6:.3f}",
        "forward (GFLOP/clip)": " / ".join(f"{forward / 1e9:.2f}" for forward, _ in costs),
        "forward + backward": " / ".join(f"{both / 1e9:.2f}" for _, both in costs),
        "ratio": " / ".join(f"{both / forward:.2f}" for forward, both in costs),
        "steps": f"{at_flops['step']:.0f}",
        "clips": f"{at_flops['clips']:.0f}",
        "TFLOP": f"{at_flops['flops'] / 1e12:.3f}",
        "seconds": f"{at_flops['seconds']:.0f}",
        "clips at equal time": f"{at_time['clips']:.0f}",
        "TFLOP at equal time": f"{at_time['flops'] / 1e12:.3f}",
        "seconds at equal time": f"{at_time['seconds']:.0f}",
        "sampling (s/clip)": f"{sampling:.2f}",
    }


def _table(title: str, rows: Sequence[Mapping[str, str]], note: str) -> Table:
    """A table whose headers are the keys of its rows."""
    return Table(title, list(rows[0]) if rows else [], [list(row.values()) for row in rows], note)


def _usual_tokens(findings: Findings) -> int:
    shapes = [shape for run in findings.runs_of(REFERENCE) for shape in run["shapes"]]
    total = sum(count for *_, count in shapes)
    return round(sum(tokens * count for _, tokens, count in shapes) / max(total, 1))


def _mean_used(runs: Sequence[Mapping[str, Any]], point: str) -> dict[str, float]:
    used = [run["passed"][point] for run in runs if point in run["passed"]]
    if not used:
        return {}
    keys = ("step", "clips", "flops", "seconds")
    return {key: float(np.mean([row[key] for row in used])) for key in keys}


def _pretraining_table(findings: Findings) -> Table:
    """What the U-Nets cost before: not a part of anybody's budget."""
    reference = _mean_used(findings.runs_of(REFERENCE)[:1], EQUAL_FLOPS)
    rows = [
        {
            "base": f"{kind} U-Net",
            "pre-trained on": cost["task"],
            "parameters (M)": f"{cost['parameters'] / 1e6:.2f}",
            "steps": f"{cost['step']}",
            "clips": f"{cost['clips']}",
            "TFLOP": f"{cost['flops'] / 1e12:.3f}",
            "× the DFGN's clips": f"{cost['clips'] / reference['clips']:.1f}",
            "× its FLOPs": f"{cost['flops'] / reference['flops']:.1f}",
            "seconds": f"{cost['seconds']:.0f}",
            "loss at the end": "–" if cost["loss"] is None else f"{cost['loss']:.3f}",
        }
        for kind, cost in findings.bases.items()
    ]
    note = (
        "On the source domain, once for all seeds; on top of what tuning costs. For equal FLOPs a "
        "larger network sees fewer clips: a base may have seen fewer than the DFGN on the target."
    )
    return _table("Cost of pre-training, apart", rows, note)


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
    def baselines(self) -> list[Group]:
        """The baselines; they have no seed."""
        folder = self.out / "baselines"
        return [
            Group(name, name, {NO_SEED: Scores.load(folder, name)})
            for name in BASELINES
            if (folder / f"{name}.json").is_file()
        ]

    @cached_property
    def at_flops(self) -> list[Group]:
        """Every method when its FLOPs are used up, but for the warp decoder."""
        return [group for group in self._methods(EQUAL_FLOPS) if group.name != WARP_DECODER]

    @cached_property
    def at_time(self) -> list[Group]:
        """Every method when the DFGN's seconds are used up; the DFGN itself at its end."""
        return [group for group in self._methods(EQUAL_TIME) if group.name != WARP_DECODER]

    @cached_property
    def warp_decoder(self) -> list[Group]:
        """The DFGN with the warp decoder when its FLOPs are used up, and before any training."""
        groups = [*self._methods(EQUAL_FLOPS), *self.untrained]
        return [group for group in groups if group.method == WARP_DECODER]

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
        groups = [self._group(variant.name, variant.label, EQUAL_FLOPS) for variant in VARIANTS]
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
