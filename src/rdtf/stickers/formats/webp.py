"""WebP, still and animated: the container here, the pixels by libwebp through Pillow.

Pillow's animation writer merges equal frames; this one stores each, so that frames and durations
survive.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers.formats import pillow
from rdtf.stickers.sticker import (
    DEFAULT_DURATION_MS,
    Budget,
    Sticker,
    StickerInfo,
    damaged,
)

#: One frame as it is stored: its place, and flags and pixels; its time goes in between.
_Picture = tuple[bytes, bytes]

_ANIMATED, _ALPHA = 0x02, 0x10
_REPLACE = 0x02  # ANMF flag: do not blend
_MAX_SIDE, _MAX_DURATION_MS, _MAX_LOOPS = 16383, 2**24 - 1, 65535


def parse(data: bytes, name: str, budget: Budget) -> tuple[StickerInfo, Callable[[], Sticker]]:
    """Headers of a WebP, and what decodes it; `StickerError` if cut off, damaged or over budget."""
    walk = list(_chunks(data, name))
    first, content = walk[0]
    turned = next((pillow.orientation(content) for kind, content in walk if kind == b"EXIF"), 1)
    is_animated, loop_count = first == b"VP8X" and bool(content[0] & _ANIMATED), 0
    if not is_animated:
        size, stored_ms = _still_size(first, content, name), [DEFAULT_DURATION_MS]
    else:
        loops = [content for kind, content in walk if kind == b"ANIM"]
        stored_ms = [_uint24(content, 12) for kind, content in walk if kind == b"ANMF"]
        if not loops or not stored_ms:
            raise damaged(name, "WebP", "no frames")
        (loop_count,) = struct.unpack_from("<H", loops[0], 4)
        size = (_uint24(content, 4) + 1, _uint24(content, 7) + 1)
    end, facts = _riff_end(data), {"is_animated": is_animated, "turned": turned}
    info = StickerInfo.checked("webp", name, budget, size, stored_ms, loop_count, end=end, **facts)
    return info, lambda: _decode(data, name, info)


def _decode(data: bytes, name: str, info: StickerInfo) -> Sticker:
    image = pillow.open_image(with_alpha(data) if info.is_animated else data, "WEBP")
    if (image.size, getattr(image, "n_frames", 1)) != (info.stored_size, info.num_frames):
        raise damaged(name, "WebP", "frames are missing")
    frames = np.empty((info.num_frames, image.height, image.width, 4), np.uint8)
    for index, frame in enumerate(frames):
        image.seek(index)
        frame[:] = pillow.to_rgba(image)
    return Sticker(pillow.upright(frames, info.turned), info.durations, info.loop_count)


def with_alpha(data: bytes) -> bytes:
    """An animated WebP that says that it has transparency.

    libwebp does not say so where every stored picture is opaque, although they need not cover the
    canvas; Pillow then shows black where nothing is drawn.
    """
    if data[12:16] != b"VP8X":  # not animated
        return data
    return data[:20] + bytes([data[20] | _ALPHA]) + data[21:]


def _chunks(data: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of the chunks inside the RIFF header; content of odd length is padded."""
    end = _riff_end(data)
    if end > len(data) or end < 20:
        raise damaged(name, "WebP")
    at = 12
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > end:
            raise damaged(name, "WebP", "a chunk is longer than the file")
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _riff_end(data: bytes) -> int:
    return 8 + int.from_bytes(data[4:8], "little")


def _still_size(kind: bytes, content: bytes, name: str) -> tuple[int, int]:
    """Width and height from the header of a still picture of any of the three kinds."""
    if kind == b"VP8X" and len(content) >= 10:
        return _uint24(content, 4) + 1, _uint24(content, 7) + 1
    if kind == b"VP8L" and len(content) >= 5:
        (bits,) = struct.unpack_from("<I", content, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(content) >= 10:
        width, height = struct.unpack_from("<HH", content, 6)
        return width & 0x3FFF, height & 0x3FFF
    raise damaged(name, "WebP", f"it starts with {kind!r}")


def _uint24(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 3], "little")


def encode(
    sticker: Sticker,
    *,
    lossless: bool | None = None,
    quality: float | None = None,
    method: int = 4,
    exact: bool = False,
) -> bytes:
    """WebP bytes with every frame and duration kept; a plain picture for a still sticker.

    Args:
        sticker: what to write; sides up to 16383, durations up to 4.6 hours.
        lossless: exact pixels; by default when no `quality` is named.
        quality: 0 to 100; of the picture if lossy, effort if lossless.
        method: 0 (fast) to 6 (small, many times slower than 4).
        exact: keep the colours of fully transparent pixels too.
    """
    options = {
        "lossless": quality is None if lossless is None else lossless,
        "quality": 80 if quality is None else quality,
        "method": method,
        "alpha_quality": 100,
        "exact": exact,
    }
    if sticker.is_still:
        _check_limits(sticker)
        return pillow.encode_image(sticker.frames[0], "WEBP", **options)
    before = [None, *sticker.frames[:-1]]
    pairs = zip(before, sticker.frames, strict=True)
    return assemble(sticker, [encode_picture(*pair, options) for pair in pairs])


def assemble(sticker: Sticker, pictures: Sequence[_Picture]) -> bytes:
    """The file of `pictures`, one a frame, with the size, times and loops of `sticker`."""
    _check_limits(sticker)
    canvas = _pack_uint24(sticker.width - 1, sticker.height - 1)
    parts = [_chunk(b"VP8X", struct.pack("<I", _ANIMATED | _ALPHA) + canvas)]
    parts.append(_chunk(b"ANIM", struct.pack("<IH", 0, sticker.loop_count)))
    for (place, pixels), duration_ms in zip(pictures, sticker.durations_ms.tolist(), strict=True):
        parts.append(_chunk(b"ANMF", place + _pack_uint24(duration_ms) + pixels))
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _check_limits(sticker: Sticker) -> None:
    if max(sticker.height, sticker.width) > _MAX_SIDE:
        raise StickerError(f"WebP can't be larger than {_MAX_SIDE} pixels on one side")
    if sticker.durations_ms.max() > _MAX_DURATION_MS or sticker.loop_count > _MAX_LOOPS:
        raise StickerError(f"WebP can't hold {_MAX_DURATION_MS} ms a frame or {_MAX_LOOPS} loops")


def encode_picture(
    previous: np.ndarray | None, frame: np.ndarray, options: Mapping[str, object]
) -> _Picture:
    """Code one uint8 [H, W, 4]; if it equals `previous`, as a single transparent pixel on that.

    Args:
        previous: the frame before; None for the first.
        options: `lossless`, `quality`, `method`, `alpha_quality`, `exact`, as in `encode`.
    """
    box, flags = _changes(previous, frame, whole=not options["lossless"]), _REPLACE
    if box is None:
        box, flags, frame = (0, 0, 1, 1), 0, np.zeros((1, 1, 4), np.uint8)
    left, top, right, bottom = box
    picture = pillow.encode_image(pillow.crop(frame, box), "WEBP", **options)
    place = _pack_uint24(left // 2, top // 2, right - left - 1, bottom - top - 1)
    pixels = [
        _chunk(kind, content)
        for kind, content in _chunks(picture, "WebP")
        if kind in (b"ALPH", b"VP8 ", b"VP8L")
    ]
    return place, b"".join([bytes([flags]), *pixels])


def _changes(previous: np.ndarray | None, frame: np.ndarray, *, whole: bool) -> pillow.Box | None:
    """Where a frame differs from the one before: None if nowhere, everything for the first.

    Lossy frames are stored `whole`: patches of different quality show their edges.
    """
    everything = (0, 0, frame.shape[1], frame.shape[0])
    if previous is None:
        return everything
    box = pillow.changed_box(previous, frame)
    if box is None or whole:
        return None if box is None else everything
    left, top, right, bottom = box
    return left & ~1, top & ~1, right, bottom  # the format stores half of each offset


def _pack_uint24(*values: int) -> bytes:
    return b"".join(value.to_bytes(3, "little") for value in values)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
