"""What a file really is, by its bytes: everything that the rules of a platform ask about.

A file can be a picture to one program and an archive, a page or another picture to the next. So
nothing but padding may follow the picture, and no archive may hide inside.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from typing import Any

import av
import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers.files import decode_sticker, inspect, recognise
from rdtf.stickers.formats import video
from rdtf.stickers.formats.isobmff import Tracks
from rdtf.stickers.formats.pillow import open_image, to_rgba, upright
from rdtf.stickers.sticker import Budget, StickerInfo

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


def _foreign_parts(data: bytes, container: str, end: int) -> list[str]:
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


def _boxes_end(data: bytes) -> int:
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


# Ours are coded and read by Pillow, so FFmpeg is the other decoder; it reads no animated WebP.
_FFMPEG = {"gif": "gif", "png": "apng"}
_PILLOW = {"webp": "WEBP", "jpeg": "JPEG"}


@dataclass(frozen=True)
class Measured:
    """A file as its own bytes state it, and what two decoders make of it."""

    info: StickerInfo  # what its headers say; the format is also "avif" or "mp4" here
    num_bytes: int  # size of the file
    frames: np.ndarray  # uint8 [F, H, W, 4], as `rdtf.stickers` reads them, where it does
    seen_frames: np.ndarray  # the same to another decoder
    disagreement: str = ""  # how another decoder sees it differently, in words; "" if it does not
    codec: str = ""  # of a video, else ""
    has_sound: bool = False  # it has a sound track
    foreign: tuple[str, ...] = ()  # what is in the file besides the picture, in words

    @property
    def total_ms(self) -> int:
        """Of the durations that the file states; a plain picture has one of any length."""
        return sum(self.info.stored_ms)


def measure(data: bytes, name: str, budget: Budget) -> Measured:
    """Inspect within the budget, decode, and decode by another decoder.

    Raises:
        StickerError: unknown, damaged or over budget.
        OSError, ValueError, av.FFmpegError, ...: damaged.
    """
    budget.check_bytes(name, len(data))
    container = container_of(data, name)
    if container in ("avif", "mp4"):
        found = _measure_by_ffmpeg(data, container, name, budget)
    else:
        found = _measure(data, container, name, budget)
    return replace(found, foreign=tuple(_foreign_parts(data, container, found.info.end)))


def _measure(data: bytes, container: str, name: str, budget: Budget) -> Measured:
    info = inspect(data, name, budget)
    codec, has_sound = "", False
    if container == "webm":
        stream = video.demux(data, name, budget)
        codec, has_sound, kind = stream.codec, stream.has_sound, stream.doctype
        if kind != "webm":
            raise StickerError(f"the file declares the type {kind or 'none'}, not webm; convert it")
    # A large still is judged as it is, not reduced.
    budget = replace(budget, max_canvas=max(budget.max_canvas, info.width, info.height))
    frames = decode_sticker(data, name, budget=budget).frames
    seen, seen_ms = decode_by_others(data, container, budget)
    seen = upright(seen, info.turned)
    problem = _disagreement(info, seen, seen_ms)
    return Measured(info, len(data), frames, seen, problem, codec, has_sound)


def _measure_by_ffmpeg(data: bytes, container: str, name: str, budget: Budget) -> Measured:
    """AVIF and MP4, which have no second decoder here."""
    if container == "avif":
        image = open_image(data, "AVIF")  # states frames and size without decoding any
        budget.check_clip(name, getattr(image, "n_frames", 1), *image.size)
    with _opened(data, "mov") as file:
        videos: list[Any] = [track for track in file.streams.video if track.codec_context]
        has_sound = len(file.streams.audio) > 0
        codec = videos[0].codec_context.name.removeprefix("libvpx-") if videos else ""
        for track in videos:
            size = (track.codec_context.width, track.codec_context.height)
            budget.check_clip(name, max(track.frames, 1), *size)
    frames, durations_ms = decode_by_others(data, container, budget)
    count, height, width, _ = frames.shape
    moves = container == "mp4" or count > 1
    size, end = (width, height), _boxes_end(data)
    info = StickerInfo.checked(
        container, name, budget, size, durations_ms, end=end, is_animated=moves
    )
    return Measured(info, len(data), frames, frames, codec=codec, has_sound=has_sound)


def _disagreement(info: StickerInfo, frames: np.ndarray, durations_ms: np.ndarray) -> str:
    """How another decoder reads the file differently; pixels are left to who knows the source."""
    if len(frames) != info.num_frames:
        return f"{info.num_frames} frames expected, but {len(frames)} in a second decoder"
    height, width = frames.shape[1:3]
    if (width, height) != (info.width, info.height):
        return f"{info.width} x {info.height} expected, but {width} x {height} in a second decoder"
    total, stated = float(durations_ms.sum()), sum(info.stored_ms)
    # Frames of no duration are played differently everywhere.
    if info.num_frames > 1 and total and all(info.stored_ms) and abs(total - stated) > 10:
        return f"{stated} ms expected, but {total:.0f} ms in a second decoder"
    return ""


def decode_by_others(data: bytes, container: str, budget: Budget) -> tuple[np.ndarray, np.ndarray]:
    """Decode by another program than `rdtf.stickers` does.

    Args:
        container: as `container_of` tells.
        budget: checked again here where the container was not inspected before (AVIF, MP4).

    Returns:
        uint8 [F, H, W, 4], straight RGBA, not turned upright, and float64 [F], milliseconds as
        stored, not rounded; zeros for a plain picture.

    Raises:
        StickerError, OSError, ValueError, av.FFmpegError, ...: it can't be decoded.
    """
    if container in _FFMPEG:
        is_still = container == "png" and b"acTL" not in data[: data.find(b"IDAT")]
        return _pictures_by_ffmpeg(data, "png_pipe" if is_still else _FFMPEG[container], budget)
    if container in _PILLOW:
        return _by_pillow(data, _PILLOW[container], budget)
    if container == "webm":
        stream = video.demux(data, "video", budget)
        return stream.frames_by_ffmpeg(), np.asarray(stream.info.stored_ms, np.float64)
    tracks = Tracks(data, "video", container, budget)
    is_still = container == "avif" and len(tracks.durations_ms) == 1
    return tracks.frames(), np.zeros(1) if is_still else tracks.durations_ms


def _by_pillow(data: bytes, format: str, budget: Budget) -> tuple[np.ndarray, np.ndarray]:
    image = open_image(data, format)
    count = getattr(image, "n_frames", 1)
    budget.check_clip("picture", count, *image.size)
    frames = np.empty((count, image.height, image.width, 4), np.uint8)
    durations = np.zeros(count)
    for index, frame in enumerate(frames):
        image.seek(index)
        frame[:] = to_rgba(image)
        durations[index] = image.info.get("duration", 0)
    return frames, durations


def _pictures_by_ffmpeg(data: bytes, format: str, budget: Budget) -> tuple[np.ndarray, np.ndarray]:
    """GIF, PNG and APNG; `IndexError` if it holds no picture."""
    pictures, durations = [], []
    options = {"min_delay": "0", "default_delay": "0"} if format == "gif" else {}
    with _opened(data, format, options) as file:
        for count, frame in enumerate(file.decode(video=0), start=1):
            budget.check_clip("picture", count, frame.width, frame.height)
            pictures.append(frame.to_ndarray(format="rgba"))
            durations.append(float((frame.duration or 0) * frame.time_base * 1000))
    pictures.reverse()
    frames = np.empty((len(pictures), *pictures[0].shape), np.uint8)
    for index in range(len(frames)):  # each is let go at once: a clip may take a gigabyte
        frames[index] = pictures.pop()
    return frames, np.asarray(durations)


def _opened(data: bytes, format: str, options: dict[str, str] | None = None) -> Any:
    """The container, by FFmpeg's name of its format; texts in it may be in any coding."""
    return av.open(
        io.BytesIO(data), mode="r", format=format, options=options or {}, metadata_errors="replace"
    )
