"""Time: loops that close, turning back, another first frame, speed. Pure: Sticker -> Sticker."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers import Sticker
from rdtf.stickers.canvas import premultiply, unpremultiply


def seam_error(sticker: Sticker) -> float:
    """How far the last frame is from leading into the first: 0 is a step like any other.

    The change from the last frame to the first is divided by the usual change, the root mean square
    over the clip's own steps (those where nothing moves are left out), and 1 is taken off; a step
    smaller than usual gives 0. So 2 is a jump of three steps. A clip that never changes has 0.
    """
    previous = premultiply(sticker.frames[0])
    squares = []  # mean square change of each step, the one back to the first frame at last
    for frame in [*sticker.frames[1:], sticker.frames[0]]:
        following = premultiply(frame)
        squares.append(float(np.mean(np.square(previous - following))))
        previous = following
    moving = [square for square in squares[:-1] if square > 0]
    return max(0.0, math.sqrt(squares[-1] / np.mean(moving)) - 1) if moving else 0.0


def start_at(sticker: Sticker, first: int | Literal["fullest"]) -> Sticker:
    """The same loop, begun at frame `first`, or at the frame that shows the most.

    Some platforms stop on the first frame or put it in their shop.
    """
    index = fullest_frame(sticker) if first == "fullest" else first
    if not -sticker.num_frames <= index < sticker.num_frames:
        raise StickerError(
            f"can't start at frame {index}; the clip has {sticker.num_frames} frames"
        )
    return sticker.select(np.roll(np.arange(sticker.num_frames), -index))


def fullest_frame(sticker: Sticker) -> int:
    """The first of the frames with the largest opaque area."""
    return int(np.argmax(visible_shares(sticker)))


def visible_shares(sticker: Sticker) -> np.ndarray:
    """Mean opacity of each frame, float64 [F] in [0, 1]."""
    return sticker.frames[..., 3].mean(axis=(1, 2)) / 255


def ping_pong(sticker: Sticker) -> Sticker:
    """Forward and back again: F frames become 2F - 2, none of the ends twice; time grows.

    The loop has no seam: the frame after the last is the first.
    """
    last = sticker.num_frames - 1
    return sticker.select([*range(last + 1), *range(last - 1, 0, -1)])


def boomerang(sticker: Sticker) -> Sticker:
    """Forward and back within the time of the clip: a `ping_pong` at the matching speed."""
    return fit_time(ping_pong(sticker), sticker.total_ms)


def cross_fade(sticker: Sticker, num_frames: int | None = None) -> Sticker:
    """Close the loop by fading the end into the beginning.

    The last `num_frames` frames (a quarter by default) become mixtures of themselves with the first
    `num_frames`, which are left out at the front. So the clip gets shorter by their time, nothing
    stands still while it fades, and the frame after the last is the first.

    Raises:
        StickerError: fewer than 3 frames, or `num_frames` that leaves none in between.
    """
    total = sticker.num_frames
    count = max(1, total // 4) if num_frames is None else num_frames
    if not 1 <= count <= (total - 1) // 2:
        most = (total - 1) // 2
        hint = f"name 1 to {most} frames" if most else "it needs at least 3 frames; use ping-pong"
        raise StickerError(f"a clip of {total} frames can't cross-fade over {count}; {hint}")
    weights = np.arange(1, count + 1, dtype=np.float32) / (count + 1)
    weights = weights[:, None, None, None]
    starts, ends = premultiply(sticker.frames[:count]), premultiply(sticker.frames[-count:])
    faded = unpremultiply(ends * (1 - weights) + starts * weights)
    frames = np.concatenate([sticker.frames[count : total - count], faded])
    return sticker.replace(frames=frames, durations_ms=sticker.durations_ms[count:])


def change_speed(sticker: Sticker, factor: float) -> Sticker:
    """Play `factor` times as fast; 0.5 is half as fast. Frames that get no time are left out."""
    if not 0.05 <= factor <= 20:
        raise StickerError(f"speed {factor} is not between 0.05 and 20")
    return fit_time(sticker, max(1, round(sticker.total_ms / factor)))


def fit_time(sticker: Sticker, total_ms: int) -> Sticker:
    """The same clip, all durations scaled so that it lasts exactly `total_ms`.

    The running total is rounded, not each frame. Frames that get less than a millisecond are left
    out.
    """
    if total_ms < 1:
        raise StickerError(f"a clip can't last {total_ms} ms; name at least 1")
    ends = np.rint(np.cumsum(sticker.durations_ms) * (total_ms / sticker.total_ms)).astype(np.int64)
    durations = np.diff(ends, prepend=0)
    kept = np.flatnonzero(durations)
    return sticker.select(kept).with_durations(durations[kept])
