"""Batches of the coming steps, built here or by worker processes: the same ones in either case."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from rdtf.training.batches import BatchBuilder
from rdtf.training.lookahead import LEAD_STEPS, CurriculumLookahead
from rdtf.training.packing import PackedBatch

# Requests in flight stay below LEAD_STEPS: beyond, the weights are not settled yet.
MAX_WORKERS = LEAD_STEPS - 1


def resolve_workers(num_workers: int, device: torch.device) -> int:
    """−1 → none on a CPU, which has nothing to spare, up to four beside a GPU."""
    if num_workers >= 0:
        return num_workers
    return 0 if device.type == "cpu" else max(min(4, (os.cpu_count() or 1) - 1), 0)


class StepLoader:
    """Iterates over the micro-batches of this rank, step after step, from `first_step` on."""

    def __init__(
        self,
        builder: BatchBuilder,
        foresight: CurriculumLookahead,
        first_step: int,
        last_step: int,
        *,
        rank: int,
        world_size: int,
        num_workers: int,
        pin_memory: bool,
    ) -> None:
        self._builder = builder
        self._foresight = foresight
        self._steps = range(first_step, last_step)
        self._place = (rank, world_size)
        self._num_workers = num_workers
        self._pin_memory = pin_memory

    def __iter__(self) -> Iterator[list[PackedBatch]]:
        if self._num_workers == 0:
            for request in self._requests():
                batches = self[request]
                yield [batch.pin_memory() for batch in batches] if self._pin_memory else batches
            return
        loader: Any = DataLoader(
            self,  # type: ignore[arg-type]  # a map from requests to steps
            sampler=self._requests(),
            batch_size=None,
            num_workers=self._num_workers,
            prefetch_factor=max(1, MAX_WORKERS // self._num_workers),
            collate_fn=_as_they_are,
            pin_memory=self._pin_memory,
            # The caches are mapped into memory: a forked worker shares them.
            multiprocessing_context="fork" if sys.platform == "linux" else None,
        )
        yield from loader

    def _requests(self) -> Iterator[tuple[int, dict[str, float]]]:
        """(step, its task weights), asked for one by one as the loader has room."""
        for step in self._steps:
            yield step, self._foresight.task_weights(step)

    def __getitem__(self, request: tuple[int, dict[str, float]]) -> list[PackedBatch]:
        step, task_weights = request
        return self._builder.step_batches(step, task_weights, *self._place)


def _as_they_are(batches: list[PackedBatch]) -> list[PackedBatch]:
    return batches
