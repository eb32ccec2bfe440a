"""When which frame is shown: total lengths that a platform takes, and times that a format can hold.

Nothing here changes speed or length unless it is told to. What is rounded is the moment of each
change, not each duration, so the total stays exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from PIL import Image

from rdtf.stickers import Sticker
from rdtf.stickers.export.loops import fit_time
from rdtf.stickers.export.platforms import ExportError, Platform, format_limits

#: What to do with a clip whose length the platform does not take.
TimePolicy = Literal["refuse", "trim", "hold", "speed"]
TOTAL_TOLERANCE_MS = 10
# Frame rates do not come out even in whole milliseconds: 30 a second are 33, 33 and 34 ms.
_ROUNDING_MS = Fraction(2, 3)


@dataclass(frozen=True)
class TimeRules:
    """What a platform and its format ask of times.

    Attributes:
        max_total_ms: longest clip; None without limit.
        whole_ms: the total must be a multiple of this.
        step_ms: every change happens at a multiple of this.
        min_frame_ms, max_frame_ms: shortest and longest time that a frame is shown.
        min_frames, max_frames: how many frames.
    """

    max_total_ms: int | None
    whole_ms: int
    step_ms: int
    min_frame_ms: Fraction
    min_frames: int
    max_frames: int | None
    max_frame_ms: int | None = None

    @classmethod
    def of(cls, platform: Platform) -> TimeRules:
        format = {name: limit.value for name, limit in format_limits(platform.format).items()}
        shortest = [platform.value("min_frame_ms", 1), format.get("min_frame_ms", 1)]
        if fps := platform.value("max_fps"):
            shortest.append(Fraction(1000, fps))
        return cls(
            max_total_ms=platform.value("max_total_ms"),
            whole_ms=platform.value("whole_ms", 1),
            step_ms=format.get("time_step_ms", 1),
            min_frame_ms=max(map(Fraction, shortest)),
            min_frames=platform.value("min_frames", 1),
            max_frames=platform.value("max_frames"),
            max_frame_ms=format.get("max_frame_ms"),
        )

    def takes(self, total_ms: int) -> bool:
        is_short = self.max_total_ms is None or total_ms <= self.max_total_ms
        return total_ms > 0 and is_short and total_ms % self.whole_ms == 0

    def totals(self) -> str:
        """The lengths that are taken, in words."""
        if self.whole_ms > 1 and self.max_total_ms:
            values = range(self.whole_ms, self.max_total_ms + 1, self.whole_ms)
            return "exactly " + ", ".join(f"{value / 1000:g}" for value in values) + " s"
        return f"at most {(self.max_total_ms or 0) / 1000:g} s"


def settle_total(
    sticker: Sticker, rules: TimeRules, policy: TimePolicy, title: str
) -> tuple[Sticker, str]:
    """Give the clip a length that the platform takes; returns what was done, or "".

    A total within 10 ms of one that is taken is settled by its last frames, in silence. Otherwise
    `policy` decides: "refuse" raises, "trim" cuts the end, "hold" shows the last frame longer,
    "speed" plays faster or slower.

    Raises:
        ExportError: (duration) refused, or not possible by `policy`.
    """
    total = sticker.total_ms
    near = _nearest(rules, total)
    if rules.takes(total):
        return sticker, ""
    if near is not None and abs(near - total) <= TOTAL_TOLERANCE_MS:
        return _trim(sticker, near) if near < total else _hold(sticker, near), ""
    chooser, change, words = _POLICIES[policy]
    target = chooser(rules, total)
    if target is None:
        ways = "trim, hold or speed" if rules.whole_ms > 1 else "trim or speed"
        advice = f"choose how to change it with --time {ways}"
        raise ExportError(
            "duration",
            f"{title}: the clip lasts {total / 1000:g} s, but must last {rules.totals()}; "
            + (advice if policy == "refuse" else f"--time {policy} can't do that"),
        )
    done = words.format(total=total / 1000, target=target / 1000, factor=total / target)
    return change(sticker, target), done


def _nearest(rules: TimeRules, total: int) -> int | None:
    """The allowed length nearest in proportion."""
    known = [near for near in (_below(rules, total), _above(rules, total)) if near]
    return min(known, key=lambda near: max(near / total, total / near), default=None)


def _below(rules: TimeRules, total: int) -> int | None:
    longest = total if rules.max_total_ms is None else min(total, rules.max_total_ms)
    return longest // rules.whole_ms * rules.whole_ms or None


def _above(rules: TimeRules, total: int) -> int | None:
    target = -(-total // rules.whole_ms) * rules.whole_ms
    return target if rules.takes(target) else None


def _trim(sticker: Sticker, total: int) -> Sticker:
    ends = np.minimum(np.cumsum(sticker.durations_ms), total)
    durations = np.diff(ends, prepend=0)
    kept = np.flatnonzero(durations)
    return sticker.select(kept).with_durations(durations[kept])


def _hold(sticker: Sticker, total: int) -> Sticker:
    durations = sticker.durations_ms.copy()
    durations[-1] += total - sticker.total_ms
    return sticker.with_durations(durations)


_Chooser = Callable[[TimeRules, int], int | None]
_POLICIES: dict[str, tuple[_Chooser, Callable[[Sticker, int], Sticker], str]] = {
    "refuse": (lambda rules, total: None, _trim, ""),
    "trim": (_below, _trim, "cut from {total:g} s to {target:g} s"),
    "hold": (_above, _hold, "last frame shown longer: {total:g} s to {target:g} s"),
    "speed": (_nearest, fit_time, "played {factor:.3g} times as fast: {total:g} s to {target:g} s"),
}


def settle_frames(durations_ms: np.ndarray, rules: TimeRules) -> tuple[np.ndarray, np.ndarray]:
    """Frames and durations that the format can show: indices int64 [K], durations int64 [K].

    At each moment the frame is shown that the clip shows then, except that a change waits until the
    frame before it has had its shortest time; a frame that is over by then is left out. The total
    is that of `durations_ms`, rounded to the step of the format.

    Raises:
        ExportError: (duration) the whole clip is shorter than one frame may be, or a frame longer.
    """
    step, shortest = rules.step_ms, rules.min_frame_ms
    ends = [_round(end, step) for end in np.cumsum(durations_ms).tolist()]
    total = ends[-1]
    if total < shortest:
        raise ExportError(
            "duration",
            f"the clip lasts {int(np.sum(durations_ms))} ms; "
            f"one frame must be shown for at least {float(shortest):g} ms",
        )
    kept, starts = [0], [Fraction(0)]
    while (change := _next_change(ends, kept[-1], starts[-1], rules)) is not None:
        frame, moment = change
        # The last frame too must get its time, and the mean rate must keep to the limit.
        if moment > total - shortest + _ROUNDING_MS or (len(kept) + 1) * shortest > total:
            break
        kept.append(frame)
        starts.append(moment)
    moments = [int(start + Fraction(1, 2)) for start in starts]
    durations = np.diff([*moments, total])
    if rules.max_frame_ms and durations.max() > rules.max_frame_ms:
        longest, most = durations.max() / 1000, rules.max_frame_ms / 1000
        message = f"one frame lasts {longest:g} s, but the format allows at most {most:g} s"
        raise ExportError("duration", message)
    return np.asarray(kept), durations


def _next_change(
    ends: list[int], frame: int, start: Fraction, rules: TimeRules
) -> tuple[int, Fraction] | None:
    """The frame after `frame`, which began at `start`, and its moment; None if the clip ends."""
    tolerance = _ROUNDING_MS if rules.min_frame_ms.denominator > 1 else Fraction(0)
    moment = Fraction(ends[frame])
    if moment < start + rules.min_frame_ms - tolerance:
        moment = start + rules.min_frame_ms
    if rules.step_ms > 1:
        moment = Fraction(-(-moment // rules.step_ms) * rules.step_ms)
    following = frame + 1
    while following < len(ends) and ends[following] <= moment + tolerance:
        following += 1
    return (following, moment) if following < len(ends) else None


def _round(value: int, step: int) -> int:
    return (2 * value + step) // (2 * step) * step


def fill_up(
    indices: np.ndarray, durations_ms: np.ndarray, rules: TimeRules
) -> tuple[np.ndarray, np.ndarray]:
    """Show the longest frames as two or more equal ones until there are `min_frames`.

    The picture at each moment stays the same. Arguments and results are as in `settle_frames`.

    Raises:
        ExportError: (frames) the clip is too short for so many frames.
    """
    shares = [1] * len(durations_ms)
    while sum(shares) < rules.min_frames:
        shares[int(np.argmax(durations_ms / shares))] += 1
    parts = []
    for duration, share in zip(durations_ms.tolist(), shares, strict=True):
        edges = [_round(duration * part // share, rules.step_ms) for part in range(share)]
        parts.append(np.diff([*edges, duration]))
    split = np.concatenate(parts)
    if split.min() < int(rules.min_frame_ms):
        total = int(durations_ms.sum())
        message = f"{rules.min_frames} frames are needed, and {total} ms is too short for them"
        raise ExportError("frames", message)
    return np.repeat(indices, shares), split


_FEATURE_SIDE = 48  # pixels; enough to see a blink


class FrameMerger:
    """Leaves frames out one by one; a neighbour is shown in their time.

    The next to go is the frame whose time, times the squared difference from the neighbour that is
    shown instead, is the least. So repeats go first, and what goes for a smaller number of frames
    includes what goes for a larger one. The first frame stays: platforms show it when a clip rests.
    """

    def __init__(self, sticker: Sticker) -> None:
        features = np.stack([_feature(frame) for frame in sticker.frames])
        indices, durations = np.arange(sticker.num_frames), sticker.durations_ms
        steps = np.mean(np.square(np.diff(features, axis=0)), axis=1)
        self._states = {sticker.num_frames: (indices, durations)}
        while len(indices) > 1:
            gone, heir = _cheapest(steps, durations)
            durations = durations.copy()
            durations[heir] += durations[gone]
            if gone + 1 < len(indices):
                change = features[indices[gone - 1]] - features[indices[gone + 1]]
                steps[gone] = np.mean(np.square(change))
            steps = np.delete(steps, gone - 1)
            indices, durations = np.delete(indices, gone), np.delete(durations, gone)
            self._states[len(indices)] = indices, durations

    def keep(self, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
        """The `num_frames` frames that stay, int64 [K], and their durations, int64 [K]."""
        return self._states[num_frames]


def _cheapest(steps: np.ndarray, durations: np.ndarray) -> tuple[int, int]:
    """Which frame goes, never the first, and which neighbour is shown instead."""
    before = steps * durations[1:]  # the frame in front is shown longer
    after = steps[1:] * durations[1:-1]  # the frame behind begins earlier
    gone = int(np.argmin(before)) + 1
    if after.size and after.min() < before[gone - 1]:
        gone = int(np.argmin(after)) + 1
        return gone, gone + 1
    return gone, gone - 1


def _feature(frame: np.ndarray) -> np.ndarray:
    """Premultiplied float32 [4 * side * side] in [0, 1]."""
    image = Image.fromarray(frame).convert("RGBa")
    small = image.resize((_FEATURE_SIDE, _FEATURE_SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(small, np.float32).reshape(-1) / 255
