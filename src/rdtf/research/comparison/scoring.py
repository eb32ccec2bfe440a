"""One network on all held-out clips and tasks: sampled in batches, scored on hidden frames.

Every score is a number per clip, set distances too (`rdtf.evaluation.sets.clip_shares`): so all of
them are averaged, paired and resampled in one way, and a result is a few kilobytes of JSON. FVD
has no shares: every clip has the whole set's, and it decides nothing.

Whether a metric orders known corruptions is shown on the clips that it is used on: their hidden
frames are corrupted, at two strengths where there are strengths. A metric is valid for a corruption
if truth scores better than the mild one and the mild one better than the strong one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from rdtf.evaluation.baselines import Baseline
from rdtf.evaluation.evaluate import Features, noise_seed
from rdtf.evaluation.metrics import METRICS, PERCEPTUAL, Distance, Metric, score_hidden
from rdtf.evaluation.perceptual import frechet_distance
from rdtf.evaluation.sets import (
    FeatureScale,
    WordClassifier,
    clip_features,
    clip_maps,
    clip_shares,
    pair_terms,
)
from rdtf.evaluation.tasks import evaluation_tasks, hidden_frames
from rdtf.method.objective import Objective
from rdtf.models.conditions import Conditions
from rdtf.models.representation import Representation
from rdtf.research.adapters import FrameSimilarityPrior, sample_with_prior
from rdtf.research.comparison.clips import TASKS, HeldOutClip, batches_of, conditions
from rdtf.research.comparison.methods import Budget, Method
from rdtf.research.comparison.networks import Trainee
from rdtf.sampling.sampling import sample
from rdtf.sampling.schedulers import set_timesteps
from rdtf.stickers import Sticker
from rdtf.training.config import TrainConfig
from rdtf.training.presets import build_scheduler

SET_DISTANCE, MOTION_DISTANCE, TEXT = "set_distance", "motion_set_distance", "text_agreement"
_PIXEL_SCORES = ("psnr", "ssim", "line_distance", "motion_ratio")
LPIPS, KVD, FVD = PERCEPTUAL  # where their weights are there
COMPARED = {
    **{name: METRICS[name] for name in _PIXEL_SCORES},
    SET_DISTANCE: Metric("set distance", "lower", 3),
    MOTION_DISTANCE: Metric("motion set distance", "lower", 3),
    TEXT: Metric("text agreement", "higher", 3),
    **PERCEPTUAL,
}
_MOST_MOTION = 4.0  # one nearly still clip must not rule the mean of the ratios

# task → metric → a number for each held-out clip
Scores = dict[str, dict[str, list[float | None]]]
# (task, index of the clip) → what was made
Made = Mapping[tuple[str, int], Sticker]


class Judge:
    """Scores what was made for the held-out clips."""

    def __init__(
        self,
        clips: Sequence[HeldOutClip],
        training: Sequence[Sticker],
        lpips: Distance | None = None,
        i3d: Features | None = None,
    ) -> None:
        """training: true clips that scale the set distances and teach words to the classifier.
        lpips, i3d: for LPIPS, and for KVD and FVD of whole clips (`rdtf.evaluation.perceptual`)."""
        self.clips, self._lpips, self._i3d = clips, lpips, i3d
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
        if i3d is not None:
            self._true_videos = np.stack([i3d(clip.truth) for clip in clips])

    def __call__(self, made: Made) -> Scores:
        return {task: self._scores(task, made) for task in TASKS}

    def _scores(self, task: str, made: Made) -> dict[str, list[float | None]]:
        results = [made[task, index] for index in range(len(self.clips))]
        known = [clip.known(task) for clip in self.clips]
        by_clip = [
            score_hidden(clip.truth, result, frames, self._lpips)
            for clip, result, frames in zip(self.clips, results, known, strict=True)
        ]
        names = [name for name in COMPARED if name in by_clip[0]]
        found = {name: np.array([row[name] for row in by_clip]) for name in names}
        found["motion_ratio"] = np.minimum(found["motion_ratio"], _MOST_MOTION)
        pairs = list(zip((clip_maps(result) for result in results), known, strict=True))
        for name, motion_only in ((SET_DISTANCE, False), (MOTION_DISTANCE, True)):
            rows = self._scales[task, motion_only](_features(pairs, motion_only))
            found[name] = clip_shares(pair_terms(rows, self._truth[task, motion_only]))
            if not motion_only:
                found[TEXT] = self._words[task].agreement(rows, self._captions)
        if self._i3d is not None:
            videos = np.stack([self._i3d(result) for result in results])
            found[KVD] = clip_shares(pair_terms(videos, self._true_videos))
            found[FVD] = np.full(len(videos), frechet_distance(videos, self._true_videos))
        return {name: list(map(_rounded, found[name])) for name in COMPARED if name in found}

    def agreement_of_truth(self, task: str, captions: Sequence[Sequence[str]]) -> float:
        """What the classifier says of the true clips with these captions."""
        return _mean(self._words[task].agreement(self._truth[task, False], captions))


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


# ------------------------------------------------------------------------------ validity

# (the clip's premultiplied frames, hidden indices, another clip's frames, a generator) → frames
_Change = Callable[[np.ndarray, list[int], np.ndarray, np.random.Generator], np.ndarray]


def _blur(sigma: float) -> _Change:
    return lambda frames, *_: gaussian_filter(frames, sigma, axes=(1, 2))


def _speckle(sigma: float) -> _Change:
    def change(
        frames: np.ndarray, _: list[int], __: np.ndarray, draw: np.random.Generator
    ) -> np.ndarray:
        return np.clip(frames + sigma * draw.standard_normal(frames.shape, np.float32), 0, 1)

    return change


def _freeze(frames: np.ndarray, *_: object) -> np.ndarray:
    """Every frame is the first one."""
    return frames[:1].repeat(len(frames), axis=0)


def _shuffle(
    frames: np.ndarray, hidden: list[int], _: np.ndarray, draw: np.random.Generator
) -> np.ndarray:
    """The hidden frames in another order; a single one becomes the frame that differs most."""
    made = frames.copy()
    if len(hidden) < 2:
        far = np.abs(frames - frames[hidden[0]]).mean(axis=(1, 2, 3)).argmax()
        made[hidden] = frames[far]
        return made
    order = np.roll(draw.permutation(len(hidden)), 1)
    while (order == np.arange(len(hidden))).all():
        order = draw.permutation(len(hidden))
    made[hidden] = frames[np.array(hidden)[order]]
    return made


def _wrong_clip(frames: np.ndarray, _: list[int], other: np.ndarray, *__: object) -> np.ndarray:
    return other[np.linspace(0, len(other) - 1, len(frames)).round().astype(int)]


_CORRUPTIONS: dict[str, tuple[_Change, ...]] = {
    "blur": (_blur(0.5), _blur(1.5)),
    "noise": (_speckle(0.05), _speckle(0.2)),
    "freeze": (_freeze,),
    "shuffle": (_shuffle,),
    "wrong clip": (_wrong_clip,),
}
# Distances of sets do not see which clip is which; the classifier tells what is shown only.
_ALL = tuple(_CORRUPTIONS)
EXPECTED: dict[str, tuple[str, ...]] = {
    "psnr": _ALL,
    "ssim": _ALL,
    "line_distance": _ALL,
    SET_DISTANCE: ("blur", "noise", "freeze", "shuffle"),
    LPIPS: _ALL,
    KVD: ("blur", "noise", "freeze", "shuffle"),
    FVD: ("blur", "noise", "freeze", "shuffle"),
    MOTION_DISTANCE: ("noise", "freeze", "shuffle"),
    TEXT: ("wrong clip",),
}


def _corrupted(clips: Sequence[HeldOutClip], change: _Change) -> dict[tuple[str, int], Sticker]:
    """The true clips, changed where they are hidden."""
    made = {}
    for task in TASKS:
        for index, clip in enumerate(clips):
            draw = np.random.default_rng([index, TASKS.index(task)])
            truth, hidden = clip.truth, hidden_frames(clip.num_frames, clip.known(task))
            other = clips[(index + len(clips) // 2) % len(clips)].truth.premultiplied()
            changed = change(truth.premultiplied(), hidden, other, draw)
            frames = truth.frames.copy()
            frames[hidden] = Sticker.from_premultiplied(changed, truth.durations_ms).frames[hidden]
            made[task, index] = truth.replace(frames=frames)
    return made


def check_metrics(judge: Judge) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Task → metric → corruption → means of truth, mild, strong; "captions": own, others'."""
    clips = judge.clips
    truth = judge(_corrupted(clips, lambda frames, *_: frames))
    found: dict[str, dict[str, dict[str, list[float]]]] = {
        task: {metric: {} for metric in EXPECTED if metric in truth[task]} for task in TASKS
    }
    for name, changes in _CORRUPTIONS.items():
        scores = [truth, *(judge(_corrupted(clips, change)) for change in changes)]
        for task, metrics in found.items():
            for metric in metrics:
                metrics[metric][name] = [_mean(one[task][metric]) for one in scores]
    own = [clip.truth.captions for clip in clips]
    others = own[len(clips) // 2 :] + own[: len(clips) // 2]
    for task, metrics in found.items():
        metrics[TEXT]["captions"] = [judge.agreement_of_truth(task, said) for said in (own, others)]
    return found


def is_ordered(metric: str, means: Sequence[float]) -> bool:
    """Whether they get worse, strictly, from one to the next."""
    sign = 1 if COMPARED[metric].better == "higher" else -1
    return all(sign * (b - a) < 0 for a, b in pairwise(means))


def _mean(values: Iterable[float | None]) -> float:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return float(f"{np.mean(finite):.4g}") if finite else float("nan")
