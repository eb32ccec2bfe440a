"""One network on all held-out clips and tasks: sampled in batches, scored on hidden frames.

Every score is a number per clip, set distances too (`rdtf.evaluation.sets.clip_shares`): so all of
them are averaged, paired and resampled in one way, and a result is a few kilobytes of JSON.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdtf.evaluation.baselines import Baseline
from rdtf.evaluation.evaluate import noise_seed
from rdtf.evaluation.metrics import METRICS, Metric, score_hidden
from rdtf.evaluation.sets import (
    FeatureScale,
    WordClassifier,
    clip_features,
    clip_maps,
    clip_shares,
    pair_terms,
)
from rdtf.evaluation.tasks import evaluation_tasks
from rdtf.method.objective import Objective
from rdtf.models.conditions import Conditions
from rdtf.models.representation import Representation
from rdtf.research.adapters import FrameSimilarityPrior, sample_with_prior
from rdtf.research.comparison.clips import TASKS, HeldOutClip, batches_of, conditions
from rdtf.research.comparison.methods import Method
from rdtf.research.comparison.networks import Trainee
from rdtf.research.comparison.settings import Budget
from rdtf.sampling.sampling import sample
from rdtf.sampling.schedulers import set_timesteps
from rdtf.stickers import Sticker
from rdtf.training.config import TrainConfig
from rdtf.training.presets import build_scheduler

SET_DISTANCE, MOTION_DISTANCE, TEXT = "set_distance", "motion_set_distance", "text_agreement"
_PIXEL_SCORES = ("psnr", "ssim", "line_distance", "motion_ratio")
COMPARED = {
    **{name: METRICS[name] for name in _PIXEL_SCORES},
    SET_DISTANCE: Metric("set distance", "lower", 3, "unbiased squared MMD on random convolutions"),
    MOTION_DISTANCE: Metric(
        "motion set distance", "lower", 3, "the same, of changes in time alone"
    ),
    TEXT: Metric("text agreement", "higher", 3, "how often the caption suits better than others"),
}
_MOST_MOTION = 4.0  # one nearly still clip must not rule the mean of the ratios

# task → metric → a number for each held-out clip
Scores = dict[str, dict[str, list[float | None]]]
# (task, index of the clip) → what was made
Made = Mapping[tuple[str, int], Sticker]


class Judge:
    """Scores what was made for the held-out clips."""

    def __init__(self, clips: Sequence[HeldOutClip], training: Sequence[Sticker]) -> None:
        """training: true clips that scale the set distances and teach words to the classifier."""
        self.clips = clips
        self._captions = [clip.truth.captions for clip in clips]
        maps = [clip_maps(sticker) for sticker in training]
        true_maps = [clip_maps(clip.truth) for clip in clips]
        self._scales: dict[tuple[str, bool], FeatureScale] = {}
        self._truth: dict[tuple[str, bool], np.ndarray] = {}
        self._words: dict[str, WordClassifier] = {}
        for task in TASKS:
            known = [evaluation_tasks(m.num_frames)[task] for m in maps]
            true_known = [clip.known(task) for clip in clips]
            for motion_only in (False, True):
                rows = _features(zip(maps, known, strict=True), motion_only)
                scale = self._scales[task, motion_only] = FeatureScale.of(rows)
                truth = _features(zip(true_maps, true_known, strict=True), motion_only)
                self._truth[task, motion_only] = scale(truth)
                if not motion_only:
                    captions = [sticker.captions for sticker in training]
                    self._words[task] = WordClassifier.of(scale(rows), captions)

    def __call__(self, made: Made, captions: Sequence[Sequence[str]] | None = None) -> Scores:
        """captions: others than the clips' own, to see what the classifier says of them."""
        scores: Scores = {}
        for task in TASKS:
            results = [made[task, index] for index in range(len(self.clips))]
            known = [clip.known(task) for clip in self.clips]
            pairs = list(zip((clip_maps(result) for result in results), known, strict=True))
            by_clip = [
                score_hidden(clip.truth, result, frames)
                for clip, result, frames in zip(self.clips, results, known, strict=True)
            ]
            found = {name: np.array([row[name] for row in by_clip]) for name in _PIXEL_SCORES}
            found["motion_ratio"] = np.minimum(found["motion_ratio"], _MOST_MOTION)
            for name, motion_only in ((SET_DISTANCE, False), (MOTION_DISTANCE, True)):
                rows = self._scales[task, motion_only](_features(pairs, motion_only))
                found[name] = clip_shares(pair_terms(rows, self._truth[task, motion_only]))
                if not motion_only:
                    said = self._captions if captions is None else captions
                    found[TEXT] = self._words[task].agreement(rows, said)
            scores[task] = {name: list(map(_rounded, found[name])) for name in COMPARED}
        return scores


def _features(pairs: Iterable[tuple[Any, Sequence[int]]], motion_only: bool) -> np.ndarray:
    return np.stack([clip_features(m, known, motion_only=motion_only) for m, known in pairs])


def _rounded(value: float) -> float | None:
    """Four significant digits; JSON has no NaN."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


@dataclass(frozen=True)
class Sampler:
    """Makes the held-out clips again with a network.

    Attributes:
        text_widths: widths of the token states.
        check: called between batches; may raise to leave.
    """

    clips: Sequence[HeldOutClip]
    representation: Representation
    text_widths: tuple[int, ...]
    budget: Budget
    device: torch.device
    check: Callable[[], None] = lambda: None

    @property
    def batch_size(self) -> int:
        return 8 if self.device.type == "cpu" else 32

    def __call__(
        self, method: Method, network: Trainee, objective: Objective, config: TrainConfig, seed: int
    ) -> tuple[dict[tuple[str, int], Sticker], float]:
        """Every clip in every task, and the seconds that one took.

        The noise of a clip depends on (seed, clip, task) and on nothing else: all methods start
        from the same.
        """
        scheduler = build_scheduler(config)
        made: dict[tuple[str, int], Sticker] = {}
        started = time.monotonic()
        for task in TASKS:
            for indices, clips in batches_of(self.clips, task, self.batch_size):
                self.check()
                told = conditions(clips, task, self.text_widths, self.device, network.pad_to)
                noise = _noise(clips, task, seed, told.clean.shape).to(self.device)
                latents = _sample(
                    method.prior, network, objective, scheduler, told, noise, self.budget, seed
                )
                for index, clip, latent in zip(indices, clips, latents, strict=True):
                    made[task, index] = self._sticker(clip, latent, clip.known(task))
        return made, (time.monotonic() - started) / len(made)

    def _sticker(self, clip: HeldOutClip, latents: Tensor, known: Sequence[int]) -> Sticker:
        """Latents `[C, F, h, w]` → the clip, its known frames as they were given."""
        pixels = self.representation.decode(latents[:, : clip.num_frames].transpose(0, 1))
        pixels = ((pixels.float().clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).cpu().numpy()
        made = Sticker.from_premultiplied(pixels, clip.truth.durations_ms)
        frames = made.frames.copy()
        frames[list(known)] = clip.truth.frames[list(known)]
        return made.replace(frames=frames)


def make_baseline(clips: Sequence[HeldOutClip], row: Baseline) -> dict[tuple[str, int], Sticker]:
    """As `Sampler`, for a row that costs nothing."""
    return {
        (task, index): row(clip.truth, clip.known(task))
        for task in TASKS
        for index, clip in enumerate(clips)
    }


def _noise(clips: Sequence[HeldOutClip], task: str, seed: int, shape: tuple[int, ...]) -> Tensor:
    """Frame by frame, so that padding a clip changes nothing about its own frames."""
    _, channels, frames, height, width = shape
    rows = []
    for clip in clips:
        generator = torch.Generator().manual_seed(noise_seed(seed, f"{clip.name}/{task}"))
        noise = torch.randn(frames, channels, height, width, generator=generator)
        rows.append(noise.transpose(0, 1))
    return torch.stack(rows)


def _sample(
    prior: FrameSimilarityPrior | None,
    network: Any,
    objective: Objective,
    scheduler: Any,
    told: Conditions,
    noise: Tensor,
    budget: Budget,
    seed: int,
) -> Tensor:
    """Latents, with as many network evaluations for every method."""
    steps = budget.sampling_steps
    if prior is None:
        return sample(network, objective, scheduler, told, noise, num_inference_steps=steps)
    return sample_with_prior(
        network,
        objective,
        scheduler,
        told,
        noise,
        prior,
        generator=torch.Generator().manual_seed(noise_seed(seed, "prior")),
        num_inference_steps=_steps_for(scheduler, prior, steps),
    )


def _steps_for(scheduler: Any, prior: FrameSimilarityPrior, wanted: int) -> int:
    """Steps of the whole schedule of which `wanted` lie at or below the prior's start."""
    limit = prior.start_t * float(scheduler.config.num_train_timesteps)
    for steps in range(wanted, 20 * wanted + 20):
        set_timesteps(scheduler, steps)
        if int((scheduler.timesteps <= limit + 1e-4).sum()) >= wanted:
            return steps
    return wanted
