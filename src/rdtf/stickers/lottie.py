from __future__ import annotations

from pathlib import Path

import numpy as np

from rdtf.stickers.budget import DEFAULT_BUDGET, Budget


class LottieFile:
    num_frames: int
    fps: float
    duration_ms: int

    @classmethod
    def open(cls, path: Path | str, budget: Budget = DEFAULT_BUDGET) -> LottieFile:
        raise NotImplementedError

    def render(self, index: int, size: int) -> np.ndarray:
        raise NotImplementedError
