"""The comparison's runs, one after the other: what each may spend, the bases, the jobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

from rdtf.data.dataset import PreparedDataset
from rdtf.data.sources import Split
from rdtf.evaluation.baselines import BASELINES
from rdtf.fileio import read_json, write_json
from rdtf.method.objective import build_objective
from rdtf.models.representation import as_representation
from rdtf.models.text import TextEncoders
from rdtf.research.comparison.clips import (
    Domains,
    EqualLengthBatches,
    PaddedBatches,
    Reference,
    read_clips,
    read_training_stickers,
)
from rdtf.research.comparison.findings import Findings
from rdtf.research.comparison.fit import Fit, Milestone, Plan, Watch
from rdtf.research.comparison.methods import (
    METHODS,
    REFERENCE,
    Job,
    Method,
    Sizes,
    build_network,
    pretraining,
)
from rdtf.research.comparison.networks import FlopTable, Trainee, count_flops
from rdtf.research.comparison.scoring import Scorer
from rdtf.research.comparison.settings import (
    EQUAL_FLOPS,
    EQUAL_TIME,
    UNTRAINED,
    Budget,
    train_config,
)
from rdtf.training.config import to_dict
from rdtf.training.device import (
    default_device,
    device_name,
    resolve_precision,
    settle_kernels,
)
from rdtf.training.loader import PreparedStore
from rdtf.training.presets import build_autoencoder


class Experiment:
    """Opens what all jobs share, and does them one after the other."""

    def __init__(
        self,
        out: Path,
        budget: Budget,
        domains: Domains,
        watch: Watch,
        say: Callable[[str], None],
    ) -> None:
        self.out, self.budget, self.domains = out, budget, domains
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

        self.train, self.val = store(domains.target, "train"), store(domains.target, "val")
        self.source = store(domains.source, "train")
        self.sizes = Sizes(
            representation.latent_channels,
            budget.canvas // representation.downsampling,
            text.widths[0],
        )
        clips = read_clips(self.val, budget, budget.held_out)
        self.scorer = Scorer(
            clips=clips,
            reference=Reference.of(clips, read_training_stickers(self.train, budget)),
            representation=representation,
            text_widths=text.widths,
            budget=budget,
            device=self.device,
            check=watch.check,
        )

    # -------------------------------------------------------------------------- jobs

    def run(self, jobs: Sequence[Job]) -> None:
        """Do what is not done. Raises `Stopped` when asked to, with everything saved."""
        self._score_baselines()
        for number, job in enumerate(jobs, start=1):
            if self.result(job) is not None:
                continue
            self.watch.check()
            if job.method.base and job.method.pretrained:
                self._pretrain(job.method.base)
            title = f"[{number}/{len(jobs)}] {job.method.name}, seed {job.seed}"
            self.say(f"{title}: {job.method.label}")
            self._run_job(job, lambda text, title=title: self.say(f"{title}: {text}"))

    def result(self, job: Job) -> dict[str, Any] | None:
        """What a finished run left; None if it is not finished."""
        path = self.out / "runs" / job.name / "result.json"
        return read_json(path, "result") if path.is_file() else None

    def _score_baselines(self) -> None:
        for name, row in BASELINES.items():
            if not (self.out / "baselines" / f"{name}.json").is_file():
                self.scorer.score_baseline(row).save(self.out / "baselines", name)

    def _run_job(self, job: Job, say: Callable[[str], None]) -> None:
        folder, network = self.out / "runs" / job.name, self._build(job.method, job.seed)
        tables = self._tables(job.method, network)
        milestones = self._milestones(job)
        flops = next(m.flops for m in milestones if m.name == EQUAL_FLOPS)
        plan = self._plan(job.method, network, tables, job.seed, self._steps(job, tables), flops)
        config, objective = plan.config, build_objective(plan.config.objective)
        fit = Fit(plan, folder, self.device, say)

        def look(milestone: Milestone, fit: Fit) -> dict[str, Any]:
            say(f"scoring at step {fit.step}, {fit.flops / 1e12:.2f} TFLOP, {fit.seconds:.0f} s")
            scores = self.scorer.score(job.method, network, objective, config, job.seed)
            scores.save(folder, milestone.name)
            return {}

        fit.run(milestones, look, self.watch)
        write_json(folder / "result.json", self._describe(job, fit))
        fit.remove_checkpoints()

    def _describe(self, job: Job, fit: Fit) -> dict[str, Any]:
        trained = sum(p.numel() for p in fit.network.own_parameters().values())
        return {
            "method": job.method.name,
            "label": job.method.label,
            "seed": job.seed,
            "parameters": fit.network.num_parameters,
            "trained_parameters": trained,
            "passed": fit.passed,
            "shapes": [[*shape, count] for shape, count in sorted(fit.shapes.items())],
            "config": to_dict(fit.plan.config),
            "device": f"{device_name(self.device)}, torch {torch.__version__}",
            "precision": self.precision,
        }

    # ------------------------------------------------------------------------ limits

    def _milestones(self, job: Job) -> list[Milestone]:
        """Where a run is scored: untrained, and at the FLOPs and the seconds of the DFGN.

        The DFGN has its steps; all others its FLOPs, then its seconds, of the same seed; a variant
        of the ablation its FLOPs alone.
        """
        untrained = Milestone(UNTRAINED, steps=0)
        if job.method.name == REFERENCE:
            return [untrained, Milestone(EQUAL_FLOPS, steps=self.budget.steps)]
        spent = self._reference(job.seed)["passed"]["flops"]
        equal = Milestone(EQUAL_FLOPS, flops=spent["flops"])
        if job.is_variant:
            return [equal]
        return [untrained, equal, Milestone(EQUAL_TIME, seconds=spent["seconds"])]

    def _reference(self, seed: int) -> dict[str, Any]:
        result = self.result(Job(METHODS[REFERENCE], seed))
        assert result is not None, "the DFGN comes first in every seed"
        return result

    def _steps(self, job: Job, tables: Mapping[str, FlopTable]) -> int:
        """Steps that the FLOPs will allow: the horizon of a curriculum. The last stage's cost."""
        if job.method.name == REFERENCE:
            return self.budget.steps
        table, reference = tables[list(tables)[-1]], self._reference(job.seed)
        padded = None if job.method.dual_mask else self.budget.max_frames
        shapes = reference["shapes"]
        total = sum(count * table.per_batch(padded or frames, n) for frames, n, count in shapes)
        per_step = total / sum(count for *_, count in shapes)
        return max(round(reference["passed"]["flops"]["flops"] / per_step), 1)

    def _tables(self, method: Method, network: Trainee) -> dict[str, FlopTable]:
        """Operations per clip in each stage; counted once and kept."""
        path, key = self.out / "flops.json", method.network_key
        known = read_json(path, "table of FLOPs") if path.is_file() else {}
        if key not in known:
            known[key] = {}
            for stage in network.stages:
                network.begin(stage)
                table = count_flops(
                    network,
                    clips=self.budget.batch_size,
                    latent_channels=self.sizes.latent_channels,
                    latent_size=self.sizes.latent_size,
                    text_width=self.sizes.text_width,
                )
                known[key][stage] = asdict(table)
            network.begin(network.stages[0])
            write_json(path, known)
        return {stage: FlopTable(**values) for stage, values in known[key].items()}

    # ------------------------------------------------------------------------- bases

    def _pretrain(self, kind: str) -> None:
        """Pre-train a U-Net, once and for all seeds, from where an earlier call stopped."""
        folder = self.out / "bases"
        if (folder / f"{kind}.json").is_file():
            return
        method = pretraining(kind)
        self.say(f"{method.label}, on the source domain")
        network = self._build(method, 0)
        flops = self.budget.pretrain_factor * self._reference(0)["passed"]["flops"]["flops"]
        plan = self._plan(method, network, self._tables(method, network), 0, flops=flops)
        fit = Fit(plan, folder / f"{kind}-run", self.device,
                  lambda text: self.say(f"{method.name}: {text}"))  # fmt: skip

        def keep(milestone: Milestone, fit: Fit) -> dict[str, Any]:
            cast(Any, network.network).save(folder / kind)
            return {}

        fit.run([Milestone("done", flops=flops)], keep, self.watch)
        last = fit.losses[-max(len(fit.losses) // 4, 1) :]  # whether it has learned anything
        cost = {
            **fit.used(),
            "kind": kind,
            "task": "text to image, frame by frame" if kind == "image" else "text to video",
            "parameters": network.num_parameters,
            "loss": sum(last) / len(last) if last else None,
        }
        write_json(folder / f"{kind}.json", cost)
        fit.remove_checkpoints()

    def _build(self, method: Method, seed: int) -> Trainee:
        return build_network(method, self.budget, seed, self.sizes, self.out / "bases").to(
            self.device
        )

    def _plan(
        self,
        method: Method,
        network: Trainee,
        tables: Mapping[str, FlopTable],
        seed: int,
        steps: int | None = None,
        flops: float = math.inf,
    ) -> Plan:
        """What a run trains and on what; a base is pre-trained on the source domain."""
        config = method.config(self.budget, seed, steps)
        store = self.source if method.name.startswith("pretrain-") else self.train
        batches = EqualLengthBatches if method.dual_mask else PaddedBatches
        builder = batches(store, config, build_objective(config.objective))
        return Plan(method, config, network, builder, tables, flops)

    def findings(self, jobs: Sequence[Job]) -> Findings:
        """What there is so far."""
        path = self.out / "flops.json"
        known = read_json(path, "table of FLOPs") if path.is_file() else {}
        return Findings(
            out=self.out,
            budget=self.budget,
            domains=self.domains,
            scorer=self.scorer,
            jobs=jobs,
            results={job.name: found for job in jobs if (found := self.result(job)) is not None},
            bases={
                path.stem: read_json(path) for path in sorted((self.out / "bases").glob("*.json"))
            },
            flops={
                name: {stage: FlopTable(**values) for stage, values in stages.items()}
                for name, stages in known.items()
            },
        )
