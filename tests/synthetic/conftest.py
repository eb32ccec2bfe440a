from __future__ import annotations

import numpy as np
import pytest

from cli.conftest import rdtf, refused
from rdtf.stickers import Sticker

__all__ = ["rdtf", "refused"]


def blob(height: int = 64, width: int = 64, name: str = "") -> Sticker:
    """A still with soft edges, off the middle, and colours that differ everywhere."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    radius = np.hypot((x - 0.45) / 0.24, (y - 0.5) / 0.3)
    frame = np.stack([40 + 200 * x, 220 - 150 * y, 90 + 60 * np.sin(9 * x), 0 * x], axis=-1)
    frame[..., 3] = 255 * (2.5 - 2 * radius).clip(0, 1)
    frames = np.rint(frame).astype(np.uint8)[None]
    return Sticker(frames, np.array([100]), captions=(name,) if name else ())


@pytest.fixture
def still() -> Sticker:
    return blob()
