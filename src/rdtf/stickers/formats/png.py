"""PNG and animated PNG: chunks in, chunks out, so that every frame and its duration is kept.

Each frame is coded by Pillow as a PNG of its own. Pillow's own APNG writer merges equal frames and
its reader blends half-transparent frames onto transparent canvas too faintly.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers.canvas import in_threads
from rdtf.stickers.formats import pillow
from rdtf.stickers.sticker import (
    DEFAULT_DURATION_MS,
    Budget,
    Sticker,
    StickerInfo,
    damaged,
)

_Box = tuple[int, int, int, int]  # left, top, width, height
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DISPOSE: tuple[Literal["keep", "clear", "restore"], ...] = ("keep", "clear", "restore")
_SHARED = (b"iCCP", b"PLTE", b"tRNS")  # in this order in front of the pixels
_OPTIONAL = (b"iCCP", b"eXIf")  # the picture can be shown without them
_USED = {b"IHDR", *_SHARED, b"eXIf", b"acTL", b"fcTL", b"IDAT", b"fdAT", b"IEND"}


def _chunks(data: bytes, name: str) -> Iterator[tuple[bytes, bytes, int]]:
    """(type, content, end) of each chunk that matters, up to IEND, checksums verified."""
    at, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        head = data[at : at + 8]
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
        end = at + 12 + length
        if not kind or end > len(data):
            raise damaged(name, "PNG")
        if kind in _USED:
            if data[end - 4 : end] != struct.pack(">I", zlib.crc32(data[at + 4 : end - 4])):
                if kind not in _OPTIONAL:
                    raise damaged(name, "PNG", f"checksum of {kind.decode('ascii')}")
            else:
                yield kind, data[at + 8 : end - 4], end
        at = end


def parse(data: bytes, name: str, budget: Budget) -> tuple[StickerInfo, Callable[[], Sticker]]:
    """Headers of a PNG or APNG, and what decodes it; `StickerError` if damaged or over budget.

    A default image that is not part of the animation is left out.
    """
    walk = _chunks(data, name)
    kind, header, end = next(walk)
    if kind != b"IHDR" or len(header) != 13:
        raise damaged(name, "PNG", "no header")
    size: tuple[int, int] = struct.unpack(">II", header[:8])
    animation, is_hidden, turned = None, False, 1
    shared: list[bytes] = []
    still: list[bytes] = []  # content of the chunks, as of each picture
    controls, pictures = [], []
    for kind, content, end in walk:  # noqa: B007 (the last one counts)
        if kind in _SHARED:
            shared.append(_chunk(kind, content))
        elif kind == b"eXIf":
            turned = pillow.orientation(content)
        elif kind == b"acTL" and not still:  # behind the picture it counts for nothing
            animation = struct.unpack(">II", content)
        elif kind == b"fcTL" and animation:
            is_hidden = is_hidden or bool(still and not pictures)
            controls.append(_control(content, size, name))
            pictures.append([])
            budget.check_clip(name, len(pictures), *size)
        elif kind == b"IDAT":
            still.append(content)
            if pictures:
                pictures[0].append(content)
        elif kind == b"fdAT" and pictures:
            pictures[-1].append(content[4:])
    is_animated = bool(animation and animation[0] and pictures)  # that browsers play
    if not is_animated:
        controls, pictures = [((0, 0, *size), DEFAULT_DURATION_MS, 0, 0)], [still]
    elif animation and animation[0] != len(pictures):
        raise damaged(name, "PNG", f"{len(pictures)} of {animation[0]} frames")
    loop_count = animation[1] if animation and is_animated else 0
    stored_ms = [control[1] for control in controls]
    info = StickerInfo.checked(
        "png", name, budget, size, stored_ms, loop_count, end=end, turned=turned
    )
    info = replace(info, is_animated=is_animated, has_hidden_picture=is_hidden and is_animated)

    def decode() -> Sticker:
        regions = [
            _region(header[8:], b"".join(shared), *control, b"".join(picture))
            for control, picture in zip(controls, pictures, strict=True)
        ]
        frames = pillow.compose(regions, *info.stored_size)
        return Sticker(pillow.upright(frames, turned), info.durations, loop_count)

    return info, decode


def _control(content: bytes, size: tuple[int, int], name: str) -> tuple[_Box, float, int, int]:
    """Place, exact milliseconds, disposal and blending from an fcTL chunk."""
    _, width, height, left, top, delay, per_second, dispose, blend = struct.unpack(
        ">IIIIIHHBB", content
    )
    inside = left + width <= size[0] and top + height <= size[1] and width > 0 and height > 0
    if not inside or dispose > 2 or blend > 1:
        raise damaged(name, "PNG", "a frame outside the canvas")
    # A denominator of 0 means hundredths of a second (APNG specification).
    return (left, top, width, height), delay * 1000 / (per_second or 100), dispose, blend


def _region(
    header: bytes, shared: bytes, box: _Box, exact_ms: float, dispose: int, blend: int, data: bytes
) -> pillow.Region:
    """A picture by the rest of the header behind the size, the chunks for all, and its own."""
    head = _chunk(b"IHDR", struct.pack(">II", *box[2:]) + header)
    lone = _SIGNATURE + head + shared + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    way = "over" if blend else "source"
    return pillow.Region(
        box,
        exact_ms,
        lambda: pillow.to_rgba(pillow.open_image(lone, "PNG")),
        way,
        _DISPOSE[dispose],
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I4s", len(content), kind) + content + struct.pack(">I", checksum)


def encode(sticker: Sticker) -> bytes:
    """PNG bytes: a plain PNG for a still sticker, otherwise an APNG with every frame kept.

    One frame of 100 ms that loops for ever is what reading a plain PNG gives, so that is written as
    one.
    """
    opaque = bool((sticker.frames[..., 3] == 255).all())
    pixels = sticker.frames[..., :3] if opaque else sticker.frames
    return _encode(sticker, pixels, _boxes(sticker.frames), b"")


def encode_indexed(sticker: Sticker, indices: np.ndarray, palette: np.ndarray) -> bytes:
    """Like `encode`, for pixels that are reduced already: those of `sticker.frames` are not used.

    Args:
        indices: uint8 [F, H, W] into `palette`, uint8 [n, 4], straight RGBA, n <= 256.
    """
    alpha = palette[:, 3].tobytes().rstrip(b"\xff")  # what is not listed is opaque
    table = _chunk(b"PLTE", palette[:, :3].tobytes()) + (_chunk(b"tRNS", alpha) if alpha else b"")
    return _encode(sticker, indices, _boxes(indices[..., None]), table)


def _encode(sticker: Sticker, pixels: np.ndarray, boxes: list[pillow.Box], palette: bytes) -> bytes:
    """The file for `pixels` as they are stored: uint8 [F, H, W], or [F, H, W, 3 or 4]."""
    parts = [pillow.crop(picture, box) for picture, box in zip(pixels, boxes, strict=True)]
    pictures = in_threads(_compress, parts)
    color_type = 3 if palette else 6 if pixels.shape[-1] == 4 else 2
    header = struct.pack(">IIBBBBB", sticker.width, sticker.height, 8, color_type, 0, 0, 0)
    body = [_SIGNATURE, _chunk(b"IHDR", header)]
    if sticker.is_still:
        body += [palette, _chunk(b"IDAT", pictures[0])]
    else:
        body += [_chunk(b"acTL", struct.pack(">II", sticker.num_frames, sticker.loop_count))]
        body += [palette, *_animation(sticker.durations_ms.tolist(), boxes, pictures)]
    return b"".join([*body, _chunk(b"IEND", b"")])


def _boxes(frames: np.ndarray) -> list[pillow.Box]:
    """Where each frame differs from the one before; at least one pixel, the first one whole."""
    whole = (0, 0, frames.shape[2], frames.shape[1])
    changes = [
        pillow.changed_box(old, new) or (0, 0, 1, 1) for old, new in itertools.pairwise(frames)
    ]
    return [whole, *changes]


def _animation(
    durations_ms: list[int], boxes: list[pillow.Box], pictures: list[bytes]
) -> Iterator[bytes]:
    """fcTL and data chunks; they share one sequence of numbers."""
    numbers = itertools.count()
    for index, picture in enumerate(pictures):
        left, top, right, bottom = boxes[index]
        place = struct.pack(">IIIII", next(numbers), right - left, bottom - top, left, top)
        yield _chunk(b"fcTL", place + struct.pack(">HHBB", *_delay(durations_ms[index]), 0, 0))
        if index == 0:
            yield _chunk(b"IDAT", picture)
        else:
            yield _chunk(b"fdAT", struct.pack(">I", next(numbers)) + picture)


def _delay(duration_ms: int) -> tuple[int, int]:
    """A delay as two 16-bit numbers: exact up to 65 s, then to the next coarser unit."""
    for per_second in (1000, 100, 10, 1):
        delay = round(duration_ms * per_second / 1000)
        if delay <= 65535:
            return delay, per_second
    raise StickerError(f"PNG can't show a frame for {duration_ms} ms; the limit is 65,535 s")


def _compress(pixels: np.ndarray) -> bytes:
    """The compressed scan lines of uint8 [h, w] indices or [h, w, 3 or 4] pixels."""
    data = pillow.encode_image(pixels, "PNG", compress_level=6)
    return b"".join(content for kind, content, _ in _chunks(data, "PNG") if kind == b"IDAT")
