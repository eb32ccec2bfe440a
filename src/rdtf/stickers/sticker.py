"""The Sticker: RGBA frames, how long each is shown, and what is known about them.

And what a file may cost, and what its headers say, both known before any pixel is decoded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers.canvas import fit_frame, on_background, premultiply, unpremultiply


@dataclass(frozen=True)
class Budget:
    """Limits for one file that may be untrusted; every limit is inclusive.

    Attributes:
        max_bytes: size of the file, and of what it unpacks to where it is compressed as a whole.
        max_canvas: pixels on the longer side of a clip; larger stills are reduced to it.
        max_frames: frames of the clip.
        max_total_pixels: width x height x frames; four bytes each once decoded.
        max_duration_ms: length of one pass through the clip, in milliseconds.
    """

    max_bytes: int = 64 * 2**20
    max_canvas: int = 4096
    max_frames: int = 1000
    max_total_pixels: int = 2**28  # 1 GiB of RGBA: 1000 frames at 512 x 512
    max_duration_ms: int = 120_000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise StickerError(f"budget {name} is {value!r}; it must be an integer >= 1")

    def read(self, path: Path | str) -> bytes:
        """The content of a regular file of at most `max_bytes` bytes."""
        path = Path(path)
        try:
            if not path.exists():
                raise StickerError(f"{path} does not exist; check the name")
            if not path.is_file():
                raise StickerError(f"{path} is not a file; name a sticker file")
            self.check_bytes(str(path), path.stat().st_size)
            with path.open("rb") as file:
                return file.read(self.max_bytes)
        except OSError as error:
            raise StickerError(f"{path} can't be read: {error.strerror or error}") from error

    def check_bytes(self, name: str, num_bytes: int) -> None:
        """Refuse a file of `num_bytes` bytes that is too large."""
        self._check(name, num_bytes, self.max_bytes, "bytes", "max_bytes")

    def check_clip(self, name: str, num_frames: int, width: int, height: int) -> None:
        """Refuse a clip by its frame count and canvas in pixels."""
        if num_frames < 1 or width < 1 or height < 1:
            size = f"{num_frames} frames of {width} x {height} pixels"
            raise StickerError(f"{name} contains no picture ({size}); get it again")
        side = max(width, height)
        if num_frames > 1:
            self._check(name, side, self.max_canvas, "pixels on one side", "max_canvas")
        self._check(name, num_frames, self.max_frames, "frames", "max_frames")
        total = num_frames * width * height
        self._check(name, total, self.max_total_pixels, "pixels in all frames", "max_total_pixels")

    def check_duration(self, name: str, total_ms: int) -> None:
        """Refuse a clip that plays for `total_ms` milliseconds if that is too long."""
        self._check(name, total_ms, self.max_duration_ms, "ms", "max_duration_ms")

    def _check(self, name: str, value: int, limit: int, unit: str, field: str) -> None:
        if value > limit:
            raise StickerError(
                f"{name}: {value} {unit}, more than the limit of {limit}; "
                f"shrink the file or raise Budget.{field}"
            )


DEFAULT_BUDGET = Budget()


#: How long a frame without a usable duration is shown: what browsers do.
DEFAULT_DURATION_MS = 100


@dataclass(frozen=True)
class StickerInfo:
    """The outline of a sticker file, known without decoding pixels."""

    # "gif", "webp", "png", "jpeg", "avif", "webm", "mp4", "lottie" or "folder"
    format: str
    num_frames: int  # frames of one pass
    # width, height: canvas in pixels, upright (for Lottie the nominal one; it has no pixels)
    width: int
    height: int
    durations_ms: tuple[int, ...]  # milliseconds that players show each frame
    loop_count: int = 0  # how often it plays; 0 = for ever
    # milliseconds as the file states them, whatever players make of them
    stored_ms: tuple[int, ...] = ()
    is_animated: bool = False  # it is stored as an animation, be it of one frame
    # players without animation show a picture that is not the first frame
    has_hidden_picture: bool = False
    turned: int = 1  # how the stored pictures are turned, see `pillow.orientation`
    end: int = 0  # where the picture ends in the file, in bytes; readers ignore what follows
    # parts of a Lottie animation that the renderer leaves out, in words
    not_drawn: tuple[str, ...] = ()

    @classmethod
    def checked(
        cls,
        format: str,
        name: str,
        budget: Budget,
        size: tuple[int, int],
        stored_ms: Sequence[float] | np.ndarray,
        loop_count: int = 0,
        *,
        end: int = 0,
        ignored_ms: float = 0,
        is_animated: bool | None = None,
        turned: int = 1,
    ) -> StickerInfo:
        """A `StickerInfo` for a clip that the budget allows.

        Args:
            size: (width, height) as stored.
            stored_ms: of each frame, as the file states it.
            ignored_ms: stored durations up to this one are not followed by players.
            is_animated: by default, more than one frame.
        """
        durations = whole_durations(stored_ms, ignored_ms=ignored_ms)
        budget.check_clip(name, len(durations), *size)
        budget.check_duration(name, int(durations.sum()))
        return cls(
            format,
            len(durations),
            *_upright_size(size, turned),
            tuple(durations.tolist()),
            loop_count,
            tuple(_rounded_durations(stored_ms).tolist()),
            len(durations) > 1 if is_animated is None else is_animated,
            turned=turned,
            end=end,
        )

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) of the canvas as it is stored, before it is turned."""
        return _upright_size((self.width, self.height), self.turned)  # which is its own inverse

    @property
    def total_ms(self) -> int:
        return sum(self.durations_ms)

    @property
    def durations(self) -> np.ndarray:
        """`durations_ms` as int64 [F], as a `Sticker` wants it."""
        return np.asarray(self.durations_ms, dtype=np.int64)


def whole_durations(exact_ms: Sequence[float] | np.ndarray, *, ignored_ms: float = 0) -> np.ndarray:
    """What players show: integer milliseconds, int64 [F], each >= 1.

    Frames of at most `ignored_ms` last `DEFAULT_DURATION_MS`; otherwise as `_rounded_durations`.
    """
    exact = np.asarray(exact_ms, dtype=np.float64)
    exact = np.where(exact > ignored_ms, exact, DEFAULT_DURATION_MS)
    return np.maximum(_rounded_durations(exact), 1)


def _rounded_durations(exact_ms: Sequence[float] | np.ndarray) -> np.ndarray:
    """Integer milliseconds, int64 [F], whose sum is the rounded sum of `exact_ms`.

    The running total is rounded, not each frame, so 60 frames a second stay 60 a second.
    """
    ends = np.rint(np.cumsum(np.asarray(exact_ms, np.float64))).astype(np.int64)
    return np.diff(ends, prepend=0)


def damaged(name: str, format: str, what: str = "") -> StickerError:
    """The error for a damaged file; without words for the damage, for one that is cut off."""
    if not what:
        return StickerError(f"{name}: the {format} is cut off; get the whole file")
    return StickerError(f"{name}: the {format} is damaged ({what}); get it again")


def _upright_size(size: tuple[int, int], turned: int) -> tuple[int, int]:
    """(width, height) of a picture of stored `size` once it is `upright`."""
    return (size[1], size[0]) if turned >= 5 else size


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
        captions, count = self.captions, self.loop_count
        texts = (captions,) if isinstance(captions, str) else tuple(captions)
        if not all(isinstance(text, str) for text in texts):
            raise StickerError("captions must be texts")
        object.__setattr__(self, "captions", texts)
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
            raise StickerError(f"loop_count is {count!r}; it must be an integer >= 0, 0 = for ever")
        object.__setattr__(self, "loop_count", int(count))

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
        from rdtf.stickers.files import read_sticker  # the readers build on this module

        return read_sticker(path, budget=budget)

    def save(self, path: Path | str, **options: Any) -> Path:
        """Write to `path`, format by its suffix; see `rdtf.stickers.write_sticker`."""
        from rdtf.stickers.files import write_sticker  # the writers build on this module

        return write_sticker(self, path, **options)

    def export(self, platform: str, **options: Any) -> Export:
        """The file that a messenger takes, checked by its rules; see
        `stickers.export.export_sticker`.

        Example: `sticker.export("telegram", outline_px=8).save("out", "cat")`.
        """
        from rdtf.stickers.export import export_sticker  # the exporters build on this module

        return export_sticker(self, platform, **options)

    def seam_error(self) -> float:
        """How far the last frame is from leading into the first: 0 is a step like any other.

        The change from the last frame to the first is divided by the usual change, the root mean
        square over the clip's own steps (those where nothing moves are left out), and 1 is taken
        off; a step smaller than usual gives 0. So 2 is a jump of three steps. A clip that never
        changes has 0.
        """
        previous = premultiply(self.frames[0])
        squares = []  # mean square change of each step, the one back to the first frame at last
        for frame in [*self.frames[1:], self.frames[0]]:
            following = premultiply(frame)
            squares.append(float(np.mean(np.square(previous - following))))
            previous = following
        moving = [square for square in squares[:-1] if square > 0]
        return max(0.0, math.sqrt(squares[-1] / np.mean(moving)) - 1) if moving else 0.0

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
