"""The latent cache: what a learned representation makes of every frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from rdtf.data.cachefolder import build_once
from rdtf.data.dataset import PreparedDataset
from rdtf.data.pixelcache import check_canvas, iterate_pixels
from rdtf.data.tensorfile import RowWriter, open_rows
from rdtf.errors import DataError

if TYPE_CHECKING:
    from rdtf.models.representation import Representation

_MEAN_FILE = "mean.safetensors"
_LOGVAR_FILE = "logvar.safetensors"


class LatentCache:
    """Mean and log variance of the latents of a training set, float16.

    Keeping the variance keeps the noise of the encoder: each epoch can draw another sample.
    """

    def __init__(
        self, mean_rows: np.ndarray, logvar_rows: np.ndarray | None, frame_offsets: np.ndarray
    ) -> None:
        for rows in (mean_rows, logvar_rows):
            if rows is not None and len(rows) != frame_offsets[-1]:
                raise DataError(f"latent cache holds {len(rows)} frames, not {frame_offsets[-1]}")
        self.mean_rows = mean_rows
        self.logvar_rows = logvar_rows
        self._offsets = frame_offsets

    def mean(self, index: int) -> np.ndarray:
        """float16 [F,C,h,w] of clip `index`; a view into the file."""
        return self.mean_rows[self._offsets[index] : self._offsets[index + 1]]

    def logvar(self, index: int) -> np.ndarray | None:
        """As `mean`; None where the representation is deterministic."""
        if self.logvar_rows is None:
            return None
        return self.logvar_rows[self._offsets[index] : self._offsets[index + 1]]


def ensure_latents_cache(
    dataset: PreparedDataset,
    representation: Representation,
    canvas: int | None = None,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool | None = None,
) -> LatentCache:
    """The latent cache of `dataset` at `canvas` (its own if None), built if needed.

    `representation` must be on `device` already; it sees `batch_size` frames at once.
    """
    canvas = check_canvas(dataset, canvas)

    def build(folder: Path) -> None:
        clips = iterate_pixels(dataset, canvas, workers=workers, progress=progress)
        _write_latents(folder, representation, _batches(clips, batch_size), device)

    def open_cache(folder: Path) -> LatentCache:
        logvar = folder / _LOGVAR_FILE
        logvar_rows = open_rows(logvar) if logvar.exists() else None
        return LatentCache(open_rows(folder / _MEAN_FILE), logvar_rows, dataset.frame_offsets)

    identity = {"canvas": canvas, "representation": representation.fingerprint}
    return build_once(dataset, "latents", identity, build, open_cache)


def _batches(clips: Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """Frames of all clips in order, regrouped into batches of `batch_size`."""
    waiting: list[np.ndarray] = []
    for frame in (frame for frames in clips for frame in frames):
        waiting.append(frame)
        if len(waiting) == batch_size:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)


@torch.no_grad()
def _write_latents(
    folder: Path,
    representation: Representation,
    batches: Iterable[np.ndarray],
    device: str | torch.device,
) -> None:
    writers: dict[str, RowWriter] = {}
    try:
        for frames in batches:
            pixels = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
            mean, logvar = representation.encode(pixels)
            for name, values in ((_MEAN_FILE, mean), (_LOGVAR_FILE, logvar)):
                if values is None:
                    continue
                rows = values.half().cpu().numpy()
                if name not in writers:
                    writers[name] = RowWriter(folder / name, rows.shape[1:], "float16")
                writers[name].append(rows)
    finally:
        for writer in writers.values():
            writer.close()
