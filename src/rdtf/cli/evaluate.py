"""`rdtf evaluate`: scores on hidden frames, beside the naive rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional


@dataclass
class Evaluate:
    """Score a model on held-out clips: PSNR, SSIM and line distance of the hidden frames.

    Two naive methods stand beside it: repeat the nearest given frame, and blend the two nearest.
    """

    model: Positional[Path]
    """Run directory of `rdtf train`, or a saved pipeline."""
    data: Path
    """Training set whose validation split is scored."""
    split: Literal["val", "train"] = "val"
    """Which split."""
    limit: int | None = 60
    """At most so many clips, spread over the split; 0 = all."""
    steps: int = 20
    """Sampling steps."""
    guidance_scale: float = 1.0
    """Text guidance; 1 = off."""
    seed: int = 0
    """Settles the noise of every clip and task."""
    report: Path | None = None
    """Also write an HTML report with examples."""
    sheet: Path | None = None
    """Also write examples, all frames side by side, to this PNG."""
    json: bool = False
    """Print all scores as JSON."""

    def run(self) -> None:
        from rdtf.cli.output import check_output, progress_bar, show
        from rdtf.evaluation.held_out import held_out_stickers, score_model
        from rdtf.training.run import load_pipeline

        if self.report is not None:
            check_output(self.report, (".html",))
        if self.sheet is not None:
            check_output(self.sheet, (".png",))
        pipeline = load_pipeline(self.model)
        stickers = held_out_stickers(self.data, pipeline, self.split)
        evaluation = score_model(
            pipeline,
            stickers,
            limit=self.limit or None,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance_scale,
            seed=self.seed,
            progress=progress_bar("evaluate"),
            num_examples=2 if self.report or self.sheet else 0,
        )
        if self.report is not None:
            from rdtf.evaluation.report import write_report

            write_report(
                self.report,
                title=f"Evaluation of {self.model}",
                examples=evaluation.examples,
                tables=[evaluation.score_table(), evaluation.comparison_table()],
            )
        if self.sheet is not None:
            from rdtf.evaluation.examples import save_example_sheet

            save_example_sheet(evaluation.examples, self.sheet)
        show(evaluation.to_dict(), self.json, evaluation.table())
