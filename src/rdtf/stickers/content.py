"""Bytes of a file, within the budget, and what kind they are; names do not count."""

from __future__ import annotations

from pathlib import Path

from rdtf.errors import StickerError
from rdtf.stickers.budget import Budget


def read_bytes(path: Path | str, budget: Budget) -> bytes:
    """The content of a regular file of at most `budget.max_bytes` bytes."""
    path = Path(path)
    try:
        if not path.exists():
            raise StickerError(f"{path} does not exist; check the name")
        if not path.is_file():
            raise StickerError(f"{path} is not a file; name a sticker file")
        budget.check_bytes(str(path), path.stat().st_size)
        with path.open("rb") as file:
            return file.read(budget.max_bytes)
    except OSError as error:
        raise StickerError(f"{path} can't be read: {error.strerror or error}") from error


def recognise(data: bytes, name: str) -> str:
    """The format by its first bytes: "gif", "webp", "png", "jpeg", "webm" or "lottie"."""
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    for magic, format in _MAGIC.items():
        if data.startswith(magic):
            return format
    text = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        return "lottie"
    raise StickerError(f"{name} {_describe(data, text)}; give a {_KNOWN} file")


_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"\x1a\x45\xdf\xa3": "webm",
    b"\x1f\x8b": "lottie",
}
_KNOWN = "GIF, WebP, PNG, APNG, WebM, Lottie, TGS or JPEG"


def _describe(data: bytes, text: bytes) -> str:
    if not data:
        return "is empty"
    if text[:1] == b"<":
        return "is a web page or other markup, not a picture"
    if data[4:8] == b"ftyp":
        return "is an MP4, HEIC or AVIF file, which is not supported"
    return "is not a supported picture"
