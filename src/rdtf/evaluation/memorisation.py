"""Whether a model copies: are its clips nearer to training clips than unseen true clips are?

Distances are in the random-convolution features of `sets`, in units of their spread over the
training clips. For each generated clip: the distance to its nearest training clip, over that of the
true held-out clip which it was asked for. About 1: it is as new as a new sticker. Far below 1:
copies. A model that makes all clips alike comes out below 1, too, so look at the clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from rdtf.errors import ConfigError, DataError
from rdtf.evaluation.evaluate import Progress, clip_id, noise_seed, spread
from rdtf.evaluation.records import Nearness
from rdtf.evaluation.sets import FeatureScale, clip_features, clip_maps, nearest_distances
from rdtf.stickers import Sticker


def nearest_training_clips(
    generated: Sequence[Sticker],
    truth: Sequence[Sticker],
    training: Iterable[Sticker],
    known: Sequence[int] = (),
) -> list[Nearness]:
    """One `Nearness` for each generated clip.

    Args:
        generated: clips of any canvas and length.
        truth: the held-out clip that each of them was made for.
        training: two or more clips; read once, one by one.
        known: frames that the model was given; they do not count.

    Raises:
        ConfigError: unequal numbers, or fewer than two training clips.
    """
    if len(generated) != len(truth):
        raise ConfigError(f"{len(generated)} generated clips for {len(truth)} true ones")
    reference = [_features(clip, known) for clip in training if clip.num_frames > len(known)]
    scale = FeatureScale.of(np.array(reference))
    scaled = scale(np.stack(reference))
    distances = [
        nearest_distances(scale(np.stack([_features(clip, known) for clip in clips])), scaled)
        for clips in (generated, truth)
    ]
    return [
        Nearness(clip_id(clip), clip.captions[0] if clip.captions else "", *map(float, pair))
        for clip, *pair in zip(truth, *distances, strict=True)
    ]


def text_memorisation(
    pipeline: Any,
    stickers: Sequence[Sticker],
    training: Iterable[Sticker],
    *,
    limit: int,
    num_inference_steps: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Nearness]:
    """Generate `limit` of the stickers again from their captions alone, and compare.

    A model that moves and does not draw is given their first frames too, which then don't count.
    Text guidance is the pipeline's own default, as in `rdtf generate`.

    Raises:
        DataError: no sticker has a caption.
    """
    named = [clip for clip in stickers if clip.captions and clip.captions[0].strip()]
    if not named:
        raise DataError("none of the held-out clips has a caption to generate it from")
    draws = getattr(pipeline, "draws", True)
    known = [] if draws else [0]
    chosen = spread([clip for clip in named if clip.num_frames > len(known)], limit)
    generated = []
    for done, clip in enumerate(chosen):
        if progress:
            progress(done, len(chosen), "text alone" if draws else "text and first frame")
        generated.append(
            pipeline(
                clip.captions[0],
                num_frames=clip.num_frames,
                duration_ms=max(1, round(clip.total_ms / clip.num_frames)),
                num_inference_steps=num_inference_steps,
                generator=torch.Generator().manual_seed(noise_seed(seed, f"{clip_id(clip)}/t2v")),
                **({} if draws else {"image": clip.select([0])}),
            )
        )
    if progress:
        progress(len(chosen), len(chosen), "done")
    return nearest_training_clips(generated, chosen, training, known)


def _features(clip: Sticker, known: Sequence[int]) -> np.ndarray:
    return clip_features(clip_maps(clip), known)
