"""The sizes that VP9 and VP8 packets state, read before a decoder allocates memory for them.

A WebM header may say 16 x 16 and a frame inside 16384 x 16384; the decoder believes the frame. Only
the first bits of each frame are parsed (VP9 bitstream specification, section 6.2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

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
