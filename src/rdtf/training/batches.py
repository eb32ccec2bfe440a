"""Samples and batches: all pure functions of a position in the run; latents once on the device.

A loader only copies what the caches hold (bytes of pixels, half-precision latents and text
states). Unfolding, noise and padding masks are made on the device that computes: a quarter of the
traffic, and no normal numbers drawn on the host.

Positions count samples over the whole run, whatever the number of ranks. A step takes the next
`batch_size` of them and deals them out; who computes what changes nothing about any sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rdtf.errors import ConfigError
from rdtf.method.curriculum import competence
from rdtf.method.objective import Objective
from rdtf.method.tasks import TaskDraw, draw_task
from rdtf.models.conditions import Conditions
from rdtf.models.latents import MOTION_CHANNELS
from rdtf.randomness import DataOrder, Purpose, noise_key, normal_from_key, stream
from rdtf.training.config import TrainConfig

# --------------------------------------------------------------------- packing


# Makes of a noise key that of the same sample's motion noise.
_MOTION_KEY = 0x6D6F74696F6E


@dataclass(frozen=True)
class Sample:
    """One clip as drawn.

    stored: arrays of the cache for the chosen frames, `[F, ...]` each, under the cache's names.
    noise_key, posterior_key: seeds of its noise and of its autoencoder's posterior noise.
    text: token states `[T, D]` per encoder; empty = no text.
    """

    stored: Mapping[str, Tensor]
    noise_key: int
    posterior_key: int
    t: float
    draw: TaskDraw
    text: list[Tensor]
    mean_duration_ms: float
    clip: int
    position: int = 0

    @property
    def num_frames(self) -> int:
        return len(next(iter(self.stored.values())))


@dataclass(frozen=True)
class SampleInfo:
    """Facts per sample of a batch, on the host.

    tasks: names; clips: indices in the training set; positions: in the run; t: noise levels;
    num_frames: valid frames.
    """

    tasks: tuple[str, ...]
    clips: tuple[int, ...]
    positions: tuple[int, ...]
    t: tuple[float, ...]
    num_frames: tuple[int, ...]


@dataclass(frozen=True)
class PackedBatch:
    """Samples padded to the longest of them, still as stored; the rest as in `Batch`."""

    info: SampleInfo
    stored: dict[str, Tensor]
    noise_keys: tuple[int, ...]
    posterior_keys: tuple[int, ...]
    t: Tensor
    valid: Tensor
    given: Tensor
    text: list[Tensor]
    text_mask: list[Tensor]
    mean_duration_ms: Tensor

    def pin_memory(self) -> PackedBatch:
        """Copies that a GPU can read while the host goes on. (torch's DataLoader calls this.)"""
        return map_tensors(self, lambda tensor: tensor.pin_memory())


@dataclass(frozen=True)
class Batch:
    """What one forward pass reads. F is the longest clip of the batch.

    conditions: clean latents float32 `[B, C, F, h, w]`, zero in padded slots, and what else the
    network is told; noise: of the same shape; motion_noise: `[B, 2, F, h, w]`, for models with
    motion latents; t: noise level in [0, 1], `[B]`.
    """

    info: SampleInfo
    conditions: Conditions
    noise: Tensor
    motion_noise: Tensor
    t: Tensor


def pack(samples: Sequence[Sample], text_widths: Sequence[int]) -> PackedBatch:
    """Pad to the longest clip and stack."""
    frames = max(sample.num_frames for sample in samples)
    valid = torch.zeros(len(samples), frames, dtype=torch.bool)
    given = torch.zeros_like(valid)
    stored = {
        name: torch.zeros(len(samples), frames, *values.shape[1:], dtype=values.dtype)
        for name, values in samples[0].stored.items()
    }
    for row, sample in enumerate(samples):
        count = sample.num_frames
        for name, values in sample.stored.items():
            stored[name][row, :count] = values
        valid[row, :count] = True
        given[row, :count] = torch.from_numpy(sample.draw.given)
    text, text_mask = pad_text([sample.text for sample in samples], text_widths)
    info = SampleInfo(
        tasks=tuple(sample.draw.task for sample in samples),
        clips=tuple(sample.clip for sample in samples),
        positions=tuple(sample.position for sample in samples),
        t=tuple(sample.t for sample in samples),
        num_frames=tuple(sample.num_frames for sample in samples),
    )
    return PackedBatch(
        info=info,
        stored=stored,
        noise_keys=tuple(sample.noise_key for sample in samples),
        posterior_keys=tuple(sample.posterior_key for sample in samples),
        t=torch.tensor([sample.t for sample in samples]),
        valid=valid,
        given=given,
        text=text,
        text_mask=text_mask,
        mean_duration_ms=torch.tensor([sample.mean_duration_ms for sample in samples]),
    )


def unpack(packed: PackedBatch, store: ClipStore, device: torch.device) -> Batch:
    """The batch on `device`. Nothing here makes the host wait for the device."""
    packed = map_tensors(packed, lambda tensor: tensor.to(device, non_blocking=True))
    clean, logvar = store.to_latents(packed.stored)
    shape, lengths = tuple(clean.shape[2:]), packed.info.num_frames
    if logvar is not None:
        noise = _noise(packed.posterior_keys, lengths, shape, device)
        clean = clean + (0.5 * logvar).exp() * noise
    clean = torch.where(packed.valid[:, :, None, None, None], clean, 0.0)
    motion_keys = [key ^ _MOTION_KEY for key in packed.noise_keys]
    noises = [
        _noise(packed.noise_keys, lengths, shape, device),
        _noise(motion_keys, lengths, (MOTION_CHANNELS, *shape[1:]), device),
    ]
    conditions = Conditions(
        clean=clean.transpose(1, 2).contiguous(),
        given=packed.given,
        valid=packed.valid,
        text=[states.float() for states in packed.text],
        text_mask=packed.text_mask,
        mean_duration_ms=packed.mean_duration_ms,
        padded=min(lengths) < packed.valid.shape[1],
    )
    noise, motion_noise = (noise.transpose(1, 2).contiguous() for noise in noises)
    return Batch(packed.info, conditions, noise, motion_noise, packed.t)


def _noise(
    keys: Sequence[int],
    num_frames: Sequence[int],
    frame_shape: tuple[int, ...],
    device: torch.device,
) -> Tensor:
    """Each sample's own noise `[B, F, *frame_shape]`, whatever it is batched with; then zeros."""
    noise = torch.zeros(len(keys), max(num_frames), *frame_shape, device=device)
    for row, (key, count) in enumerate(zip(keys, num_frames, strict=True)):
        noise[row, :count] = normal_from_key((count, *frame_shape), key, device)
    return noise


def pad_text(
    texts: Sequence[Sequence[Tensor]], widths: Sequence[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Token states per sample and encoder → per encoder `[B, T, D]` and mask `[B, T]`.

    A sample without text (empty list) gets an all-False mask. T is at least 1, so that every
    parameter of the network takes part in every batch, as data-parallel training needs.
    """
    states, masks = [], []
    for encoder, width in enumerate(widths):
        tokens = [text[encoder] if text else None for text in texts]
        present = [state for state in tokens if state is not None]
        length = max((len(state) for state in present), default=0)
        dtype = present[0].dtype if present else torch.float32
        padded = torch.zeros(len(texts), max(length, 1), width, dtype=dtype)
        mask = torch.zeros(padded.shape[:2], dtype=torch.bool)
        for row, state in enumerate(tokens):
            if state is not None:
                padded[row, : len(state)] = state
                mask[row, : len(state)] = True
        states.append(padded)
        masks.append(mask)
    return states, masks


def map_tensors(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy of a batch with `change` applied to every tensor in it."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, list):
        return [map_tensors(part, change) for part in batch]
    if isinstance(batch, dict):
        return {name: map_tensors(part, change) for name, part in batch.items()}
    if is_dataclass(batch) and not isinstance(batch, type):
        parts = {part.name: getattr(batch, part.name) for part in fields(batch)}
        return replace(batch, **map_tensors(parts, change))
    return batch


# --------------------------------------------------------------------- drawing


# Batches are cut from groups of this many steps, sorted by length, so that little is padding.
STEPS_PER_GROUP = 32


class ClipStore(Protocol):
    """A training set as the trainer sees it: arrays, durations and text states by index."""

    @property
    def num_frames(self) -> np.ndarray: ...

    @property
    def concepts(self) -> np.ndarray:
        """Integers `[N]`: clips of one concept have one number."""
        ...

    @property
    def difficulty(self) -> np.ndarray:
        """float `[N]`, from easy to difficult."""
        ...

    @property
    def text_widths(self) -> tuple[int, ...]:
        """Width of the token states of each text encoder."""
        ...

    def stored(self, clip: int, frames: np.ndarray, flip: bool) -> dict[str, np.ndarray]:
        """What the cache holds of the chosen frames, `[F, ...]` each."""
        ...

    def to_latents(self, stored: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """`[B, F, ...]` each → mean and log-variance (or None), float32 `[B, F, C, h, w]`."""
        ...

    def durations_ms(self, clip: int) -> np.ndarray: ...

    def text(self, clip: int, choice: float) -> list[Tensor]:
        """Token states `[T, D]` per encoder of one caption, chosen by `choice` in [0, 1)."""
        ...


class MixedOrder:
    """Position → clip index, with a fixed share of single images spread evenly among the clips.

    Args:
        num_frames: of each clip, `[N]`.
        concepts: a number for each clip's concept, `[N]`: concepts take turns, and so do the clips
            of each; None: clips do.
    """

    def __init__(
        self,
        num_frames: np.ndarray,
        still_share: float,
        seed: int,
        concepts: np.ndarray | None = None,
    ) -> None:
        stills, moving = np.flatnonzero(num_frames == 1), np.flatnonzero(num_frames > 1)
        if len(stills) == 0:
            still_share = 0.0
        elif len(moving) == 0:
            still_share = 1.0
        self._share = still_share
        self._stills = _Turns(stills, seed * 2 + 1, concepts)
        self._moving = _Turns(moving, seed * 2, concepts)

    def __getitem__(self, position: int) -> int:
        stills_before = int(position * self._share)
        if int((position + 1) * self._share) > stills_before:
            return self._stills[stills_before]
        return self._moving[position - stills_before]


class _Turns:
    """Turn → one of some clips: each comes once an epoch, or each concept, with another clip."""

    def __init__(self, clips: np.ndarray, seed: int, concepts: np.ndarray | None) -> None:
        self._clips, self._seed = clips, seed
        # Clips of concept c are clips[starts[c]:starts[c + 1]].
        self._starts = np.arange(len(clips) + 1)
        if concepts is not None:
            order = np.argsort(concepts[clips], kind="stable")
            self._clips, keys = clips[order], concepts[clips][order]
            first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
            self._starts = np.append(first, len(clips))
        self._order = DataOrder(max(len(self._starts) - 1, 1), seed)

    def __getitem__(self, turn: int) -> int:
        concept = self._order[turn]
        start, end = self._starts[concept], self._starts[concept + 1]
        epoch, place = divmod(turn // self._order.num_samples, int(end - start))
        if end - start > 1:
            draws = stream(self._seed, Purpose.ORDER, 1, concept, epoch)
            start += draws.permutation(end - start)[place]
        return int(self._clips[start])


class EasyFirst:
    """Position → clip index: in the first part of a run, clips come in from easy to difficult.

    Args:
        order: what holds for the rest of the run.
        difficulty: of each clip, `[N]`.
        positions: of the whole run.
    """

    def __init__(
        self,
        order: MixedOrder,
        difficulty: np.ndarray,
        easy_until: float,
        positions: int,
        seed: int,
    ) -> None:
        self._order, self._by_difficulty = order, np.argsort(difficulty, kind="stable")
        self._easy_until, self._positions, self._seed = easy_until, positions, seed

    def __getitem__(self, position: int) -> int:
        share = competence(position / self._positions, self._easy_until)
        if share >= 1:
            return self._order[position]
        draw = stream(self._seed, Purpose.ORDER, 2, position).random()
        return int(self._by_difficulty[int(draw * share * len(self._by_difficulty))])


class BatchBuilder:
    """Builds the batches of any step of a run, in any order of asking."""

    def __init__(self, store: ClipStore, config: TrainConfig, objective: Objective) -> None:
        self.store = store
        self.config = config
        self.objective = objective
        self.order = build_order(store, config)
        self._group, self._by_length = -1, list[int]()  # the group that was asked for last

    def step_batches(
        self, step: int, task_weights: Mapping[str, float], rank: int = 0, world_size: int = 1
    ) -> list[PackedBatch]:
        """The micro-batches of `rank` in optimizer step `step`."""
        return [
            pack([self.sample(p, task_weights) for p in positions], self.store.text_widths)
            for positions in self.deal(step, rank, world_size)
        ]

    def deal(self, step: int, rank: int = 0, world_size: int = 1) -> list[list[int]]:
        """The positions of each micro-batch of `rank`.

        Neighbours in length come into the same pass and into the same pass of the other ranks, so
        that little is padding and nobody waits.
        """
        if self.config.batch_size % world_size:
            raise ConfigError(
                f"batch_size {self.config.batch_size} can't be shared by {world_size} ranks; "
                f"make it a multiple of {world_size}"
            )
        positions = self.positions(step)
        share = self.config.batch_size // world_size
        size = self.config.engine.micro_batch_size or share
        dealt = []
        for start in range(0, share, size):
            count = min(size, share - start)
            first = start * world_size + rank * count
            dealt.append(positions[first : first + count])
        return dealt

    def positions(self, step: int) -> list[int]:
        """Positions of one step: its group sorted by length, cut, and dealt in random order."""
        group, place = divmod(step, STEPS_PER_GROUP)
        if self._group != group:
            size = self.config.batch_size * STEPS_PER_GROUP
            positions = range(group * size, (group + 1) * size)
            self._by_length = sorted(positions, key=lambda p: (self.length(p), p))
            self._group = group
        deal = stream(self.config.seed, Purpose.ORDER, 1, group).permutation(STEPS_PER_GROUP)
        first = int(deal[place]) * self.config.batch_size
        return self._by_length[first : first + self.config.batch_size]

    def length(self, position: int) -> int:
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
        stored = self.store.stored(clip, frames, flip)
        durations = merge_durations(self.store.durations_ms(clip), frames)
        if stream(seed, Purpose.AUGMENT, position, 2).random() < config.data.reverse_probability:
            stored = {name: values[::-1].copy() for name, values in stored.items()}
        draw = draw_task(len(frames), task_weights, stream(seed, Purpose.TASK, position))
        draw = _drop_conditions(draw, config, stream(seed, Purpose.DROPOUT, position))
        return Sample(
            stored={name: torch.from_numpy(values) for name, values in stored.items()},
            noise_key=noise_key(seed, Purpose.NOISE, position),
            posterior_key=noise_key(seed, Purpose.POSTERIOR, position),
            t=self.objective.draw_t(stream(seed, Purpose.TIMESTEP, position)),
            draw=draw,
            text=self.store.text(clip, float(augment.random())) if draw.use_text else [],
            mean_duration_ms=float(durations.mean()),
            clip=clip,
            position=position,
        )


def build_order(store: ClipStore, config: TrainConfig) -> MixedOrder | EasyFirst:
    """Which clip each position of a run trains on."""
    concepts = store.concepts if config.data.sampling == "concepts" else None
    order = MixedOrder(store.num_frames, config.data.still_share, config.seed, concepts)
    easy_until = config.curriculum.easy_until
    if easy_until == 0:
        return order
    positions = config.steps * config.batch_size
    return EasyFirst(order, store.difficulty, easy_until, positions, config.seed)


def choose_frames(
    num_frames: int, max_frames: int, subclip_probability: float, generator: np.random.Generator
) -> np.ndarray:
    """Which frames of a clip to train on, `int64`, ascending, at most `max_frames`.

    A clip that fits is mostly taken whole; a longer one is spread evenly over all of it or over a
    stretch, of any length down to neighbours: one clip teaches many speeds.
    """
    if num_frames == 1:
        return np.zeros(1, dtype=np.int64)
    count = min(num_frames, max_frames)
    whole = generator.random() < 0.5
    if generator.random() < subclip_probability:
        count = int(generator.integers(2, count + 1))
    span = count - 1
    if num_frames > max_frames:
        longest = num_frames - 1
        span = longest if whole else int(span * (longest / span) ** generator.random())
    start = int(generator.integers(num_frames - span))
    return np.linspace(start, start + span, count).round().astype(np.int64)


def merge_durations(durations_ms: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Durations of the chosen frames; one that was left out lends its time to the one before.

    Behind the last chosen frame, as many are left out as before it, if the clip has them: a stretch
    is as slow at its end as everywhere.
    """
    step = frames[-1] - frames[-2] if len(frames) > 1 else 1
    ends = np.append(frames[1:], min(frames[-1] + step, len(durations_ms)))
    return np.array([durations_ms[a:b].sum() for a, b in zip(frames, ends, strict=True)])


def _drop_conditions(
    draw: TaskDraw, config: TrainConfig, generator: np.random.Generator
) -> TaskDraw:
    """Drop the text, the given frames, or both: what the two guidance scales need."""
    drop_text, drop_image = generator.random(2)
    use_text = draw.use_text and drop_text >= config.data.text_dropout
    given = draw.given
    if drop_image < config.data.image_dropout:
        given = np.zeros_like(given)
    return TaskDraw(draw.task, given, use_text)
