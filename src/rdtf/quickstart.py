"""The main job on the embedded default: make stickers, train, use, show. See `rdtf quickstart`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rdtf.data.dataset import PreparedDataset
from rdtf.data.prepare import prepare
from rdtf.errors import ConfigError
from rdtf.evaluation.evaluate import held_out_stickers, score_model
from rdtf.evaluation.report import write_report
from rdtf.evaluation.results import MODEL, Evaluation, Example, save_example_sheet
from rdtf.fileio import check_own_folder, ensure_folder, write_json
from rdtf.stickers import Sticker
from rdtf.synthetic.characters import SyntheticStickers
from rdtf.training.config import TrainConfig, override
from rdtf.training.device import default_device, device_name
from rdtf.training.presets import preset
from rdtf.training.run import CONFIG_FILE, load_config, load_pipeline
from rdtf.training.train import train
from rdtf.training.validation import run_curves

_MIN_MINUTES = 0.5
# What the parts take: scoring and the report in seconds at one minute and per minute after it.
_SCORING_SHARE = 0.14
_STICKERS_PER_MINUTE = 250
# Less time has no place for validation and samples of a model that has not learned anything yet.
_WATCHED_MINUTES = 3.0
_FOREVER = 10**6  # steps; the time ends the run
# Where things go is learned in minutes, how they look is not: given pixels are moved.
_SETTINGS: dict[str, Any] = {"learn": "motion", "data.still_share": 0.0}
# A young model adds errors with every step, so few are best; see docs/LOG.md.
_SAMPLING_STEPS = 4
_NUM_SHIPPED = 3  # stickers that the model that ships is shown on
_INTRO = """\
A compact video diffusion model ({parameters:.1f} M parameters), trained from scratch for \
{steps:,} steps of {batch} clips on {clips:,} synthetic stickers, completes stickers that it has \
never seen: their kind with that motion was held out. Given frames are marked; all others are made.

One model does every task. Only the frames that are given tell it which one to do: one \
(generation), every second or third (interpolation), the first or last half (prediction). It has \
learned motion: where the pixels of given frames go. Between given frames matching alone says so, \
trained or not."""
_NOTES = (
    "Scores are of hidden frames only, on white. The untrained row is the same network before its "
    "first step: what it scores, moving the given frames brings and not the training. The "
    "baselines repeat the nearest given frame, or blend the two nearest. PSNR rewards blur, so a "
    "blend scores well and looks like a double exposure; line distance (lower is better) follows "
    "the drawing's lines.",
    "Minutes on a CPU show the method learn, not what it can do. `rdtf train` goes on for as long "
    "as you like; without `learn=motion` it learns to draw, too.",
    "{machine}",
)


def quickstart(
    out: Path,
    *,
    minutes: float = 7.0,
    num_stickers: int | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Everything from nothing in about `minutes`: the report's path, scores and times.

    Steps that are done already are not done again, so that a second call goes on.
    """
    if not minutes >= _MIN_MINUTES:
        raise ConfigError(f"quickstart needs at least {_MIN_MINUTES} minutes, got {minutes}")
    if num_stickers is not None and num_stickers < 1:
        raise ConfigError(f"stickers is {num_stickers}; it must be at least 1")
    check_own_folder(out, "report.html", ("data", "run", "shipped.html"))
    ensure_folder(out)
    started = time.monotonic()
    deadline = started + minutes * 60

    # ------------------------------------------------------- the model that ships
    say("1/5 the model that ships: first pictures")
    shipped = _show_shipped(out / "shipped.html", seed)
    say(f"    {shipped}")

    # ------------------------------------------------------------------ stickers
    data, run = out / "data", out / "run"
    count = num_stickers or int(_STICKERS_PER_MINUTE * max(minutes, 1))
    if not (data / "dataset.json").is_file():
        say(f"2/5 making {count} synthetic stickers")
        prepare(
            SyntheticStickers(seed=seed, count=count, canvas=64, max_frames=12),
            data,
            canvas=64,
            overwrite=True,  # what is left of a shorter or longer quickstart
        )

    # --------------------------------------------------------------------- train
    scoring_seconds = max(minutes * 60 * _SCORING_SHARE, 12)
    config, is_new = _plan(run, minutes, seed), not (run / CONFIG_FILE).is_file()
    left = max(deadline - scoring_seconds - time.monotonic(), 10)
    say(f"3/5 training {config.preset} from scratch" + f" for {left:.0f} s" * is_new)
    result = train(config, data, run, max_seconds=left if is_new else None)

    # ----------------------------------------------------------------------- use
    say("4/5 generating, interpolating and predicting on held-out stickers")
    pipeline = load_pipeline(run)
    stickers = held_out_stickers(data, pipeline)
    evaluation = score_model(
        pipeline,
        stickers,
        limit=max(4, min(24, int(2 * minutes))),
        num_inference_steps=_SAMPLING_STEPS,
        seed=seed,
        num_examples=3,
    )

    # -------------------------------------------------------------------- report
    say("5/5 writing the report")
    report = write_report(
        out / "report.html",
        title="rdtf quickstart",
        intro=_INTRO.format(
            parameters=sum(p.numel() for p in pipeline.denoiser.parameters()) / 1e6,
            steps=result.step,
            batch=config.batch_size,
            clips=len(PreparedDataset(data)),
        ),
        examples=evaluation.examples,
        curves=run_curves(run),
        tables=[evaluation.score_table(), evaluation.comparison_table()],
        notes=[note.format(machine=_machine(result.step, result.seconds)) for note in _NOTES],
    )
    save_example_sheet(_one_per_family(evaluation.examples), out / "examples.png")
    write_json(out / "scores.json", evaluation.to_dict())
    return _summary(evaluation, report, result.step, time.monotonic() - started)


def _show_shipped(path: Path, seed: int) -> Path:
    """A page of what the model that ships makes of stickers that it has never seen."""
    pipeline = load_pipeline()
    makers = SyntheticStickers(seed=seed, count=_NUM_SHIPPED, canvas=pipeline.canvas, max_frames=8)
    stickers = [makers[index] for index in range(_NUM_SHIPPED)]
    evaluation = score_model(
        pipeline,
        stickers,
        tasks=("interpolation", "post_frame_prediction", "it2v"),
        seed=seed,
        num_examples=_NUM_SHIPPED,
        untrained=False,
    )
    drawn = _text_examples(pipeline, stickers, seed) if pipeline.draws else []
    return write_report(
        path,
        title="The model that ships",
        intro="Nothing was trained for this page: the model comes with the package. The first "
        "examples are made from their sentence alone: a still is drawn, then moved.",
        examples=[*drawn, *evaluation.examples],
    )


def _plan(run: Path, minutes: float, seed: int) -> TrainConfig:
    """A schedule that its time ends, or that of the run that is there already."""
    if (run / CONFIG_FILE).is_file():
        return load_config(run)
    watched = _FOREVER if minutes >= _WATCHED_MINUTES else 0  # before the first step and at the end
    config = override(preset("nano"), {"seed": seed, **_SETTINGS})
    engine = replace(config.engine, validate_every=watched, sample_every=watched, log_lines=False)
    return replace(config, steps=_FOREVER, engine=engine)


def _one_per_family(examples: Sequence[Example]) -> list[Example]:
    """An example each of interpolation, prediction and generation, of different clips if it can."""
    chosen: list[Example] = []
    for task in ("interpolation", "post_frame_prediction", "it2v"):
        found = [example for example in examples if example.task == task]
        chosen += found[len(chosen) % max(len(found), 1) :][:1]
    return chosen


def _text_examples(
    pipeline: Any, stickers: list[Sticker], seed: int, count: int = 2
) -> list[Example]:
    """Stickers from a caption alone, beside one that the caption was made for."""
    examples = []
    for index, truth in enumerate(stickers[:: max(len(stickers) // count, 1)][:count]):
        prompt = truth.captions[0] if truth.captions else ""
        made = pipeline(
            prompt,
            num_frames=truth.num_frames,
            generator=torch.Generator().manual_seed(seed + index),
        ).with_durations(truth.durations_ms)
        examples.append(Example("text to clip, nothing given", prompt, truth, (), {MODEL: made}))
    return examples


def _machine(steps: int, seconds: float) -> str:
    return (
        f"Machine: {device_name(default_device())}, torch {torch.__version__}; "
        f"this call trained for {seconds:.0f} s, the run is at step {steps}."
    )


def _summary(evaluation: Evaluation, report: Path, steps: int, seconds: float) -> dict[str, Any]:
    scores = {
        f"{row.task}/{row.method}": {name: value.mean for name, value in row.scores.items()}
        for row in evaluation.rows
    }
    return {"report": str(report), "steps": steps, "seconds": round(seconds, 1), "scores": scores}
