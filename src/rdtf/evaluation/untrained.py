"""A model before its first step: what it scores then, training has not brought."""

from __future__ import annotations

import copy
from typing import Any

import torch

from rdtf.randomness import Purpose, stream

UNTRAINED = "untrained"


def untrained_copy(pipeline: Any, seed: int = 0) -> Any:
    """A pipeline with the same parts, but fresh weights in its networks.

    Each is built anew from the config of the given one, on the same device and in the same dtype.
    Autoencoder, text encoders and scheduler are shared.

    Args:
        pipeline: a `StickerPipeline` over a denoiser that is built from a config.
        seed: settles the weights, on every device alike; torch's own generator is left as it is.
    """
    made = copy.copy(pipeline)
    for name in ("denoiser", "motion", "predictor", "drawer"):
        old = getattr(pipeline, name, None)
        if old is not None:
            setattr(made, name, _fresh(old, seed))
    return made


def _fresh(old: Any, seed: int) -> Any:
    """A network of the same config, device and dtype, as training begins with it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(seed, Purpose.INIT).integers(2**31)))
        fresh = type(old).from_config(old.config)
    if fresh.dtype != old.dtype:  # diffusers warns of any cast
        fresh = fresh.to(old.dtype)
    return fresh.to(old.device).eval()
