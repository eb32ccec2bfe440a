"""The comparison: data, then every point that is not done yet, then the page.

OUT/results/config.json            the budget and the source's fingerprint; others are refused
OUT/results/bases.json             what each base has seen, spent and learned
OUT/results/TARGET/target.json     the target, its baselines, and how metrics order corruptions
OUT/results/TARGET/RUN.json        one method, base and seed: its scores at every point
OUT/sheets/TARGET/RUN-POINT.png    a few of the clips, to look at
OUT/report.html                    the page, rendered from OUT/results
OUT/data/, bases/, runs/           synthetic stickers, pre-trained U-Nets, main runs to go on from

Results are a few kilobytes each and only grow: methods, seeds, higher points, bases and targets can
be added by later calls.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch

from rdtf.data.dataset import PreparedDataset
from rdtf.data.sources import Split
from rdtf.errors import ConfigError
from rdtf.evaluation.baselines import BASELINES, optical_flow_rows
from rdtf.evaluation.perceptual import GET, I3D, Lpips
from rdtf.fileio import read_json, remove_leftovers, write_json, write_text
from rdtf.method.objective import build_objective
from rdtf.method.tasks import TASKS as ALL_TASKS
from rdtf.models.representation import as_representation
from rdtf.models.text import TextEncoders
from rdtf.research.comparison.clips import (
    TASKS,
    Domains,
    EqualLengthBatches,
    PaddedBatches,
    open_domains,
    read_clips,
    read_training_stickers,
)
from rdtf.research.comparison.fit import Fit, Plan, Stopped, Watch
from rdtf.research.comparison.methods import (
    METHODS,
    REFERENCE,
    Budget,
    Job,
    Method,
    Sizes,
    build_network,
    plan_jobs,
    pretraining,
    train_config,
)
from rdtf.research.comparison.networks import FlopTable, Trainee, count_flops
from rdtf.research.comparison.page import write_page
from rdtf.research.comparison.scoring import (
    Judge,
    Made,
    Sampler,
    check_metrics,
    make_baseline,
)
from rdtf.stickers import write_sheet
from rdtf.training.checkpoint import load_latest
from rdtf.training.device import default_device, device_name, resolve_precision, settle_kernels
from rdtf.training.loader import PreparedStore
from rdtf.training.presets import build_autoencoder
from rdtf.training.progress import StopSignals
from rdtf.training.run import locked

Say = Callable[[str], None]
_GROWING = ("name", "points", "pretrain_clips", "seeds")  # may differ from call to call
_UNIT_BATCHES = 64  # batches whose mean cost times `steps` is the budget 1 ×
_CURVE_BINS = 24


def compare(
    budget: Budget,
    out: Path | str,
    *,
    methods: Sequence[str] = (),
    seeds: int | None = None,
    max_seconds: float | None = None,
    source: Path | None = None,
    target: Path | None = None,
    metric_weights: Path | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Everything that is not done yet, then the page. The same call goes on where it stopped.

    Returns:
        reason ("finished", "time is up", "interrupted"), how many points are done, the page.

    Raises:
        UserError: an option or training set can't be used, or OUT holds another comparison.
    """
    started = time.monotonic()
    out = Path(out)
    jobs = plan_jobs(budget, methods, budget.seeds if seeds is None else seeds)
    _refuse_other_folder(out)
    with locked(out):
        remove_leftovers(out)
        domains = open_domains(out / "data", budget, source, target, say)
        name = "synthetic" if target is None else domains.target.path.name
        _check_config(out / "results", budget, domains.source)
        _check_target(out / "results" / name, domains.target)
        deadline = None if max_seconds is None else started + max_seconds
        with StopSignals() as signals:
            watch = Watch(signals, deadline)
            experiment = Experiment(out, name, budget, domains, watch, say, metric_weights)
            reason = "finished"
            try:
                experiment.run(jobs)
            except Stopped as stopped:
                reason = str(stopped)
        done = sum(experiment.is_done(job) for job in jobs)
        summary = {"reason": reason, "points_done": done, "points": len(jobs), "out": str(out)}
        if reason != "interrupted":
            summary["page"] = str(write_page(out / "results", out / "report.html"))
    return {**summary, "seconds": round(time.monotonic() - started, 1)}


def _refuse_other_folder(out: Path) -> None:
    """A folder with other things in it is not ours to fill."""
    if out.is_dir() and not (out / "results" / "config.json").is_file():
        names = {path.name for path in out.iterdir()} - {"data", ".lock"}
        if any(not name.startswith(".tmp-") for name in names):
            raise ConfigError(f"output {out} holds something else; name a new or empty folder")


def _check_config(results: Path, budget: Budget, source: PreparedDataset) -> None:
    """Write what settles the numbers, or refuse if the folder was begun with something else."""
    values = {key: value for key, value in asdict(budget).items() if key not in _GROWING}
    wanted = json.loads(json.dumps({"budget": values, "source": source.fingerprint}))
    path = results / "config.json"
    if not path.is_file():
        write_json(path, wanted)
        return
    saved = read_json(path, "comparison config")
    if not isinstance(saved, dict) or not isinstance(saved.get("budget"), dict):
        raise ConfigError(f"{path} is of something else than a comparison; use another --out")
    for key, value in wanted["budget"].items():
        if saved["budget"].get(key) != value:
            old = saved["budget"].get(key)
            raise ConfigError(
                f"{results.parent} was started with {key} = {old}, not {value}; use another --out"
            )
    if saved.get("source") != wanted["source"]:
        raise ConfigError(f"{results.parent} was started with another source; use another --out")


def _check_target(results: Path, target: PreparedDataset) -> None:
    path = results / "target.json"
    if path.is_file() and read_json(path, "target")["fingerprint"] != target.fingerprint:
        raise ConfigError(
            f"{path} is of another training set; rename this one, or use another --out"
        )


class Experiment:
    """Opens what all jobs share, and does them one after the other."""

    def __init__(
        self,
        out: Path,
        name: str,
        budget: Budget,
        domains: Domains,
        watch: Watch,
        say: Say,
        metric_weights: Path | None = None,
    ) -> None:
        self.out, self.budget, self.domains = out, budget, domains
        self.results, self.runs = out / "results" / name, out / "runs" / name
        self.sheets = out / "sheets" / name
        self.watch, self.say = watch, say
        self.device = default_device()
        settle_kernels(deterministic=False)
        config = train_config(budget, 0)
        self.precision = resolve_precision(config.engine.precision, self.device)
        representation = as_representation(build_autoencoder(config).to(self.device))
        text = TextEncoders(config.text.encoders, config.text.max_tokens)
        say("opening the training sets")

        def store(dataset: PreparedDataset, split: Split) -> PreparedStore:
            return PreparedStore(
                dataset,
                config,
                split,
                representation=representation,
                text_encoders=text,
                device=self.device,
            )

        self.train, val = store(domains.target, "train"), store(domains.target, "val")
        self.source = store(domains.source, "train")
        self.sizes = Sizes(
            representation.latent_channels,
            budget.canvas // representation.downsampling,
            text.widths[0],
        )
        self.clips = read_clips(val, budget, budget.held_out)
        lpips, i3d = Lpips.find(metric_weights), I3D.find(metric_weights, self.device)
        if lpips is None or i3d is None:
            say(f"LPIPS, KVD or FVD is left out; they need {GET}, then --metric-weights FOLDER")
        self.judge = Judge(self.clips, read_training_stickers(self.train, budget), lpips, i3d)
        self.sampler = Sampler(
            self.clips, representation, text.widths, budget, self.device, watch.check
        )
        self._tables: dict[str, dict[str, FlopTable]] = {}
        self.unit = self._describe_target()

    # -------------------------------------------------------------------------- jobs

    def run(self, jobs: Sequence[Job]) -> None:
        """Do what is not done. Raises `Stopped` when asked to, with everything saved."""
        for number, job in enumerate(jobs, start=1):
            if self.is_done(job):
                continue
            self.watch.check()
            title = f"[{number}/{len(jobs)}] {job.name} at {job.point} ×"
            self.say(f"{title}: {job.method.label}")
            self._run_job(job, lambda text, title=title: self.say(f"{title}: {text}"))

    def result(self, job: Job) -> dict[str, Any]:
        """What its run has left until now; empty if nothing."""
        path = self.results / f"{job.name}.json"
        return read_json(path, "result") if path.is_file() else {}

    def is_done(self, job: Job) -> bool:
        return str(job.point) in self.result(job).get("points", {})

    def _describe_target(self) -> float:
        """Score what costs nothing, and the metrics, once; returns the FLOPs of the budget 1 ×."""
        path = self.results / "target.json"
        if path.is_file():
            return read_json(path, "target")["unit_flops"]
        self.say("scoring the baselines, and the metrics on known corruptions")
        rows = {**BASELINES, **optical_flow_rows()}
        baselines = {name: self.judge(make_baseline(self.clips, row)) for name, row in rows.items()}
        unit = self._flops_of_steps(METHODS[REFERENCE], self.budget.steps)
        _write(
            path,
            {
                "fingerprint": self.domains.target.fingerprint,
                "target": self.domains.target_text,
                "source": self.domains.source_text,
                "clips": [clip.name for clip in self.clips],
                "unit_flops": unit,
                "baselines": baselines,
                "validity": check_metrics(self.judge),
            },
        )
        return unit

    def _run_job(self, job: Job, say: Say) -> None:
        base = self._base(job.method.pretrained_base, job.base_clips) if job.base_clips else None
        network = build_network(job.method, self.budget, job.seed, self.sizes, base)
        plan = self._plan(job.method, network, job.seed, point=max(job.point, 1))
        folder = self.runs / job.name
        if job.method.has_horizon:
            folder = folder / str(job.point)
        fit = self._train(plan, folder, job.point * self.unit, say)
        say(f"scoring at step {fit.step}, {fit.flops / 1e12:.2f} TFLOP, {fit.seconds:.0f} s")
        with fit.sampling():
            made, seconds = self.sampler(job.method, network, fit.objective, plan.config, job.seed)
        self._save_sheet(job, made)
        known = self.result(job).get("points", {})
        point = {**fit.used(), "sampling_s": round(seconds, 3), "scores": self.judge(made)}
        trained = sum(p.numel() for p in network.own_parameters().values())
        _write(
            self.results / f"{job.name}.json",
            {
                "row": job.row,
                "method": job.method.name,
                "base_clips": job.base_clips,
                "seed": job.seed,
                "parameters": network.num_parameters,
                "trained_parameters": trained,
                "device": f"{device_name(self.device)}, torch {torch.__version__}",
                "precision": self.precision,
                "points": {**known, str(job.point): point},
            },
        )
        Fit.remove(folder if job.method.has_horizon else folder / "branch")

    def _train(self, plan: Plan, folder: Path, budget: float, say: Say) -> Fit:
        """A run decayed to `budget`: the main run, and its copy in `branch`."""
        if not budget:
            return Fit(plan, folder / "untrained", self.device, say)
        branch, start = folder / "branch", (1 - self.budget.decay_share) * budget
        if not (branch / "checkpoints").is_dir():
            checkpoint = load_latest(folder)
            if checkpoint is not None and checkpoint.state["before"] >= start:
                Fit.remove(folder)  # it has gone on to a higher point
            main = Fit(plan, folder, self.device, say)
            main.run(start, self.watch)
            main.save()
        fit = Fit(plan, branch, self.device, say, start=folder, decay=(start, budget))
        fit.run(budget, self.watch)
        return fit

    def _plan(
        self,
        method: Method,
        network: Trainee,
        seed: int,
        *,
        point: int = 1,
        measure: Literal["flops", "clips"] = "flops",
    ) -> Plan:
        """What a run trains and on what; a base, measured in clips, on the source domain."""
        config = method.config(self.budget, seed, point)
        store = self.train if measure == "flops" else self.source
        batches = EqualLengthBatches if method.dual_mask else PaddedBatches
        builder = batches(store, config, build_objective(config.objective))
        return Plan(
            method,
            config,
            network,
            builder,
            self._flops(method, network),
            measure,
            first_stage=self.unit / 2,
            decay_share=self.budget.decay_share,
        )

    def _save_sheet(self, job: Job, made: Made) -> None:
        """Two clips of every task, each below the truth."""
        chosen = {len(self.clips) // 4, 3 * len(self.clips) // 4}
        rows, labels = [], []
        for task in TASKS:
            for index in sorted(chosen):
                rows += [self.clips[index].truth, made[task, index]]
                labels += ["truth", f"{task}: {job.name}"]
        path = self.sheets / f"{job.name}-{job.point}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sheet(rows, path, labels)

    # ------------------------------------------------------------------------- FLOPs

    def _flops(self, method: Method, network: Trainee) -> dict[str, FlopTable]:
        """Operations per clip in each stage."""
        key = method.network_key
        if key not in self._tables:
            network.to(self.device)
            self._tables[key] = {}
            for stage in network.stages:
                network.begin(stage)
                self._tables[key][stage] = count_flops(
                    network,
                    clips=self.budget.batch_size,
                    latent_channels=self.sizes.latent_channels,
                    latent_size=self.sizes.latent_size,
                    text_width=self.sizes.text_width,
                )
            network.begin(network.stages[0])
        return self._tables[key]

    def _flops_of_steps(self, method: Method, steps: int) -> float:
        """What so many steps of the DFGN take, by the mean of its first batches."""
        network = build_network(method, self.budget, 0, self.sizes)
        (table,) = self._flops(method, network).values()
        config = method.config(self.budget, 0)
        builder = EqualLengthBatches(self.train, config, build_objective(config.objective))
        costs = []
        for step in range(min(steps, _UNIT_BATCHES)):
            (batch,) = builder.step_batches(step, dict.fromkeys(ALL_TASKS, 1.0))
            tokens = max(mask.shape[1] for mask in batch.text_mask)
            costs.append(table.per_batch(batch.valid.shape[1], tokens))
        return float(steps * np.mean(costs))

    # ------------------------------------------------------------------------- bases

    def _base(self, kind: str, clips: int) -> Path:
        """The U-Net pre-trained on so many clips; made, once and for all, if it is not there."""
        folder, path = self.out / "bases" / f"{kind}-{clips}", self.out / "results" / "bases.json"
        known = read_json(path, "bases") if path.is_file() else {}
        if folder.name in known:
            return folder
        method = pretraining(kind)
        self.say(f"{method.label} on {clips} clips of the source domain")
        network = build_network(method, self.budget, 0, self.sizes)
        plan = self._plan(method, network, 0, measure="clips")
        run = self.out / "bases" / f"{kind}-run"
        fit = self._train(plan, run, clips, lambda text: self.say(f"{folder.name}: {text}"))
        cast(Any, network.network).save(folder)
        last = fit.losses[-max(len(fit.losses) // 10, 1) :]
        known[folder.name] = {
            **fit.used(),
            "kind": kind,
            "task": "text to image, frame by frame" if kind == "image" else "text to video",
            "parameters": network.num_parameters,
            "loss": float(f"{np.mean(last):.4g}"),
            "curve": _thin(fit.losses, self.budget.batch_size),
        }
        _write(path, known)
        Fit.remove(run / "branch")
        return folder


def _thin(losses: Sequence[float], batch_size: int) -> list[tuple[int, float]]:
    """(clips, mean loss) over bins that grow geometrically."""
    edges = np.unique([0, *np.geomspace(1, len(losses), _CURVE_BINS).astype(int)])
    return [
        (int(end) * batch_size, float(f"{np.mean(losses[first:end]):.4g}"))
        for first, end in pairwise(edges)
    ]


def _write(path: Path, value: Mapping[str, Any]) -> None:
    """Compact JSON: a line per entry of the top level."""
    compact = functools.partial(json.dumps, separators=(",", ":"))
    lines = (f"{compact(key)}: {compact(item)}" for key, item in value.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
