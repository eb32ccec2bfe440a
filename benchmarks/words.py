"""Do words move it? Verbs asked of a still, and the verb that its motion is most like.

Every verb of the motion grammar is asked of stills by its plainest caption. What comes out is held
against the exact motions of all verbs (three amounts, three speeds, both sides): the nearest one
says which verb was done. Chance is one in as many as there are verbs. "As shipped": words of the
grammar are read and done exactly, as every command does; the others are the motion network alone.
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
    alpha_box,
    backward_flow,
    backward_warp,
    deformation,
    flow_of_latents,
)
from rdtf.synthetic.grammar import VERBS, MotionDraw, motion_parameters

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

    def run(self) -> Table:
        """Ask every verb of every still: as shipped, of the network alone, and of it untrained."""
        from rdtf import StickerPipeline
        from rdtf.evaluation.evaluate import untrained_copy

        pipe = StickerPipeline.from_pretrained(self.model)
        pipe.set_progress_bar_config(disable=True)
        pictures, names = self._stills(pipe.canvas)
        templates = [_templates(alpha_box((still[None, 3] + 1) / 2)[0]) for still in pictures]
        fresh = untrained_copy(pipe, self.seed)
        shares = {}
        for row, model in (("as shipped", None), ("network", pipe), ("untrained", fresh)):
            hits = dict.fromkeys(VERBS, 0.0)
            for still, name, known in zip(pictures, names, templates, strict=True):
                say(f"{row}: {name or 'a still'}")
                for verb in VERBS:
                    words = f"{name} {VERBS[verb].gerunds[0]}".strip()
                    flow = (
                        _read(still, words, self.seed)
                        if model is None
                        else _made(model, still, words, self.seed)
                    )
                    hits[verb] += (_nearest(flow, still, known) == verb) / len(pictures)
            shares[row] = hits
        rows = [[verb, *(f"{shares[row][verb]:.2f}" for row in shares)] for verb in sorted(VERBS)]
        means = {row: float(np.mean(list(hits.values()))) for row, hits in shares.items()}
        rows.append(["mean", *(f"{mean:.2f}" for mean in means.values())])
        return Table(
            f"verbs recognised, {len(pictures)} stills x {len(VERBS)} verbs, seed {self.seed}",
            ["verb", *shares],
            rows,
            {"mean": means, "verbs": shares},
            [f"chance {1 / len(VERBS):.2f}; default steps and guidance"],
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


def _made(pipe: Any, still: Tensor, words: str, seed: int) -> Tensor:
    """Flow of the frames after the still, `[F − 1, 2, h, w]`."""
    from rdtf.sampling.moving import sample_motion

    options = pipe.sampling_defaults["generation"]
    given = torch.arange(_FRAMES) == 0
    motion = sample_motion(
        pipe.motion,
        pipe.scheduler,
        still.expand(_FRAMES, -1, -1, -1),
        given,
        0,
        torch.arange(_FRAMES) * _STEP_MS,
        pipe.text_encoders.encode([words]),
        ([], []),
        num_inference_steps=options.num_inference_steps,
        guidance_scale=options.guidance_scale,
        generator=torch.Generator().manual_seed(seed),
    )
    return flow_of_latents(motion.latents, motion.centre)[0, 1:]


def _read(still: Tensor, words: str, seed: int) -> Tensor:
    """Flow of the frames after the still by the grammar, `[F − 1, 2, h, w]`; 0 if it has no such
    words."""
    from rdtf.sampling.moving import named_motion
    from rdtf.synthetic.phrases import motion_of

    draw, generator = motion_of(words), torch.Generator().manual_seed(seed)
    if draw is None:
        return torch.zeros(_FRAMES - 1, 2, GRID, GRID)
    times_ms = np.arange(_FRAMES) * _STEP_MS
    motion = named_motion(draw, still, 0, times_ms, False, generator)
    return flow_of_latents(motion.latents, motion.centre)[0, 1:]


def _templates(box: Tensor) -> tuple[Tensor, list[str]]:
    """Exact flows of all verbs, `[K, F − 1, 2, h, w]`, and which verb each is."""
    times_ms, flows, verbs = np.arange(_FRAMES) * _STEP_MS, [], []
    middle = box[:2].expand(_FRAMES, 2)
    for verb in VERBS.values():
        for amount in _AMOUNTS:
            for speed in _SPEEDS:
                for side in (-1, 1) if verb.sided else (1,):
                    draw = MotionDraw(
                        (verb.name,), amount_factor=amount, speed_factor=speed, side=side
                    )
                    affine, strength = motion_parameters(
                        draw, times_ms, _FRAMES * _STEP_MS, box.numpy()
                    )
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
