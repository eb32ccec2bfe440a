"""What a comparison leaves: report.html, tables.md, results.json, sheet.png."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rdtf.evaluation.report import write_report
from rdtf.evaluation.results import Example, Table, save_example_sheet
from rdtf.evaluation.sets import FEATURES_NAME
from rdtf.fileio import write_json, write_text
from rdtf.research.comparison.clips import TASKS
from rdtf.research.comparison.findings import Findings, all_tables
from rdtf.research.comparison.methods import METHODS, REFERENCE
from rdtf.research.comparison.results import Group, summary
from rdtf.research.comparison.settings import EQUAL_FLOPS, EQUAL_TIME, UNTRAINED

_TITLE = "DFGN from scratch against tuning of a larger pre-trained model"
_INTRO = """\
Budget “{budget}”. The DFGN ({dfgn:.2f} M parameters; the paper's network with dual mask and \
curriculum, here with rectified flow and pixel patches) is trained from scratch on the target; \
U-Nets of about {ratio:g} times its size are pre-trained on the source, and then adapted to the \
target. All get the same clips and the same training FLOPs (or, as a second column, the same \
wall-clock); what pre-training cost comes on top of it and is shown apart. The warp decoder, \
which is not the paper's and scores well before any training, is in the appendix.

Target: {target}.

Source: {source}."""


def write_results(findings: Findings, out: Path) -> Path:
    """Write all four files; returns the report's path."""
    tables, notes = all_tables(findings), _notes(findings)
    examples = _examples(findings)
    write_json(out / "results.json", _results(findings))
    write_text(out / "tables.md", _markdown(findings, tables, notes))
    if examples:
        save_example_sheet(examples, out / "sheet.png")
    return write_report(
        out / "report.html",
        title=_TITLE,
        intro=_intro(findings),
        tables=tables,
        examples=examples,
        notes=notes,
    )


def _intro(findings: Findings) -> str:
    runs = findings.runs_of(REFERENCE)
    text = _INTRO.format(
        budget=findings.budget.name,
        dfgn=runs[0]["parameters"] / 1e6 if runs else float("nan"),
        ratio=findings.budget.base_ratio,
        target=findings.domains.target_text,
        source=findings.domains.source_text,
    )
    if not findings.is_complete:
        done = f"{len(findings.results)} of {len(findings.jobs)} runs are done"
        text = f"Incomplete: {done}; the same command goes on.\n\n{text}"
    return text


def _markdown(findings: Findings, tables: Sequence[Table], notes: Sequence[str]) -> str:
    parts = [f"# {_TITLE}", _intro(findings), *(table.markdown() for table in tables)]
    return "\n\n".join(parts) + "\n## Notes\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


# -------------------------------------------------------------------------------- notes


def _notes(findings: Findings) -> list[str]:
    budget = findings.budget
    rates = ", ".join(
        f"{group.name} {METHODS[group.name].learning_rate * budget.learning_rate_scale:g}"
        for group in findings.at_flops
    )
    devices = sorted({f"{r['device']}, {r['precision']}" for r in findings.results.values()})
    notes = [
        "Equal FLOPs: operations of the forward and backward pass that training needs, counted on "
        "each network with its frozen parts (convolutions, matrix products, attention, pooling, "
        "resizing, and the warp decoder's matching and warping). Equal wall-clock: as long as the "
        "DFGN's own training took for the same seed. A run is scored before its first step and at "
        "both points, with averaged weights; the learning rate is constant after its warm-up.",
        "Each network is one run for all tasks. Adapters and full fine-tuning are tuned on image "
        "to clip, interpolation and prediction in equal shares; the DFGN follows its adaptive "
        "curriculum over all six tasks. Batches hold clips of one length, because the U-Nets have "
        "no validity mask. Given frames stand clean in place of the noisy ones in the U-Nets.",
        "Customize-A-Video spends half of its budget on the appearance absorber, which stays in at "
        "sampling. Full fine-tuning is that of the motion U-Net, the base of I2V-Adapter.",
        f"Sampling: rectified flow, Euler, {budget.sampling_steps} network evaluations for every "
        "method, no guidance. I2V-Adapter starts from its frame-similarity prior, the others from "
        "noise; the noise of a clip is the same for all.",
        f"Learning rates: {rates}.",
        f"Set distance: unbiased squared MMD, cubic kernel, features {FEATURES_NAME} (fixed random "
        "convolutions, nothing trained, nothing downloaded) of hidden frames and of the steps that "
        "touch one; a generated clip is never compared with its own true clip. Not comparable with "
        "any FVD. Train distance: to the nearest training clip in these features, over the true "
        "clip's own; far below 1 would be memorisation.",
        "Intervals do not cover the pre-training: there is one base of each kind for all seeds.",
        f"Measured on: {'; '.join(devices) or 'nothing yet'}.",
    ]
    if len(devices) > 1:
        notes.append("Runs were made on different machines: do not compare their wall-clock.")
    return notes


# ------------------------------------------------------------------------------ results


def _results(findings: Findings) -> dict[str, Any]:
    truth = findings.scorer.reference.truth
    below = [*findings.untrained_reference, *findings.baselines]
    return {
        "complete": findings.is_complete,
        "budget": asdict(findings.budget),
        "source": findings.domains.source_text,
        "target": findings.domains.target_text,
        "clips": [clip.name for clip in findings.scorer.clips],
        "scores": {
            EQUAL_FLOPS: summary([*findings.at_flops, *below], truth),
            EQUAL_TIME: summary([*findings.at_time, *below], truth),
            "ablation": summary(findings.ablation, truth),
            "warp_decoder": summary([*findings.warp_decoder, *below], truth),
            UNTRAINED: summary(findings.untrained, truth),
        },
        "runs": {
            name: {key: value for key, value in result.items() if key not in ("shapes", "config")}
            for name, result in findings.results.items()
        },
        "pretraining": dict(findings.bases),
    }


# ----------------------------------------------------------------------------- pictures


def _examples(findings: Findings) -> list[Example]:
    """The fixed clips with what each method made of them, at equal FLOPs, first seed."""
    scorer = findings.scorer
    groups = [*findings.baselines, *findings.untrained_reference, *findings.at_flops]
    return [
        Example(
            task=task,
            prompt=clip.prompt,
            truth=clip.truth,
            known=clip.known(task),
            results={group.name: _made(group, task, clip) for group in groups},
            scores={group.name: _scores_of(group, task, clip.name) for group in groups},
        )
        for task in TASKS
        for clip in (scorer.clips[index] for index in scorer.examples)
        if groups
    ]


def _made(group: Group, task: str, clip: Any) -> Any:
    scores = next(iter(group.by_seed.values()))
    return clip.truth.replace(frames=scores.samples[f"{task}/{clip.name}"])


def _scores_of(group: Group, task: str, name: str) -> Mapping[str, float]:
    scores = next(iter(group.by_seed.values()))
    row = next(row for row in scores.rows if row["task"] == task and row["clip"] == name)
    return {key: value for key, value in row["scores"].items() if value is not None}
