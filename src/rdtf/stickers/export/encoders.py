"""From frames to bytes, format by format, each with its ladder of settings from best to least.

An encoder is made for one clip and keeps what every attempt needs (planes, colours, coded frames),
so that a search for what fits pays for each thing once.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from rdtf.stickers import Sticker
from rdtf.stickers.canvas import in_threads
from rdtf.stickers.export.platforms import ExportError
from rdtf.stickers.formats import gif, png, video, webp
from rdtf.stickers.formats.pillow import encode_image
from rdtf.stickers.formats.quantize import ColourTable
from rdtf.stickers.formats.video import encode_video, to_planes
from rdtf.stickers.sticker import DEFAULT_DURATION_MS

_PART = 8  # frames of a long clip that stand for the others


@dataclass(frozen=True)
class QualityStep:
    """One step of a ladder."""

    settings: dict[str, Any]  # for the format's encoder
    words: str  # the same for people
    good: bool = True  # nobody minds; frames are left out before a step that is not good is used
    exact: bool = False  # what they write is exact to the pixel
    draft: dict[str, Any] | None = None  # settings that are much faster
    draft_ratio: float = 1.0  # about how large a file is, if its draft is 1
    uncertainty: float = 1.2  # how far below an estimate a file may be, as a factor


class Encoder:
    """Codes any choice of the frames, uint8 [F, H, W, 4], that it was made for.

    `ladder`: settings from best to least; each is expected to need fewer bytes than the last.
    """

    ladder: Sequence[QualityStep]

    def __init__(self, frames: np.ndarray, loop_count: int) -> None:
        self._frames, self._loop_count = frames, loop_count

    def encode(self, keep: np.ndarray, durations_ms: np.ndarray, step: QualityStep) -> bytes:
        """The file that shows frames `keep`, int64 [K], for `durations_ms`, int64 [K]."""
        raise NotImplementedError

    def estimate(
        self, keep: np.ndarray, durations_ms: np.ndarray, step: QualityStep
    ) -> float | None:
        """About the size of that file, in a fraction of the time; None if that can't be told.

        From the first frame and two short parts of a long clip; by a draft, if there is one.
        """
        draft = step if step.draft is None else replace(step, settings=step.draft)
        if len(keep) < 3 * _PART:
            if step.draft is None:
                return None
            return len(self.encode(keep, durations_ms, draft)) * step.draft_ratio
        later = 0.0
        for start in (len(keep) // 4, len(keep) * 3 // 4 - _PART // 2):
            part = slice(start, start + _PART)
            lone = self.encode(keep[part][:1], durations_ms[part][:1], draft)
            several = self.encode(keep[part], durations_ms[part], draft)
            later += (len(several) - len(lone)) / (2 * (_PART - 1))
        first = self.encode(keep[:1], durations_ms[:1], draft)
        return (len(first) + max(later, 1.0) * (len(keep) - 1)) * step.draft_ratio

    def _clip(self, keep: np.ndarray, durations_ms: np.ndarray) -> Sticker:
        if len(keep) == 1:  # with the time that tells the writers: a plain picture
            return Sticker(self._frames[keep], np.array([DEFAULT_DURATION_MS]))
        return Sticker(self._frames[keep], durations_ms, self._loop_count)


class _WebmEncoder(Encoder):
    """VP9 with alpha; the quality is the rate factor."""

    # Speed 3 saves 10 to 15 % of the bytes of speed 4 and takes a fifth longer; speed 1 would save
    # 5 % more and take twice as long. Better than crf 8 is no better to see: what remains is that
    # colour is stored at half the resolution.
    ladder = tuple(
        QualityStep(
            {"crf": crf, "speed": 3},
            f"VP9, CRF {crf}",
            crf <= 44,
            draft={"crf": crf, "speed": 6, "is_draft": True},
            draft_ratio=0.75,
        )
        for crf in range(8, 57, 2)
    )

    def __init__(self, frames: np.ndarray, loop_count: int) -> None:
        super().__init__(frames, loop_count)
        self._planes = in_threads(lambda frame: to_planes(video.spread_colour(frame)), list(frames))

    def encode(self, keep: np.ndarray, durations_ms: np.ndarray, step: QualityStep) -> bytes:
        planes = [self._planes[index] for index in keep]
        return video.encode_planes(planes, durations_ms, **step.settings)


class _WebpEncoder(Encoder):
    """Exact if that fits, else lossy colours with exact alpha, every frame a whole one."""

    ladder = (
        # Method 4 saves 2 % and takes half as long again.
        QualityStep(
            {"lossless": True, "quality": 50, "method": 2},
            "lossless",
            exact=True,
            draft={"lossless": True, "quality": 0, "method": 0},
            uncertainty=1.7,
        ),
        *(
            QualityStep(
                {"lossless": False, "quality": q, "method": 4}, f"lossy, quality {q}", q >= 64
            )
            for q in (97, 94, 91, 88, 85, 82, 79, 76, 72, 68, 64, 60, 55, 50, 45, 40)
        ),
    )

    def __init__(self, frames: np.ndarray, loop_count: int) -> None:
        super().__init__(frames, loop_count)
        self._coded: dict[tuple[int, int], tuple[bytes, bytes]] = {}

    def encode(self, keep: np.ndarray, durations_ms: np.ndarray, step: QualityStep) -> bytes:
        clip = self._clip(keep, durations_ms)
        options = {"alpha_quality": 100, "exact": False, **step.settings}
        if clip.is_still:
            return encode_image(clip.frames[0], "WEBP", **options)
        before = [None, *clip.frames[:-1]]
        if options["lossless"]:
            pairs = list(zip(before, clip.frames, strict=True))
            coded = in_threads(lambda pair: webp.encode_picture(*pair, options), pairs)
            return webp.assemble(clip, coded)
        keys = [(index, options["quality"]) for index in keep.tolist()]
        missing = list(dict.fromkeys(key for key in keys if key not in self._coded))
        coded = in_threads(
            lambda key: webp.encode_picture(None, self._frames[key[0]], options), missing
        )
        self._coded.update(zip(missing, coded, strict=True))
        pictures = [self._coded[key] for key in keys]
        for number in range(1, len(pictures)):
            if np.array_equal(
                before[number], clip.frames[number]
            ):  # stored as nothing but its time
                pictures[number] = webp.encode_picture(before[number], clip.frames[number], options)
        return webp.assemble(clip, pictures)

    def estimate(
        self, keep: np.ndarray, durations_ms: np.ndarray, step: QualityStep
    ) -> float | None:
        """Lossy frames are coded each on its own: some of them tell, and are not coded again."""
        if step.settings["lossless"] or len(keep) < 2 * _PART:
            return super().estimate(keep, durations_ms, step)
        some = np.linspace(0, len(keep) - 1, _PART).round().astype(np.int64)
        return len(self.encode(keep[some], durations_ms[some], step)) / _PART * len(keep)


class _PaletteEncoder(Encoder):
    """Keeps the colours of all frames, and the latest reduction of them, which is large."""

    reduce: Callable[[ColourTable, int], tuple[np.ndarray, np.ndarray]]
    _reduced: tuple[int, np.ndarray, np.ndarray] | None = None

    @cached_property
    def _table(self) -> ColourTable:
        return ColourTable(self._frames)

    def _palette(self, colors: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices uint8 [F, H, W] of all frames, and the palette, uint8 [n, 3 or 4]."""
        if self._reduced is None or self._reduced[0] != colors:
            self._reduced = None  # before the next is made
            self._reduced = colors, *type(self).reduce(self._table, colors)
        return self._reduced[1:]


class _PngEncoder(_PaletteEncoder):
    """PNG and APNG: exact if that fits, else one palette with alpha for all frames."""

    reduce = staticmethod(ColourTable.reduce)
    ladder = (
        QualityStep({"colors": None}, "all colours", exact=True),
        *(
            QualityStep({"colors": colors}, f"{colors} colours", colors >= 64)
            for colors in (256, 224, 192, 160, 128, 112, 96, 80, 64, 56, 48, 40, 32)
        ),
    )

    def encode(self, keep: np.ndarray, durations_ms: np.ndarray, step: QualityStep) -> bytes:
        clip, colors = self._clip(keep, durations_ms), step.settings["colors"]
        if colors is None:
            return png.encode(clip)
        indices, palette = self._palette(colors)
        return png.encode_indexed(clip, indices[keep], palette)


class _GifEncoder(_PaletteEncoder):
    """GIF: one palette for all frames, 1-bit alpha."""

    reduce = staticmethod(gif.reduced)
    ladder = tuple(
        QualityStep({"colors": colors}, f"{colors} colours", colors >= 64)
        for colors in (256, 224, 192, 160, 128, 112, 96, 80, 64, 56, 48, 40, 32, 24, 16)
    )

    def __init__(self, frames: np.ndarray, loop_count: int) -> None:
        frames = gif.binary_alpha(frames)
        if not frames[..., 3].any():
            raise ExportError(
                "quality",
                "GIF has no partial transparency, and every pixel here is more than half "
                "transparent; set a background with --background",
            )
        super().__init__(frames, loop_count)

    def encode(self, keep: np.ndarray, durations_ms: np.ndarray, step: QualityStep) -> bytes:
        clip = Sticker(self._frames[keep], durations_ms, self._loop_count if len(keep) > 1 else 0)
        indices, palette = self._palette(step.settings["colors"])
        return gif.encode_indexed(clip, indices[keep], [palette])


class _AvifEncoder(Encoder):
    """AVIF with alpha, by libavif; one frame gives a still picture."""

    ladder = tuple(
        QualityStep({"quality": quality}, f"lossy, quality {quality}", quality >= 55)
        for quality in (90, 85, 80, 75, 70, 65, 60, 55, 50, 45, 40, 35, 30)
    )

    def encode(self, keep: np.ndarray, durations_ms: np.ndarray, step: QualityStep) -> bytes:
        first, *others = [Image.fromarray(frame) for frame in self._frames[keep]]
        options: dict[str, Any] = {**step.settings, "speed": 8, "subsampling": "4:2:0"}
        if others:
            times = durations_ms.tolist()
            options |= {"save_all": True, "append_images": others, "duration": times}
        stream = io.BytesIO()
        first.save(stream, "AVIF", **options)
        return stream.getvalue()


class _Mp4Encoder(Encoder):
    """H.264 of opaque frames."""

    ladder = tuple(
        QualityStep({"crf": crf}, f"H.264, CRF {crf}", crf <= 28) for crf in range(16, 41, 2)
    )

    def __init__(self, frames: np.ndarray, loop_count: int) -> None:
        super().__init__(frames, loop_count)
        sides = [(0, side % 2) for side in frames.shape[1:3]]  # colour is stored at half of it
        even = np.pad(frames, [(0, 0), *sides, (0, 0)], mode="edge")
        self._planes = in_threads(lambda frame: to_planes(frame)[:3], list(even))

    def encode(self, keep: np.ndarray, durations_ms: np.ndarray, step: QualityStep) -> bytes:
        planes = [self._planes[index] for index in keep]
        # Without B frames times are in order, and no player begins with a gap.
        options = {
            "crf": str(step.settings["crf"]),
            "preset": "medium",
            "tune": "animation",
            "bf": "0",
        }
        return encode_video(planes, durations_ms, "mp4", "libx264", options)


ENCODERS: dict[str, Callable[[np.ndarray, int], Encoder]] = {
    "webm": _WebmEncoder,
    "webp": _WebpEncoder,
    "png": _PngEncoder,
    "gif": _GifEncoder,
    "avif": _AvifEncoder,
    "mp4": _Mp4Encoder,
}
