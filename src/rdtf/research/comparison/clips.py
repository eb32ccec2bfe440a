"""Held-out clips as every method gets them, and as the set distance needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rdtf.errors import DataError
from rdtf.evaluation.evaluate import spread
from rdtf.evaluation.held_out import spread_frames
from rdtf.evaluation.sets import ClipMaps, FeatureScale, clip_features, clip_maps
from rdtf.evaluation.tasks import evaluation_tasks
from rdtf.models.conditions import Conditions
from rdtf.research.comparison.settings import Budget
from rdtf.stickers import Sticker
from rdtf.training.batches import pad_text
from rdtf.training.loader import PreparedStore

# The paper's: its Table 1 and 3 (image and text), and the two halves of its Table 2.
TASKS = ("it2v", "interpolation", "post_frame_prediction")
_MIN_FRAMES = 4  # below that some task has next to nothing to do


@dataclass(frozen=True)
class HeldOutClip:
    """A true clip at the budget's canvas and length.

    latents: `[C, F, h, w]`; text: token states `[T, D]` per encoder, empty without a caption.
    """

    name: str
    truth: Sticker
    latents: Tensor
    text: list[Tensor]

    @property
    def num_frames(self) -> int:
        return self.truth.num_frames

    @property
    def prompt(self) -> str | None:
        return self.truth.captions[0] if self.truth.captions else None

    def known(self, task: str) -> tuple[int, ...]:
        """Indices of the frames that are given in a task."""
        return evaluation_tasks(self.num_frames)[task]

    @cached_property
    def maps(self) -> ClipMaps:
        return clip_maps(self.truth)


def read_clips(store: PreparedStore, budget: Budget, limit: int) -> list[HeldOutClip]:
    """At most `limit` clips of a split with 4 frames or more, spread evenly over it.

    Raises:
        DataError: fewer than two of them: nothing could be said about a set.
    """
    rows = [row for row, count in enumerate(store.num_frames) if count >= _MIN_FRAMES]
    if len(rows) < 2:
        raise DataError(
            f"training set {store.dataset.path} has {len(rows)} clips of {_MIN_FRAMES} frames or "
            f"more in its {store.clips[0].split} split; at least 2 are needed to compare"
        )
    chosen = [rows[index * len(rows) // min(limit, len(rows))] for index in
              range(min(limit, len(rows)))]  # fmt: skip
    return [_read(store, row, budget) for row in chosen]


def _read(store: PreparedStore, row: int, budget: Budget) -> HeldOutClip:
    clip = store.clips[row]
    truth = store.dataset.read_sticker(clip.index)
    truth = spread_frames(truth, budget.max_frames).fit_canvas(budget.canvas)
    pixels = torch.from_numpy(truth.premultiplied()).permute(0, 3, 1, 2) * 2 - 1
    latents = store.representation.encode(pixels)[0].transpose(0, 1).contiguous()
    return HeldOutClip(clip.id, truth, latents, [s.float() for s in store.text(row, 0.0)])


def batches_of(
    clips: Sequence[HeldOutClip], task: str, size: int
) -> Iterator[tuple[list[int], list[HeldOutClip]]]:
    """Clips of equal length together, at most `size`: (their indices, they)."""
    by_length: dict[int, list[int]] = {}
    for index, clip in enumerate(clips):
        by_length.setdefault(clip.num_frames, []).append(index)
    for _, indices in sorted(by_length.items()):
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            yield chosen, [clips[index] for index in chosen]


def conditions(
    clips: Sequence[HeldOutClip],
    task: str,
    text_widths: Sequence[int],
    device: torch.device,
    pad_to: int | None = None,
) -> Conditions:
    """What a network is told about clips of one length; hidden frames are zero.

    pad_to: so many frames instead; the added ones are to be made as well.
    """
    frames = clips[0].num_frames
    slots = max(frames, pad_to or 0)
    clean = torch.stack([clip.latents for clip in clips])
    clean = torch.nn.functional.pad(clean, (0, 0, 0, 0, 0, slots - frames))
    given = torch.zeros(len(clips), slots, dtype=torch.bool)
    given[:, list(clips[0].known(task))] = True
    text, mask = pad_text([clip.text for clip in clips], text_widths)
    durations = [float(clip.truth.durations_ms.mean()) for clip in clips]
    return Conditions(
        clean=torch.where(given[:, None, :, None, None], clean, 0.0).to(device),
        given=given.to(device),
        valid=torch.ones_like(given, device=device),
        mean_duration_ms=torch.tensor(durations, device=device),
        text=[states.to(device) for states in text],
        text_mask=[row.to(device) for row in mask],
    )


@dataclass(frozen=True)
class Reference:
    """Features by task: the scale, the true held-out clips, and training clips, both scaled."""

    scale: dict[str, FeatureScale]
    truth: dict[str, np.ndarray]
    training: dict[str, np.ndarray]

    @classmethod
    def of(cls, held_out: Sequence[HeldOutClip], training: Sequence[Sticker]) -> Reference:
        """From the held-out clips and clips of the training split."""
        maps = [clip_maps(sticker) for sticker in training]
        scale, truth, scaled = {}, {}, {}
        for task in TASKS:
            rows = [clip_features(m, evaluation_tasks(m.num_frames)[task]) for m in maps]
            scale[task] = FeatureScale.of(np.stack(rows))
            scaled[task] = scale[task](np.stack(rows))
            known = [clip_features(clip.maps, clip.known(task)) for clip in held_out]
            truth[task] = scale[task](np.stack(known))
        return cls(scale, truth, scaled)


def read_training_stickers(store: PreparedStore, budget: Budget) -> list[Sticker]:
    """`reference_clips` true clips of the training split, as long as those that are scored."""
    clips = [clip for clip in store.clips if clip.num_frames >= _MIN_FRAMES]
    if len(clips) < 2:
        raise DataError(
            f"training set {store.dataset.path} has {len(clips)} clips of {_MIN_FRAMES} frames or "
            "more to train on; at least 2 are needed to compare"
        )
    read = store.dataset.read_sticker
    chosen = clips[:: max(len(clips) // budget.reference_clips, 1)][: budget.reference_clips]
    stickers = [spread_frames(read(clip.index), budget.max_frames) for clip in chosen]
    return [sticker.fit_canvas(budget.canvas) for sticker in spread(stickers, None)]
