"""What a caller asks for, as a clip with slots: which frames are given, which are to be made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from rdtf.errors import UserError
from rdtf.sampling.options import LARGEST_AUTO_SIDE, real, whole
from rdtf.stickers import Sticker
from rdtf.stickers.canvas import fitted_size

_MOST_FRAMES = 2000  # of a clip that is made
#: In milliseconds: one for all frames, or one for each.
Durations = float | Sequence[float] | np.ndarray


@dataclass(frozen=True)
class ClipRequest:
    """A clip to complete.

    frames: `uint8 [F, H, W, 4]` straight RGBA of any size; hidden ones are transparent.
    known: bool `[F]`; durations_ms: int64 `[F]`; captions travel on to the result.
    """

    frames: np.ndarray
    known: np.ndarray
    durations_ms: np.ndarray
    captions: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        return len(self.known)

    @classmethod
    def blank(cls, num_frames: int, size: tuple[int, int], durations_ms: Durations) -> ClipRequest:
        """Nothing given: text alone. `size` is (height, width)."""
        num_frames = whole("number of frames", num_frames)
        if num_frames < 1:
            raise UserError(f"a clip needs at least 1 frame, {num_frames} were asked for")
        if num_frames > _MOST_FRAMES:
            most = _MOST_FRAMES
            raise UserError(f"a clip has at most {most} frames, {num_frames} were asked for")
        return cls(
            frames=np.zeros((num_frames, *size, 4), dtype=np.uint8),
            known=np.zeros(num_frames, dtype=bool),
            durations_ms=_durations(durations_ms, num_frames),
        )

    @classmethod
    def place(
        cls, sticker: Sticker, positions: Sequence[int], num_frames: int, durations_ms: Durations
    ) -> ClipRequest:
        """Put frame i of `sticker` at slot `positions[i]`."""
        positions = [whole("position of a given frame", position) for position in positions]
        request = cls.blank(num_frames, (sticker.height, sticker.width), durations_ms)
        if sorted(set(positions)) != positions or not positions:
            raise UserError(f"given frames must be ascending and distinct, got {positions}")
        if positions[0] < 0 or positions[-1] >= num_frames:
            raise UserError(
                f"given frames must lie in 0…{num_frames - 1}, got {positions}; count frames from 0"
            )
        request.frames[positions] = sticker.frames[: len(positions)]
        request.known[positions] = True
        return replace(request, captions=sticker.captions)

    @classmethod
    def fill(
        cls,
        sticker: Sticker,
        known: Sequence[int],
        num_frames: int | None = None,
        durations_ms: Durations | None = None,
    ) -> ClipRequest:
        """Keep the frames of `sticker` at `known`; make the others.

        If the sticker holds just the given frames (as many as `known` has, and the last of them
        lies beyond its end or `num_frames` is larger), they are placed at `known` in order.
        """
        known = [whole("known frame", index) for index in known]
        total = None if num_frames is None else whole("number of frames", num_frames)
        if total is None:
            total = max(sticker.num_frames, max(known, default=0) + 1)
        median = int(np.median(sticker.durations_ms))
        if len(known) == sticker.num_frames and total > sticker.num_frames:
            return cls.place(
                sticker, known, total, median if durations_ms is None else durations_ms
            )
        beyond = [index for index in known if not 0 <= index < sticker.num_frames]
        if beyond:
            last = sticker.num_frames - 1
            raise UserError(f"frame {beyond[0]} can't be given: the clip has frames 0…{last}")
        if durations_ms is None:
            added = [median] * (total - sticker.num_frames)
            durations_ms = [*sticker.durations_ms.tolist(), *added][:total]
        return cls.place(sticker.select(known), known, total, durations_ms)

    @classmethod
    def interpolate(cls, sticker: Sticker, factor: int, loop: bool = False) -> ClipRequest:
        """`factor − 1` new frames between any two; the total time stays the same.

        In a loop the first follows on the last, so there are new frames between these too.
        """
        factor = whole("factor", factor)
        if factor < 2:
            raise UserError(f"factor must be 2 or more, got {factor}")
        if loop:
            sticker = without_closing_copy(sticker)
        if sticker.num_frames < 2:
            raise UserError(
                "interpolation needs a clip of 2 frames or more; to animate a still, generate"
            )
        durations = []
        for duration in sticker.durations_ms if loop else sticker.durations_ms[:-1]:
            edges = [round(int(duration) * part / factor) for part in range(factor + 1)]
            durations += [max(b - a, 1) for a, b in pairwise(edges)]  # they add up exactly
        if not loop:
            durations.append(int(sticker.durations_ms[-1]))
        total = len(durations)
        return cls.place(sticker, range(0, total, factor), total, durations)

    @classmethod
    def predict(cls, sticker: Sticker, after: int = 0, before: int = 0) -> ClipRequest:
        """`after` new frames behind the clip, `before` in front of it, at its median duration."""
        after, before = whole("after", after), whole("before", before)
        if after < 0 or before < 0 or after + before == 0:
            message = "say how many frames to predict, after the clip or before it: at least 1"
            raise UserError(message)
        median = int(np.median(sticker.durations_ms))
        durations = [median] * before + sticker.durations_ms.tolist() + [median] * after
        positions = range(before, before + sticker.num_frames)
        return cls.place(sticker, positions, len(durations), durations)

    def sized(
        self, output_size: str | int, canvas: int
    ) -> tuple[ClipRequest, str | int, tuple[int, int]]:
        """The request, its output size with "auto" settled, and (height, width) of the result.

        Args:
            canvas: side of the model's canvas.
        """
        request = self
        if output_size == "auto":
            output_size = "canvas"
            if self.known.any():
                small = shrunk(
                    Sticker(self.frames, self.durations_ms), max(LARGEST_AUTO_SIDE, canvas)
                )
                request = replace(self, frames=small.frames)
                is_canvas = small.frames.shape[1:3] == (canvas, canvas)
                output_size = "canvas" if is_canvas else "input"
        if output_size == "input":
            height, width = request.frames.shape[1:3]
        else:
            height = width = canvas if output_size == "canvas" else int(output_size)
        return request, output_size, (height, width)

    def at_own_size(self, made: np.ndarray) -> np.ndarray:
        """Frames made on a square canvas `[F, S, S, 4]`, brought to the request's own size.

        The letterbox is cut off and the rest enlarged; known frames are the request's, untouched.
        """
        height, width = self.frames.shape[1:3]
        side = made.shape[1]
        inner_height, inner_width = fitted_size(height, width, side, side)
        top, left = (side - inner_height) // 2, (side - inner_width) // 2
        inner = made[:, top : top + inner_height, left : left + inner_width]
        # Whole pixels of the canvas are not quite its aspect: cover the size and cut, or bars show.
        scale = max(height / inner_height, width / inner_width)
        cover = (math.ceil(inner_height * scale), math.ceil(inner_width * scale))
        enlarged = Sticker(inner.copy(), self.durations_ms).fit_canvas(cover).frames
        top, left = (cover[0] - height) // 2, (cover[1] - width) // 2
        enlarged = enlarged[:, top : top + height, left : left + width]
        return np.where(self.known[:, None, None, None], self.frames, enlarged)


def visible(sticker: Sticker) -> Sticker:
    """`sticker` itself; `UserError` if every frame of it is fully transparent."""
    if not sticker.frames[..., 3].any():
        raise UserError("the picture is fully transparent, so there is nothing to animate")
    return sticker


def shrunk(sticker: Sticker, most: int = LARGEST_AUTO_SIDE) -> Sticker:
    """The longer side at most `most` pixels, aspect kept; never enlarged."""
    if max(sticker.height, sticker.width) <= most:
        return sticker
    return sticker.fit_canvas(fitted_size(sticker.height, sticker.width, most, most))


def without_closing_copy(sticker: Sticker) -> Sticker:
    """The same loop without a last frame that repeats the first; its time goes to the first."""
    first, last = sticker.premultiplied()[[0, -1]]
    if sticker.num_frames < 2 or not np.array_equal(first, last):
        return sticker
    durations = sticker.durations_ms[:-1].copy()
    durations[0] += sticker.durations_ms[-1]
    return sticker.replace(frames=sticker.frames[:-1], durations_ms=durations)


def _durations(durations_ms: Durations, num_frames: int) -> np.ndarray:
    """Whole milliseconds of each frame; parts of them go from frame to frame, so none are lost."""
    if not isinstance(durations_ms, (Sequence, np.ndarray)) or isinstance(durations_ms, str):
        durations_ms = [real("frame duration", durations_ms)] * num_frames
    if len(durations_ms) != num_frames:
        raise UserError(f"{num_frames} frames need {num_frames} durations, got {len(durations_ms)}")
    ends = np.cumsum([0.0, *(real("frame duration", duration) for duration in durations_ms)])
    return np.diff(np.rint(ends).astype(np.int64))
