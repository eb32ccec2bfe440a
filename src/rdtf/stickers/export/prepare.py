"""From a sticker to the frames of an export: edits, times, canvas. Nothing is encoded yet."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from rdtf.stickers import DEFAULT_BUDGET, Sticker
from rdtf.stickers.canvas import fit_frame, fitted_size, in_threads, letterbox, on_background
from rdtf.stickers.export.options import ExportOptions
from rdtf.stickers.export.platforms import ExportError, Platform, format_limits
from rdtf.stickers.export.shapes import WHITE, outline_frame
from rdtf.stickers.export.timing import FrameMerger, TimeRules, fill_up, settle_frames, settle_total


@dataclass(frozen=True)
class _Canvas:
    """How one frame becomes a frame of the export.

    Attributes:
        height, width: the canvas in pixels.
        inner_height, inner_width: the box that the picture is scaled into; the rest is transparent.
        outline_px, outline_color: the stroke, drawn at the size of the canvas.
        crisp: whole-pixel enlargement first, for pixel art.
    """

    height: int
    width: int
    inner_height: int
    inner_width: int
    outline_px: float
    outline_color: tuple[int, int, int]
    crisp: bool

    def draw(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [h, w, 4] -> uint8 [height, width, 4]."""
        frame = fit_frame(frame, self.inner_height, self.inner_width, crisp=self.crisp)
        frame = letterbox(frame, self.height, self.width)
        return (
            outline_frame(frame, self.outline_px, self.outline_color) if self.outline_px else frame
        )


def _plan_canvas(sticker: Sticker, platform: Platform, options: ExportOptions) -> _Canvas:
    """The canvas for `sticker` on `platform`, with room for the stroke.

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
    most = format_limits(platform.format).get("max_side")
    if most is not None and max(height, width) > most.value:
        sides = f"at most {most.value} pixels on a side, not {max(height, width)}"
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
    hard = bool(np.isin(sticker.frames[..., 3], (0, 255)).all())
    stroke = options.outline_px, options.outline_color
    return _Canvas(height, width, inner_height, inner_width, *stroke, hard)


@dataclass(frozen=True)
class Prepared:
    """A clip that keeps to the platform's times and canvas.

    Attributes:
        source: the clip after the edits that were asked for, before the platform's rules.
        keep: int64 [K], frames of `source` that are shown, in order; repeats where frames had to
            be added.
        durations_ms: int64 [K].
        edits, gave_up, notes: what was done, what the rules cost, and what else to know, in words.
    """

    platform: Platform
    options: ExportOptions
    source: Sticker
    canvas: _Canvas
    keep: np.ndarray
    durations_ms: np.ndarray
    loop_count: int
    edits: list[str] = field(default_factory=list)
    gave_up: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def draw(self, index: int) -> np.ndarray:
        """Frame `index` of the source on the canvas, uint8 [H, W, 4]."""
        frame = self.canvas.draw(self.source.frames[index])
        if self.options.background is None:
            return frame
        opaque = np.full_like(frame, 255)
        opaque[..., :3] = on_background(frame, self.options.background)
        return opaque

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
        rules = TimeRules.of(platform)
        source, change = settle_total(source, rules, options.time, platform.title)
        edits += [change] if change else []
        keep, durations = _settled(source, rules, platform.title, edits, gave_up)
    canvas = _plan_canvas(source, platform, options)
    if canvas.outline_px:
        edits.append(f"outline of {canvas.outline_px:g} px added")
    if options.background is not None:
        why = "; MP4 has no transparency" if platform.format == "mp4" else ""
        edits.append(f"background #{bytes(options.background).hex()} added{why}")
    loops = _loop_count(sticker, platform, int(durations.sum()))
    prepared = Prepared(
        platform,
        options,
        source,
        canvas,
        keep,
        durations,
        loops,
        edits,
        gave_up,
        _notes(sticker, source, canvas),
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
    source: Sticker, rules: TimeRules, title: str, edits: list[str], gave_up: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Frames and times that the platform can show: see `settle_frames` and `fill_up`."""
    try:
        keep, durations = settle_frames(source.durations_ms, rules)
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
            keep, durations = fill_up(keep, durations, rules)
    except ExportError as error:
        raise ExportError(error.reason, f"{title}: {error}") from error
    return keep, durations


def _loop_count(sticker: Sticker, platform: Platform, total_ms: int) -> int:
    """As often as the clip wants where that is allowed; messengers play for ever if they can."""
    if platform.is_plain:
        most = format_limits(platform.format).get("max_plays")
        # Who can tell sixty thousand times from for ever?
        return 0 if most and sticker.loop_count > most.value else sticker.loop_count
    least, most = platform.value("plays", (0, 0))
    if most == 0:
        return 0
    longest = platform.value("max_total_ms", most * total_ms) // total_ms
    wanted = sticker.loop_count or most
    return max(least, min(wanted, most, longest))


def _notes(sticker: Sticker, source: Sticker, canvas: _Canvas) -> list[str]:
    notes = []
    if missing := sticker.metadata.get("not_drawn"):
        notes.append(f"parts of the Lottie file are not drawn: {', '.join(missing)}")
    if canvas.inner_height > source.height or canvas.inner_width > source.width:
        sizes = f"{source.width} x {source.height} to {canvas.inner_width} x {canvas.inner_height}"
        notes.append(f"enlarged from {sizes} pixels; a larger original would be sharper")
    return notes
