"""A prepared training set as the trainer reads it: cached pixels or latents, cached text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rdtf.data.dataset import PreparedDataset
from rdtf.data.latentcache import LatentCache, ensure_latents_cache
from rdtf.data.pixelcache import PixelCache, ensure_pixels_cache
from rdtf.data.splits import Split
from rdtf.data.textcache import ensure_text_cache
from rdtf.errors import DataError
from rdtf.models.representation import Representation, as_representation
from rdtf.models.text import TextEncoders
from rdtf.randomness import Purpose, normal
from rdtf.training.config import TrainConfig
from rdtf.training.presets import build_autoencoder


class PreparedStore:
    """The clips of one split. Implements `rdtf.training.batches.ClipStore`.

    Pixels are read from the pixel cache and folded on the fly; learned latents come from the
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
    ) -> None:
        self.dataset = dataset
        self.clips = dataset.clips(split)
        if not self.clips:
            raise DataError(f"training set {dataset.path} has no clips in its {split} split")
        self.num_frames = np.array([clip.num_frames for clip in self.clips])
        self.representation = representation
        self._captions = [clip.captions or ("",) for clip in self.clips]
        self._text = [ensure_text_cache(dataset, encoder) for encoder in text_encoders.encoders]
        self._pixels: PixelCache | None = None
        self._latents: LatentCache | None = None
        if config.representation.kind == "pixels":
            self._pixels = ensure_pixels_cache(dataset, config.canvas)
        else:
            self._latents = ensure_latents_cache(dataset, representation, config.canvas)

    def __len__(self) -> int:
        return len(self.clips)

    def latents(
        self, clip: int, frames: np.ndarray, flip: bool, noise_key: Sequence[int]
    ) -> Tensor:
        """Clean latents `[C, F, h, w]`, float32. Only pixels can be flipped."""
        index = self.clips[clip].index
        if self._pixels is not None:
            pixels = self._pixels.frames(index)[frames]
            if flip:
                pixels = pixels[:, :, ::-1]
            values = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
            return self.representation.encode(values / 127.5 - 1)[0].transpose(0, 1)
        assert self._latents is not None
        mean = torch.from_numpy(self._latents.mean(index)[frames]).float()
        logvar = self._latents.logvar(index)
        if logvar is not None:
            noise = normal(tuple(mean.shape), noise_key[0], Purpose.POSTERIOR, *noise_key[1:])
            mean = mean + (0.5 * torch.from_numpy(logvar[frames]).float()).exp() * noise
        return mean.transpose(0, 1)

    def durations_ms(self, clip: int) -> np.ndarray:
        return np.array(self.clips[clip].durations_ms)

    def text(self, clip: int, choice: float) -> list[Tensor]:
        """Token states `[T, D]` per encoder; an empty list if the clip has no caption."""
        captions = self._captions[clip]
        caption = captions[int(choice * len(captions))]
        if not caption.strip():
            return []
        return [torch.from_numpy(cache.states(caption).astype(np.float32)) for cache in self._text]


def open_stores(
    data: Path, config: TrainConfig
) -> tuple[PreparedDataset, PreparedStore, PreparedStore | None]:
    """The training set, its train split and, if it has one, its validation split."""
    dataset = PreparedDataset(data)
    representation = as_representation(build_autoencoder(config))
    text_encoders = TextEncoders(config.text.encoders, config.text.max_tokens)

    def store(split: Split) -> PreparedStore:
        return PreparedStore(
            dataset, config, split, representation=representation, text_encoders=text_encoders
        )

    return dataset, store("train"), store("val") if dataset.clips("val") else None
