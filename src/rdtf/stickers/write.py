"""Writing stickers: format by suffix, the file whole or not at all."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rdtf.errors import StickerError
from rdtf.fileio import atomic_path
from rdtf.stickers.formats import gif, png, webm, webp
from rdtf.stickers.sticker import Sticker

_ENCODERS: dict[str, Callable[..., bytes]] = {
    ".gif": gif.encode,
    ".webp": webp.encode,
    ".apng": png.encode,
    ".png": png.encode,
    ".webm": webm.encode,
}
WRITABLE_SUFFIXES = tuple(_ENCODERS)


def write_sticker(sticker: Sticker, path: Path | str, **options: Any) -> Path:
    """Write `sticker` to `path`; every frame and its duration is kept, repeats too.

    Args:
        sticker: what to write.
        path: ends in .gif, .webp, .png or .apng, or .webm. Its folder is made if needed.
        options: of the format: see `gif.encode`, `webp.encode`, `png.encode`, `webm.encode`.

    Returns:
        The path written. PNG, APNG and lossless WebP (the default) hold exact pixels; GIF has
        1-bit alpha and 256 colours a frame; WebM is lossy.

    Raises:
        UserError: unknown suffix or option, or the file can't be written; nothing is left behind.
    """
    path = Path(path)
    data = encode_sticker(sticker, path.suffix, **options)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return path


def encode_sticker(sticker: Sticker, suffix: str, **options: Any) -> bytes:
    """The bytes that `write_sticker` writes to a file that ends in `suffix`, such as ".webp"."""
    encoder = _ENCODERS.get(suffix.lower())
    if encoder is None:
        known = ", ".join(WRITABLE_SUFFIXES)
        raise StickerError(
            f"can't write a sticker as {suffix or 'a file without suffix'}; "
            f"end the name in one of {known}"
        )
    allowed = list(inspect.signature(encoder).parameters)[1:]
    for option in options:
        if option not in allowed:
            raise StickerError(f"{suffix} has no option {option!r}; it has {', '.join(allowed)}")
    try:
        return encoder(sticker, **options)
    except (OSError, TypeError, OverflowError) as error:
        raise StickerError(f"can't write the sticker as {suffix}: {error}") from error
