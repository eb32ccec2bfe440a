"""Draw the figures of the docs from the code itself: its masks, its schedules, a tiny run.

    python docs/figures.py                 all of them, into docs/images (a minute on one core)
    python docs/figures.py --steps 20      a shorter run behind them

Needs matplotlib (extra `docs`).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from rdtf.data.prepare import prepare
from rdtf.method.curriculum import MODES, Curriculum, CurriculumConfig
from rdtf.method.objective import build_objective
from rdtf.method.tasks import FAMILIES, TASKS, condition_mask
from rdtf.models.latents import MOTION_CHANNELS, flow_of_motion, shape_noise
from rdtf.models.matching import warp
from rdtf.models.sti import BranchFusion
from rdtf.sampling.windows import plan_windows
from rdtf.stickers import Sticker
from rdtf.synthetic.characters import SyntheticStickers
from rdtf.training.config import TrainConfig, override
from rdtf.training.presets import build_scheduler, preset
from rdtf.training.run import load_pipeline
from rdtf.training.train import train

IMAGES = Path(__file__).with_name("images")
INK, PALE = "#23272f", "#e7eaf0"
FAMILY_COLORS = {"generation": "#d1495b", "interpolation": "#2e7dab", "prediction": "#3c8d5a"}
KNOWN, MADE, HELP = "#2e7dab", "#f0a63a", "#fbe3bd"
TINY = {
    "canvas": 32,
    "max_frames": 8,
    "batch_size": 8,
    "engine.precision": "fp32",
    "engine.log_every": 2,
    "engine.save_every": 10_000,
    "engine.validate_every": 0,
    "engine.sample_every": 0,
    "engine.track": "none",
    "model.channels": (32, 64),
    "model.attention_levels": (1,),
    "model.attention_head_dim": 16,
    "model.embedding_dim": 64,
    "model.text_dim": 32,
    "model.sti_heads": 2,
    "model.sti_head_dim": 16,
    "optimizer.warmup_steps": 10,
    "optimizer.learning_rate": 2e-3,
}


# -------------------------------------------------------------------------------- the figures


def draw_tasks(path: Path, num_frames: int = 8, draws: int = 4) -> None:
    """Given frames of each task: a sticker with its hidden frames covered, and more draws below."""
    stickers = SyntheticStickers(seed=5, count=60, max_frames=num_frames)
    sticker = next(s for s in (stickers[i] for i in range(60)) if s.num_frames == num_frames)
    frames = sticker.fit_canvas(64).on_background((255, 255, 255))
    figure, axes = plt.subplots(2, 3, figsize=(11, 3.6), layout="constrained")
    for axis, task in zip(axes.flat, TASKS, strict=True):
        generator = np.random.default_rng(1)
        masks = [condition_mask(task, num_frames, generator) for _ in range(draws)]
        strip = np.concatenate(
            [f if given else _covered(f) for f, given in zip(frames, masks[0], strict=True)], axis=1
        )
        axis.imshow(strip, extent=(0, num_frames, 0, 1))
        for row, mask in enumerate(masks[1:]):
            for slot, given in enumerate(mask):
                axis.add_patch(_cell(slot, -0.45 * (row + 1), 0.4, KNOWN if given else PALE))
        axis.set(xlim=(0, num_frames), ylim=(-0.45 * (draws - 1) - 0.02, 1), aspect="equal")
        axis.set_title(task, fontsize=10, loc="left", color=INK)
        axis.axis("off")
    _save(figure, path)


def draw_curriculum(path: Path, run: Path) -> None:
    """Share of each family over the run, by mode; adaptive as the tiny run logged it."""
    figure, axes = plt.subplots(1, len(MODES), figsize=(11, 2.7), sharey=True, layout="constrained")
    progress = np.linspace(0, 1, 101)
    logged = _metrics(run)
    for axis, mode in zip(axes, MODES, strict=True):
        if mode == "adaptive":
            x = np.array([row["step"] for row in logged], float) / logged[-1]["step"]
            rows = [row["task_weights"] for row in logged]
        else:
            curriculum = Curriculum(CurriculumConfig(mode=mode))
            x, rows = progress, [curriculum.family_weights(p) for p in progress]
        totals = [sum(row[family] for family in FAMILIES) for row in rows]
        for family in FAMILIES:
            shares = [row[family] / total for row, total in zip(rows, totals, strict=True)]
            axis.plot(x, shares, color=FAMILY_COLORS[family], label=family, lw=1.6)
        axis.set_title(mode + (" (a run's log)" if mode == "adaptive" else ""), fontsize=10)
        axis.set(xlim=(0, 1), ylim=(0, 0.8), xlabel="progress of the run")
    axes[0].set_ylabel("share of the samples")
    axes[0].legend(fontsize=8, frameon=False)
    _save(figure, path)


def draw_sti(path: Path, pipeline: Any) -> None:
    """How much of the semantic branch every STI layer takes, over the steps of sampling."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
    frames = SyntheticStickers(seed=6, count=1, max_frames=8)[0]
    for axis, title, known in (
        (axes[0], "first frame given", [0]),
        (axes[1], "every 2nd frame given", [0, 2, 4, 6]),
    ):
        with _branch_weights(pipeline.denoiser) as weights:
            generator = torch.Generator().manual_seed(0)
            levels: list[float] = []
            pipeline.fill(
                frames.select([0] * 8) if frames.num_frames < 8 else frames.select(range(8)),
                known,
                num_inference_steps=12,
                generator=generator,
                callback_on_step_end=lambda _, step, timestep, tensors, levels=levels: (
                    levels.append(float(timestep) / 1000)
                ),
            )
        for index, (name, values) in enumerate(weights.items()):
            color = plt.get_cmap("viridis")(index / max(len(weights) - 1, 1) * 0.9)
            axis.plot(levels, values, color=color, lw=1.4, label=_place(name))
        axis.set_title(title, fontsize=10)
        axis.set(xlim=(1, 0), ylim=(0, 1), xlabel="noise level (sampling goes right)")
        axis.axhline(0.5, color=PALE, zorder=0)
    axes[0].set_ylabel("weight of the semantic branch")
    axes[1].legend(fontsize=6, frameon=False, ncol=2)
    _save(figure, path)


def draw_noise(path: Path, config: TrainConfig) -> None:
    """What a clip looks like at each level, how often it is trained, and how much it counts."""
    objective = build_objective(config.objective)
    figure = plt.figure(figsize=(11, 3.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    generator = np.random.default_rng(0)
    draws = [objective.draw_t(generator) for _ in range(20_000)]
    axis = left.subplots()
    axis.hist(draws, bins=50, density=True, color=PALE, label="drawn in training")
    levels = torch.linspace(0, 1, 101)
    axis.plot(levels, objective.loss_weight(levels), color=INK, lw=1.5, label="weight of its error")
    scheduler = build_scheduler(config)
    for steps, height in ((4, 0.12), (20, 0.05)):
        scheduler.set_timesteps(steps)
        at = scheduler.timesteps.float() / scheduler.config.num_train_timesteps
        axis.plot(at, [height] * len(at), "o", ms=3.5, label=f"{steps} steps of sampling")
    axis.set(xlim=(0, 1), xlabel="noise level", ylim=(0, 2.3))
    axis.legend(fontsize=8, frameon=False)
    _draw_noised(right, objective)
    _save(figure, path)


def draw_windows(path: Path) -> None:
    """Windows of a long clip, a long gap and loops, one row each, in their order."""
    cases = {
        "24 frames from text": ("." * 24, False),
        "key frames 0 and 23 given": ("x" + "." * 22 + "x", False),
        "every 2nd of 17 given": ("x." * 8 + "x", False),
        "loop of 8, first frame given": ("x" + "." * 7, True),
        "loop of 16 from text": ("." * 16, True),
        "12 frames, 4 more that close the loop": ("x" * 12 + "." * 4, True),
    }
    figure, axes = plt.subplots(2, 3, figsize=(11, 3.6), layout="constrained")
    for axis, (title, (text, loop)) in zip(axes.flat, cases.items(), strict=True):
        known = [letter == "x" for letter in text]
        _draw_windows(axis, known, loop)
        axis.set_title(title, fontsize=9, loc="left", color=INK)
        axis.axis("off")
    _save(figure, path)


# ------------------------------------------------------------------------------------- parts


def draw_motion(path: Path, draws: int = 3, frames: int = 5) -> None:
    """A still, and what the noise of motion latents makes of it: one row for each draw."""
    stickers = SyntheticStickers(seed=5, count=60, max_frames=8)
    still = stickers[7].select([0]).fit_canvas(128)
    pixels = torch.from_numpy(still.premultiplied() * 2 - 1).permute(0, 3, 1, 2)
    given = torch.zeros(draws, frames, dtype=torch.bool)
    given[:, 0] = True
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(draws, MOTION_CHANNELS, frames, 16, 16, generator=generator)
    flow = flow_of_motion(shape_noise(noise, given)).transpose(1, 2)
    flow[:, 0] = 0.0
    moved = warp(pixels.expand(draws, frames, -1, -1, -1), flow)
    figure, axes = plt.subplots(draws, 1, figsize=(2 * frames, 2 * draws), layout="constrained")
    for axis, row in zip(axes, moved, strict=True):
        premultiplied = ((row + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).numpy()
        shown = Sticker.from_premultiplied(premultiplied, [100] * frames)
        axis.imshow(np.concatenate(list(shown.on_background((255, 255, 255))), axis=1))
        axis.axis("off")
    _save(figure, path)


def _draw_noised(figure: Any, objective: Any) -> None:
    sticker = SyntheticStickers(seed=5, count=12, max_frames=8)[3].fit_canvas(64)
    clean = torch.from_numpy(sticker.premultiplied()[:1]) * 2 - 1
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    for axis, level in zip(figure.subplots(1, 5), (0, 0.25, 0.5, 0.75, 1), strict=True):
        noisy = objective.add_noise(clean, noise, torch.tensor([float(level)]))
        pixels = ((noisy[0] + 1) / 2).clamp(0, 1)
        opaque = pixels[..., :3] + 1 - pixels[..., 3:]
        axis.imshow(opaque.clamp(0, 1))
        axis.set_title(f"{level:g}", fontsize=9)
        axis.axis("off")


def _draw_windows(axis: Any, known: list[bool], loop: bool) -> None:
    done, total = list(known), len(known)
    steps = list(plan_windows(known, 8, loop))
    length = max([total, *(step.slots[-1] + 1 for step in steps)])
    for row, step in enumerate(steps):
        for slot in range(length):
            color = "none" if slot >= total else PALE
            if slot in step.slots:
                color = KNOWN if done[slot % total] else MADE if slot in step.make else HELP
            axis.add_patch(_cell(slot, -row, 0.7, color))
        for slot in step.make:
            done[slot % total] = True
    if length > total:
        axis.axvline(total - 0.05, color=INK, lw=0.8, ls=":")
    axis.set(xlim=(-0.2, length + 0.2), ylim=(0.2 - len(steps), 1))


def _cell(x: float, y: float, height: float, color: str) -> Any:
    return plt.Rectangle((x + 0.04, y), 0.88, height, color=color, lw=0)


def _covered(frame: np.ndarray) -> np.ndarray:
    return np.full_like(frame, 231) // 2 + frame // 8 + 88


@contextmanager
def _branch_weights(model: torch.nn.Module) -> Iterator[dict[str, list[float]]]:
    """Mean weight of the semantic branch at every pass, by layer."""
    weights: dict[str, list[float]] = defaultdict(list)

    def record(name: str) -> Any:
        return lambda module, inputs, output: weights[name].append(
            float(output.softmax(-1)[:, 0].mean())
        )

    handles = [
        module.weigh.register_forward_hook(record(name))
        for name, module in model.named_modules()
        if isinstance(module, BranchFusion)
    ]
    try:
        yield weights
    finally:
        for handle in handles:
            handle.remove()


def _place(name: str) -> str:
    """A layer's name without what all have in common."""
    return name.removesuffix(".fusion").replace(".sti", "").replace("temporal", "").strip(".")


def _metrics(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [row for row in rows if row["kind"] == "train"]


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=90)
    plt.close(figure)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def tiny_run(folder: Path, steps: int) -> Path:
    """A model of a few hundred thousand parameters on 200 synthetic stickers of 32 pixels."""
    data, run = folder / "data", folder / "run"
    prepare(SyntheticStickers(seed=0, count=200, max_frames=8), data, canvas=32, max_frames=8)
    train(tiny_config(steps), data, run, quiet=True)
    return run


def tiny_config(steps: int) -> TrainConfig:
    return override(preset("nano"), {**TINY, "steps": steps})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw the figures of the docs.")
    parser.add_argument("--steps", type=int, default=400, help="steps of the run behind them")
    parser.add_argument("--out", type=Path, default=IMAGES)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    draw_tasks(options.out / "tasks.png")
    draw_windows(options.out / "windows.png")
    draw_motion(options.out / "motion.png")
    draw_noise(options.out / "noise.png", preset("nano"))
    with tempfile.TemporaryDirectory() as folder:
        run = tiny_run(Path(folder), options.steps)
        draw_curriculum(options.out / "curriculum.png", run)
        draw_sti(options.out / "sti.png", load_pipeline(run))


if __name__ == "__main__":
    main()
