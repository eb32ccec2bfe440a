"""One sticker on its way into the training set: decode, choose key frames, fit, encode.

This runs in worker processes, so nothing here loads torch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rdtf.data.frames import encode_frames, without_hidden_colour
from rdtf.data.keyframes import (
    FEATURE_SIZE,
    KeyFrames,
    Method,
    candidate_frames,
    choose_key_frames,
    frame_feature,
)
from rdtf.data.sources import Skipped, SourceItem, describe_synthetic
from rdtf.errors import UserError
from rdtf.stickers import Budget, LottieFile, Sticker, read_sticker

if TYPE_CHECKING:
    from rdtf.synthetic.characters import SyntheticStickers

_LOTTIE_SUFFIXES = (".tgs", ".json")


@dataclass(frozen=True)
class ClipOptions:
    """How a sticker becomes a clip; see `rdtf.data.prepare.prepare`."""

    canvas: int
    max_frames: int
    keyframe_method: Method
    min_motion: float
    budget: Budget


@dataclass(frozen=True)
class PreparedClip:
    """A sticker as it goes into a shard; `pixels` is its frames as an animated lossless WebP."""

    item: SourceItem
    durations_ms: tuple[int, ...]
    native_frames: int
    motion: float
    pixel_hash: str
    pixels: bytes


def prepare_item(
    item: SourceItem, options: ClipOptions, synthetic: SyntheticStickers | None = None
) -> PreparedClip | Skipped:
    """Prepare one sticker, or say why it is left out."""
    try:
        if item.path is None:
            assert synthetic is not None
            sticker = synthetic[int(item.file.rpartition("/")[2])]
            return _finish(describe_synthetic(item, sticker), *_shorten(sticker, options), options)
        if item.path.suffix.lower() in _LOTTIE_SUFFIXES:
            file = LottieFile.open(item.path, options.budget)
            item = _with_missing(item, file.info.not_drawn)
            return _finish(item, *_render_lottie(file, options), options)
        sticker = read_sticker(item.path, budget=options.budget)
        return _finish(item, *_shorten(sticker, options), options)
    except Exception as error:  # a stranger's file must never end a run over a million others
        return Skipped(item.file, "unreadable", _reason(error, item))


def _reason(error: Exception, item: SourceItem) -> str:
    """What went wrong, without the name of the file, so that equal reasons can be counted."""
    if not isinstance(error, UserError):
        return f"{type(error).__name__}: {error}"
    return str(error).removeprefix(f"{item.path}: ")


def _shorten(sticker: Sticker, options: ClipOptions) -> tuple[Sticker, KeyFrames, int]:
    """The key frames of `sticker`, how they were chosen, and how many frames it had."""
    candidates, durations_ms = candidate_frames(sticker.durations_ms)
    features = np.stack([frame_feature(sticker.frames[index]) for index in candidates])
    keys = choose_key_frames(
        features, durations_ms, options.max_frames, method=options.keyframe_method
    )
    chosen = sticker.select(candidates[keys.indices]).with_durations(keys.durations_ms)
    return chosen.fit_canvas(options.canvas), keys, sticker.num_frames


def _with_missing(item: SourceItem, not_drawn: tuple[str, ...]) -> SourceItem:
    """`item` that names what of it is not drawn, if there is anything."""
    if not not_drawn:
        return item
    return replace(item, attributes={**item.attributes, "not_drawn": list(not_drawn)})


def _render_lottie(file: LottieFile, options: ClipOptions) -> tuple[Sticker, KeyFrames, int]:
    """As `_shorten`; only the key frames of vector graphics are drawn at full size."""
    candidates, durations_ms = candidate_frames(file.info.durations_ms)
    small = (file.render(int(index), FEATURE_SIZE) for index in candidates)
    features = np.stack([frame_feature(frame) for frame in small])
    keys = choose_key_frames(
        features, durations_ms, options.max_frames, method=options.keyframe_method
    )
    frames = [file.render(int(index), options.canvas) for index in candidates[keys.indices]]
    return Sticker(np.stack(frames), keys.durations_ms), keys, file.num_frames


def _finish(
    item: SourceItem, sticker: Sticker, keys: KeyFrames, native_frames: int, options: ClipOptions
) -> PreparedClip | Skipped:
    if not sticker.frames[..., 3].any():
        missing = item.attributes.get("not_drawn")
        why = "every frame is fully transparent"
        return Skipped(item.file, "empty", f"it needs {', '.join(missing)}" if missing else why)
    if native_frames > 1 and keys.motion < options.min_motion:
        limit = f"less than the limit of {options.min_motion:g}"
        return Skipped(item.file, "little motion", f"motion is {keys.motion:.5f}, {limit}")
    frames, durations_ms = _merge_equal(without_hidden_colour(sticker.frames), sticker.durations_ms)
    return PreparedClip(
        item=item,
        durations_ms=tuple(int(duration) for duration in durations_ms),
        native_frames=native_frames,
        motion=keys.motion,
        pixel_hash=hashlib.sha256(frames.tobytes()).hexdigest(),
        pixels=encode_frames(frames, durations_ms),
    )


def _merge_equal(frames: np.ndarray, durations_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal neighbours become one frame that is shown as long as both."""
    changed = np.any(frames[1:] != frames[:-1], axis=(1, 2, 3))
    first = np.flatnonzero(np.concatenate([[True], changed]))
    return frames[first], np.add.reduceat(durations_ms, first)
