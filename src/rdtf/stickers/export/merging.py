"""Fewer frames: which to leave out so that the clip changes least."""

from __future__ import annotations

import numpy as np
from PIL import Image

from rdtf.stickers import Sticker

_FEATURE_SIDE = 48  # pixels; enough to see a blink


class FrameMerger:
    """Leaves frames out one by one; what a frame leaves behind, a neighbour fills.

    The next to go is the frame whose time, times the squared difference from the neighbour that is
    shown instead, is the least. So repeats go first, and what goes for a smaller number of frames
    includes what goes for a larger one. The first frame stays: platforms show it when a clip rests.
    """

    def __init__(self, sticker: Sticker) -> None:
        self._features = np.stack([_feature(frame) for frame in sticker.frames])
        indices, durations = np.arange(sticker.num_frames), sticker.durations_ms
        steps = np.mean(np.square(np.diff(self._features, axis=0)), axis=1)
        self._states = {sticker.num_frames: (indices, durations)}
        while len(indices) > 1:
            gone, heir = _cheapest(steps, durations)
            durations = durations.copy()
            durations[heir] += durations[gone]
            if gone + 1 < len(indices):
                steps[gone] = self._step(indices[gone - 1], indices[gone + 1])
            steps = np.delete(steps, gone - 1)
            indices, durations = np.delete(indices, gone), np.delete(durations, gone)
            self._states[len(indices)] = indices, durations

    def keep(self, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
        """The `num_frames` frames that stay, int64 [K], and their durations, int64 [K]."""
        return self._states[num_frames]

    def _step(self, first: int, second: int) -> float:
        return float(np.mean(np.square(self._features[first] - self._features[second])))


def _cheapest(steps: np.ndarray, durations: np.ndarray) -> tuple[int, int]:
    """Which frame goes, never the first, and which neighbour is shown instead."""
    before = steps * durations[1:]  # the frame in front is shown longer
    after = steps[1:] * durations[1:-1]  # the frame behind begins earlier
    gone = int(np.argmin(before)) + 1
    if after.size and after.min() < before[gone - 1]:
        gone = int(np.argmin(after)) + 1
        return gone, gone + 1
    return gone, gone - 1


def _feature(frame: np.ndarray) -> np.ndarray:
    """Premultiplied float32 [4 * side * side] in [0, 1]."""
    image = Image.fromarray(frame).convert("RGBa")
    small = image.resize((_FEATURE_SIDE, _FEATURE_SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(small, np.float32).reshape(-1) / 255
