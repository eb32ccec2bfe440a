"""Parameter-efficient adapters of larger pre-trained U-Nets: what RDTF is compared with.

Each is faithful to its paper and of use by itself:

- `I2VAdapter` (arXiv 2312.16693), on an AnimateDiff-style motion U-Net;
- `SimDA` (arXiv 2308.09710), on a text-to-image U-Net;
- `CustomizeAVideo` (arXiv 2402.14780), on a text-to-video U-Net;
- `FullFineTuning` of any of the three, which is also how a new base is pre-trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from rdtf.errors import ConfigError
from rdtf.research.adapters.bases import FullFineTuning, load_base, small_base
from rdtf.research.adapters.common import AdaptedUNet, read_adapter
from rdtf.research.adapters.customize_a_video import CustomizeAVideo
from rdtf.research.adapters.i2v_adapter import (
    FrameSimilarityPrior,
    I2VAdapter,
    sample_with_prior,
)
from rdtf.research.adapters.simda import SimDA
from rdtf.research.adapters.use import learn_motion, sticker_pipeline, tune

__all__ = [
    "ADAPTERS",
    "AdaptedUNet",
    "CustomizeAVideo",
    "FrameSimilarityPrior",
    "FullFineTuning",
    "I2VAdapter",
    "SimDA",
    "build_adapter",
    "learn_motion",
    "load_adapter",
    "load_base",
    "sample_with_prior",
    "small_base",
    "sticker_pipeline",
    "tune",
]

ADAPTERS: Mapping[str, type[AdaptedUNet]] = {
    kind.name: kind for kind in (I2VAdapter, SimDA, CustomizeAVideo, FullFineTuning)
}


def build_adapter(name: str, base: nn.Module, **settings: Any) -> AdaptedUNet:
    """The adapter of that name on a base, which it changes in place."""
    if name not in ADAPTERS:
        raise ConfigError(f"adapter {name!r} is unknown; choose from {', '.join(ADAPTERS)}")
    return ADAPTERS[name](base, **settings)


def load_adapter(folder: Path | str, base: nn.Module) -> AdaptedUNet:
    """The adapter that `save` wrote, with its settings, on a base, ready for sampling."""
    name, settings, _ = read_adapter(folder)
    adapter = build_adapter(name, base, **settings)
    adapter.load(folder)
    adapter.begin("sampling")
    return adapter
