"""rdtf: train a compact video diffusion model from scratch on animated stickers, and use it."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Two OpenMP threads that spin while they wait for each other cost up to 8× on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rdtf.models.dfgn import DFGN
    from rdtf.models.representation import PixelPatches, RGBAAutoencoder
    from rdtf.models.text import TextEncoders
    from rdtf.sampling.pipeline import StickerPipeline
    from rdtf.stickers import Sticker

_HOMES = {
    "DFGN": "rdtf.models.dfgn",
    "PixelPatches": "rdtf.models.representation",
    "RGBAAutoencoder": "rdtf.models.representation",
    "Sticker": "rdtf.stickers",
    "StickerPipeline": "rdtf.sampling.pipeline",
    "TextEncoders": "rdtf.models.text",
}

__all__ = ["DFGN", "PixelPatches", "RGBAAutoencoder", "Sticker", "StickerPipeline", "TextEncoders"]


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


def __getattr__(name: str) -> Any:
    """Import on first use: `import rdtf` and `rdtf --help` stay instant."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rdtf' has no attribute {name!r}")
