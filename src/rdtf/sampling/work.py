"""The frames of one sticker while they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rdtf.sampling.large import LargeFrames
from rdtf.sampling.sampling import Encoded


@dataclass
class Work:
    """What is there already.

    frames: straight RGBA uint8 `[F, S, S, 4]` at the model's canvas; known: bool `[F]`;
    durations_ms: `[F]`; large: the same frames above the canvas, if asked for;
    text, negative: token states and masks per encoder.
    """

    frames: np.ndarray
    known: np.ndarray
    durations_ms: np.ndarray
    large: LargeFrames | None
    text: Encoded
    negative: Encoded

    def index(self, slots: Sequence[int]) -> np.ndarray:
        """Rows of slots; in a loop slot F + i is frame i."""
        return np.array(slots, dtype=np.int64) % len(self.known)

    def times_ms(self, slots: Sequence[int]) -> np.ndarray:
        """Start of each slot, float64, counting on beyond a turn of the loop."""
        starts = np.concatenate([[0], np.cumsum(self.durations_ms)]).astype(np.float64)
        turns, rows = np.divmod(np.array(slots), len(self.known))
        return turns * starts[-1] + starts[rows]

    def made(self, slots: Sequence[int], frames: np.ndarray) -> None:
        """Keep frames made at the canvas, `[n, S, S, 4]`; above it they are enlarged."""
        rows = self.index(slots)
        self.frames[rows], self.known[rows] = frames, True
        if self.large is not None:
            self.large.enlarge(rows, frames)
