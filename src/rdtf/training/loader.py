"""Batches of the coming steps, built here or by worker processes: the same ones in either case.

A batch's tasks depend on the curriculum, which depends on the losses of the batches before it. If
every step waited for the last one's losses, nothing could be loaded in advance and a GPU would
idle. So the weights of step k are settled when step k − LEAD_STEPS is done, from what had been
observed by then: always by the same rule, however many workers load and however many ranks train.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from rdtf.method.curriculum import Curriculum
from rdtf.training.batches import BatchBuilder
from rdtf.training.packing import PackedBatch

LEAD_STEPS = 8


class CurriculumLookahead:
    """The curriculum's percentiles for the next `LEAD_STEPS` steps of a run of `steps`.

    Where a run is planned for a time, how much of it had passed when they were settled, too.
    """

    def __init__(self, curriculum: Curriculum, steps: int) -> None:
        self._curriculum = curriculum
        self._steps = steps
        self._first_step = 0
        self._quantiles = deque([curriculum.quantile] * LEAD_STEPS, maxlen=LEAD_STEPS)
        self._time_shares = deque([0.0] * LEAD_STEPS, maxlen=LEAD_STEPS)

    def family_weights(self, step: int) -> dict[str, float]:
        """Weight of each family at `step`, one of the next `LEAD_STEPS`."""
        return self._curriculum.family_weights(*self._settled(step))

    def task_weights(self, step: int) -> dict[str, float]:
        """As `family_weights`, for each task."""
        return self._curriculum.task_weights(*self._settled(step))

    def _settled(self, step: int) -> tuple[float, float]:
        """Progress of the run at `step`, by its steps or its time, and the percentile."""
        place = step - self._first_step
        return max(step / self._steps, self._time_shares[place]), self._quantiles[place]

    def step_done(self, time_share: float = 0.0) -> None:
        """One step is behind: settle the weights of the step that came into sight."""
        self._quantiles.append(self._curriculum.quantile)
        self._time_shares.append(time_share)
        self._first_step += 1

    def state_dict(self) -> dict[str, Any]:
        return {
            "first_step": self._first_step,
            "quantiles": list(self._quantiles),
            "time_shares": list(self._time_shares),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._first_step = int(state["first_step"])
        self._quantiles = deque(state["quantiles"], maxlen=LEAD_STEPS)
        # Checkpoints of an older rdtf have none.
        shares = state.get("time_shares", [0.0] * LEAD_STEPS)
        self._time_shares = deque(shares, maxlen=LEAD_STEPS)


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
        lookahead: CurriculumLookahead,
        first_step: int,
        last_step: int,
        *,
        rank: int,
        world_size: int,
        num_workers: int,
        pin_memory: bool,
    ) -> None:
        self._builder = builder
        self._lookahead = lookahead
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
            yield step, self._lookahead.task_weights(step)

    def __getitem__(self, request: tuple[int, dict[str, float]]) -> list[PackedBatch]:
        step, task_weights = request
        return self._builder.step_batches(step, task_weights, *self._place)


def _as_they_are(batches: list[PackedBatch]) -> list[PackedBatch]:
    return batches
