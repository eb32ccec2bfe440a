"""From a position in the run to a batch: order, frames, task, noise, all pure functions of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rdtf.method.objective import Objective
from rdtf.method.tasks import TaskDraw, draw_task
from rdtf.randomness import DataOrder, Purpose, normal, stream
from rdtf.training.config import TrainConfig

# Batches are cut from groups of this many steps, sorted by length, so that little is padding.
_STEPS_PER_GROUP = 4


class ClipStore(Protocol):
    """A training set as the trainer sees it: latents, durations and text states by index."""

    @property
    def num_frames(self) -> np.ndarray: ...

    def latents(
        self, clip: int, frames: np.ndarray, flip: bool, noise_key: Sequence[int]
    ) -> Tensor:
        """Clean latents of the chosen frames, float32 `[C, F, h, w]`."""
        ...

    def durations_ms(self, clip: int) -> np.ndarray: ...

    def text(self, clip: int, choice: float) -> list[Tensor]:
        """Token states `[T, D]` per encoder of one caption, chosen by `choice` in [0, 1)."""
        ...


@dataclass(frozen=True)
class Batch:
    """What one forward pass reads. F is the longest clip of the batch.

    clean, noise: `[B, C, F, h, w]`; level: `[B]` in [0, 1]; valid, given: bool `[B, F]`;
    text, text_mask: per encoder `[B, T, D]` and bool `[B, T]`; mean_duration_ms: `[B]`.
    """

    clean: Tensor
    noise: Tensor
    level: Tensor
    valid: Tensor
    given: Tensor
    text: list[Tensor]
    text_mask: list[Tensor]
    mean_duration_ms: Tensor
    tasks: tuple[str, ...]
    clips: tuple[int, ...]

    def to(self, device: torch.device) -> Batch:
        """Copies of all tensors on `device`."""
        if device.type == "cpu":
            return self
        moved = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        lists = {
            name: [tensor.to(device, non_blocking=True) for tensor in getattr(self, name)]
            for name in ("text", "text_mask")
        }
        return replace(self, **moved, **lists)


@dataclass(frozen=True)
class Sample:
    """One clip as drawn: latents `[C, F, h, w]`, its task, noise and level."""

    latents: Tensor
    noise: Tensor
    level: float
    draw: TaskDraw
    text: list[Tensor]
    mean_duration_ms: float
    clip: int


class MixedOrder:
    """Position → clip index, with a fixed share of single images spread evenly among the clips."""

    def __init__(self, num_frames: np.ndarray, still_share: float, seed: int) -> None:
        self._stills = np.flatnonzero(num_frames == 1)
        self._moving = np.flatnonzero(num_frames > 1)
        if len(self._stills) == 0:
            still_share = 0.0
        elif len(self._moving) == 0:
            still_share = 1.0
        self._share = still_share
        self._still_order = DataOrder(max(len(self._stills), 1), seed * 2 + 1)
        self._moving_order = DataOrder(max(len(self._moving), 1), seed * 2)

    def __getitem__(self, position: int) -> int:
        stills_before = int(position * self._share)
        if int((position + 1) * self._share) > stills_before:
            return int(self._stills[self._still_order[stills_before]])
        return int(self._moving[self._moving_order[position - stills_before]])


class BatchBuilder:
    """Builds the batches of any step of a run, in any order of asking."""

    def __init__(self, store: ClipStore, config: TrainConfig, objective: Objective) -> None:
        self.store = store
        self.config = config
        self.objective = objective
        self.order = MixedOrder(store.num_frames, config.data.still_share, config.seed)

    def step_batches(self, step: int, task_weights: Mapping[str, float]) -> list[Batch]:
        """The micro-batches of optimizer step `step`."""
        positions = self._positions(step)
        size = self.config.batch_size
        return [
            collate([self.sample(p, task_weights) for p in positions[start : start + size]])
            for start in range(0, len(positions), size)
        ]

    def _positions(self, step: int) -> list[int]:
        """Positions of one step: its group sorted by length, cut, and dealt in random order."""
        group, place = divmod(step, _STEPS_PER_GROUP)
        per_step = self.config.clips_per_step
        start = group * per_step * _STEPS_PER_GROUP
        positions = list(range(start, start + per_step * _STEPS_PER_GROUP))
        positions.sort(key=lambda position: (self._length(position), position))
        deal = stream(self.config.seed, Purpose.ORDER, 1, group).permutation(_STEPS_PER_GROUP)
        first = int(deal[place]) * per_step
        return positions[first : first + per_step]

    def _length(self, position: int) -> int:
        return len(self._frames(position))

    def _frames(self, position: int) -> np.ndarray:
        clip = self.order[position]
        generator = stream(self.config.seed, Purpose.AUGMENT, position)
        return choose_frames(
            int(self.store.num_frames[clip]),
            self.config.max_frames,
            self.config.data.subclip_probability,
            generator,
        )

    def sample(self, position: int, task_weights: Mapping[str, float]) -> Sample:
        """Everything about one training sample, from its position alone (and the task weights)."""
        config, seed = self.config, self.config.seed
        clip, frames = self.order[position], self._frames(position)
        augment = stream(seed, Purpose.AUGMENT, position, 1)
        flip = bool(augment.random() < config.data.flip_probability)
        latents = self.store.latents(clip, frames, flip, (seed, position))
        draw = draw_task(len(frames), task_weights, stream(seed, Purpose.TASK, position))
        draw = drop_conditions(draw, config, stream(seed, Purpose.DROPOUT, position))
        durations = merge_durations(self.store.durations_ms(clip), frames)
        return Sample(
            latents=latents,
            noise=normal(tuple(latents.shape), seed, Purpose.NOISE, position),
            level=self.objective.draw_level(stream(seed, Purpose.TIMESTEP, position)),
            draw=draw,
            text=self.store.text(clip, float(augment.random())) if draw.use_text else [],
            mean_duration_ms=float(durations.mean()),
            clip=clip,
        )


def choose_frames(
    num_frames: int, max_frames: int, subclip_probability: float, generator: np.random.Generator
) -> np.ndarray:
    """Which frames of a clip to train on, `int64`, ascending, at most `max_frames`.

    A clip that fits is mostly taken whole; a longer one is either a stretch of neighbours or
    spread over the whole clip. Both teach another speed.
    """
    if num_frames == 1:
        return np.zeros(1, dtype=np.int64)
    count = min(num_frames, max_frames)
    if num_frames > max_frames and generator.random() < 0.5:
        return np.linspace(0, num_frames - 1, count).round().astype(np.int64)
    if generator.random() < subclip_probability:
        count = int(generator.integers(2, count + 1))
    start = int(generator.integers(num_frames - count + 1))
    return np.arange(start, start + count)


def merge_durations(durations_ms: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Durations of the chosen frames; one that was left out lends its time to the one before."""
    ends = np.append(frames[1:], frames[-1] + 1)
    return np.array([durations_ms[a:b].sum() for a, b in zip(frames, ends, strict=True)])


def drop_conditions(
    draw: TaskDraw, config: TrainConfig, generator: np.random.Generator
) -> TaskDraw:
    """Drop the text, the given frames, or both: what the two guidance scales need."""
    drop_text, drop_image = generator.random(2)
    use_text = draw.use_text and drop_text >= config.data.text_dropout
    given = draw.given
    if drop_image < config.data.image_dropout:
        given = np.zeros_like(given)
    return TaskDraw(draw.task, given, use_text)


def collate(samples: Sequence[Sample]) -> Batch:
    """Pad to the longest clip and stack."""
    frames = max(sample.latents.shape[1] for sample in samples)
    channels, _, height, width = samples[0].latents.shape
    shape = (len(samples), channels, frames, height, width)
    clean, noise = torch.zeros(shape), torch.zeros(shape)
    valid = torch.zeros(len(samples), frames, dtype=torch.bool)
    given = torch.zeros_like(valid)
    for row, sample in enumerate(samples):
        count = sample.latents.shape[1]
        clean[row, :, :count] = sample.latents
        noise[row, :, :count] = sample.noise
        valid[row, :count] = True
        given[row, :count] = torch.from_numpy(sample.draw.given)
    text, text_mask = pad_text([sample.text for sample in samples])
    return Batch(
        clean=clean,
        noise=noise,
        level=torch.tensor([sample.level for sample in samples]),
        valid=valid,
        given=given,
        text=text,
        text_mask=text_mask,
        mean_duration_ms=torch.tensor([sample.mean_duration_ms for sample in samples]),
        tasks=tuple(sample.draw.task for sample in samples),
        clips=tuple(sample.clip for sample in samples),
    )


def pad_text(texts: Sequence[Sequence[Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Token states per sample and encoder → per encoder `[B, T, D]` and mask `[B, T]`.

    A sample without text (empty list) gets an all-False mask. No text at all → empty lists.
    """
    encoders = max((len(text) for text in texts), default=0)
    states, masks = [], []
    for encoder in range(encoders):
        tokens = [text[encoder] if text else None for text in texts]
        present = [state for state in tokens if state is not None]
        length = max(len(state) for state in present)
        padded = torch.zeros(len(texts), length, present[0].shape[1])
        mask = torch.zeros(len(texts), length, dtype=torch.bool)
        for row, state in enumerate(tokens):
            if state is not None:
                padded[row, : len(state)] = state
                mask[row, : len(state)] = True
        states.append(padded)
        masks.append(mask)
    return states, masks
