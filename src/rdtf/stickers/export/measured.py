"""What a file is, by its bytes: everything that the rules of a platform ask about."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import av
import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers import Budget, decode_sticker, still
from rdtf.stickers.export.containers import container_of, doctype
from rdtf.stickers.export.elsewhere import Seen, decode_elsewhere
from rdtf.stickers.formats import gif, png, webm, webp
from rdtf.stickers.formats.pillow import open_image
from rdtf.stickers.info import StickerInfo
from rdtf.stickers.timing import rounded_durations, whole_durations


@dataclass(frozen=True)
class Measured:
    """A file as its own bytes state it, and what two decoders make of it.

    Attributes:
        container: as `containers.container_of` tells.
        num_bytes: size of the file.
        width, height: canvas in pixels.
        durations_ms: of each frame, as the file states it; one of any length for a plain picture.
        shown_ms: the same as players show it: 0 ms, and in GIFs 10 ms, become 100 ms.
        loop_count: how often it plays; 0 = for ever.
        is_animated: it is stored as an animation, be it of one frame.
        codec: of a video, else "".
        has_sound: it has a sound track.
        has_hidden_picture: it shows one picture where animation is not played, and it is not the
            first frame.
        frames: uint8 [F, H, W, 4], as `rdtf.stickers` reads them, where it does.
        seen_frames: the same to another decoder.
        disagreement: how another decoder sees it differently, in words; "" if it does not.
    """

    container: str
    num_bytes: int
    width: int
    height: int
    durations_ms: tuple[int, ...]
    shown_ms: tuple[int, ...]
    loop_count: int
    is_animated: bool
    codec: str
    has_sound: bool
    has_hidden_picture: bool
    frames: np.ndarray
    seen_frames: np.ndarray
    disagreement: str = ""

    @property
    def num_frames(self) -> int:
        return len(self.durations_ms)

    @property
    def total_ms(self) -> int:
        return sum(self.durations_ms)


def measure(data: bytes, name: str, budget: Budget) -> Measured:
    """Inspect within the budget, decode, and decode elsewhere.

    Raises:
        StickerError: unknown, damaged or over budget.
        OSError, ValueError, av.FFmpegError, ...: damaged.
    """
    budget.check_bytes(name, len(data))
    container = container_of(data, name)
    if container in ("avif", "mp4"):
        return _only_elsewhere(data, container, name, budget)
    if container not in _INSPECTORS:
        raise StickerError(f"{name} is {container}, which can't be checked here")
    info = _INSPECTORS[container](data, name, budget)
    side = max(budget.max_canvas, info.width, info.height)
    budget = replace(budget, max_canvas=side)  # a large still is judged as it is, not reduced
    sticker = decode_sticker(data, name, budget=budget)
    seen = decode_elsewhere(data, container, budget)
    found = Measured(
        container=container,
        num_bytes=len(data),
        width=info.width,
        height=info.height,
        durations_ms=info.stored_ms,
        shown_ms=info.durations_ms,
        loop_count=info.loop_count,
        is_animated=info.is_animated,
        codec="",
        has_sound=False,
        has_hidden_picture=info.has_hidden_picture,
        frames=sticker.frames,
        seen_frames=seen.frames,
        disagreement=_disagreement(info, seen),
    )
    return _with_tracks(found, data) if container == "webm" else found


_INSPECTORS: dict[str, Callable[[bytes, str, Budget], StickerInfo]] = {
    "gif": gif.inspect,
    "webp": webp.inspect,
    "png": png.inspect,
    "jpeg": still.inspect,
    "webm": webm.inspect,
}


def _with_tracks(found: Measured, data: bytes) -> Measured:
    with av.open(io.BytesIO(data), format="matroska") as file:
        codec = "" if not file.streams.video else file.streams.video[0].codec_context.name
        has_sound = len(file.streams.audio) > 0
    kind = doctype(data)
    if kind != "webm":
        raise StickerError(f"the file declares the type {kind or 'none'}, not webm; convert it")
    return replace(found, codec=codec, has_sound=has_sound)


def _only_elsewhere(data: bytes, container: str, name: str, budget: Budget) -> Measured:
    """AVIF and MP4, which `rdtf.stickers` does not read."""
    if container == "avif":
        image = open_image(data, "AVIF")  # states frames and size without decoding any
        budget.check_clip(name, getattr(image, "n_frames", 1), *image.size)
    with av.open(io.BytesIO(data), format="mov") as file:
        videos: list[Any] = [track for track in file.streams.video if track.codec_context]
        has_sound = len(file.streams.audio) > 0
        codec = videos[0].codec_context.name if videos else ""
        for track in videos:
            size = (track.codec_context.width, track.codec_context.height)
            budget.check_clip(name, max(track.frames, 1), *size)
    seen = decode_elsewhere(data, container, budget)
    budget.check_duration(name, int(seen.durations_ms.sum()))
    count, height, width, _ = seen.frames.shape
    return Measured(
        container=container,
        num_bytes=len(data),
        width=width,
        height=height,
        durations_ms=tuple(rounded_durations(seen.durations_ms).tolist()),
        shown_ms=tuple(whole_durations(seen.durations_ms).tolist()),
        loop_count=0,
        is_animated=container == "mp4" or count > 1,
        codec=codec,
        has_sound=has_sound,
        has_hidden_picture=False,
        frames=seen.frames,
        seen_frames=seen.frames,
    )


def _disagreement(info: StickerInfo, seen: Seen) -> str:
    """How another decoder reads the file differently; pixels are left to who knows the source."""
    if len(seen.frames) != info.num_frames:
        return f"{info.num_frames} frames expected, but {len(seen.frames)} in a second decoder"
    height, width = seen.frames.shape[1:3]
    if (width, height) != (info.width, info.height):
        return f"{info.width} x {info.height} expected, but {width} x {height} in a second decoder"
    total, stated = float(seen.durations_ms.sum()), sum(info.stored_ms)
    if not seen.durations_ms[-1]:  # the end of a video is not always stated
        stated -= info.stored_ms[-1]
    if info.num_frames > 1 and total and abs(total - stated) > 10:
        return f"{stated} ms expected, but {total:.0f} ms in a second decoder"
    return ""
