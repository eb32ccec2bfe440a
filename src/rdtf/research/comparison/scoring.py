"""One network on all held-out clips and tasks: sampled in batches, scored on hidden frames."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from rdtf.evaluation.baselines import Baseline
from rdtf.evaluation.evaluate import noise_seed
from rdtf.evaluation.metrics import score_hidden
from rdtf.evaluation.sets import clip_features, clip_maps, nearest_distances
from rdtf.fileio import atomic_path, read_json, write_json
from rdtf.method.objective import Objective
from rdtf.models.conditions import Conditions
from rdtf.models.representation import Representation
from rdtf.research.adapters import FrameSimilarityPrior, sample_with_prior
from rdtf.research.comparison.clips import (
    TASKS,
    HeldOutClip,
    Reference,
    batches_of,
    conditions,
)
from rdtf.research.comparison.methods import Method
from rdtf.research.comparison.networks import Trainee
from rdtf.research.comparison.settings import Budget
from rdtf.sampling.sampling import sample
from rdtf.sampling.schedulers import set_timesteps
from rdtf.stickers import Sticker
from rdtf.training.config import TrainConfig
from rdtf.training.presets import build_scheduler

NUM_EXAMPLES = 2  # clips per task whose results are kept to be looked at


@dataclass(frozen=True)
class Scorer:
    """All that scoring needs but the network.

    Attributes:
        text_widths: widths of the token states.
        check: called between batches; may raise to leave.
    """

    clips: Sequence[HeldOutClip]
    reference: Reference
    representation: Representation
    text_widths: tuple[int, ...]
    budget: Budget
    device: torch.device
    check: Callable[[], None] = lambda: None

    @property
    def examples(self) -> list[int]:
        """Indices of the clips to look at: fixed, spread over the set."""
        count = min(NUM_EXAMPLES, len(self.clips))
        return [(2 * index + 1) * len(self.clips) // (2 * count) for index in range(count)]

    @property
    def batch_size(self) -> int:
        return 8 if self.device.type == "cpu" else 32

    # ------------------------------------------------------------------------ scores

    def score(
        self, method: Method, network: Trainee, objective: Objective, config: TrainConfig, seed: int
    ) -> Scores:
        """Sample every clip in every task and score what was made.

        The noise of a clip depends on (seed, clip, task) and on nothing else: all methods start
        from the same.
        """
        scheduler = build_scheduler(config)
        made: dict[tuple[str, int], Sticker] = {}
        seconds: dict[str, float] = {}
        for task in TASKS:
            started = time.monotonic()
            for indices, clips in batches_of(self.clips, task, self.batch_size):
                self.check()
                told = conditions(clips, task, self.text_widths, self.device, network.pad_to)
                noise = _noise(clips, task, seed, told.clean.shape).to(self.device)
                latents = _sample(
                    method.prior, network, objective, scheduler, told, noise, self.budget, seed
                )
                for index, clip, latent in zip(indices, clips, latents, strict=True):
                    made[task, index] = self._sticker(clip, latent, clip.known(task))
            seconds[task] = (time.monotonic() - started) / len(self.clips)
        return self._score_all(made, seconds)

    def score_baseline(self, row: Baseline) -> Scores:
        """As `score`, for a row that costs nothing."""
        made = {
            (task, index): row(clip.truth, clip.known(task))
            for task in TASKS
            for index, clip in enumerate(self.clips)
        }
        return self._score_all(made, dict.fromkeys(TASKS, 0.0))

    def _sticker(self, clip: HeldOutClip, latents: Tensor, known: Sequence[int]) -> Sticker:
        """Latents `[C, F, h, w]` → the clip, its known frames as they were given."""
        pixels = self.representation.decode(latents[:, : clip.num_frames].transpose(0, 1))
        pixels = ((pixels.float().clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).cpu().numpy()
        made = Sticker.from_premultiplied(pixels, clip.truth.durations_ms)
        frames = made.frames.copy()
        frames[list(known)] = clip.truth.frames[list(known)]
        return made.replace(frames=frames)

    def _score_all(self, made: dict[tuple[str, int], Sticker], seconds: dict[str, float]) -> Scores:
        rows, features, samples = [], {}, {}
        for task in TASKS:
            vectors = []
            for index, clip in enumerate(self.clips):
                self.check()
                result, known = made[task, index], clip.known(task)
                scores = score_hidden(clip.truth, result, known)
                rows.append({"clip": clip.name, "task": task, "scores": scores})
                vectors.append(clip_features(clip_maps(result), known))
                if index in self.examples:
                    samples[f"{task}/{clip.name}"] = result.frames
            scaled = self.reference.scale[task](np.stack(vectors))
            features[task] = scaled.astype(np.float32)
            self._add_memory(task, scaled, rows[-len(self.clips) :])
        return Scores(rows, seconds, features, samples)

    def _add_memory(self, task: str, features: np.ndarray, rows: list[dict[str, Any]]) -> None:
        """How near the nearest training clip is, over how near it is to the true clip."""
        training = self.reference.training[task]
        near = nearest_distances(features, training)
        expected = nearest_distances(self.reference.truth[task], training)
        for row, distance, usual in zip(rows, near, expected, strict=True):
            row["scores"]["train_distance_ratio"] = float(distance / max(usual, 1e-9))


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


# ------------------------------------------------------------------------------- files


@dataclass(frozen=True)
class Scores:
    """What one network (or baseline) got at one point.

    rows: clip, task and scores of each; seconds: of sampling, per clip, by task;
    features: task → scaled features `[N, D]`, in the order of the held-out clips;
    samples: "task/clip" → frames of the clips to look at.
    """

    rows: list[dict[str, Any]]
    seconds: dict[str, float]
    features: dict[str, np.ndarray]
    samples: dict[str, np.ndarray]

    def save(self, folder: Path, name: str) -> None:
        """Write NAME.safetensors, then NAME.json: where that is, both are whole."""
        tensors = {f"features/{task}": value for task, value in self.features.items()}
        tensors |= {f"samples/{key}": np.ascontiguousarray(v) for key, v in self.samples.items()}
        with atomic_path(folder / f"{name}.safetensors") as temporary:
            save_file(tensors, temporary)
        rows = [{**row, "scores": json_numbers(row["scores"])} for row in self.rows]
        write_json(folder / f"{name}.json", {"rows": rows, "seconds": self.seconds})

    @classmethod
    def load(cls, folder: Path, name: str) -> Scores:
        values = read_json(folder / f"{name}.json", "scores")
        tensors = load_file(folder / f"{name}.safetensors")

        def part(prefix: str) -> dict[str, np.ndarray]:
            return {
                key.removeprefix(prefix): value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }

        return cls(values["rows"], values["seconds"], part("features/"), part("samples/"))


def json_numbers(scores: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}
