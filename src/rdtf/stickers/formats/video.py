"""Video frames: RGBA to YUV planes and back, a second stream as alpha, and exact durations."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # imported where videos are read or written: not everybody has it
    import av

_RED_BLUE_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
_BT709, _FULL_RANGE = 1, 2  # FFmpeg's numbers
_MILLISECOND = Fraction(1, 1000)


def to_planes(pixels: np.ndarray) -> list[np.ndarray]:
    """uint8 [H, W, 4] -> luma, two of colour at half the resolution, alpha: uint8 [h, w] each.

    BT.601, limited range; alpha as it is.
    """
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(3))
    red_weight, blue_weight = _RED_BLUE_WEIGHTS["bt601"]
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    planes = [
        16 + luma * (219 / 255),
        128 + _halve(blue - luma) / (1 - blue_weight) * (112 / 255),
        128 + _halve(red - luma) / (1 - red_weight) * (112 / 255),
    ]
    return [*(np.rint(plane).astype(np.uint8) for plane in planes), pixels[..., 3]]


def planes_to_frame(planes: list[np.ndarray]) -> av.VideoFrame:
    """Three planes -> yuv420p, four -> yuva420p; see `to_planes`."""
    import av

    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, "yuva420p" if len(planes) == 4 else "yuv420p")
    for plane, values in zip(frame.planes, planes, strict=True):
        padded = np.zeros((plane.buffer_size // plane.line_size, plane.line_size), np.uint8)
        padded[: values.shape[0], : values.shape[1]] = values
        plane.update(padded.tobytes())
    return frame


def to_rgba(frame: av.VideoFrame) -> np.ndarray:
    """yuva420p or yuv420p (opaque) -> uint8 [H, W, 4], by the colours that the frame states."""
    if frame.format.name not in ("yuva420p", "yuv420p"):
        return frame.to_ndarray(format="rgba")
    height, width = frame.height, frame.width
    luma, blue_diff, red_diff = (plane_of(frame, i).astype(np.float32) for i in range(3))
    is_full = frame.color_range == _FULL_RANGE
    luma = luma if is_full else (luma - 16) * (255 / 219)
    scale = 2 if is_full else 255 / 112
    red_weight, blue_weight = _RED_BLUE_WEIGHTS["bt709" if frame.colorspace == _BT709 else "bt601"]
    red = luma + _double(red_diff - 128, height, width) * (scale * (1 - red_weight))
    blue = luma + _double(blue_diff - 128, height, width) * (scale * (1 - blue_weight))
    green = (luma - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    alpha = plane_of(frame, 3) if len(frame.planes) > 3 else np.full_like(luma, 255)
    return np.rint(np.stack([red, green, blue, alpha], axis=-1).clip(0, 255)).astype(np.uint8)


def _halve(values: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels; an odd last row or column stands for two."""
    even = np.pad(values, [(0, side % 2) for side in values.shape], mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def _double(values: np.ndarray, height: int, width: int) -> np.ndarray:
    return values.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]


def plane_of(frame: av.VideoFrame, index: int) -> np.ndarray:
    """One plane as it is stored, uint8 [h, w]."""
    plane = frame.planes[index]
    rows = np.frombuffer(bytes(plane), np.uint8)[: plane.height * plane.line_size]
    return rows.reshape(plane.height, plane.line_size)[:, : plane.width]


def full_luma(frame: av.VideoFrame) -> np.ndarray:
    """Luma as 0 to 255, whatever the range that the frame states, uint8 [H, W]."""
    luma = plane_of(frame, 0)
    if frame.color_range == _FULL_RANGE or frame.format.name == "gray":
        return luma
    stretched = (luma.astype(np.float32) - 16) * (255 / 219)
    return np.rint(stretched.clip(0, 255)).astype(np.uint8)


def decode_packets(
    codec: str, packets: Iterable[av.Packet | bytes], extradata: bytes | None = None
) -> Iterator[av.VideoFrame]:
    """Decode packets, sizes checked before, by FFmpeg's `codec`."""
    import av

    decoder: Any = av.CodecContext.create(codec, "r")
    if extradata:
        decoder.extradata = extradata
    for packet in packets:
        yield from decoder.decode(av.Packet(packet) if isinstance(packet, bytes) else packet)
    yield from decoder.decode(None)


def join_alpha(
    pictures: Iterator[av.VideoFrame],
    masks: Iterator[av.VideoFrame],
    num_frames: int,
    opacity: Callable[[av.VideoFrame], np.ndarray],
) -> np.ndarray:
    """uint8 [num_frames, H, W, 4] from two streams; without masks as `to_rgba` gives it.

    Raises:
        ValueError: the pictures, or the masks, are not `num_frames`, or differ in size.
    """
    first = next(masks, None)
    masks = iter(()) if first is None else itertools.chain([first], masks)
    frames = np.empty(0, np.uint8)
    decoded = 0
    for decoded, picture in enumerate(pictures, start=1):
        if decoded == 1:
            frames = np.empty((num_frames, picture.height, picture.width, 4), np.uint8)
        if decoded > num_frames or (picture.height, picture.width) != frames.shape[1:3]:
            raise ValueError("frames do not match the header")
        frames[decoded - 1] = to_rgba(picture)
        if first is not None:
            if (mask := next(masks, None)) is None:
                raise ValueError("frames without transparency data")
            frames[decoded - 1, ..., 3] = opacity(mask)
    if decoded < num_frames or next(masks, None) is not None:
        raise ValueError(f"{decoded} of {num_frames} frames can be decoded")
    return frames


def encode_video(
    planes: Iterable[list[np.ndarray]],
    durations_ms: np.ndarray,
    container: str,
    codec: str,
    options: Mapping[str, str],
) -> bytes:
    """The file of `planes`, for each frame what `to_planes` gives (three of them: no alpha).

    Args:
        durations_ms: int64 [F].
        container, codec, options: by FFmpeg's names.
    """
    import av

    starts = [0, *np.cumsum(durations_ms)[:-1].tolist()]
    durations = dict(zip(starts, durations_ms.tolist(), strict=True))
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as file:
        rate = Fraction(len(durations_ms) * 1000, int(durations_ms.sum()))
        track: Any = file.add_stream(codec, rate=rate)
        track.codec_context.time_base = _MILLISECOND
        track.options = {**options, "colorspace": "smpte170m", "color_range": "tv"}
        for picture, start_ms in zip(itertools.chain(planes, [None]), [*starts, 0], strict=True):
            frame = None
            if picture is not None:
                frame = planes_to_frame(picture)
                frame.pts, frame.time_base = start_ms, _MILLISECOND
                if start_ms == 0:
                    track.height, track.width = picture[0].shape
                    track.pix_fmt = frame.format.name
            for packet in track.encode(frame):
                packet.duration = durations[packet.pts or 0]  # the encoder leaves it out
                file.mux(packet)
    return stream.getvalue()
