"""AVIF and MP4, which are written for export only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image

from rdtf.stickers import Sticker
from rdtf.stickers.formats.webm import planes_to_frame

_MILLISECOND = Fraction(1, 1000)


def encode_avif(sticker: Sticker, *, quality: int = 80, speed: int = 8) -> bytes:
    """AVIF bytes with alpha; every frame and duration is kept, and it plays for ever.

    Args:
        sticker: what to write; one frame gives a still picture.
        quality: 0 to 100.
        speed: 0 (slow, small) to 10 (fast).
    """
    images = [Image.fromarray(frame) for frame in sticker.frames]
    options: dict[str, Any] = {"quality": quality, "speed": speed, "subsampling": "4:2:0"}
    if len(images) > 1:
        options |= {
            "save_all": True,
            "append_images": images[1:],
            "duration": sticker.durations_ms.tolist(),
        }
    stream = io.BytesIO()
    images[0].save(stream, "AVIF", **options)
    return stream.getvalue()


def encode_mp4(
    planes: Sequence[list[np.ndarray]], durations_ms: np.ndarray, *, crf: int = 18
) -> bytes:
    """MP4 bytes: H.264, 4:2:0, no sound.

    Args:
        planes: luma and two of colour for each frame, even sides; see `yuv.to_planes`.
        durations_ms: int64 [F].
        crf: quality, 0 (best) to 51.
    """
    starts = [0, *np.cumsum(durations_ms)[:-1].tolist()]
    durations = dict(zip(starts, durations_ms.tolist(), strict=True))
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        rate = Fraction(len(durations_ms) * 1000, int(durations_ms.sum()))
        track = container.add_stream("libx264", rate=rate)
        track.height, track.width = planes[0][0].shape
        track.pix_fmt = "yuv420p"
        track.codec_context.time_base = _MILLISECOND
        # Without B frames times are in order, and no player begins with a gap.
        track.options = {
            "crf": str(crf),
            "preset": "medium",
            "tune": "animation",
            "bf": "0",
            "colorspace": "smpte170m",
            "color_range": "tv",
        }
        for picture, start_ms in zip(planes, starts, strict=True):
            frame = planes_to_frame(picture)
            frame.pts, frame.time_base = start_ms, _MILLISECOND
            _mux(container, track.encode(frame), durations)
        _mux(container, track.encode(None), durations)
    return stream.getvalue()


def _mux(container: Any, packets: list[av.Packet], durations: dict[int, int]) -> None:
    for packet in packets:
        packet.duration = durations[packet.pts or 0]  # the encoder leaves it out
        container.mux(packet)
