"""The prepared training set as the trainer reads it, and batches of the coming steps.

Batches are built here or by worker processes, the same ones in either case. A batch's tasks depend
on the curriculum, which depends on the losses of the batches before it. If every step waited for
the last one's losses, nothing could be loaded in advance and a GPU would idle. So the weights of
step k are settled when step k − LEAD_STEPS is done, from what had been observed by then: always by
the same rule, however many workers load and however many ranks train.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

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
from rdtf.method.curriculum import Curriculum
from rdtf.models.representation import Representation, as_representation
from rdtf.models.text import TextEncoders
from rdtf.training.device import default_device
from rdtf.training.presets import build_autoencoder

if TYPE_CHECKING:
    from rdtf.training.config import TrainConfig

# ------------------------------------------------------------ the training set


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
        self.num_frames = self.clips.num_frames
        self.representation = representation
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
    def concepts(self) -> np.ndarray:
        """Integers `[N]`: clips of one concept have one number."""
        return self.clips.concepts

    @property
    def difficulty(self) -> np.ndarray:
        """float64 `[N]`, from easy (0) to difficult (1)."""
        return self.clips.difficulty

    @property
    def text_widths(self) -> tuple[int, ...]:
        return tuple(cache.width for cache in self._text)

    def stored(self, clip: int, frames: np.ndarray, flip: bool) -> dict[str, np.ndarray]:
        """Copies of the cache's rows: "pixels" uint8 `[F, S, S, 4]`, or "mean" and "logvar".

        Only pixels can be flipped.
        """
        index = int(self.clips.indices[clip])
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
        return self._captions(clip)[0]

    def _captions(self, clip: int) -> tuple[str, ...]:
        return self.clips[clip].captions or ("",)

    def durations_ms(self, clip: int) -> np.ndarray:
        return np.array(self.clips[clip].durations_ms)

    def text(self, clip: int, choice: float) -> list[Tensor]:
        """Token states `[T, D]` per encoder; an empty list if the clip has no caption."""
        captions = self._captions(clip)
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


# ---------------------------------------------------------------- coming steps


LEAD_STEPS = 8


class CurriculumLookahead:
    """The curriculum's percentiles for the next `LEAD_STEPS` steps of a run of `steps`.

    Where a run is planned for a time, how much of it had passed when they were settled, too.
    """

    def __init__(self, curriculum: Curriculum, steps: int, first_step: int = 0) -> None:
        self._curriculum = curriculum
        self._steps = steps
        self._first_step = first_step
        self._quantiles = deque([curriculum.quantile] * LEAD_STEPS, maxlen=LEAD_STEPS)
        self._time_shares = deque([0.0] * LEAD_STEPS, maxlen=LEAD_STEPS)

    def family_weights(self, step: int) -> dict[str, float]:
        """Weight of each family at `step`, one of the next `LEAD_STEPS`."""
        return self._curriculum.family_weights(*self._settled(step))

    def task_weights(self, step: int) -> dict[str, float]:
        """As `family_weights`, for each task."""
        return self._curriculum.task_weights(*self._settled(step))

    def _settled(self, step: int) -> tuple[float, float]:
        """Progress of the run at `step`, by its steps or its time, and the percentile."""
        place = step - self._first_step
        return max(step / self._steps, self._time_shares[place]), self._quantiles[place]

    def step_done(self, time_share: float = 0.0) -> None:
        """One step is behind: settle the weights of the step that came into sight."""
        self._quantiles.append(self._curriculum.quantile)
        self._time_shares.append(time_share)
        self._first_step += 1

    def state_dict(self) -> dict[str, Any]:
        return {
            "first_step": self._first_step,
            "quantiles": list(self._quantiles),
            "time_shares": list(self._time_shares),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._first_step = int(state["first_step"])
        self._quantiles = deque(state["quantiles"], maxlen=LEAD_STEPS)
        self._time_shares = deque(state["time_shares"], maxlen=LEAD_STEPS)


# Requests in flight stay below LEAD_STEPS: beyond, the weights are not settled yet.
MAX_WORKERS = LEAD_STEPS - 1


def resolve_workers(num_workers: int, device: torch.device) -> int:
    """−1 → none on a CPU, which has nothing to spare, up to four beside a GPU."""
    if num_workers >= 0:
        return num_workers
    return 0 if device.type == "cpu" else max(min(4, (os.cpu_count() or 1) - 1), 0)


class _Built(torch.utils.data.Dataset):
    """A map from requests to what is built of them."""

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self._build = build

    def __getitem__(self, index: Any) -> Any:
        return self._build(index)


def load_ahead(
    build: Callable[[Any], Any],
    requests: Iterator[Any],
    *,
    num_workers: int = 0,
    in_flight: int = MAX_WORKERS,
    pin_memory: bool = False,
) -> Iterator[Any]:
    """`build(request)` of every request in turn, by worker processes if there are any.

    Args:
        requests: asked for one by one as the loader has room.
        in_flight: how many may be under way with workers.
    """
    if num_workers == 0:
        for request in requests:
            built = build(request)
            pinned = pin_memory and isinstance(built, list)
            yield [batch.pin_memory() for batch in built] if pinned else built
        return
    loader: Any = DataLoader(
        _Built(build),
        sampler=requests,  # pyright: ignore[reportArgumentType]  # an iterator will do
        batch_size=None,
        num_workers=num_workers,
        prefetch_factor=max(1, in_flight // num_workers),
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        # The caches are mapped into memory: a forked worker shares them.
        multiprocessing_context="fork" if sys.platform == "linux" else None,
    )
    yield from loader


def _as_it_is(built: Any) -> Any:
    return built
