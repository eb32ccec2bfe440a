"""The comparison: data, then every run that is not done yet, then the report.

OUT/config.json       the budget and the data's fingerprints; others are refused
OUT/data/             synthetic stickers of both domains, if they are not named
OUT/bases/KIND/       the pre-trained U-Nets; KIND.json = what they cost
OUT/flops.json        operations per clip of every network
OUT/baselines/        scores of the baselines
OUT/runs/NAME-SEED/   untrained.json, flops.json, time.json: scores before training on the target
                      and at the two points; result.json: the run
OUT/report.html, tables.md, results.json, sheet.png
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rdtf.errors import ConfigError
from rdtf.fileio import read_json, remove_leftovers, write_json
from rdtf.research.comparison.clips import Domains, open_domains
from rdtf.research.comparison.experiment import Experiment
from rdtf.research.comparison.fit import Stopped, Watch
from rdtf.research.comparison.methods import REFERENCE, Request
from rdtf.research.comparison.report import write_results
from rdtf.research.comparison.settings import Budget
from rdtf.training.progress import StopSignals
from rdtf.training.run import locked


def compare(
    budget: Budget,
    out: Path | str,
    request: Request,
    *,
    source: Path | None = None,
    target: Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Everything that is not done yet, then the report. The same call goes on where it stopped.

    Returns:
        reason ("finished", "time is up", "interrupted"), how many runs are done, the report's path.

    Raises:
        UserError: an option or training set can't be used, or OUT holds another comparison.
    """
    started = time.monotonic()
    out = Path(out)
    if request.seeds < 1:
        raise ConfigError(f"seeds is {request.seeds}; it must be at least 1")
    jobs = request.jobs()
    _refuse_other_folder(out)
    with locked(out):
        remove_leftovers(out)
        domains = open_domains(out / "data", budget, source, target, say)
        _check_config(out, budget, domains)
        deadline = None if request.max_seconds is None else started + request.max_seconds
        with StopSignals() as signals:
            experiment = Experiment(out, budget, domains, Watch(signals, deadline), say)
            reason = "finished"
            try:
                experiment.run(jobs)
            except Stopped as stopped:
                reason = str(stopped)
        done = sum(experiment.result(job) is not None for job in jobs)
        summary = {"reason": reason, "runs_done": done, "runs": len(jobs), "out": str(out)}
        if reason == "interrupted":
            return summary
        say("writing the report")
        report = write_results(experiment.findings(jobs), out)
    return {**summary, "report": str(report), "seconds": round(time.monotonic() - started, 1)}


def _refuse_other_folder(out: Path) -> None:
    """A folder with other things in it is not ours to fill."""
    if out.is_dir() and any(out.iterdir()) and not (out / "config.json").is_file():
        names = {path.name for path in out.iterdir()} - {"data", ".lock"}
        if any(not name.startswith(".tmp-") for name in names):
            raise ConfigError(f"output {out} holds something else; name a new or empty folder")


def _check_config(out: Path, budget: Budget, domains: Domains) -> None:
    """Write what settles the numbers, or refuse if the folder was begun with something else."""
    wanted = {
        "budget": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(budget).items()
        },
        "reference": REFERENCE,
        "source": domains.source.fingerprint,
        "target": domains.target.fingerprint,
    }
    path = out / "config.json"
    if not path.is_file():
        write_json(path, wanted)
        return
    saved = read_json(path, "comparison config")
    if not isinstance(saved, dict) or not isinstance(saved.get("budget"), dict):
        raise ConfigError(f"{path} is of something else than a comparison; use another --out")
    for key, value in wanted["budget"].items():
        if saved["budget"].get(key) != value:
            old = saved["budget"].get(key)
            raise ConfigError(f"{out} was started with {key} = {old}, not {value}; "
                              "use another --out")  # fmt: skip
    for key in ("reference", "source", "target"):
        if saved.get(key) != wanted[key]:
            raise ConfigError(f"{out} was started with another {key}; use another --out")
