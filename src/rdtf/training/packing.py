"""Samples and batches: small and on the host while they travel, latents once they have arrived.

A loader only copies what the caches hold (bytes of pixels, half-precision latents and text
states). Unfolding, noise and padding masks are made on the device that computes: a quarter of the
traffic, and no normal numbers drawn on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from rdtf.method.tasks import TaskDraw
from rdtf.models.conditions import Conditions
from rdtf.models.motion import MOTION_CHANNELS
from rdtf.randomness import normal_from_key

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


class ToLatents(Protocol):
    """Turns stored arrays into latents: `rdtf.training.store.PreparedStore` does."""

    def to_latents(self, stored: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """`[B, F, ...]` each → mean and log-variance (or None), float32 `[B, F, C, h, w]`."""
        ...


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


def unpack(packed: PackedBatch, store: ToLatents, device: torch.device) -> Batch:
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
