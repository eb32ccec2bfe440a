"""GIF: blocks in, blocks out, so that every frame and every delay is kept.

Pillow codes and decodes the compressed pixels; the container is handled here, because Pillow merges
equal frames when it writes and reads a cut-off file as a shorter clip.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers.budget import Budget, gif_delays_cs
from rdtf.stickers.formats.pillow import (
    Box,
    Region,
    bounding_box,
    compose,
    crop,
    encode_image,
    open_image,
)
from rdtf.stickers.formats.quantize import index_frames
from rdtf.stickers.info import StickerInfo, checked_info
from rdtf.stickers.sticker import Sticker

_GRAPHIC_CONTROL, _APPLICATION = 0xF9, 0xFF
_LOCAL_PALETTE, _INTERLACED = 0x80, 0x40
_IGNORED_MS = 10  # browsers play such a delay as 100 ms, and GIFs are made to be seen there
_GREYS = np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes()
_DISPOSE: dict[int, Literal["keep", "clear", "restore"]] = {2: "clear", 3: "restore", 4: "restore"}


@dataclass(frozen=True)
class _Control:
    """The graphic control extension in front of a picture."""

    disposal: int = 0
    duration_ms: int = 0
    transparent: int | None = None


@dataclass(frozen=True)
class _Picture:
    box: tuple[int, int, int, int]  # left, top, width, height
    control: _Control
    palette: bytes
    interlaced: bool
    code: bytes  # minimum code size and sub-blocks, still compressed


class _Blocks:
    """A cursor over the bytes of a GIF; running out of them is an error."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._name, self._at = data, name, 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise StickerError(f"{self._name}: the GIF is cut off; get the whole file")
        self._at += count
        return taken

    def take_kind(self, may_end: object) -> bytes:
        """What the next block is; NUL bytes before it are skipped, as browsers do.

        The end of the file stands for the trailer if it `may_end` there.
        """
        while (kind := self._data[self._at : self._at + 1]) == b"\0":
            self._at += 1
        return self.take(1) if kind or not may_end else b";"

    def take_sub_blocks(self) -> bytes:
        """The raw sub-blocks up to and with the empty one that ends them."""
        start = self._at
        while size := self.take(1)[0]:
            self.take(size)
        return self._data[start : self._at]

    def take_palette(self, flags: int) -> bytes:
        return self.take(3 << ((flags & 7) + 1)) if flags & _LOCAL_PALETTE else b""


def inspect(data: bytes, name: str, budget: Budget) -> StickerInfo:
    """Frames, canvas and durations of a GIF, without its pixels."""
    return _parse(data, name, budget)[0]


def decode(data: bytes, name: str, budget: Budget) -> Sticker:
    """Decode a whole GIF; `StickerError` if it is cut off, damaged or over budget."""
    info, pictures = _parse(data, name, budget)
    regions = (_region(picture) for picture in pictures)
    frames = compose(regions, info.num_frames, info.width, info.height)
    return Sticker(frames, info.durations, info.loop_count)


def _parse(data: bytes, name: str, budget: Budget) -> tuple[StickerInfo, list[_Picture]]:
    blocks = _Blocks(data, name)
    blocks.take(6)  # the signature, already recognised
    width, height, flags, _, _ = struct.unpack("<HHBBB", blocks.take(7))
    global_palette = blocks.take_palette(flags)
    pictures, loop_count, control = [], 1, None
    while (kind := blocks.take_kind(pictures and control is None)) != b";":
        if kind == b",":
            pictures.append(_take_picture(blocks, control or _Control(), global_palette))
            control = None
            budget.check_clip(name, len(pictures), 1, 1)
        elif kind == b"!":
            label, payload = blocks.take(1)[0], blocks.take_sub_blocks()
            if label == _GRAPHIC_CONTROL:
                control = _control(payload)
            elif label == _APPLICATION:
                loop_count = _loop_count(payload, loop_count)
        else:
            raise StickerError(f"{name}: the GIF is damaged (block {kind.hex()}); get it again")
    durations = [picture.control.duration_ms for picture in pictures]
    if pictures:  # the first one may enlarge the stated screen; the others are cut at its border
        left, top, wide, high = pictures[0].box
        width, height = max(width, left + wide), max(height, top + high)
        wide, high = (max(picture.box[side] for picture in pictures) for side in (2, 3))
        budget.check_clip(name, len(pictures), wide, high)  # they are decoded before they are cut
    info = checked_info(
        "gif", name, budget, (width, height), durations, loop_count, ignored_ms=_IGNORED_MS
    )
    return info, pictures


def _take_picture(blocks: _Blocks, control: _Control, global_palette: bytes) -> _Picture:
    left, top, width, height, flags = struct.unpack("<HHHHB", blocks.take(9))
    palette = blocks.take_palette(flags) or global_palette or _GREYS
    code = blocks.take(1) + blocks.take_sub_blocks()
    interlaced = bool(flags & _INTERLACED)
    return _Picture((left, top, width, height), control, palette, interlaced, code)


def _control(payload: bytes) -> _Control:
    if len(payload) < 5:
        return _Control()
    flags, delay_cs, transparent = struct.unpack("<BHB", payload[1:5])
    return _Control(flags >> 2 & 7, delay_cs * 10, transparent if flags & 1 else None)


def _loop_count(payload: bytes, otherwise: int) -> int:
    """Plays, from the NETSCAPE block, which counts repeats after the first; 0 stays for ever."""
    if payload[1:12] != b"NETSCAPE2.0" or len(payload) < 16 or payload[13] != 1:
        return otherwise
    (repeats,) = struct.unpack("<H", payload[14:16])
    return repeats + 1 if repeats else 0


def _region(picture: _Picture) -> Region:
    left, top, width, height = picture.box
    colours = np.zeros((256, 4), np.uint8)
    listed = np.frombuffer(picture.palette, np.uint8).reshape(-1, 3)
    colours[: len(listed), :3] = listed
    colours[:, 3] = 255
    if picture.control.transparent is not None:
        colours[picture.control.transparent] = 0
    pixels = colours[_indices(picture, width, height)]
    dispose = _DISPOSE.get(picture.control.disposal, "keep")
    return Region(pixels, left, top, "over", dispose)


def _indices(picture: _Picture, width: int, height: int) -> np.ndarray:
    """Palette indices, uint8 [h, w]: a GIF without a palette is grey to Pillow, index for index."""
    screen = struct.pack("<HHBBB", width, height, 0, 0, 0)
    flags = _INTERLACED if picture.interlaced else 0
    descriptor = struct.pack("<HHHHB", 0, 0, width, height, flags)
    lone = b"GIF89a" + screen + b"," + descriptor + picture.code + b";"
    return np.asarray(open_image(lone, "GIF").convert("L"))


def encode(
    sticker: Sticker, *, colors: int = 256, dither: bool = False, alpha_threshold: int = 128
) -> bytes:
    """GIF bytes: 1-bit alpha, each frame whole (disposal 2), delays of 20 ms and more.

    Args:
        sticker: what to write; sides up to 65535.
        colors: palette size, 2 to 256, one of them transparent. One palette for all frames where
            their colours fit, otherwise one for each frame.
        dither: spread the error of missing colours (Floyd-Steinberg).
        alpha_threshold: alpha at and above which a pixel is opaque, 1 to 255.
    """
    if not 2 <= colors <= 256 or not 1 <= alpha_threshold <= 255:
        raise StickerError("GIF needs colors from 2 to 256 and alpha_threshold from 1 to 255")
    _check_limits(sticker)
    delays = gif_delays_cs(sticker.durations_ms)
    visible = sticker.frames[..., 3] >= alpha_threshold
    indexed = list(index_frames(sticker.frames, visible, colors, dither))
    shared = all(palette is indexed[0][1] for _, palette in indexed)
    parts = [_head(sticker, indexed[0][1] if shared else None)]
    for (indices, palette), delay in zip(indexed, delays, strict=True):
        box = bounding_box(indices != 0) or (0, 0, 1, 1)
        own = None if shared else palette
        parts.append(_encode_picture(indices, box, 2, own, int(delay)))
    return b"".join([*parts, b";"])


def encode_indexed(sticker: Sticker, indices: np.ndarray, palette: np.ndarray) -> bytes:
    """Like `encode`, for pixels that are reduced already: those of `sticker.frames` are not used.

    Where a frame makes nothing disappear, only what changes is stored, on top of the frame before.

    Args:
        sticker: size, durations and loop count.
        indices: uint8 [F, H, W] into `palette`; 0 is transparent.
        palette: uint8 [n, 3], n <= 256.
    """
    _check_limits(sticker)
    parts = [_head(sticker, palette)]
    delays = gif_delays_cs(sticker.durations_ms).tolist()
    shown = np.zeros_like(indices[0])  # what is on the canvas when the frame is drawn
    for number, (frame, delay) in enumerate(zip(indices, delays, strict=True)):
        following = indices[number + 1] if number + 1 < len(indices) else frame
        is_cleared = bool(((frame != 0) & (following == 0)).any())
        drawn = np.where(frame != shown, frame, 0).astype(np.uint8)
        # Clearing is by box, so the box must hold all that is to go.
        box = bounding_box((frame != 0) if is_cleared else (drawn != 0)) or (0, 0, 1, 1)
        disposal = 2 if is_cleared else 1
        parts.append(_encode_picture(drawn, box, disposal, None, delay))
        shown = np.zeros_like(frame) if is_cleared else frame
    return b"".join([*parts, b";"])


def _check_limits(sticker: Sticker) -> None:
    longest = int(gif_delays_cs(sticker.durations_ms).max())
    if max(sticker.height, sticker.width, longest, sticker.loop_count - 1) > 65535:
        raise StickerError("GIF can't hold sides, delays (in 10 ms) or loops above 65535")


def _head(sticker: Sticker, palette: np.ndarray | None) -> bytes:
    table, bits = _color_table(palette)
    screen = struct.pack("<HHBBB", sticker.width, sticker.height, bits, 0, 0)
    head = b"GIF89a" + screen + table
    if sticker.loop_count != 1:
        repeats = max(sticker.loop_count - 1, 0)
        head += b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", repeats, 0)
    return head


def _color_table(palette: np.ndarray | None) -> tuple[bytes, int]:
    """The table, padded to a power of two, and its flag bits; both empty without a palette."""
    if palette is None:
        return b"", 0
    size_bits = max(int(len(palette) - 1).bit_length(), 1)
    return palette.tobytes().ljust(3 << size_bits, b"\0"), _LOCAL_PALETTE | (size_bits - 1)


def _encode_picture(
    indices: np.ndarray, box: Box, disposal: int, palette: np.ndarray | None, delay_cs: int
) -> bytes:
    """The part of one frame in `box`; index 0 is transparent."""
    left, top, right, bottom = box
    table, bits = _color_table(palette)
    flags = disposal << 2 | 1
    control = struct.pack("<BBBBHBB", 0x21, _GRAPHIC_CONTROL, 4, flags, delay_cs, 0, 0)
    descriptor = struct.pack("<BHHHHB", 0x2C, left, top, right - left, bottom - top, bits)
    return control + descriptor + table + _compress(crop(indices, box))


def _compress(indices: np.ndarray) -> bytes:
    """Minimum code size and sub-blocks, cut out of a grey GIF, whose indices are its pixels."""
    blocks = _Blocks(encode_image(indices, "GIF", optimize=False, interlace=False), "GIF")
    blocks.take(6)
    blocks.take_palette(blocks.take(7)[4])
    while (kind := blocks.take(1)) == b"!":
        blocks.take(1)
        blocks.take_sub_blocks()
    assert kind == b","
    return _take_picture(blocks, _Control(), b"").code


__all__ = ["decode", "encode", "encode_indexed", "inspect"]
