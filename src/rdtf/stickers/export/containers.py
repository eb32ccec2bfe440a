"""What kind of file it really is, and that it is nothing else.

A file can be a picture to one program and an archive, a page or another picture to the next. So
nothing but padding may follow the picture, and no archive may hide inside.
"""

from __future__ import annotations

import struct

from rdtf.stickers.read import recognise

_AVIF_BRANDS = (b"avif", b"avis")
_MP4_BRANDS = (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ")
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


def foreign_parts(data: bytes, container: str, end: int) -> list[str]:
    """What is in the file besides the picture, which ends at `end`, in words; empty if nothing."""
    tail = data[end:].strip(_PADDING)
    found = [f"{len(tail)} bytes after the end of the {container}"] if tail else []
    return found + hidden_parts(data)


def hidden_parts(data: bytes) -> list[str]:
    """What another program would open in the file: archives, documents, scripts, in words."""
    found = ["a ZIP archive"] if _holds_zip(data) else []
    if b"%PDF-" in data[:1024]:
        found.append("a PDF document")
    return found + [words for mark, words in _MARKS.items() if mark in data]


def boxes_end(data: bytes) -> int:
    """ISO base media (AVIF, MP4): boxes fill the file; where they stop, something else begins."""
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


def _holds_zip(data: bytes) -> bool:
    """Whether a reader of ZIP files, which begins at the end, would find an archive."""
    at = data.find(_ZIP_END, max(len(data) - 65_557, 0))
    while at >= 0:
        if at + 22 <= len(data):
            size, offset = struct.unpack_from("<II", data, at + 12)
            starts = (at - size, offset)
            if any(data[s : s + 4] == _ZIP_ENTRY for s in starts if 0 <= s < at):
                return True
        at = data.find(_ZIP_END, at + 1)
    return False
