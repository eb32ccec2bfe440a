"""GIF: blocks in, blocks out, so that every frame and every delay is kept.

Pillow codes and decodes the compressed pixels; the container is handled here, because Pillow merges
equal frames when it writes and reads a cut-off file as a shorter clip.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers.canvas import in_threads
from rdtf.stickers.formats import pillow
from rdtf.stickers.formats.quantize import ColourTable
from rdtf.stickers.sticker import Budget, Sticker, StickerInfo, damaged

_GRAPHIC_CONTROL, _APPLICATION = 0xF9, 0xFF
_HAS_PALETTE, _INTERLACED = 0x80, 0x40
_HEAD = 13  # signature and screen
_IGNORED_MS = 10  # browsers play such a delay as 100 ms, and GIFs are made to be seen there
_MIN_CS = 2  # 50 frames a second is the fastest that browsers play a GIF
_OPAQUE = 128  # alpha from here on counts as opaque
_GREYS = np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes()
_DISPOSE: dict[int, Literal["keep", "clear", "restore"]] = {2: "clear", 3: "restore", 4: "restore"}
_NULS = re.compile(rb"\0*")


def _blocks(data: bytes, name: str) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each block: b"!" extension, b"," picture, and b";" trailer at last.

    As in browsers, NUL bytes between blocks are skipped, and the end of the file stands for the
    trailer behind a picture.

    Raises:
        StickerError: cut off, or something else than a block.
    """
    try:
        at, may_end = _HEAD + _table_size(data[10]), False
        while True:
            at = _NULS.match(data, at).end()  # type: ignore[union-attr]
            kind = data[at : at + 1]
            if kind == b"!":
                may_end = may_end and data[at + 1] != _GRAPHIC_CONTROL
                end = _after_sub_blocks(data, at + 2)
            elif kind == b",":
                may_end = True
                end = _after_sub_blocks(data, at + 11 + _table_size(data[at + 9]))
            elif kind == b";" or (not kind and may_end):
                yield b";", at, at + 1
                return
            else:
                break
            yield kind, at, end
            at = end
    except IndexError:
        kind = b""
    raise damaged(name, "GIF", f"block {kind.hex()}") if kind else damaged(name, "GIF")


def _table_size(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & _HAS_PALETTE else 0


def _after_sub_blocks(data: bytes, at: int) -> int:
    while size := data[at]:
        at += size + 1
    return at + 1


def parse(data: bytes, name: str, budget: Budget) -> tuple[StickerInfo, Callable[[], Sticker]]:
    """Headers of a GIF, and what decodes it; `StickerError` if cut off, damaged or over budget."""
    regions, loop_count, control, end = [], 1, (0, 0, None), len(data)
    for kind, start, end in _blocks(data, name):
        block = data[start:end]
        if kind == b",":
            palette = data[_HEAD : _HEAD + _table_size(data[10])] or _GREYS
            regions.append(_region(block, palette, *control))
            control = (0, 0, None)
            budget.check_clip(name, len(regions), 1, 1)
        elif kind == b"!" and block[1] == _GRAPHIC_CONTROL:
            control = _control(block[2:])
        elif kind == b"!" and block[1] == _APPLICATION:
            loop_count = _loop_count(block[2:], loop_count)
    width, height = struct.unpack_from("<HH", data, 6)
    if regions:  # the first one may enlarge the stated screen; the others are cut at its border
        left, top, wide, high = regions[0].box
        width, height = max(width, left + wide), max(height, top + high)
        wide, high = (max(region.box[side] for region in regions) for side in (2, 3))
        budget.check_clip(name, len(regions), wide, high)  # they are decoded before they are cut
    stored_ms = [region.duration_ms for region in regions]
    info = StickerInfo.checked(
        "gif", name, budget, (width, height), stored_ms, loop_count, ignored_ms=_IGNORED_MS, end=end
    )
    return info, lambda: Sticker(pillow.compose(regions, width, height), info.durations, loop_count)


def _control(payload: bytes) -> tuple[int, int, int | None]:
    """Disposal, duration in ms and the transparent index from a graphic control extension."""
    if len(payload) < 5:
        return 0, 0, None
    flags, delay_cs, transparent = struct.unpack_from("<BHB", payload, 1)
    return flags >> 2 & 7, delay_cs * 10, transparent if flags & 1 else None


def _loop_count(payload: bytes, otherwise: int) -> int:
    """Plays, from the NETSCAPE block, which counts repeats after the first; 0 stays for ever."""
    if payload[1:12] != b"NETSCAPE2.0" or len(payload) < 16 or payload[13] != 1:
        return otherwise
    (repeats,) = struct.unpack("<H", payload[14:16])
    return repeats + 1 if repeats else 0


def _region(
    block: bytes, palette: bytes, disposal: int, duration_ms: int, transparent: int | None
) -> pillow.Region:
    """The picture of a block; `palette` is that of the file."""
    left, top, width, height, flags = struct.unpack_from("<HHHHB", block, 1)
    code_at = 10 + _table_size(flags)
    palette = block[10:code_at] or palette

    def decode() -> np.ndarray:
        colours = np.zeros((256, 4), np.uint8)
        listed = np.frombuffer(palette, np.uint8).reshape(-1, 3)
        colours[: len(listed), :3] = listed
        colours[:, 3] = 255
        if transparent is not None:
            colours[transparent] = 0
        # A GIF without a palette is grey to Pillow, index for index.
        screen = struct.pack("<HHBBB", width, height, 0, 0, 0)
        descriptor = struct.pack("<HHHHB", 0, 0, width, height, flags & _INTERLACED)
        lone = b"GIF89a" + screen + b"," + descriptor + block[code_at:] + b";"
        return colours[np.asarray(pillow.open_image(lone, "GIF").convert("L"))]

    dispose = _DISPOSE.get(disposal, "keep")
    return pillow.Region((left, top, width, height), duration_ms, decode, "over", dispose)


def encode(sticker: Sticker) -> bytes:
    """GIF bytes: 1-bit alpha, delays of 20 ms and more; sides up to 65535.

    One palette for all frames where their colours fit, otherwise one for each frame.
    """
    frames = binary_alpha(sticker.frames)
    for part in (frames[:1], frames):  # if not even the first frame fits, no more is looked at
        table = ColourTable(part)
        if table.num_colours > 256 - (not table.has_hidden):
            break
    else:
        indices, palette = reduced(table, 256)
        return encode_indexed(sticker, indices, [palette])
    own = in_threads(lambda frame: reduced(ColourTable(frame[None]), 256), list(frames))
    indices, palettes = zip(*own, strict=True)
    return encode_indexed(sticker, np.concatenate(indices), palettes)


def binary_alpha(frames: np.ndarray) -> np.ndarray:
    """uint8 [..., 4] with alpha 0 (and no colour) or 255, which is what GIF can show."""
    opaque = frames.copy()
    opaque[..., 3] = 255
    return np.where(frames[..., 3:] >= _OPAQUE, opaque, 0).astype(np.uint8)


def reduced(table: ColourTable, colors: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices uint8 [F, H, W] and palette uint8 [n, 3], n <= `colors`, of `binary_alpha` frames.

    Entry 0 is kept for what is transparent, even if nothing is.
    """
    if table.has_hidden:
        indices, palette = table.reduce(colors)
        return indices, palette[:, :3]
    indices, palette = table.reduce(colors - 1)
    return indices + np.uint8(1), np.pad(palette, ((1, 0), (0, 0)))[:, :3]


def encode_indexed(sticker: Sticker, indices: np.ndarray, palettes: Sequence[np.ndarray]) -> bytes:
    """Like `encode`, for pixels that are reduced already: those of `sticker.frames` are not used.

    With one palette, where a frame makes nothing disappear, only what changes is stored, on top of
    the frame before.

    Args:
        sticker: size, durations and loop count.
        indices: uint8 [F, H, W] into the palette; 0 is transparent.
        palettes: one for all frames, or one for each: uint8 [n, 3], n <= 256.
    """
    delays = _delays_cs(sticker.durations_ms).tolist()
    if max(sticker.height, sticker.width, *delays, sticker.loop_count - 1) > 65535:
        raise StickerError("GIF can't hold sides, delays (in 10 ms) or loops above 65535")
    is_shared = len(palettes) == 1
    parts = [_head(sticker, palettes[0] if is_shared else None)]
    shown = np.zeros_like(indices[0])  # what is on the canvas when the frame is drawn
    for number, (frame, delay) in enumerate(zip(indices, delays, strict=True)):
        following = indices[number + 1] if number + 1 < len(indices) else frame
        is_cleared = not is_shared or bool(((frame != 0) & (following == 0)).any())
        drawn = np.where(frame != shown, frame, 0).astype(np.uint8)
        # Clearing is by box, so the box must hold all that is to go.
        box = pillow.bounding_box((frame != 0) if is_cleared else (drawn != 0)) or (0, 0, 1, 1)
        palette = None if is_shared else palettes[number]
        parts.append(_encode_picture(drawn, box, 2 if is_cleared else 1, palette, delay))
        shown = np.zeros_like(frame) if is_cleared else frame
    return b"".join([*parts, b";"])


def _delays_cs(durations_ms: np.ndarray) -> np.ndarray:
    """GIF delays in hundredths of a second, int64 [F], each >= 2.

    The total is that of `durations_ms` to 10 ms: rounding errors are carried on, and what raising
    very short frames to 20 ms adds is taken from the longest frames, as far as they have it.
    """
    ends = np.rint(np.cumsum(durations_ms) / 10).astype(np.int64)
    delays = np.maximum(np.diff(ends, prepend=0), _MIN_CS)
    for _ in range(int(delays.sum() - ends[-1])):
        longest = int(delays.argmax())
        if delays[longest] <= _MIN_CS:
            break
        delays[longest] -= 1
    return delays


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
    return palette.tobytes().ljust(3 << size_bits, b"\0"), _HAS_PALETTE | (size_bits - 1)


def _encode_picture(
    indices: np.ndarray, box: pillow.Box, disposal: int, palette: np.ndarray | None, delay_cs: int
) -> bytes:
    """The part of one frame in `box`; index 0 is transparent."""
    left, top, right, bottom = box
    table, bits = _color_table(palette)
    flags = disposal << 2 | 1
    control = struct.pack("<BBBBHBB", 0x21, _GRAPHIC_CONTROL, 4, flags, delay_cs, 0, 0)
    descriptor = struct.pack("<BHHHHB", 0x2C, left, top, right - left, bottom - top, bits)
    # The code is cut out of a grey GIF, whose indices are its pixels.
    grey = pillow.encode_image(pillow.crop(indices, box), "GIF", optimize=False, interlace=False)
    start, end = next((a, b) for kind, a, b in _blocks(grey, "") if kind == b",")
    code = grey[start + 10 + _table_size(grey[start + 9]) : end]
    return control + descriptor + table + code
