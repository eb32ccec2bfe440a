"""Samples and batches: small and on the host while they travel, latents once they have arrived.

A loader only copies what the caches hold (bytes of pixels, half-precision latents and text
states). Unfolding, noise and padding masks are made on the device that computes: a quarter of the
traffic, and no normal numbers drawn on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from rdtf.method.tasks import TaskDraw
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
    level: float
    draw: TaskDraw
    text: list[Tensor]
    mean_duration_ms: float
    clip: int
    position: int = 0

    @property
    def num_frames(self) -> int:
        return len(next(iter(self.stored.values())))


@dataclass(frozen=True)
class PackedBatch:
    """Samples padded to the longest of them, still as stored; fields as in `Batch`."""

    stored: dict[str, Tensor]
    noise_keys: tuple[int, ...]
    posterior_keys: tuple[int, ...]
    num_frames: tuple[int, ...]
    level: Tensor
    valid: Tensor
    given: Tensor
    text: list[Tensor]
    text_mask: list[Tensor]
    mean_duration_ms: Tensor
    tasks: tuple[str, ...]
    clips: tuple[int, ...]
    positions: tuple[int, ...]
    levels: tuple[float, ...]

    def pin_memory(self) -> PackedBatch:
        """Copies that a GPU can read while the host goes on. (torch's DataLoader calls this.)"""
        return _map_tensors(self, lambda tensor: tensor.pin_memory())


@dataclass(frozen=True)
class Batch:
    """What one forward pass reads. F is the longest clip of the batch.

    clean, noise: float32 `[B, C, F, h, w]`, zero in padded slots; motion_noise: `[B, 2, F, h, w]`,
    for models with motion latents; level: `[B]` in [0, 1];
    valid, given: bool `[B, F]`; text, text_mask: per encoder float32 `[B, T, D]` and bool
    `[B, T]`, where a row without text is all False; mean_duration_ms: `[B]`.
    tasks, clips, positions, levels, num_frames: per sample, on the host: its task, its index in the
    training set, its position in the run, its noise level, its valid frames.
    """

    clean: Tensor
    noise: Tensor
    motion_noise: Tensor
    level: Tensor
    valid: Tensor
    given: Tensor
    text: list[Tensor]
    text_mask: list[Tensor]
    mean_duration_ms: Tensor
    tasks: tuple[str, ...]
    clips: tuple[int, ...]
    positions: tuple[int, ...]
    levels: tuple[float, ...]
    num_frames: tuple[int, ...]

    def to(self, device: torch.device) -> Batch:
        """Copies of all tensors on `device`."""
        return _map_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))


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
    return PackedBatch(
        stored=stored,
        noise_keys=tuple(sample.noise_key for sample in samples),
        posterior_keys=tuple(sample.posterior_key for sample in samples),
        num_frames=tuple(sample.num_frames for sample in samples),
        level=torch.tensor([sample.level for sample in samples]),
        valid=valid,
        given=given,
        text=text,
        text_mask=text_mask,
        mean_duration_ms=torch.tensor([sample.mean_duration_ms for sample in samples]),
        tasks=tuple(sample.draw.task for sample in samples),
        clips=tuple(sample.clip for sample in samples),
        positions=tuple(sample.position for sample in samples),
        levels=tuple(sample.level for sample in samples),
    )


def unpack(packed: PackedBatch, store: ToLatents, device: torch.device) -> Batch:
    """The batch on `device`. Nothing here makes the host wait for the device."""
    packed = _map_tensors(packed, lambda tensor: tensor.to(device, non_blocking=True))
    clean, logvar = store.to_latents(packed.stored)
    shape = tuple(clean.shape[2:])
    if logvar is not None:
        noise = _noise(packed.posterior_keys, packed.num_frames, shape, device)
        clean = clean + (0.5 * logvar).exp() * noise
    clean = torch.where(packed.valid[:, :, None, None, None], clean, 0.0)
    noise = _noise(packed.noise_keys, packed.num_frames, shape, device)
    motion_keys = [key ^ _MOTION_KEY for key in packed.noise_keys]
    motion_shape = (MOTION_CHANNELS, *shape[1:])
    motion_noise = _noise(motion_keys, packed.num_frames, motion_shape, device)
    return Batch(
        clean=clean.transpose(1, 2).contiguous(),
        noise=noise.transpose(1, 2).contiguous(),
        motion_noise=motion_noise.transpose(1, 2).contiguous(),
        level=packed.level,
        valid=packed.valid,
        given=packed.given,
        text=[states.float() for states in packed.text],
        text_mask=packed.text_mask,
        mean_duration_ms=packed.mean_duration_ms,
        tasks=packed.tasks,
        clips=packed.clips,
        positions=packed.positions,
        levels=packed.levels,
        num_frames=packed.num_frames,
    )


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


def _map_tensors(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy of a batch with `change` applied to every tensor in it."""
    changed: dict[str, Any] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            changed[field.name] = change(value)
        elif isinstance(value, dict):
            changed[field.name] = {name: change(tensor) for name, tensor in value.items()}
        elif isinstance(value, list):
            changed[field.name] = [change(tensor) for tensor in value]
    return replace(batch, **changed)
