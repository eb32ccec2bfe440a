"""Reading and writing stickers: content decides the format, never the name."""

from __future__ import annotations

import contextlib
import json
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rdtf.errors import StickerError, UserError
from rdtf.fileio import atomic_path, read_json
from rdtf.stickers.canvas import fitted_size
from rdtf.stickers.formats import gif, isobmff, lottie, pillow, png, video, webp
from rdtf.stickers.sticker import (
    DEFAULT_BUDGET,
    DEFAULT_DURATION_MS,
    Budget,
    Sticker,
    StickerInfo,
)

FRAME_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")
DURATIONS_FILE = "durations.json"


#: File name endings of the formats that can be read; a folder of frames can be read too.
SUPPORTED_SUFFIXES = (
    *(".gif", ".webp", ".apng", ".png", ".jpg", ".jpeg", ".avif"),
    *(".webm", ".mp4", ".tgs", ".json"),
)

_PARSERS = {
    "gif": gif.parse,
    "webp": webp.parse,
    "png": png.parse,
    "jpeg": pillow.parse_jpeg,
    "webm": video.parse,
    "avif": isobmff.parse,
    "mp4": isobmff.parse,
}
#: What parsers and decoders raise on damaged files, PyAV's errors apart.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    MemoryError,
    RuntimeError,  # libavif
    struct.error,
    zlib.error,
)
_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def read_sticker(
    path: Path | str, *, budget: Budget = DEFAULT_BUDGET, lottie_size: int = 256
) -> Sticker:
    """Read a sticker file or a folder of frames.

    Args:
        path: a GIF, WebP, PNG, APNG, JPEG, AVIF, VP9 WebM, MP4, Lottie .json or .tgs file, whatever
            its name;
            or a folder of stills of one size, sorted by name, with durations in `durations.json`
            (100 ms each without it).
        budget: limits that are checked before any pixel is decoded.
        lottie_size: side in pixels at which Lottie is rendered.

    Returns:
        Every frame that is stored, with its duration; equal frames are not merged. Durations of
        0 ms, and in GIFs of 10 ms, become 100 ms, as in browsers. Stills larger than
        `budget.max_canvas` are reduced to it. What follows the picture in the file is ignored.

    Raises:
        StickerError: missing, cut off, damaged, over budget, or no sticker at all.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, budget)
    return decode_sticker(budget.read(path), str(path), budget=budget, lottie_size=lottie_size)


def decode_sticker(
    data: bytes, name: str = "sticker", *, budget: Budget = DEFAULT_BUDGET, lottie_size: int = 256
) -> Sticker:
    """Like `read_sticker`, from the bytes of a file; `name` is what errors call it."""
    budget.check_bytes(name, len(data))
    format = recognise(data, name)
    with damage_as_sticker_error(name, format):
        if format == "lottie":
            return lottie.decode(data, name, budget, lottie_size)
        return _reduced(_PARSERS[format](data, name, budget)[1](), budget.max_canvas)


def _reduced(sticker: Sticker, max_side: int) -> Sticker:
    """A photo that is larger than any use of it, smaller; budgets let no clip be so large.

    In 8 bits, unlike `canvas.fit_frame`: floats of such a photo need four times the memory.
    """
    if max(sticker.height, sticker.width) <= max_side:
        return sticker
    height, width = fitted_size(sticker.height, sticker.width, max_side, max_side)
    image = Image.fromarray(sticker.frames[0]).convert("RGBa")
    smaller = image.resize((width, height), Image.Resampling.BOX).convert("RGBA")
    return sticker.replace(frames=np.array(smaller)[None])


def probe(path: Path | str, budget: Budget = DEFAULT_BUDGET) -> StickerInfo:
    """Format, frames, canvas and durations of a sticker file or folder, without its pixels.

    Raises:
        StickerError: as `read_sticker`, except for damage inside the compressed pixels.
    """
    path = Path(path)
    if path.is_dir():
        return _folder_info(path, _frame_files(path, budget), budget)
    return inspect(budget.read(path), str(path), budget)


def inspect(data: bytes, name: str, budget: Budget) -> StickerInfo:
    """Like `probe`, from the bytes of a file; `name` is what errors call it."""
    format = recognise(data, name)
    with damage_as_sticker_error(name, format):
        if format == "lottie":
            return lottie.LottieFile(data, name, budget).info
        return _PARSERS[format](data, name, budget)[0]


# ---------------------------------------------------------------- folders of frames


def _frame_files(folder: Path, budget: Budget) -> list[Path]:
    """The pictures of a folder, frame2 before frame10; `StickerError` if there is none."""
    try:
        files = [path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES]
    except OSError as error:
        raise StickerError(f"{folder} can't be read: {error.strerror}") from error
    files = [path for path in files if not path.name.startswith(".")]
    if not files:
        raise StickerError(f"{folder} holds no frames; put PNG or WebP pictures there")
    budget.check_clip(str(folder), len(files), 1, 1)
    budget.check_bytes(str(folder), sum(path.stat().st_size for path in files))
    return sorted(files, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key: numbers by value, everything else by letter."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _folder_info(folder: Path, files: list[Path], budget: Budget) -> StickerInfo:
    """The clip that `files` make: each still, all of one size, with the folder's durations."""
    frames = [probe(file, budget) for file in files]
    sizes = {(frame.width, frame.height) for frame in frames}
    if len(sizes) > 1:
        listed = " and ".join(f"{width} x {height}" for width, height in sorted(sizes)[:2])
        raise StickerError(f"{folder}: frames of different sizes ({listed}); make them equal")
    if any(frame.num_frames > 1 for frame in frames):
        raise StickerError(f"{folder}: a frame is itself animated; name that file, not the folder")
    durations = _durations(folder, len(frames))
    return StickerInfo.checked("folder", str(folder), budget, sizes.pop(), durations)


def _durations(folder: Path, num_frames: int) -> np.ndarray:
    """From `durations.json`: one integer, a list of them, or {"durations_ms": either}."""
    path = folder / DURATIONS_FILE
    if not path.exists():
        return np.full(num_frames, DEFAULT_DURATION_MS)
    value: Any = read_json(path, "durations")
    if isinstance(value, dict):
        value = value.get("durations_ms")
    values = [value] * num_frames if isinstance(value, int) else value
    is_list = isinstance(values, list) and len(values) == num_frames
    if not is_list or not all(type(item) is int and 0 <= item < 2**31 for item in values):
        raise StickerError(f"{path} must hold {num_frames} durations, whole milliseconds")
    return np.asarray([item or DEFAULT_DURATION_MS for item in values])


def _read_folder(folder: Path, budget: Budget) -> Sticker:
    files = _frame_files(folder, budget)
    info = _folder_info(folder, files, budget)
    first = read_sticker(files[0], budget=budget).frames[0]
    frames = np.empty((info.num_frames, *first.shape), np.uint8)
    frames[0] = first
    for frame, file in zip(frames[1:], files[1:], strict=True):
        frame[:] = read_sticker(file, budget=budget).frames[0]
    return Sticker(frames, info.durations)


@contextlib.contextmanager
def damage_as_sticker_error(name: str, format: str) -> Iterator[None]:
    """What parsers and decoders raise inside becomes a `StickerError` of one line."""
    try:
        yield
    except UserError:
        raise
    except _TOO_LARGE as error:
        raise StickerError(f"{name}: too many pixels to decode; shrink the picture") from error
    except (*_DAMAGE, *_video_errors()) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise StickerError(f"{name}: damaged {format} ({reason}); get it again") from error


def _video_errors() -> tuple[type[Exception], ...]:
    """What PyAV raises, if it was ever needed: it is imported by who reads or writes videos."""
    av = sys.modules.get("av")
    return () if av is None else (av.FFmpegError,)


def recognise(data: bytes, name: str) -> str:
    """The format by its first bytes, as in `StickerInfo.format`."""
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    for magic, format in _MAGIC.items():
        if data.startswith(magic):
            return format
    if data[4:8] == b"ftyp" and (format := isobmff.brand(data)):
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
_KNOWN = "GIF, WebP, PNG, APNG, WebM, Lottie, TGS, JPEG, AVIF or MP4"


def _describe(data: bytes, text: bytes) -> str:
    if not data:
        return "is empty"
    if text[:1] == b"<":
        return "is a web page or other markup, not a picture"
    if data[4:8] == b"ftyp":
        return "is a HEIC file or another that is not supported"
    return "is not a supported picture"


_ENCODERS: dict[str, Callable[..., bytes]] = {
    ".gif": gif.encode,
    ".webp": webp.encode,
    ".apng": png.encode,
    ".png": png.encode,
    ".webm": video.encode,
}


def write_sticker(sticker: Sticker, path: Path | str, **options: Any) -> Path:
    """Write `sticker` to `path`; every frame and its duration is kept, repeats too.

    Args:
        sticker: what to write.
        path: ends in .gif, .webp, .png or .apng, or .webm. Its folder is made if needed.
        options: WebP has `lossless`, `quality` (0 to 100), `method` (0, fast, to 6) and `exact`
            (keep the colours of fully transparent pixels); WebM has `crf`, 0 (best) to 63
            (smallest), and `speed`, 0 (slow) to 8.

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
        known = ", ".join(_ENCODERS)
        raise StickerError(
            f"can't write a sticker as {suffix or 'a file without suffix'}; "
            f"end the name in one of {known}"
        )
    try:
        return encoder(sticker, **options)
    except (OSError, TypeError, OverflowError) as error:
        raise StickerError(f"can't write the sticker as {suffix}: {error}") from error


def frame_files(sticker: Sticker) -> dict[str, bytes]:
    """PNG frames by number and `durations.json`; `rdtf` reads the folder back as a clip."""
    digits = max(3, len(str(sticker.num_frames - 1)))
    files = {
        f"/frame_{index:0{digits}d}.png": pillow.encode_image(frame, "PNG")
        for index, frame in enumerate(sticker.frames)
    }
    times = {"durations_ms": sticker.durations_ms.tolist(), "loop_count": sticker.loop_count}
    return {**files, "/durations.json": (json.dumps(times) + "\n").encode()}
