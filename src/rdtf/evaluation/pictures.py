"""Clips as pictures inside a page: base64 data URIs of lossless WebP, which every browser shows."""

from __future__ import annotations

import base64

import numpy as np

from rdtf.stickers import Sticker, encode_sticker

STRIP_CELL = 128  # pixels; a film strip of larger frames is only a download


def animation_uri(clip: Sticker) -> str:
    """The whole animation."""
    return _uri(clip)


def still_uri(clip: Sticker) -> str:
    """Its middle frame, for those who asked their system for less motion."""
    return _uri(clip.select([clip.num_frames // 2]))


def strip_uri(clip: Sticker) -> str:
    """All frames side by side in one picture, each at most `STRIP_CELL` pixels."""
    larger = max(clip.height, clip.width)
    if larger > STRIP_CELL:
        scale = STRIP_CELL / larger
        clip = clip.fit_canvas(
            (max(1, round(clip.height * scale)), max(1, round(clip.width * scale)))
        )
    strip = np.concatenate(list(clip.frames), axis=1)[None]
    return _uri(Sticker(strip, np.array([1000])))


def _uri(clip: Sticker) -> str:
    data = encode_sticker(clip, ".webp")
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
