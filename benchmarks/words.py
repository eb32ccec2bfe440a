"""Do words move it? Everyday words asked of stills, and verbs of the grammar.

`words`: phrases of everyday.txt, each with the kinds of motion that a person would accept for it,
written down beforehand; what frames do is told by plain rules on their affine motion (`_kinds`).

`words --verbs`: every verb that training draws is asked of stills by its plainest caption. What
comes out is held against the exact motions of all verbs (three amounts, three speeds, both sides):
the nearest one says which verb was done. Chance is one in as many as there are verbs.

"As shipped": words are read and done by the grammar, as every command does; the other rows are the
motion network alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import Table, say
from rdtf.models.matching import grid_positions
from rdtf.models.motion_latents import (
    DEFORMS,
    GRID,
    affine_of_latents,
    alpha_box,
    backward_flow,
    backward_warp,
    deformation,
    flow_of_latents,
    linear_part,
)
from rdtf.sampling.moving import Motion, named_motion, outline, sample_motion
from rdtf.synthetic.grammar import MotionDraw, motion_parameters, shown_motion, within_canvas
from rdtf.synthetic.verbs import TRAINED, VERBS
from rdtf.synthetic.words import idle_motion, motion_of

_EVERYDAY = Path(__file__).with_name("everyday.txt")
_FRAMES, _STEP_MS = 8, 100.0
_AMOUNTS, _SPEEDS, _SEEDS = (0.5, 1.0, 1.5), (0.55, 1.0, 1.8), (0.0, 0.33, 0.66)


@dataclass(frozen=True)
class Words:
    """Share of verbs that are recognised in what the model makes of them."""

    model: Path | None = None
    """A saved pipeline with a motion network; default: the model that ships."""
    stills: Path | None = None
    """A folder of stills; default: synthetic ones that no training has seen."""
    count: int = 6
    """How many stills."""
    seed: int = 0
    verbs: bool = False
    """Verbs of the grammar instead of everyday words."""
    rows: tuple[str, ...] = ("as shipped", "network", "untrained")
    """Which rows to measure."""

    def run(self) -> Table:
        """Ask every still: as shipped, of the network alone, and of it untrained."""
        from rdtf import StickerPipeline
        from rdtf.evaluation.evaluate import untrained_copy

        pipe = StickerPipeline.from_pretrained(self.model)
        pipe.set_progress_bar_config(disable=True)
        pictures, names = self._stills(pipe.canvas)
        models = {"as shipped": None, "network": pipe, "untrained": untrained_copy(pipe, self.seed)}
        models = {row: models[row] for row in self.rows}
        if self.verbs:
            return self._recognised(models, pictures, names)
        return self._everyday(models, pictures)

    def _everyday(self, models: dict[str, Any], pictures: Tensor) -> Table:
        """Share of phrases whose motion a person would accept."""
        asked = _everyday_phrases()
        rows, scores = [], {}
        for row, model in models.items():
            found: dict[str, list[tuple[float, ...]]] = {"held out": [], "built with": []}
            few = model is not None  # a network takes seconds for each
            for still in pictures[: 2 if few else None]:
                say(f"{row}: a still")
                for words, accepted, part in asked[:: 4 if few else 1]:
                    motion = _motion(model, still, words, self.seed)
                    found[part].append(_judged(motion, still, accepted))
            means = {part: np.mean(values, axis=0) for part, values in found.items()}
            both = np.mean([value for values in found.values() for value in values], axis=0)
            scores[row] = {part: float(mean[0]) for part, mean in means.items()}
            rows.append(
                [row, f"{means['held out'][0]:.2f}", f"{means['built with'][0]:.2f}"]
                + [f"{value:.3f}" for value in both[1:]]
            )
        return Table(
            f"{len(asked)} everyday phrases, {len(pictures)} stills, seed {self.seed}",
            ["", "as expected, held out", "built with", "leaves the canvas", "folded area",
             "stands still or leaps, no motion named"],
            rows,
            {"as expected": scores},
            ["8 frames of 100 ms; leaving: of phrases that do not say so",
             "networks: every 4th phrase, two stills"],
        )  # fmt: skip

    def _recognised(self, models: dict[str, Any], pictures: Tensor, names: list[str]) -> Table:
        """Share of verbs that are recognised."""
        templates = [_templates(still) for still in pictures]
        shares = {}
        for row, model in models.items():
            hits = dict.fromkeys(TRAINED, 0.0)
            for still, name, known in zip(pictures, names, templates, strict=True):
                say(f"{row}: {name or 'a still'}")
                for verb in TRAINED:
                    words = f"{name} {VERBS[verb].gerunds[0]}".strip()
                    motion = _motion(model, still, words, self.seed)
                    flow = flow_of_latents(motion.latents, motion.centre)[0, 1:]
                    hits[verb] += (_nearest(flow, still, known) == verb) / len(pictures)
            shares[row] = hits
        rows = [[verb, *(f"{shares[row][verb]:.2f}" for row in shares)] for verb in sorted(TRAINED)]
        means = {row: float(np.mean(list(hits.values()))) for row, hits in shares.items()}
        rows.append(["mean", *(f"{mean:.2f}" for mean in means.values())])
        return Table(
            f"verbs recognised, {len(pictures)} stills x {len(TRAINED)} verbs, seed {self.seed}",
            ["verb", *shares],
            rows,
            {"mean": means, "verbs": shares},
            [f"chance {1 / len(TRAINED):.2f}; default steps and guidance"],
        )

    def _stills(self, canvas: int) -> tuple[Tensor, list[str]]:
        from rdtf.data.listing import collect_folders
        from rdtf.sampling.moving import to_pixels
        from rdtf.stickers import Sticker
        from rdtf.synthetic.characters import SyntheticStickers

        if self.stills is None:
            makers = SyntheticStickers(seed=90_001, count=self.count * 5, canvas=canvas)
            clips = [makers[index * 5] for index in range(self.count)]
            names = [f"{makers.describe(index * 5).kind}" for index in range(self.count)]
        else:
            items = collect_folders([self.stills])[0][: self.count]
            clips = [Sticker.load(item.path) for item in items]
            names = [item.captions[0] if item.captions else "" for item in items]
        frames = np.concatenate([clip.select([0]).fit_canvas(canvas).frames for clip in clips])
        return to_pixels(frames), names


def _motion(pipe: Any, still: Tensor, words: str, seed: int) -> Motion:
    """Motion of 8 frames, the first of which is the still; `pipe` None = by the grammar."""
    generator = torch.Generator().manual_seed(seed)
    times_ms = np.arange(_FRAMES) * _STEP_MS
    if pipe is None:
        draw = motion_of(words) or idle_motion()
        return named_motion(draw, still, 0, times_ms, False, generator)
    options = pipe.sampling_defaults["generation"]
    motion = sample_motion(
        pipe.motion,
        pipe.scheduler,
        still.expand(_FRAMES, -1, -1, -1),
        torch.arange(_FRAMES) == 0,
        0,
        torch.from_numpy(times_ms),
        pipe.text_encoders.encode([words]),
        ([], []),
        num_inference_steps=options.num_inference_steps,
        guidance_scale=options.guidance_scale,
        generator=generator,
    )
    return motion.kept_in_canvas(still)


def _everyday_phrases() -> list[tuple[str, set[str], str]]:
    """Phrases, the motions that are accepted for each, and which part of the list it is in."""
    part, found = "", []
    for line in _EVERYDAY.read_text("utf-8").splitlines():
        if line.startswith("["):
            part = line.strip("[]")
        elif "|" in line and not line.startswith("#"):
            words, accepted = line.split("|")
            found.append((words.strip(), set(accepted.split()), part))
    return found


# Kinds of motion with which a thing may leave the canvas.
_AWAY = {"rise", "drop", "left", "right", "grow", "gone", "arrive"}


def _judged(motion: Motion, still: Tensor, accepted: set[str]) -> tuple[float, ...]:
    """As expected; leaves though it need not; share of folded cells; wild where none is named."""
    points = outline(still)
    affine = affine_of_latents(motion.latents[0, :, :6]).double().numpy()
    opacity = np.ones(_FRAMES) if motion.opacity is None else motion.opacity.numpy()
    centre = motion.centre[0].numpy()
    moved = _moved(affine, points, centre)
    kinds = _kinds(affine, opacity, moved, points)
    beyond = np.abs(moved).max((1, 2)) - max(1.0, float(np.abs(points).max()))
    leaves = float(beyond.max() > 0.03) if not accepted & _AWAY else 0.0
    flow = flow_of_latents(motion.latents, motion.centre, (32, 32))[0, 1:]
    places = flow + grid_positions(32, 32, flow)
    across, down = places.diff(dim=3)[:, :, :-1], places.diff(dim=2)[:, :, :, :-1]
    folded = (across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0] < 0).float().mean()
    none_named = accepted == {"calm", "still"}
    wild = float(none_named and "calm" not in kinds)
    return float(bool(kinds & accepted)), leaves, float(folded), wild


def _moved(affine: np.ndarray, points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Where points of the still `[n, 2]` are in each frame, `[F, n, 2]`."""
    linear = linear_part(torch.from_numpy(affine)).numpy()
    return (points - centre) @ linear.swapaxes(1, 2) + (centre + affine[:, :2])[:, None]


def _kinds(
    affine: np.ndarray, opacity: np.ndarray, moved: np.ndarray, points: np.ndarray
) -> set[str]:
    """What a clip does, see everyday.txt; affine `[F, 6]`, points of the still and where they are.

    Units: 2 = the canvas.
    """
    x, y = moved.mean(1).T - points.mean(0)[:, None]
    turn, log_x, log_y, shear = affine.T[2:]
    far = np.linalg.norm(moved - points, axis=2).max(1)
    inside = (np.abs(moved) <= 1.02).all(2).mean(1)
    seen = opacity * np.exp(np.minimum(log_x + log_y, 0)) * inside

    def returns(series: np.ndarray, least: float) -> bool:
        size = np.abs(series)
        return bool(size.max() >= least and size[size.argmax() :].min() <= 0.5 * size.max())

    def both_ways(series: np.ndarray, least: float) -> bool:
        return bool(np.ptp(series) >= least and min(series.max(), -series.min()) >= 0.25 * least)

    def turns(series: np.ndarray) -> int:
        steps = np.diff(series)
        steps = steps[np.abs(steps) > 0.008]
        return int((steps[1:] * steps[:-1] < 0).sum())

    size = (log_x + log_y) / 2
    is_kind = {
        "still": far.max() < 0.006 and opacity.min() > 0.99,
        "calm": 0.006 <= far.max() < 0.22 and opacity.min() > 0.9,
        "hop": y.min() <= -0.05 and returns(np.minimum(y, 0), 0.05),
        "duck": y.max() >= 0.25 and returns(np.maximum(y, 0), 0.25),
        "rise": y[-1] <= -0.25,
        "drop": y[-1] >= 0.25,
        "left": x[-1] <= -0.12,
        "right": x[-1] >= 0.12,
        "sides": any(both_ways(s, w) for s, w in ((x, 0.08), (turn, 0.15), (shear, 0.15))),
        "spin": np.abs(turn).max() >= 5,
        "lie": 0.9 <= abs(turn[-1]) <= 2.2,
        "grow": size[-1] >= 0.2,
        "shrink": size[-1] <= -0.35,
        "droop": log_y[-1] <= -0.12 or (far.max() < 1 and 0.1 <= abs(turn[-1]) < 0.9),
        "throb": returns(log_x, 0.06) or returns(log_y, 0.06),
        "shiver": max(turns(s) for s in (x, y, turn)) >= 4,
        "lunge": returns(turn, 0.12) or returns(x, 0.12),
        "flash": opacity.min() <= 0.7 and opacity[opacity.argmin() :].max() >= opacity.min() + 0.2,
        "gone": seen[-1] < 0.3,
        "arrive": (seen[1] < 0.5 or far[1] > 0.5) and far[-1] < 0.15 and seen[-1] > 0.8,
    }
    return {kind for kind, is_so in is_kind.items() if is_so}


def _templates(still: Tensor) -> tuple[Tensor, list[str]]:
    """Exact flows of all verbs, as trained on and as shown, `[K, F − 1, 2, h, w]`, and which verb
    each is."""
    box, points = alpha_box((still[None, 3] + 1) / 2)[0], outline(still)
    times_ms, flows, verbs = np.arange(_FRAMES) * _STEP_MS, [], []
    middle = box[:2].expand(_FRAMES, 2)
    for verb in (VERBS[name] for name in TRAINED):
        for amount in _AMOUNTS:
            for speed in _SPEEDS:
                for side in (-1, 1) if verb.sided else (1,):
                    draw = MotionDraw(
                        (verb.name,), amount_factor=amount, speed_factor=speed, side=side
                    )
                    trained = motion_parameters(draw, times_ms, _FRAMES * _STEP_MS, box.numpy())
                    shown, bent, _ = shown_motion(draw, times_ms, box.double().numpy())
                    shown = within_canvas(draw, shown, points, box[:2].double().numpy())
                    for affine, strength in (trained, (shown, bent)):
                        parameters = torch.from_numpy(affine).float()
                        flow = backward_flow(parameters, middle, GRID, GRID)
                        for seed in _SEEDS if verb.deform == "drip" else (0.0,):
                            added = _deformed(flow, verb.deform, strength, seed, box)
                            flows.append((flow + added)[1:])
                            verbs.append(verb.name)
    return torch.stack(flows), verbs


def _deformed(flow: Tensor, deform: str, strength: np.ndarray, seed: float, box: Tensor) -> Tensor:
    if not deform:
        return torch.zeros_like(flow)
    still = (flow + grid_positions(GRID, GRID, flow))[None]
    kind = torch.tensor([DEFORMS.index(deform)])
    amount = torch.from_numpy(strength).float()[None]
    return deformation(still, kind, amount, torch.tensor([seed]), box[None])[0]


def _nearest(flow: Tensor, still: Tensor, known: tuple[Tensor, list[str]]) -> str:
    """The verb whose motion is nearest, where either of the two holds something."""
    templates, verbs = known
    alpha = still[None, 3:]

    def cover(flows: Tensor) -> Tensor:
        small = F.adaptive_avg_pool2d(alpha, 2 * GRID).expand(len(flows), -1, -1, -1)
        return ((backward_warp(small, flows)[:, 0] + 1) / 2).clamp(0, 1)

    weight = torch.maximum(
        cover(templates.flatten(0, 1)).unflatten(0, templates.shape[:2]), cover(flow)[None]
    )
    difference = (_in_logs(templates) - _in_logs(flow)).abs().sum(2)
    distance = (difference * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    return verbs[int(distance.argmin())]


def _in_logs(flow: Tensor) -> Tensor:
    return flow.sign() * (flow.abs() * 64).log1p()
