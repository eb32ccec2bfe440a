"""All that the runs have left, gathered for tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rdtf.evaluation.baselines import BASELINES
from rdtf.evaluation.tables import Cell, Table, as_cell
from rdtf.evaluation.tasks import TASK_LABELS
from rdtf.research.comparison.clips import TASKS, Domains
from rdtf.research.comparison.jobs import EQUAL_FLOPS, EQUAL_TIME, UNTRAINED, Job
from rdtf.research.comparison.methods import COMPOSER, METHODS, REFERENCE
from rdtf.research.comparison.networks import FlopTable
from rdtf.research.comparison.results import (
    COMPARED,
    NO_SEED,
    SET_DISTANCE,
    TRAIN_DISTANCE,
    Estimate,
    Group,
    difference,
    estimate,
)
from rdtf.research.comparison.scoring import Scorer, Scores
from rdtf.research.comparison.settings import Budget
from rdtf.research.comparison.variants import distinct_variants, variant_label

HEADLINE = ("psnr", "ssim", "line_distance", "motion_ratio", SET_DISTANCE)
MORE = ("alpha_mae", "flicker", "colour_drift", TRAIN_DISTANCE)
_DIFFERENCES = ("psnr", "ssim", "line_distance", SET_DISTANCE)
_ARROWS = {"higher": " ↑", "lower": " ↓", "one": " →1", "none": ""}
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
        tables.append(score_table(findings, groups, f"Scores at {POINT_TITLES[point]}", HEADLINE))
        tables.append(difference_table(findings, groups, REFERENCE, point))
    tables.append(cost_table(findings))
    tables.append(pretraining_table(findings))
    if findings.ablation:
        title = "Ablation at equal training FLOPs (the paper's Tables 3 and 4)"
        tables.append(score_table(findings, findings.ablation, title, HEADLINE, naive=False))
        tables.append(steps_table(findings))
    title = f"More scores at {POINT_TITLES[EQUAL_FLOPS]}"
    tables.append(score_table(findings, findings.at_flops, title, MORE))
    return [table for table in [*tables, *appendix(findings)] if table.rows]


def appendix(findings: Findings) -> list[Table]:
    """What every network does before training, and the frame composer, which is not the paper's."""
    title = "Appendix: every network before its first step on the target"
    others = [group for group in findings.untrained if group.method != REFERENCE]
    tables = [score_table(findings, others, title, HEADLINE)]
    if findings.composer:
        title = f"Appendix: with the frame composer, at {POINT_TITLES[EQUAL_FLOPS]}"
        tables.append(score_table(findings, findings.composer, title, HEADLINE))
        groups = [*findings.composer, *findings.at_flops]
        tables.append(difference_table(findings, groups, COMPOSER, EQUAL_FLOPS))
    return tables


# ------------------------------------------------------------------------------- scores


def score_table(
    findings: Findings,
    groups: Sequence[Group],
    title: str,
    metrics: Sequence[str],
    *,
    naive: bool = True,
) -> Table:
    """Rows: methods, below them the untrained and naive ones; by task. The best is marked."""
    truth, rows = findings.scorer.reference.truth, []
    shown = [*groups, *findings.untrained_reference, *(findings.naive if naive else [])]
    for task in TASKS:
        cells = {
            metric: [estimate(group, task, metric, truth[task]) for group in shown]
            for metric in metrics
        }
        for index, group in enumerate(shown):
            marked = [_score_cell(cells[metric], index, metric) for metric in metrics]
            rows.append([TASK_LABELS[task], group.label, *marked, *_spent(findings, group),
                         _counts(group, truth[task])])  # fmt: skip
    headers = ["task", "method", *(_header(metric) for metric in metrics), "clips", "TFLOP",
               "seeds × clips"]  # fmt: skip
    return Table(title[:1].upper() + title[1:], headers, rows if groups else [], _SCORE_NOTE)


def _score_cell(column: Sequence[Estimate], index: int, metric: str) -> Cell:
    digits, found = COMPARED[metric].digits, column[index]
    if not math.isfinite(found.value):
        return Cell("–")
    ranks = [_badness(round(e.value, digits), metric) for e in column if math.isfinite(e.value)]
    best = _badness(round(found.value, digits), metric) <= min(ranks)
    text = f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"
    return Cell(text, best=best and COMPARED[metric].better != "none")


def _badness(value: float, metric: str) -> float:
    """Smaller is better, whichever way the metric runs."""
    better = COMPARED[metric].better
    return {"higher": -value, "lower": value, "one": abs(value - 1), "none": 0.0}[better]


def _header(metric: str) -> str:
    return COMPARED[metric].label + _ARROWS[COMPARED[metric].better]


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


def _counts(group: Group, truth: np.ndarray) -> str:
    seeds = "–" if NO_SEED in group.by_seed else str(len(group.by_seed))
    return f"{seeds} × {len(truth)}"


def difference_table(findings: Findings, groups: Sequence[Group], name: str, point: str) -> Table:
    """One method minus each other; marked where the whole interval is on its better side."""
    own = next((group for group in groups if group.name == name), None)
    below = [*findings.untrained_reference, *findings.naive]
    others = [] if own is None else [group for group in (*groups, *below) if group.name != name]
    truth, rows = findings.scorer.reference.truth, []
    for task in TASKS:
        for other in others:
            assert own is not None
            cells = [
                _difference_cell(difference(own, other, task, metric, truth[task]), metric)
                for metric in _DIFFERENCES
            ]
            rows.append([TASK_LABELS[task], other.label, *cells])
    label = name if own is None else own.label
    note = (
        "Same clips, same seeds, same noise; 95 % bootstrap interval. Marked where the whole "
        f"interval is in favour of {label}; ✗ where it is against it."
    )
    headers = ["task", "minus", *(_header(metric) for metric in _DIFFERENCES)]
    return Table(f"{label}, minus the others, at {POINT_TITLES[point]}", headers, rows, note)


def _difference_cell(found: Estimate, metric: str) -> Cell:
    if not math.isfinite(found.value):
        return Cell("–")
    digits, sign = COMPARED[metric].digits, 1 if COMPARED[metric].better == "higher" else -1
    worst, best = sorted((sign * found.low, sign * found.high))
    text = f"{found.value:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
    return Cell(text + (" ✗" if best < 0 else ""), best=worst > 0)


# -------------------------------------------------------------------------------- costs


def cost_table(findings: Findings) -> Table:
    """What every method is, and what it spent; means over seeds."""
    frames, tokens = findings.budget.max_frames, _usual_tokens(findings)
    rows = []
    trained = [group for group in findings.composer if group.point == EQUAL_FLOPS]
    for group in (*findings.at_flops, *trained):
        runs = findings.runs_of(group.name)
        stages = findings.flops[METHODS[group.name].network_key]
        costs = [(t.forward_per_clip(frames, tokens), t.per_clip(frames, tokens))
                 for t in stages.values()]  # fmt: skip
        at_flops = _mean_used(runs, EQUAL_FLOPS)
        at_time = _mean_used(runs, EQUAL_TIME) or at_flops
        sampling = np.mean([list(s.seconds.values()) for s in group.by_seed.values()])
        rows.append(
            [
                group.label,
                group.name,
                f"{runs[0]['parameters'] / 1e6:.2f}",
                f"{runs[0]['trained_parameters'] / 1e6:.3f}",
                " / ".join(f"{forward / 1e9:.2f}" for forward, _ in costs),
                " / ".join(f"{both / 1e9:.2f}" for _, both in costs),
                " / ".join(f"{both / forward:.2f}" for forward, both in costs),
                f"{at_flops['step']:.0f}",
                f"{at_flops['clips']:.0f}",
                f"{at_flops['flops'] / 1e12:.3f}",
                f"{at_flops['seconds']:.0f}",
                f"{at_time['clips']:.0f}",
                f"{at_time['flops'] / 1e12:.3f}",
                f"{at_time['seconds']:.0f}",
                f"{sampling:.2f}",
            ]
        )
    headers = [
        "method", "run", "parameters (M)", "trained (M)", "forward (GFLOP/clip)",
        "forward + backward", "ratio", "steps", "clips", "TFLOP", "seconds",
        "clips at equal time", "TFLOP at equal time", "seconds at equal time", "sampling (s/clip)",
    ]  # fmt: skip
    note = (
        f"Operations of a clip of {frames} frames and {tokens} text tokens, frozen parts included; "
        "two numbers where training has two stages. Steps, clips, TFLOP and seconds: of tuning on "
        "the target alone, when the FLOPs of the DFGN are used up, and when its seconds are."
    )
    return Table("Cost of training on the target", headers, rows, note)


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


def pretraining_table(findings: Findings) -> Table:
    """What the U-Nets cost before: not a part of anybody's budget."""
    reference = _mean_used(findings.runs_of(REFERENCE)[:1], EQUAL_FLOPS)
    rows = [
        [
            f"{kind} U-Net",
            cost["task"],
            f"{cost['parameters'] / 1e6:.2f}",
            f"{cost['step']}",
            f"{cost['clips']}",
            f"{cost['flops'] / 1e12:.3f}",
            f"{cost['clips'] / reference['clips']:.1f}" if reference else "–",
            f"{cost['flops'] / reference['flops']:.1f}" if reference else "–",
            f"{cost['seconds']:.0f}",
            "–" if cost["loss"] is None else f"{cost['loss']:.3f}",
        ]
        for kind, cost in findings.bases.items()
    ]
    headers = ["base", "pre-trained on", "parameters (M)", "steps", "clips", "TFLOP",
               "× the DFGN's clips", "× its FLOPs", "seconds", "loss at the end"]  # fmt: skip
    note = (
        "On the source domain, once for all seeds; on top of what tuning costs. For equal FLOPs a "
        "larger network sees fewer clips: a base may have seen fewer than the DFGN on the target."
    )
    return Table("Cost of pre-training, apart", headers, rows, note)


def steps_table(findings: Findings) -> Table:
    """What the variants of the ablation did with the same FLOPs."""
    rows = []
    for group in findings.ablation:
        runs = findings.runs_of(group.name)
        used = _mean_used(runs, EQUAL_FLOPS)
        rows.append(
            [
                group.label,
                group.name,
                f"{runs[0]['parameters'] / 1e6:.2f}",
                f"{used['step']:.0f}",
                f"{used['clips']:.0f}",
                f"{used['flops'] / 1e12:.3f}",
                f"{used['seconds']:.0f}",
            ]
        )
    headers = ["variant", "run", "parameters (M)", "steps", "clips", "TFLOP", "seconds"]
    return Table("Cost of the ablation", headers, rows)


# ----------------------------------------------------------------------------- markdown


def markdown(table: Table) -> str:
    """A table in Markdown; the best of a column is bold."""

    def line(cells: Sequence[Cell | str]) -> str:
        texts = []
        for cell in map(as_cell, cells):
            words = cell.text.replace("|", "\\|")
            texts.append(f"**{words}**" if cell.best else words)
        return "| " + " | ".join(texts) + " |"

    rule = "|" + "|".join(" --- " if column < 2 else " ---: " for column in
                          range(len(table.headers))) + "|"  # fmt: skip
    lines = [f"### {table.title}", "", line(table.headers), rule, *map(line, table.rows)]
    return "\n".join([*lines, "", table.note, ""] if table.note else [*lines, ""])


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
