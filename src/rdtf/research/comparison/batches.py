"""Batches for the comparison: of one length each, or padded as without the dual mask.

The published U-Nets have no validity mask, so their adapters run a pass for every length in a
batch. With clips of one length in each batch there is one pass, no padding, and the wall-clock of
nobody suffers. All methods are trained on these batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from rdtf.method.objective import Objective
from rdtf.method.tasks import TaskDraw
from rdtf.training.batches import BatchBuilder, ClipStore, PackedBatch, Sample, pack
from rdtf.training.config import TrainConfig


class EqualLengthBatches(BatchBuilder):
    """Each step's clips are neighbours in length, cut to the shortest of them.

    (Clips longer than a batch's length are cut as those longer than `max_frames` are: to a stretch
    of neighbours, or evenly spread.)
    """

    def __init__(self, store: ClipStore, config: TrainConfig, objective: Objective) -> None:
        super().__init__(store, config, objective)
        self._of_length: dict[int, BatchBuilder] = {}

    def step_batches(
        self, step: int, task_weights: Mapping[str, float], rank: int = 0, world_size: int = 1
    ) -> list[PackedBatch]:
        """One batch; there are no other ranks."""
        positions = self.positions(step)
        clips = [self.order[position] for position in positions]
        length = min(int(self.store.num_frames[clip]) for clip in clips)
        builder = self._builder(min(length, self.config.max_frames))
        samples = [builder.sample(position, task_weights) for position in positions]
        return [pack(samples, self.store.text_widths)]

    def _builder(self, length: int) -> BatchBuilder:
        if length not in self._of_length:
            config = replace(self.config, max_frames=max(length, 2))
            self._of_length[length] = BatchBuilder(self.store, config, self.objective)
        return self._of_length[length]


class PaddedBatches(BatchBuilder):
    """As without the dual mask: one task, and every clip padded to `max_frames` frames.

    The first frame and the text are given. A shorter clip repeats its last frame, and the
    repetitions count as frames: the network can't tell them, and the loss has no mask.
    """

    def step_batches(
        self, step: int, task_weights: Mapping[str, float], rank: int = 0, world_size: int = 1
    ) -> list[PackedBatch]:
        """One batch; there are no other ranks."""
        samples = [
            self._padded(self.sample(position, {"it2v": 1.0})) for position in self.positions(step)
        ]
        return [pack(samples, self.store.text_widths)]

    def _padded(self, sample: Sample) -> Sample:
        frames = torch.arange(self.config.max_frames).clamp(max=sample.num_frames - 1)
        given = np.zeros(self.config.max_frames, dtype=bool)
        given[0] = bool(sample.draw.given.any())  # at times dropped, for guidance
        return replace(
            sample,
            stored={name: values[frames] for name, values in sample.stored.items()},
            draw=TaskDraw(sample.draw.task, given, sample.draw.use_text),
        )
