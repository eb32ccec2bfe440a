from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rdtf.stickers.sticker import Sticker


def contact_sheet(
    rows: Sequence[Sticker | Sequence[np.ndarray]],
    labels: Sequence[str] | None = None,
    *,
    cell: int | None = None,
) -> Image.Image:
    raise NotImplementedError


def write_sheet(
    rows: Sequence[Sticker | Sequence[np.ndarray]],
    path: Path | str,
    labels: Sequence[str] | None = None,
    *,
    cell: int | None = None,
) -> Path:
    raise NotImplementedError
