"""WebM with VP9 and alpha, as Telegram's video stickers are; VP8 is read, too.

Alpha is a second VP9 stream beside the first. Only libvpx decodes it: FFmpeg's own decoder,
which would be the default, silently drops it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers.budget import Budget
from rdtf.stickers.info import StickerInfo, checked_info
from rdtf.stickers.sticker import Sticker

if TYPE_CHECKING:
    import av

_RED_BLUE_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
_BT709, _FULL_RANGE = 1, 2  # FFmpeg's numbers


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


def to_video_frame(pixels: np.ndarray) -> av.VideoFrame:
    """uint8 [H, W, 4] -> yuva420p: BT.601, limited range, colour at half the resolution."""
    return planes_to_frame(to_planes(pixels))


def to_rgba(frame: av.VideoFrame) -> np.ndarray:
    """yuva420p or yuv420p (opaque) -> uint8 [H, W, 4], by the colours that the frame states."""
    if frame.format.name not in ("yuva420p", "yuv420p"):
        return frame.to_ndarray(format="rgba")
    height, width = frame.height, frame.width
    luma, blue_diff, red_diff = (_plane(frame, index) for index in range(3))
    is_full = frame.color_range == _FULL_RANGE
    luma = luma if is_full else (luma - 16) * (255 / 219)
    scale = 2 if is_full else 255 / 112
    red_weight, blue_weight = _RED_BLUE_WEIGHTS["bt709" if frame.colorspace == _BT709 else "bt601"]
    red = luma + _double(red_diff - 128, height, width) * (scale * (1 - red_weight))
    blue = luma + _double(blue_diff - 128, height, width) * (scale * (1 - blue_weight))
    green = (luma - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    alpha = _plane(frame, 3) if len(frame.planes) > 3 else np.full_like(luma, 255)
    return np.rint(np.stack([red, green, blue, alpha], axis=-1).clip(0, 255)).astype(np.uint8)


def _halve(values: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels; an odd last row or column stands for two."""
    even = np.pad(values, [(0, side % 2) for side in values.shape], mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def _double(values: np.ndarray, height: int, width: int) -> np.ndarray:
    return values.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]


def _plane(frame: av.VideoFrame, index: int) -> np.ndarray:
    plane = frame.planes[index]
    rows = np.frombuffer(bytes(plane), np.uint8)[: plane.height * plane.line_size]
    return rows.reshape(plane.height, plane.line_size)[:, : plane.width].astype(np.float32)


_SYNC_CODE = 0x498342
_SRGB = 7


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            byte = self._data[self._at >> 3]  # IndexError: a damaged packet
            value = value << 1 | (byte >> (7 - (self._at & 7)) & 1)
            self._at += 1
        return value


def stated_sizes(packet: bytes, codec: str) -> Iterator[tuple[int, int]]:
    """(width, height) of each frame in a packet that states one; the others inherit it.

    Args:
        codec: "vp9" or "vp8".

    Raises:
        ValueError, IndexError, struct.error: the packet is no such thing.
    """
    if codec == "vp8":
        if not packet[0] & 1:  # a key frame (RFC 6386, section 9.1)
            start, width, height = struct.unpack_from("<3sHH", packet, 3)
            if start != b"\x9d\x01\x2a":
                raise ValueError("no VP8 key frame")
            yield width & 0x3FFF, height & 0x3FFF
        return
    for frame in _split(packet):
        size = _frame_size(_Bits(frame))
        if size is not None:
            yield size


def _split(packet: bytes) -> Iterator[bytes]:
    """The frames of a superframe, which ends in an index of their sizes (annex B)."""
    marker = packet[-1]
    count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index_size = 2 + count * width
    is_super = marker >> 5 == 0b110 and len(packet) >= index_size
    if not is_super or packet[-index_size] != marker:
        yield packet
        return
    at = 0
    for number in range(count):
        start = len(packet) - index_size + 1 + number * width
        size = int.from_bytes(packet[start : start + width], "little")
        if size:
            yield packet[at : at + size]
        at += size


def _frame_size(bits: _Bits) -> tuple[int, int] | None:
    if bits.take(2) != 2:
        raise ValueError("no VP9 frame")
    profile = bits.take(1) | bits.take(1) << 1
    if profile == 3:
        bits.take(1)
    if bits.take(1):  # shows a frame that was decoded before
        return None
    is_inter, is_shown, is_resilient = bits.take(1), bits.take(1), bits.take(1)
    if not is_inter:
        _skip_colours(bits, profile)
        return _take_size(bits)
    is_intra_only = 0 if is_shown else bits.take(1)
    if not is_resilient:
        bits.take(2)
    if is_intra_only:
        _skip_colours(bits, profile if profile > 0 else None)
        bits.take(8)
        return _take_size(bits)
    bits.take(8 + 3 * 4)
    inherits = any(bits.take(1) for _ in range(3))
    return None if inherits else _take_size(bits)


def _skip_colours(bits: _Bits, profile: int | None) -> None:
    """The sync code and, unless profile is None, the colour configuration."""
    if bits.take(24) != _SYNC_CODE:
        raise ValueError("no VP9 key frame")
    if profile is None:
        return
    if profile >= 2:
        bits.take(1)
    if bits.take(3) != _SRGB:
        bits.take(1)
        if profile & 1:
            bits.take(3)
    elif profile & 1:
        bits.take(1)


def _take_size(bits: _Bits) -> tuple[int, int]:
    return bits.take(16) + 1, bits.take(16) + 1


if TYPE_CHECKING:  # imported where videos are read or written: not everybody has it
    import av
    from av.container import OutputContainer

_MILLISECOND = Fraction(1, 1000)
_DECODERS = {"vp9": "libvpx-vp9", "vp8": "libvpx"}
_VP8_SHOWN = 0x10
_MIN_FRAME_MS = 1.0  # less is what rounding leaves
_SEGMENT = b"\x18\x53\x80\x67"


@dataclass(frozen=True)
class _Video:
    info: StickerInfo
    codec: str
    extradata: bytes | None
    packets: list[av.Packet]


def inspect(data: bytes, name: str, budget: Budget) -> StickerInfo:
    """Frames, canvas and durations of a WebM, without its pixels."""
    return _demux(data, name, budget).info


def decode(data: bytes, name: str, budget: Budget) -> Sticker:
    """Decode a VP9 or VP8 WebM; without an alpha stream it is opaque. Sound is left out.

    Raises:
        StickerError: it is cut off, damaged, over budget, or of another codec.
    """
    video = _demux(data, name, budget)
    info = video.info
    frames = np.empty((info.num_frames, info.height, info.width, 4), np.uint8)
    decoded = 0
    for picture in _decoded(video):
        if decoded == len(frames) or (picture.width, picture.height) != (info.width, info.height):
            raise _damaged(name, "frames do not match the header")
        frames[decoded] = to_rgba(picture)
        decoded += 1
    if decoded < len(frames):
        raise _damaged(name, f"{decoded} of {len(frames)} frames can be decoded")
    return Sticker(frames, info.durations)


def _decoded(video: _Video) -> Iterator[av.VideoFrame]:
    import av

    decoder = av.CodecContext.create(_DECODERS[video.codec], "r")
    if video.extradata:
        decoder.extradata = video.extradata
    for packet in [*video.packets, None]:
        yield from decoder.decode(packet)  # type: ignore[misc]


def _demux(data: bytes, name: str, budget: Budget) -> _Video:
    import av

    _check_whole(data, name)
    with av.open(io.BytesIO(data), mode="r", format="matroska") as container:
        if not container.streams.video:
            raise StickerError(f"{name}: the WebM holds no video; give one with a VP9 picture")
        stream = container.streams.video[0]
        context = stream.codec_context
        codec = getattr(context, "name", "unknown")  # no context for a codec FFmpeg doesn't know
        codec = codec.removeprefix("libvpx-")
        if codec not in _DECODERS:
            raise StickerError(f"{name}: the video codec is {codec}; only VP9 and VP8 can be read")
        size = (context.width, context.height)
        packets = []
        for packet in container.demux(stream):
            if packet.size:
                packets.append(packet)
                budget.check_clip(name, len(packets), *size)
                _check_sizes(packet, size, codec, name)
        # VP8 keeps frames that are only for prediction in packets of their own.
        shown = [p for p in packets if codec != "vp8" or bytes(p)[0] & _VP8_SHOWN]
        stored_ms = _durations(shown, container.duration)
        info = checked_info("webm", name, budget, size, stored_ms, is_animated=True)
        return _Video(info, codec, context.extradata, packets)


def _check_whole(data: bytes, name: str) -> None:
    """Refuse a file that ends before its segment does; FFmpeg would play the rest."""
    at = data.find(_SEGMENT, 0, 4096)
    if at < 0 or at + 12 > len(data):
        raise StickerError(f"{name}: the WebM is cut off or damaged; get it again")
    at += len(_SEGMENT)
    length = 9 - data[at].bit_length()  # of the size field: one plus its leading zero bits
    size = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    is_unknown = size == (1 << 7 * length) - 1  # a live recording
    if not is_unknown and at + length + size > len(data):
        raise StickerError(f"{name}: the WebM is cut off; get the whole file")


def _check_sizes(packet: av.Packet, size: tuple[int, int], codec: str, name: str) -> None:
    """Every frame, of colour and of alpha, must be as large as the header says."""
    streams = [bytes(packet)]
    for side in packet.iter_sidedata():
        if side.data_type == "matroska_block_additional":
            streams.append(bytes(side)[8:])  # after the number that says what it is: alpha
    for stream in streams:
        if stream and any(stated != size for stated in stated_sizes(stream, codec)):
            raise _damaged(name, "a frame is not as large as the header says")


def _durations(packets: list[av.Packet], container_us: int | None) -> np.ndarray:
    """Exact milliseconds, float64 [F]: the time to the next packet.

    For the last its own duration, or what the container leaves. Some writers leave nothing, and end
    with the beginning of the last frame; then it lasts as long as its neighbours.
    """
    if not packets:
        return np.zeros(0)
    if any(packet.pts is None for packet in packets):
        raise ValueError("packets without time")
    unit_ms = float(packets[0].time_base) * 1000
    starts = [(packet.pts or 0) * unit_ms for packet in packets]
    steps = np.diff(starts)
    rest = (packets[-1].duration or 0) * unit_ms
    if not rest and container_us:
        rest = container_us / 1000 - starts[-1]
    if rest < _MIN_FRAME_MS and len(steps):
        is_even = np.ptp(steps) <= 2 * _MIN_FRAME_MS  # times are rounded to milliseconds
        rest = steps.mean() if is_even else steps[-1]
    return np.append(steps, max(rest, 0.0))


def encode(sticker: Sticker, *, crf: int = 30, speed: int = 1) -> bytes:
    """WebM bytes: VP9 with alpha, every frame and duration kept, lossy.

    Args:
        sticker: what to write; `loop_count` is not part of the format.
        crf: quality, 0 (best) to 63 (smallest).
        speed: 0 (slow, small) to 8 (fast).
    """
    planes = (to_planes(spread_colour(pixels)) for pixels in sticker.frames)
    return encode_planes(planes, sticker.durations_ms, crf=crf, speed=speed)


def encode_planes(
    planes: Iterable[list[np.ndarray]],
    durations_ms: np.ndarray,
    *,
    crf: int = 30,
    speed: int = 1,
    is_draft: bool = False,
) -> bytes:
    """Like `encode`, for frames that are planes already.

    Args:
        planes: for each frame what `yuv.to_planes` gives, of a picture after `spread_colour`.
        durations_ms: int64 [F].
        crf, speed: as in `encode`.
        is_draft: half of the time or less, for a file that is some percent larger.
    """
    import av

    if not 0 <= crf <= 63 or not 0 <= speed <= 8:
        raise StickerError("WebM needs crf from 0 to 63 and speed from 0 to 8")
    starts = [0, *np.cumsum(durations_ms)[:-1].tolist()]
    durations = dict(zip(starts, durations_ms.tolist(), strict=True))
    stream = io.BytesIO()
    with av.open(stream, "w", format="webm") as container:
        track = None
        for picture, start_ms in zip(planes, starts, strict=True):
            if track is None:
                track = _add_track(container, picture[0].shape, durations_ms, crf, speed)
                if is_draft:
                    track.options = {**track.options, "deadline": "realtime"}
            frame = planes_to_frame(picture)
            frame.pts, frame.time_base = start_ms, _MILLISECOND
            _mux(container, track, frame, durations)
        if track is not None:
            _mux(container, track, None, durations)
    return stream.getvalue()


def _add_track(
    container: OutputContainer,
    shape: tuple[int, ...],
    durations_ms: np.ndarray,
    crf: int,
    speed: int,
) -> av.VideoStream:
    rate = Fraction(len(durations_ms) * 1000, int(durations_ms.sum()))
    track = container.add_stream("libvpx-vp9", rate=rate)
    track.height, track.width = shape
    track.pix_fmt = "yuva420p"
    track.codec_context.time_base = _MILLISECOND
    track.options = {
        "crf": str(crf),
        "b": "0",
        "cpu-used": str(speed),
        # A fixed number: the bytes must not depend on the machine.
        "threads": "2",
        "row-mt": "1",
        # Alternate reference frames are hidden packets; the alpha stream has no place for them.
        "auto-alt-ref": "0",
        "colorspace": "smpte170m",
        "color_range": "tv",
    }
    return track


def _mux(
    container: OutputContainer,
    track: av.VideoStream,
    frame: av.VideoFrame | None,
    durations: dict[int, int],
) -> None:
    for packet in track.encode(frame):
        packet.duration = durations[packet.pts or 0]  # the encoder leaves it out
        container.mux(packet)


def spread_colour(pixels: np.ndarray) -> np.ndarray:
    """Give hidden pixels the nearest visible colour: colour is stored at half the resolution, and
    what hides next to an edge would darken it."""
    hidden = pixels[..., 3] == 0
    if not hidden.any() or hidden.all():
        return pixels
    from scipy import ndimage  # a fifth of a second that only writers of WebM wait for

    nearest = ndimage.distance_transform_edt(hidden, return_distances=False, return_indices=True)
    spread = pixels[tuple(np.asarray(nearest))]
    spread[..., 3] = pixels[..., 3]
    return spread


def _damaged(name: str, what: str) -> StickerError:
    return StickerError(f"{name}: the WebM is damaged ({what}); get it again")
