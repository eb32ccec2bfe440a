"""The text cache: the token states of every caption, and of no caption."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from rdtf.data.cachefolder import build_once
from rdtf.data.dataset import PreparedDataset
from rdtf.data.layout import json_bytes
from rdtf.data.progress import track
from rdtf.data.tensorfile import RowWriter, open_rows
from rdtf.errors import DataError
from rdtf.fileio import read_json

if TYPE_CHECKING:
    from rdtf.models.text import TextEncoder

_STATES_FILE = "states.safetensors"
_OFFSETS_FILE = "offsets.safetensors"
_CAPTIONS_FILE = "captions.json"


class TextCache:
    """Token states of captions, float16, without padding."""

    def __init__(self, captions: list[str], states: np.ndarray, offsets: np.ndarray) -> None:
        if len(offsets) != len(captions) + 1 or offsets[-1] != len(states):
            raise DataError("text cache holds another number of captions than it says")
        self._rows = {caption: row for row, caption in enumerate(captions)}
        self._states = states
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, caption: str) -> bool:
        return caption in self._rows

    @property
    def width(self) -> int:
        return int(self._states.shape[1])

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest caption."""
        return int(np.diff(self._offsets).max())

    def states(self, caption: str) -> np.ndarray:
        """float16 [T,D], a view into the file; T may be 0 for the empty caption "".

        Raises:
            DataError: the training set has no such caption.
        """
        if caption not in self._rows:
            raise DataError(f"caption {caption!r} is not in the text cache")
        row = self._rows[caption]
        return self._states[self._offsets[row] : self._offsets[row + 1]]


def ensure_text_cache(
    dataset: PreparedDataset,
    encoder: TextEncoder,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 64,
    progress: bool | None = None,
) -> TextCache:
    """The text cache of `dataset` for `encoder`, built on `device` if needed."""

    def build(folder: Path) -> None:
        encoder.to(device)
        # Captions of like length share a batch, so that little is computed for padding.
        captions = sorted({"", *dataset.captions()}, key=lambda text: (len(text), text))
        starts = range(0, len(captions), batch_size)
        lengths: list[int] = []
        with RowWriter(folder / _STATES_FILE, (encoder.width,), "float16") as writer:
            for start in track(starts, "captions", len(starts), show=progress):
                for tokens in _encode(encoder, captions[start : start + batch_size]):
                    writer.append(tokens)
                    lengths.append(len(tokens))
        with RowWriter(folder / _OFFSETS_FILE, (), "int64") as writer:
            writer.append(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
        (folder / _CAPTIONS_FILE).write_bytes(json_bytes(captions))

    def open_cache(folder: Path) -> TextCache:
        captions = read_json(folder / _CAPTIONS_FILE, "captions of the text cache")
        states, offsets = open_rows(folder / _STATES_FILE), open_rows(folder / _OFFSETS_FILE)
        return TextCache(captions, states, offsets)

    return build_once(dataset, "text", {"encoder": encoder.fingerprint}, build, open_cache)


def _encode(encoder: TextEncoder, captions: list[str]) -> list[np.ndarray]:
    """The states of each caption's own tokens."""
    states, mask = encoder.encode(captions)
    rows = zip(states.half().cpu().numpy(), mask.cpu().numpy(), strict=True)
    return [tokens[used] for tokens, used in rows]
