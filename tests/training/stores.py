"""A training set in memory: what a `ClipStore` has to say about each clip, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

CHANNELS, SIDE, TEXT_WIDTH = 64, 8, 384  # of `tiny_config`


class MemoryStore:
    """Clips of the given lengths. Latents tell clip, frame and flip; text tells clip and caption.

    `salt` changes the content of the clips in `salted` and nothing else.
    """

    def __init__(
        self, num_frames: Sequence[int], salted: Sequence[int] = (), salt: float = 0.0
    ) -> None:
        self.num_frames = np.array(num_frames)
        self.concepts = np.arange(len(num_frames)) // 3
        self.difficulty = self.num_frames / self.num_frames.max()
        self._salt = dict.fromkeys(salted, salt)

    text_widths = (TEXT_WIDTH,)

    def stored(self, clip: int, frames: np.ndarray, flip: bool) -> dict[str, np.ndarray]:
        columns = np.arange(SIDE, dtype=np.float32) / SIDE
        row = (columns[::-1] if flip else columns) + clip + self._salt.get(clip, 0.0)
        values = np.broadcast_to(row, (len(frames), CHANNELS, SIDE, SIDE))
        return {"mean": values.astype(np.float32) + frames[:, None, None, None] * 1000}

    def to_latents(self, stored: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        return stored["mean"].float(), None

    def durations_ms(self, clip: int) -> np.ndarray:
        return 50 + clip + np.arange(self.num_frames[clip]) * 10

    def text(self, clip: int, choice: float) -> list[Tensor]:
        return [torch.full((1 + clip % 3, TEXT_WIDTH), clip + int(choice * 3) / 10)]


class CountingStore(MemoryStore):
    """Remembers which clips were asked for."""

    def __init__(self, num_frames: Sequence[int]) -> None:
        super().__init__(num_frames)
        self.asked: list[int] = []

    def stored(self, clip: int, frames: np.ndarray, flip: bool) -> dict[str, np.ndarray]:
        self.asked.append(clip)
        return super().stored(clip, frames, flip)
