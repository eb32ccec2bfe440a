"""From a training set's held-out split and a pipeline to an evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rdtf.data.dataset import PreparedDataset
from rdtf.data.sources import Split
from rdtf.errors import DataError
from rdtf.evaluation.evaluate import evaluate
from rdtf.evaluation.results import Evaluation
from rdtf.evaluation.untrained import untrained_copy
from rdtf.stickers import Sticker


def held_out_stickers(data: Path | str, pipeline: Any, split: Split = "val") -> list[Sticker]:
    """The animated clips of a split as the model sees them: its canvas, its length.

    Clips longer than the model's window are spread to it evenly, as half of them are in training.

    Raises:
        DataError: the split has no animated clip.
    """
    return list(each_sticker(data, pipeline, split))


def each_sticker(data: Path | str, pipeline: Any, split: Split) -> Iterator[Sticker]:
    """The same one by one, for a split that need not fit into memory."""
    dataset = PreparedDataset(data)
    clips = [clip for clip in dataset.clips(split) if clip.num_frames > 1]
    if not clips:
        raise DataError(f"training set {data} has no animated clips in its {split} split")
    stickers = (dataset.read_sticker(clip.index) for clip in clips)
    return (
        spread_frames(sticker, pipeline.max_frames).fit_canvas(pipeline.canvas)
        for sticker in stickers
    )


def spread_frames(sticker: Sticker, max_frames: int) -> Sticker:
    """At most `max_frames` frames, evenly spread; those left out lend their time to the others."""
    if sticker.num_frames <= max_frames:
        return sticker
    frames = np.linspace(0, sticker.num_frames - 1, max_frames).round().astype(int)
    ends = np.append(frames[1:], sticker.num_frames)
    durations = [sticker.durations_ms[a:b].sum() for a, b in zip(frames, ends, strict=True)]
    return sticker.select(frames).with_durations(np.array(durations))


def score_model(
    pipeline: Any, stickers: list[Sticker], *, untrained: bool = True, **options: Any
) -> Evaluation:
    """`evaluate` without the progress bars of diffusers, beside the same model `untrained`."""
    pipeline.set_progress_bar_config(disable=True)
    fresh = untrained_copy(pipeline) if untrained else None
    return evaluate(pipeline, stickers, untrained=fresh, **options)
