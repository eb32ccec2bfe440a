"""Randomness as a pure function of (seed, purpose, position).

Nothing stateful has to be saved or restored: sample number 4,711 gets the same order, task, time
and noise whenever and wherever it is trained. That is what makes resuming exact, and what makes
one rank or four see the same data.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What a stream is for. Numbers are part of every run's reproducibility: never renumber."""

    ORDER = 1
    TASK = 2
    TIMESTEP = 3
    NOISE = 4
    AUGMENT = 5
    DROPOUT = 6
    VALIDATION = 7
    INIT = 8
    POSTERIOR = 9
    SAMPLE = 10


def stream(seed: int, purpose: Purpose, *position: int) -> np.random.Generator:
    """An independent generator for one `purpose` at one `position` (any number of integers)."""
    # As a spawn key, not as entropy: there, (5) and (5, 0) would be the same stream.
    sequence = np.random.SeedSequence(seed, spawn_key=(purpose, *position))
    return np.random.Generator(np.random.Philox(sequence))


def noise_key(seed: int, purpose: Purpose, *position: int) -> int:
    """The seed, below 2⁶³, of one tensor of noise: small enough to travel with a sample."""
    return int(stream(seed, purpose, *position).integers(2**63))


def normal_from_key(
    shape: tuple[int, ...], key: int, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Standard normal noise, float32, made on `device`.

    A pure function of the key and the kind of device: CPUs and GPUs draw different numbers.
    """
    generator = torch.Generator(device).manual_seed(key)
    return torch.randn(shape, generator=generator, device=device)


def normal(shape: tuple[int, ...], seed: int, purpose: Purpose, *position: int) -> torch.Tensor:
    """Standard normal noise, float32 on the CPU, for one `purpose` at one `position`."""
    return normal_from_key(shape, noise_key(seed, purpose, *position))


class DataOrder:
    """Position in the run → index in the training set; each epoch is its own permutation."""

    def __init__(self, num_samples: int, seed: int) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self._epoch = -1
        self._permutation = np.empty(0, dtype=np.int64)

    def __getitem__(self, position: int) -> int:
        epoch, offset = divmod(position, self.num_samples)
        if epoch != self._epoch:
            order = stream(self.seed, Purpose.ORDER, epoch)
            self._permutation = order.permutation(self.num_samples)
            self._epoch = epoch
        return int(self._permutation[offset])
