"""Endless, reproducible animated stickers, drawn by rules."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator
from typing import Any, SupportsIndex

import numpy as np

from rdtf.errors import ConfigError
from rdtf.stickers import Sticker
from rdtf.synthetic.characters.attributes import Attributes, draw_attributes
from rdtf.synthetic.characters.painter import document, render
from rdtf.synthetic.characters.scene import paint_scene


class SyntheticStickers:
    """A sequence of `count` animated stickers.

    `stickers[i]` is a pure function of (seed, i, max_frames): the same in every process and in
    every order of access, and independent of `count`. `canvas` (pixels a side) scales the same
    drawing.

    Example:
        >>> stickers = SyntheticStickers(seed=1)
        >>> stickers.describe(0).captions
        >>> stickers[0].save("first.webp")
    """

    def __init__(
        self, seed: int = 0, count: int = 1_000_000, canvas: int = 128, max_frames: int = 16
    ) -> None:
        if count < 0:
            raise ConfigError(f"count of synthetic stickers is {count}; it can't be negative")
        if not 8 <= canvas <= 2048:
            raise ConfigError(f"canvas of synthetic stickers is {canvas}; use 8 to 2048 pixels")
        if not max_frames >= 1:
            raise ConfigError(f"max_frames of synthetic stickers is {max_frames}; use 1 or more")
        self.seed = seed
        self.count = count
        self.canvas = canvas
        self.max_frames = max_frames

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Sticker]:
        return (self[index] for index in range(self.count))

    def __getitem__(self, index: SupportsIndex) -> Sticker:
        """Draw one sticker; `IndexError` outside 0..len-1 (negative indices too)."""
        about = self.describe(index)
        frames = render(self._document(about), about.durations_ms, self.canvas)
        return Sticker(frames=frames, durations_ms=np.array(about.durations_ms, np.int64),
            loop_count=0 if about.loops else 1, captions=about.captions,
            source=f"rdtf synthetic {self.seed}/{about.index}", license="CC0-1.0",
            metadata=about.as_dict())  # fmt: skip

    def describe(self, index: SupportsIndex) -> Attributes:
        """What sticker `index` shows, without drawing it."""
        number = operator.index(index)
        if not 0 <= number < self.count:
            raise IndexError(f"no synthetic sticker {number}; there are {self.count}")
        return draw_attributes(self.seed, number, self.max_frames)

    def lottie(self, index: SupportsIndex) -> dict[str, Any]:
        """Sticker `index` as a Lottie document, 512 x 512 units at 60 ticks a second."""
        return json.loads(self._document(self.describe(index)))

    def _document(self, about: Attributes) -> str:
        return document(paint_scene(self.seed, about), about.durations_ms)
