"""A prepared training set as the trainer reads it: cached pixels or latents, cached text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rdtf.data.caches import (
    LatentCache,
    PixelCache,
    ensure_latents_cache,
    ensure_pixels_cache,
    ensure_text_cache,
)
from rdtf.data.dataset import PreparedDataset
from rdtf.data.sources import Split
from rdtf.errors import DataError
from rdtf.models.representation import Representation, as_representation
from rdtf.models.text import TextEncoders
from rdtf.training.config import TrainConfig
from rdtf.training.device import default_device
from rdtf.training.presets import build_autoencoder


class PreparedStore:
    """The clips of one split. Implements `rdtf.training.batches.ClipStore`.

    Caches that are missing are built on `device`, where `representation` must be already.

    Pixels are read from the pixel cache and folded on the device; learned latents come from the
    latent cache as mean and log-variance, with fresh posterior noise for every position.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        config: TrainConfig,
        split: Split,
        *,
        representation: Representation,
        text_encoders: TextEncoders,
        device: torch.device,
    ) -> None:
        self.dataset = dataset
        self.clips = dataset.clips(split)
        if not self.clips:
            raise DataError(f"training set {dataset.path} has no clips in its {split} split")
        self.num_frames = np.array([clip.num_frames for clip in self.clips])
        self.representation = representation
        self._captions = [clip.captions or ("",) for clip in self.clips]
        self._text = [
            ensure_text_cache(dataset, encoder, device=device) for encoder in text_encoders.encoders
        ]
        self._pixels: PixelCache | None = None
        self._latents: LatentCache | None = None
        if config.representation.kind == "pixels":
            self._pixels = ensure_pixels_cache(dataset, config.canvas)
        else:
            self._latents = ensure_latents_cache(
                dataset, representation, config.canvas, device=device
            )

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def text_widths(self) -> tuple[int, ...]:
        return tuple(cache.width for cache in self._text)

    def stored(self, clip: int, frames: np.ndarray, flip: bool) -> dict[str, np.ndarray]:
        """Copies of the cache's rows: "pixels" uint8 `[F, S, S, 4]`, or "mean" and "logvar".

        Only pixels can be flipped.
        """
        index = self.clips[clip].index
        if self._pixels is not None:
            pixels = self._pixels.frames(index)[frames]
            return {"pixels": np.ascontiguousarray(pixels[:, :, ::-1] if flip else pixels)}
        assert self._latents is not None
        arrays = {"mean": self._latents.mean(index), "logvar": self._latents.logvar(index)}
        return {name: rows[frames] for name, rows in arrays.items() if rows is not None}

    def to_latents(self, stored: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Arrays `[B, F, ...]` of `stored` → mean and log-variance, float32 `[B, F, C, h, w]`."""
        if "pixels" not in stored:
            logvar = stored.get("logvar")
            return stored["mean"].float(), None if logvar is None else logvar.float()
        pixels = stored["pixels"]
        frames = pixels.flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1
        return self.representation.encode(frames)[0].unflatten(0, pixels.shape[:2]), None

    def name(self, clip: int) -> str:
        """The clip's id in the training set, for messages."""
        return self.clips[clip].id

    def caption(self, clip: int) -> str:
        return self._captions[clip][0]

    def durations_ms(self, clip: int) -> np.ndarray:
        return np.array(self.clips[clip].durations_ms)

    def text(self, clip: int, choice: float) -> list[Tensor]:
        """Token states `[T, D]` per encoder; an empty list if the clip has no caption."""
        captions = self._captions[clip]
        caption = captions[int(choice * len(captions))]
        if not caption.strip():
            return []
        return [torch.from_numpy(np.array(cache.states(caption))) for cache in self._text]


def open_stores(
    data: Path, config: TrainConfig, device: torch.device | None = None
) -> tuple[PreparedDataset, PreparedStore, PreparedStore | None]:
    """The training set, its train split and, if it has one, its validation split.

    Of several processes that ask at once, one builds the caches that are missing, on `device` (the
    GPU if there is one); the others wait for its lock, however long that takes.
    """
    device = device or default_device()
    dataset = PreparedDataset(data)
    autoencoder = build_autoencoder(config).to(device)
    representation = as_representation(autoencoder)
    text_encoders = TextEncoders(config.text.encoders, config.text.max_tokens)

    def store(split: Split) -> PreparedStore:
        return PreparedStore(
            dataset,
            config,
            split,
            representation=representation,
            text_encoders=text_encoders,
            device=device,
        )

    stores = store("train"), store("val") if dataset.clips("val") else None
    autoencoder.to("cpu")  # what the caches hold it need not encode again
    return dataset, *stores
