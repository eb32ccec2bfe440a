"""AVIF and MP4, files of ISO base media boxes: read only; still AVIF by Pillow, the rest by FFmpeg.

An AVIF sequence holds its alpha as a second track, and its first picture once more as a still.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers.formats.pillow import open_image, to_rgba
from rdtf.stickers.formats.video import full_luma, join_alpha
from rdtf.stickers.sticker import DEFAULT_DURATION_MS, Budget, Sticker, StickerInfo, damaged

if TYPE_CHECKING:
    import av

_AVIF_BRANDS = (b"avif", b"avis")
_UNKNOWN_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"crx ")


def brand(data: bytes) -> str | None:
    """The format by the `ftyp` box: "avif", "mp4", or None for HEIC and what else it may be."""
    end = min(int.from_bytes(data[:4], "big"), 256)
    names = [data[8:12], *(data[at : at + 4] for at in range(16, end, 4))]
    if any(name in _AVIF_BRANDS for name in names):
        return "avif"
    return None if names[0] in _UNKNOWN_BRANDS else "mp4"


def parse(data: bytes, name: str, budget: Budget) -> tuple[StickerInfo, Callable[[], Sticker]]:
    """Headers of an AVIF or MP4, and what decodes it: without sound, and an MP4 is opaque.

    Raises:
        StickerError: it is damaged, over budget, or holds no video.
    """
    format = "avif" if brand(data) == "avif" else "mp4"
    if format == "avif":
        image = open_image(data, "AVIF")  # states frames and size without decoding any
        count = getattr(image, "n_frames", 1)
        budget.check_clip(name, count, *image.size)
        if count == 1:
            still = StickerInfo.checked(format, name, budget, image.size, [DEFAULT_DURATION_MS])
            return still, lambda: Sticker(to_rgba(image)[None], still.durations)
    tracks = Tracks(data, name, format, budget)
    times = tracks.durations_ms
    info = StickerInfo.checked(format, name, budget, tracks.size, times, is_animated=True)
    return info, lambda: Sticker(tracks.frames(), info.durations)


class Tracks:
    """The video track of a file and, of an AVIF, its alpha.

    Attributes:
        size: (width, height) in pixels as stored.
        durations_ms: float64 [F], as stored, in the order of showing.

    Raises:
        StickerError: there is no video, it is over budget, or PyAV is missing.
        OSError, ValueError, av.FFmpegError: it is damaged.
    """

    def __init__(self, data: bytes, name: str, format: str, budget: Budget) -> None:
        self._data, self._name, self._budget = data, name, budget
        with _opened(data, name) as file:
            tracks: list[Any] = [track for track in file.streams.video if track.codec_context]
            if not tracks:
                raise StickerError(f"{name}: the {format} holds no picture that can be decoded")
            most = max(track.frames for track in tracks)
            colour, *masks = [track for track in tracks if track.frames == most]
            self.size: tuple[int, int] = (colour.codec_context.width, colour.codec_context.height)
            budget.check_clip(name, max(most, 1), *self.size)
            times = []
            for packet in file.demux(colour):
                if packet.size:
                    times.append((packet.pts or 0, packet.duration or 0))
                    budget.check_clip(name, len(times), *self.size)
            if not times:
                raise damaged(name, format.upper())
            starts = sorted(times)
            ends = [*(start for start, _ in starts), sum(starts[-1])]
            self.durations_ms = np.diff(ends) * float(colour.time_base * 1000)
            self._colour = colour.index
            self._masks = [track.index for track in masks if format == "avif"]

    def frames(self) -> np.ndarray:
        """uint8 [F, H, W, 4], straight RGBA, turned as the file says."""
        pictures = self._pictures(self._colour)
        if (first := next(pictures, None)) is None:
            raise ValueError("no frame can be decoded")
        alphas = self._pictures(self._masks[0]) if self._masks else iter(())
        together = itertools.chain([first], pictures)
        frames = join_alpha(together, alphas, len(self.durations_ms), full_luma)
        turned = round(getattr(first, "rotation", 0) / 90)
        return np.ascontiguousarray(np.rot90(frames, turned, (1, 2))) if turned else frames

    def _pictures(self, index: int) -> Iterator[av.VideoFrame]:
        with _opened(self._data, self._name) as file:
            track: Any = file.streams[index]
            track.codec_context.options = {"max_pixels": str(self._budget.max_canvas**2)}
            for count, frame in enumerate(file.decode(track), start=1):
                self._budget.check_clip(self._name, count, frame.width, frame.height)
                yield frame


def _opened(data: bytes, name: str) -> Any:
    try:
        import av
    except ImportError as error:
        raise StickerError(f"{name}: MP4 and animated AVIF need PyAV: pip install av") from error
    # Texts in it may be in any coding.
    return av.open(io.BytesIO(data), mode="r", format="mov", metadata_errors="replace")
