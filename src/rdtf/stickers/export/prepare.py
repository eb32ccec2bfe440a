"""From a sticker to the frames of an export: edits, times, canvas. Nothing is encoded yet.

Nothing here changes speed or length unless it is told to. What is rounded is the moment of each
change, not each duration, so the total stays exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from PIL import Image

from rdtf.stickers import DEFAULT_BUDGET, Sticker
from rdtf.stickers.canvas import fit_frame, fitted_size, in_threads, letterbox, on_background
from rdtf.stickers.export.edit import WHITE, ExportOptions, TimePolicy, fit_time, outline_frame
from rdtf.stickers.export.platforms import ExportError, Platform

TOTAL_TOLERANCE_MS = 10
# Frame rates do not come out even in whole milliseconds: 30 a second are 33, 33 and 34 ms.
_ROUNDING_MS = Fraction(2, 3)


@dataclass(frozen=True)
class Prepared:
    """A clip that keeps to the platform's times and canvas."""

    platform: Platform
    options: ExportOptions
    source: Sticker  # the clip after the edits that were asked for, before the platform's rules
    size: tuple[int, int]  # (height, width) of the canvas
    inner_size: tuple[int, int]  # of the box that the picture is scaled into
    # int64 [K], frames of `source` that are shown, in order; repeats where frames had to be
    # added
    keep: np.ndarray
    durations_ms: np.ndarray  # int64 [K]
    loop_count: int
    # edits, gave_up, notes: what was done, what the rules cost, and what else to know, in
    # words
    edits: list[str] = field(default_factory=list)
    gave_up: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def draw(self, index: int) -> np.ndarray:
        """Frame `index` of the source on the canvas, uint8 [H, W, 4]."""
        frame = fit_frame(self.source.frames[index], *self.inner_size, crisp=self._is_hard)
        frame, options = letterbox(frame, *self.size), self.options
        if options.outline_px:
            frame = outline_frame(frame, options.outline_px, options.outline_color)
        if self.options.background is None:
            return frame
        opaque = np.full_like(frame, 255)
        opaque[..., :3] = on_background(frame, self.options.background)
        return opaque

    @cached_property
    def _is_hard(self) -> bool:
        """Whole-pixel enlargement first, for pixel art."""
        return bool(np.isin(self.source.frames[..., 3], (0, 255)).all())

    @cached_property
    def frames(self) -> np.ndarray:
        """uint8 [K, H, W, 4], the frames as they are encoded."""
        different, places = np.unique(self.keep, return_inverse=True)
        return np.stack(in_threads(self.draw, different.tolist()))[places]

    def clip(self) -> Sticker:
        return Sticker(self.frames, self.durations_ms, self.loop_count)


def visible(frames: np.ndarray) -> np.ndarray:
    """uint8 [..., 4] without the colours that no one sees."""
    pixels = np.ascontiguousarray(frames).view(np.uint32)  # four bytes at a time are faster
    return np.where(frames[..., 3:] > 0, pixels, np.uint32(0)).view(np.uint8)


def _moves(frames: np.ndarray) -> bool:
    return bool((visible(frames) != visible(frames[:1])).any())


def prepare(sticker: Sticker, platform: Platform, options: ExportOptions) -> Prepared:
    """Everything up to the encoder.

    Raises:
        ExportError: the clip can't comply, or an option does not fit.
    """
    if platform.format == "mp4" and options.background is None:
        options = replace(options, background=WHITE)
    source, edits = options.apply(sticker)
    if not (source.frames[..., 3] > 0).any():
        raise ExportError("empty", "the clip is fully transparent")
    is_still = _is_still(source, platform)
    gave_up: list[str] = []
    if is_still:
        source = source.select([0])
        keep, durations = np.zeros(1, np.int64), source.durations_ms
    else:
        rules = _TimeRules.of(platform)
        source, change = _settle_total(source, rules, options.time, platform.title)
        edits += [change] if change else []
        keep, durations = _settled(source, rules, platform.title, edits, gave_up)
    size, inner = _plan_canvas(source, platform, options)
    if options.outline_px:
        edits.append(f"outline of {options.outline_px:g} px added")
    if options.background is not None:
        why = "; MP4 has no transparency" if platform.format == "mp4" else ""
        edits.append(f"background #{bytes(options.background).hex()} added{why}")
    loops = _loop_count(sticker, platform, int(durations.sum()))
    prepared = Prepared(
        platform,
        options,
        source,
        size,
        inner,
        keep,
        durations,
        loops,
        edits,
        gave_up,
        _notes(sticker, source, inner),
    )
    if not (prepared.frames[..., 3] > 0).any():
        raise ExportError("empty", f"{platform.title}: nothing is visible at this size")
    if platform.still == "no" and not is_still and not _moves(prepared.frames):
        message = f"{platform.title}: no motion is left at this size and frame rate"
        raise ExportError("still", message)
    alpha = prepared.frames[..., 3]
    if platform.format == "gif" and bool(((alpha > 0) & (alpha < 255)).any()):
        gave_up.append("partial transparency: in GIF a pixel is either opaque or transparent")
    return prepared


def _is_still(source: Sticker, platform: Platform) -> bool:
    """Whether it goes as one picture; refuses what the platform does not take."""
    moves = _moves(source.frames)
    if platform.still == "only":
        if moves:
            animated = platform.id.removesuffix("-static")
            message = f"the clip is animated, and a still is required (or use --to {animated})"
            raise ExportError("moving", f"{platform.title}: {message}")
        return True
    if platform.still == "no" and not moves:
        message = f"{platform.title}: the clip does not move, and an animation is required"
        raise ExportError("still", message)
    return source.num_frames == 1


def _settled(
    source: Sticker, rules: _TimeRules, title: str, edits: list[str], gave_up: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Frames and times that the platform can show: see `_settle_frames` and `_fill_up`."""
    try:
        keep, durations = _settle_frames(source.durations_ms, rules)
        if len(keep) < source.num_frames:
            rate = f"each must last {float(rules.min_frame_ms):.4g} ms or more"
            gave_up.append(f"frames reduced from {source.num_frames} to {len(keep)}; {rate}")
        if rules.max_frames and len(keep) > rules.max_frames:
            most = f"at most {rules.max_frames} are allowed"
            gave_up.append(f"frames reduced from {len(keep)} to {rules.max_frames}; {most}")
            merger = FrameMerger(source.select(keep).with_durations(durations))
            chosen, durations = merger.keep(rules.max_frames)
            keep = keep[chosen]
        if len(keep) < rules.min_frames:
            edits.append(
                f"frames repeated: {len(keep)} to {rules.min_frames}, the least that is allowed"
            )
            keep, durations = _fill_up(keep, durations, rules)
    except ExportError as error:
        raise ExportError(error.reason, f"{title}: {error}") from error
    return keep, durations


def _loop_count(sticker: Sticker, platform: Platform, total_ms: int) -> int:
    """As often as the clip wants where that is allowed; messengers play for ever if they can."""
    if platform.is_plain:
        most = platform.format_value("max_plays")
        # Who can tell sixty thousand times from for ever?
        return 0 if most and sticker.loop_count > most else sticker.loop_count
    least, most = platform.value("plays", (0, 0))
    if most == 0:
        return 0
    longest = platform.value("max_total_ms", most * total_ms) // total_ms
    wanted = sticker.loop_count or most
    return max(least, min(wanted, most, longest))


def _notes(sticker: Sticker, source: Sticker, inner: tuple[int, int]) -> list[str]:
    notes = []
    if missing := sticker.metadata.get("not_drawn"):
        notes.append(f"parts of the Lottie file are not drawn: {', '.join(missing)}")
    if inner[0] > source.height or inner[1] > source.width:
        sizes = f"{source.width} x {source.height} to {inner[1]} x {inner[0]}"
        notes.append(f"enlarged from {sizes} pixels; a larger original would be sharper")
    return notes


def _plan_canvas(
    sticker: Sticker, platform: Platform, options: ExportOptions
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of the canvas, and of the box for the picture, with room for the stroke.

    Raises:
        ExportError: (option) a size where the platform sets the canvas, an outline that leaves no
            room for the picture, or more pixels than the format or the memory holds.
    """
    size, border, limit = options.size, math.ceil(options.outline_px), platform.canvas()
    if size is not None and limit is not None:
        wide, high = limit.value
        raise ExportError(
            "option", f"{platform.title} has a fixed canvas of {wide} x {high}; leave out --size"
        )
    if size is not None and not 1 <= size <= 4096:
        raise ExportError("option", f"size {size} is not between 1 and 4096 pixels")
    if limit is None:
        wide = high = size or max(sticker.height, sticker.width) + 2 * border
    else:
        wide, high = limit.value
    if min(wide, high) <= 2 * border:
        stroke = f"an outline of {options.outline_px:g} px"
        raise ExportError("option", f"{stroke} leaves no room on a canvas of {high} px")
    inner_height, inner_width = fitted_size(
        sticker.height, sticker.width, high - 2 * border, wide - 2 * border
    )
    height, width = inner_height + 2 * border, inner_width + 2 * border
    rule = "" if limit is None else limit.rule
    most = platform.format_value("max_side")
    if most is not None and max(height, width) > most:
        sides = f"at most {most} pixels on a side, not {max(height, width)}"
        raise ExportError("option", f"{platform.title} allows {sides}; choose a smaller --size")
    pixels = sticker.num_frames * height * width
    if size is not None and pixels > max(DEFAULT_BUDGET.max_total_pixels, sticker.frames.size // 4):
        count = sticker.num_frames
        raise ExportError(
            "option",
            f"{count} frames of {width} x {height} need too much memory; choose a smaller --size",
        )
    if rule in ("exact", "square up to"):
        height, width = high, wide
    elif rule == "height":
        height = high
    return (height, width), (inner_height, inner_width)


# ------------------------------------------------------------------------------ times


@dataclass(frozen=True)
class _TimeRules:
    """What a platform and its format ask of times."""

    max_total_ms: int | None  # longest clip; None without limit
    whole_ms: int  # the total must be a multiple of this
    step_ms: int  # every change happens at a multiple of this
    # min_frame_ms, max_frame_ms: shortest and longest time that a frame is shown
    min_frame_ms: Fraction
    min_frames: int  # min_frames, max_frames: how many frames
    max_frames: int | None
    max_frame_ms: int | None = None

    @classmethod
    def of(cls, platform: Platform) -> _TimeRules:
        format_value = platform.format_value
        shortest = [platform.value("min_frame_ms", 1), format_value("min_frame_ms", 1)]
        if fps := platform.value("max_fps"):
            shortest.append(Fraction(1000, fps))
        return cls(
            max_total_ms=platform.value("max_total_ms"),
            whole_ms=platform.value("whole_ms", 1),
            step_ms=format_value("time_step_ms", 1),
            min_frame_ms=max(map(Fraction, shortest)),
            min_frames=platform.value("min_frames", 1),
            max_frames=platform.value("max_frames"),
            max_frame_ms=format_value("max_frame_ms"),
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


def _settle_total(
    sticker: Sticker, rules: _TimeRules, policy: TimePolicy, title: str
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


def _nearest(rules: _TimeRules, total: int) -> int | None:
    """The allowed length nearest in proportion."""
    known = [near for near in (_below(rules, total), _above(rules, total)) if near]
    return min(known, key=lambda near: max(near / total, total / near), default=None)


def _below(rules: _TimeRules, total: int) -> int | None:
    longest = total if rules.max_total_ms is None else min(total, rules.max_total_ms)
    return longest // rules.whole_ms * rules.whole_ms or None


def _above(rules: _TimeRules, total: int) -> int | None:
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


_Chooser = Callable[[_TimeRules, int], int | None]
_POLICIES: dict[str, tuple[_Chooser, Callable[[Sticker, int], Sticker], str]] = {
    "refuse": (lambda rules, total: None, _trim, ""),
    "trim": (_below, _trim, "cut from {total:g} s to {target:g} s"),
    "hold": (_above, _hold, "last frame shown longer: {total:g} s to {target:g} s"),
    "speed": (_nearest, fit_time, "played {factor:.3g} times as fast: {total:g} s to {target:g} s"),
}


def _settle_frames(durations_ms: np.ndarray, rules: _TimeRules) -> tuple[np.ndarray, np.ndarray]:
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
    ends: list[int], frame: int, start: Fraction, rules: _TimeRules
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


def _fill_up(
    indices: np.ndarray, durations_ms: np.ndarray, rules: _TimeRules
) -> tuple[np.ndarray, np.ndarray]:
    """Show the longest frames as two or more equal ones until there are `min_frames`.

    The picture at each moment stays the same. Arguments and results are as in `_settle_frames`.

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
