"""The Sticker: RGBA frames, how long each is shown, and what is known about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers.budget import DEFAULT_BUDGET, Budget
from rdtf.stickers.canvas import fit_frame, on_background, premultiply, unpremultiply
from rdtf.stickers.info import DEFAULT_DURATION_MS

if TYPE_CHECKING:
    from rdtf.stickers.export import Export


@dataclass(frozen=True, eq=False)
class Sticker:
    """An animated (or still) picture with transparency.

    Attributes:
        frames: uint8 [F, H, W, 4], straight (not premultiplied) RGBA, F >= 1.
        durations_ms: int64 [F], milliseconds that each frame is shown, each >= 1.
        loop_count: how often the clip plays; 0 = for ever.
        captions: texts that describe it, best first.
        source, license, attribution: where it is from and on what terms, if known.
        metadata: anything else; JSON values.

    Raises:
        StickerError: a field has the wrong shape, dtype or range.
    """

    frames: np.ndarray
    durations_ms: np.ndarray
    loop_count: int = 0
    captions: tuple[str, ...] = ()
    source: str | None = None
    license: str | None = None
    attribution: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_frames(self.frames)
        durations = _as_durations(self.durations_ms, len(self.frames))
        object.__setattr__(self, "durations_ms", durations)
        object.__setattr__(self, "captions", _as_captions(self.captions))
        object.__setattr__(self, "loop_count", _as_loop_count(self.loop_count))

    @property
    def num_frames(self) -> int:
        return int(self.frames.shape[0])

    @property
    def height(self) -> int:
        return int(self.frames.shape[1])

    @property
    def width(self) -> int:
        return int(self.frames.shape[2])

    @property
    def total_ms(self) -> int:
        return int(self.durations_ms.sum())

    @property
    def is_still(self) -> bool:
        """One frame with the timing that a plain picture gets when it is read."""
        timing = (self.total_ms, self.loop_count)
        return self.num_frames == 1 and timing == (DEFAULT_DURATION_MS, 0)

    def __repr__(self) -> str:
        text = f"Sticker({self.num_frames} frames, {self.width} x {self.height}, {self.total_ms} ms"
        return text + (f", {self.captions[0]!r})" if self.captions else ")")

    @classmethod
    def load(cls, path: Path | str, budget: Budget = DEFAULT_BUDGET) -> Sticker:
        """Read any supported file or folder of frames; see `rdtf.stickers.read_sticker`."""
        from rdtf.stickers.read import read_sticker  # the readers build on this module

        return read_sticker(path, budget=budget)

    def save(self, path: Path | str, **options: Any) -> Path:
        """Write to `path`, format by its suffix; see `rdtf.stickers.write_sticker`."""
        from rdtf.stickers.write import write_sticker  # the writers build on this module

        return write_sticker(self, path, **options)

    def export(self, platform: str, **options: Any) -> Export:
        """The file that a messenger takes, checked by its rules; see
        `stickers.export.export_sticker`.

        Example: `sticker.export("telegram", outline_px=8).save("out", "cat")`.
        """
        from rdtf.stickers.export import export_sticker  # the exporters build on this module

        return export_sticker(self, platform, **options)

    def seam_error(self) -> float:
        """How far the last frame is from leading into the first, in usual steps of the clip.

        0 is a step like any other, 2 a jump of three steps; see `stickers.export.loops.seam_error`.
        """
        from rdtf.stickers.export.loops import seam_error  # the exporters build on this module

        return seam_error(self)

    def premultiplied(self) -> np.ndarray:
        """The frames as float32 [F, H, W, 4] in [0, 1], colour times alpha."""
        return premultiply(self.frames)

    @classmethod
    def from_premultiplied(
        cls, frames: np.ndarray, durations_ms: Sequence[int] | np.ndarray | int, **fields: Any
    ) -> Sticker:
        """The inverse of `premultiplied`.

        Args:
            frames: float [F, H, W, 4]; clipped to [0, 1] and colour to at most alpha, because
                networks overshoot. Not-a-number is refused.
            durations_ms: one per frame, or one integer for all.
            fields: the other fields of `Sticker`.
        """
        frames = np.asarray(frames)
        if frames.ndim != 4 or frames.shape[-1] != 4:
            raise StickerError(f"frames are {frames.shape}; they must be [F, H, W, 4]")
        if not np.isfinite(frames).all():
            raise StickerError("frames hold values that are not finite; nothing can be drawn")
        durations = _spread(durations_ms, len(frames))
        return cls(unpremultiply(frames), durations, **fields)

    def fit_canvas(self, size: int | tuple[int, int]) -> Sticker:
        """Letterbox to `size` (one side, or (height, width)) on a transparent canvas.

        The aspect is kept and colours are averaged premultiplied, so that no colour bleeds out of
        transparent pixels. Stickers with hard edges (pixel art) stay crisp when enlarged.
        """
        height, width = (size, size) if isinstance(size, int) else size
        if height < 1 or width < 1:
            raise StickerError(f"canvas {width} x {height} must be at least 1 x 1")
        if (height, width) == (self.height, self.width):
            return self
        hard = bool(np.isin(self.frames[..., 3], (0, 255)).all())
        frames = [fit_frame(frame, height, width, crisp=hard) for frame in self.frames]
        return self.replace(frames=np.stack(frames))

    def on_background(self, rgb: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
        """The frames over one opaque colour: uint8 [F, H, W, 3]."""
        return on_background(self.frames, rgb)

    def select(self, indices: Iterable[int]) -> Sticker:
        """The frames at `indices`, in that order, each with its own duration."""
        chosen = np.asarray(list(indices), dtype=np.int64)
        if chosen.size == 0:
            raise StickerError("no frames selected; name at least one index")
        outside = chosen[(chosen < -self.num_frames) | (chosen >= self.num_frames)]
        if outside.size:
            raise StickerError(f"frame {outside[0]} does not exist; there are {self.num_frames}")
        return self.replace(frames=self.frames[chosen], durations_ms=self.durations_ms[chosen])

    def with_durations(self, durations_ms: Sequence[int] | np.ndarray | int) -> Sticker:
        """The same frames with other durations: one per frame, or one integer for all."""
        return self.replace(durations_ms=_spread(durations_ms, self.num_frames))

    def replace(self, **changes: Any) -> Sticker:
        """A copy with the named fields changed, validated again."""
        return dataclasses.replace(self, **changes)


def _spread(durations_ms: Sequence[int] | np.ndarray | int, num_frames: int) -> Any:
    return np.full(num_frames, durations_ms) if np.ndim(durations_ms) == 0 else durations_ms


def _check_frames(frames: Any) -> None:
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
        kind = getattr(frames, "dtype", type(frames).__name__)
        raise StickerError(f"frames are {kind}; they must be a uint8 array [F, H, W, 4]")
    if frames.ndim != 4 or frames.shape[3] != 4 or 0 in frames.shape:
        raise StickerError(f"frames are {frames.shape}; they must be [F, H, W, 4], none empty")


def _as_durations(durations_ms: Any, num_frames: int) -> np.ndarray:
    durations = np.asarray(durations_ms)
    if durations.ndim != 1 or durations.dtype.kind not in "iu":
        raise StickerError("durations_ms must be a list of integers, one for each frame")
    if len(durations) != num_frames:
        raise StickerError(f"{num_frames} frames but {len(durations)} durations; give one each")
    if durations.min() < 1:
        raise StickerError(f"a frame lasts {durations.min()} ms; durations must be at least 1 ms")
    return durations.astype(np.int64)


def _as_captions(captions: Any) -> tuple[str, ...]:
    texts = (captions,) if isinstance(captions, str) else tuple(captions)
    if not all(isinstance(text, str) for text in texts):
        raise StickerError("captions must be texts")
    return texts


def _as_loop_count(loop_count: Any) -> int:
    if isinstance(loop_count, bool) or not isinstance(loop_count, int | np.integer):
        raise StickerError(f"loop_count is {loop_count!r}; it must be an integer, 0 = for ever")
    if loop_count < 0:
        raise StickerError(f"loop_count is {loop_count}; it must be >= 0, 0 = for ever")
    return int(loop_count)
