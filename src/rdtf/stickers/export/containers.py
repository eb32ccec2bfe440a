"""What kind of file it really is, and that it is nothing else: the outermost structure only.

A file can be a picture to one program and an archive, a page or another picture to the next. So the
structure is walked to its end, and nothing but padding may follow; and no archive may hide inside.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from rdtf.stickers.budget import recognise

_AVIF_BRANDS = (b"avif", b"avis")
_MP4_BRANDS = (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ")
_EBML, _SEGMENT, _VOID = 0x1A45DFA3, 0x18538067, 0xEC
_DOCTYPE = 0x4282
#: What no picture holds by chance, and what other programs look for anywhere in a file.
_MARKS = {
    b"<script": "a script for browsers",
    b"<?php": "a script for servers",
    b"Rar!\x1a\x07": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
}
_PADDING = b"\0\r\n"  # what tools leave behind the end, and nobody reads
_ZIP_END, _ZIP_ENTRY = b"PK\x05\x06", b"PK\x01\x02"


def container_of(data: bytes, name: str) -> str:
    """The container by its first bytes: a name of `PICTURE_FORMATS`, or "lottie".

    Raises:
        StickerError: nothing that is known.
    """
    if data[4:8] == b"ftyp":
        if data[8:12] in _AVIF_BRANDS:
            return "avif"
        if data[8:12] in _MP4_BRANDS:
            return "mp4"
    return recognise(data, name)


def foreign_parts(data: bytes, container: str) -> list[str]:
    """What is in the file besides the picture, in words; empty if it is all one picture.

    Raises:
        IndexError, struct.error, ValueError: the structure is damaged.
    """
    walk = _WALKS.get(container)
    tail = b"" if walk is None else data[walk(data) :].strip(_PADDING)
    found = [f"{len(tail)} bytes after the end of the {container}"] if tail else []
    return found + hidden_parts(data)


def hidden_parts(data: bytes) -> list[str]:
    """What another program would open in the file: archives, documents, scripts, in words."""
    found = []
    if _holds_zip(data):
        found.append("a ZIP archive")
    if b"%PDF-" in data[:1024]:
        found.append("a PDF document")
    found += [words for mark, words in _MARKS.items() if mark in data]
    return found


def doctype(data: bytes) -> str:
    """The DocType that an EBML file states: "webm", "matroska", or "" if it states none."""
    _, start, size = _element(data, 0)
    at, end = start, start + (size or 0)
    while at < end:
        kind, start, size = _element(data, at)
        at = start + (size or 0)
        if kind == _DOCTYPE:
            return data[start:at].rstrip(b"\0").decode("ascii", "replace")
    return ""


def _gif_end(data: bytes) -> int:
    at = 13 + _table_size(data[10])
    while (kind := data[at : at + 1]) not in (b";", b""):
        if kind == b"!":
            at = _after_blocks(data, at + 2)
        elif kind == b",":
            at = _after_blocks(data, at + 10 + _table_size(data[at + 9]) + 1)
        elif kind == b"\0":
            at += 1
        else:
            raise ValueError("no GIF block")
    return at + 1


def _table_size(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    while size := data[at]:
        at += size + 1
    return at + 1


def _png_end(data: bytes) -> int:
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
    return at


def _riff_end(data: bytes) -> int:
    (size,) = struct.unpack_from("<I", data, 4)
    return 8 + size + size % 2


def _jpeg_end(data: bytes) -> int:
    """After the last end marker: thumbnails inside have their own."""
    return data.rindex(b"\xff\xd9") + 2


def _webm_end(data: bytes) -> int:
    """One header, then one segment; nothing else than padding may follow."""
    kind, start, size = _element(data, 0)
    at = start + (size or 0)
    expected = {_EBML: {_SEGMENT, _VOID}, _SEGMENT: {_VOID}, _VOID: {_VOID}}
    while at < len(data):
        following, start, size = _element(data, at)
        if following not in expected[kind]:
            return at
        kind = following
        at = len(data) if size is None else start + size
    return at


def _element(data: bytes, at: int) -> tuple[int, int, int | None]:
    """Of an EBML element: its id, where its content starts, its size (None if not stated)."""
    id_length = 9 - data[at].bit_length()
    kind = int.from_bytes(data[at : at + id_length], "big")
    at += id_length
    length = 9 - data[at].bit_length()
    most = (1 << 7 * length) - 1
    size = int.from_bytes(data[at : at + length], "big") & most
    return kind, at + length, None if size == most else size


def _boxes_end(data: bytes) -> int:
    """ISO base media: boxes fill the file; where they stop doing so, something else begins."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
        elif size == 0:
            return len(data)
        if size < 8 or at + size > len(data) or not kind.isascii():
            return at
        at += size
    return at


_WALKS: dict[str, Callable[[bytes], int]] = {
    "gif": _gif_end,
    "png": _png_end,
    "webp": _riff_end,
    "jpeg": _jpeg_end,
    "webm": _webm_end,
    "avif": _boxes_end,
    "mp4": _boxes_end,
}


def _holds_zip(data: bytes) -> bool:
    """Whether a reader of ZIP files, which begins at the end, would find an archive."""
    return any(_is_zip_end(data, at) for at in _occurrences(data, _ZIP_END, len(data) - 65_557))


def _is_zip_end(data: bytes, at: int) -> bool:
    if at + 22 > len(data):
        return False
    size, offset = struct.unpack_from("<II", data, at + 12)
    directory = at - size
    starts = (directory, offset)
    return any(data[start : start + 4] == _ZIP_ENTRY for start in starts if 0 <= start < at)


def _occurrences(data: bytes, part: bytes, start: int) -> Iterator[int]:
    at = data.find(part, max(start, 0))
    while at >= 0:
        yield at
        at = data.find(part, at + 1)
