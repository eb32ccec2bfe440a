"""What a file is, by its bytes: everything that the rules of a platform ask about."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import av
import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers import Budget, decode_sticker, still
from rdtf.stickers.budget import rounded_durations, whole_durations
from rdtf.stickers.export.containers import container_of, doctype
from rdtf.stickers.formats import gif, png, webm, webp
from rdtf.stickers.formats.pillow import open_image, orientation, to_rgba, upright
from rdtf.stickers.formats.webm import to_rgba as yuv_to_rgba
from rdtf.stickers.info import StickerInfo


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


_PILLOW = {"gif": "GIF", "png": "PNG", "webp": "WEBP", "jpeg": "JPEG"}
_FULL_RANGE = 2  # FFmpeg's number


@dataclass(frozen=True)
class Seen:
    """What another decoder makes of a file.

    Attributes:
        frames: uint8 [F, H, W, 4], straight RGBA.
        durations_ms: float64 [F], as stored, not rounded; zeros for a plain picture.
    """

    frames: np.ndarray
    durations_ms: np.ndarray


def decode_elsewhere(data: bytes, container: str, budget: Budget) -> Seen:
    """Decode with another program's code.

    Args:
        container: as `containers.container_of` tells.
        budget: checked again here where the container was not inspected before (AVIF, MP4).

    Raises:
        StickerError, OSError, ValueError, av.FFmpegError, ...: it can't be decoded.
    """
    if container in _PILLOW:
        return _by_pillow(data, _PILLOW[container], budget)
    if container == "webm":
        return _webm(data, budget)
    return _by_ffmpeg(data, container, budget)


def _by_pillow(data: bytes, format: str, budget: Budget) -> Seen:
    image = open_image(data, format)
    # Of an APNG, Pillow counts a picture that is not part of the animation as the first.
    hidden = int(getattr(image, "default_image", False))
    count = getattr(image, "n_frames", 1) - hidden
    height, width = image.height, image.width
    budget.check_clip("picture", count, width, height)
    frames = np.empty((count, height, width, 4), np.uint8)
    durations = np.zeros(count)
    for index, frame in enumerate(frames):
        image.seek(index + hidden)
        # A later frame of a GIF that reaches beyond the screen enlarges it for Pillow alone.
        frame[:] = to_rgba(image)[:height, :width]
        durations[index] = image.info.get("duration", 0)
    return Seen(upright(frames, orientation(image.info.get("exif"))), durations)


def _webm(data: bytes, budget: Budget) -> Seen:
    packets = list(_packets(data, "matroska", 0, budget))
    with av.open(io.BytesIO(data), mode="r", format="matroska") as file:
        codec = file.streams.video[0].codec_context.name.removeprefix("libvpx-")
    colour = _decode(codec, [packet.data for packet in packets], budget)
    alpha = _decode(codec, [packet.alpha for packet in packets if packet.alpha], budget)
    # The luma of the second stream is the opacity, all 256 values of it.
    return Seen(_joined(colour, alpha, _luma), _durations(packets))


def _by_ffmpeg(data: bytes, container: str, budget: Budget) -> Seen:
    with av.open(io.BytesIO(data), mode="r", format="mov") as file:
        videos: list[Any] = [track for track in file.streams.video if track.codec_context]
        tracks = [(track.frames, track.index) for track in videos]
    if not tracks:
        raise StickerError(f"the {container} holds no picture that can be decoded")
    # An AVIF sequence holds its first picture once more, as a still.
    most = max(count for count, _ in tracks)
    colour, *masks = [index for count, index in tracks if count == most]
    packets = list(_packets(data, "mov", colour, budget))
    pictures = _decode_stream(data, colour, budget)
    alphas = _decode_stream(data, masks[0], budget) if masks and container == "avif" else iter(())
    frames = _joined(pictures, alphas, _full_luma)
    is_picture = container == "avif" and len(frames) == 1
    return Seen(frames, np.zeros(1) if is_picture else _durations(packets))


def _joined(
    pictures: Iterator[av.VideoFrame],
    masks: Iterator[av.VideoFrame],
    opacity: Callable[[av.VideoFrame], np.ndarray],
) -> np.ndarray:
    """uint8 [F, H, W, 4]; without masks opaque.

    Raises:
        ValueError: there are fewer or more masks than pictures, or they differ in size.
    """
    frames = []
    first_mask = next(masks, None)
    masks = itertools.chain([] if first_mask is None else [first_mask], masks)
    for picture in pictures:
        rgba = yuv_to_rgba(picture)
        if first_mask is not None:
            mask = next(masks, None)
            if mask is None:
                raise ValueError("frames without transparency data")
            rgba[..., 3] = opacity(mask)
        frames.append(rgba)
    if not frames or next(masks, None) is not None:
        raise ValueError("frames are missing")
    return np.stack(frames)


@dataclass(frozen=True)
class _Packet:
    data: bytes
    alpha: bytes
    start_ms: float
    duration_ms: float


def _packets(data: bytes, format: str, stream: int, budget: Budget) -> Iterator[_Packet]:
    with av.open(io.BytesIO(data), mode="r", format=format) as file:
        track: Any = file.streams[stream]
        size = (track.codec_context.width, track.codec_context.height)
        for count, packet in enumerate(file.demux(track), start=1):
            if not packet.size:
                continue
            budget.check_clip("video", count, *size)
            unit_ms = float(packet.time_base or 0) * 1000
            yield _Packet(
                bytes(packet),
                _side_alpha(packet),
                (packet.pts or 0) * unit_ms,
                (packet.duration or 0) * unit_ms,
            )


def _side_alpha(packet: av.Packet) -> bytes:
    for side in packet.iter_sidedata():
        if side.data_type == "matroska_block_additional":
            return bytes(side)[8:]  # after the number that says what it is
    return b""


def _decode(codec: str, packets: list[bytes], budget: Budget) -> Iterator[av.VideoFrame]:
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.options = {"max_pixels": str(budget.max_canvas**2)}
    for data in packets:
        yield from decoder.decode(av.Packet(data))
    yield from decoder.decode(None)


def _decode_stream(data: bytes, stream: int, budget: Budget) -> Iterator[av.VideoFrame]:
    with av.open(io.BytesIO(data), mode="r", format="mov") as file:
        track: Any = file.streams[stream]
        track.codec_context.options = {"max_pixels": str(budget.max_canvas**2)}
        for count, frame in enumerate(file.decode(track), start=1):
            budget.check_clip("video", count, frame.width, frame.height)
            yield frame


def _durations(packets: list[_Packet]) -> np.ndarray:
    """float64 [F], in order of showing."""
    ordered = sorted(packets, key=lambda packet: packet.start_ms)
    starts = [packet.start_ms for packet in ordered]
    ends = [*starts[1:], starts[-1] + ordered[-1].duration_ms]
    return np.subtract(ends, starts)


def _luma(frame: av.VideoFrame) -> np.ndarray:
    plane = frame.planes[0]
    rows = np.frombuffer(bytes(plane), np.uint8)[: plane.height * plane.line_size]
    return rows.reshape(plane.height, plane.line_size)[:, : plane.width]


def _full_luma(frame: av.VideoFrame) -> np.ndarray:
    luma = _luma(frame)
    if frame.color_range == _FULL_RANGE or frame.format.name == "gray":
        return luma
    stretched = (luma.astype(np.float32) - 16) * (255 / 219)
    return np.rint(stretched.clip(0, 255)).astype(np.uint8)
