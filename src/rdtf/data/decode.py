"""One sticker becomes a clip: decoded, filtered, reduced to key frames, measured, encoded.

A pure function of the item and the options, so that any machine may do it. It runs in a worker
(`rdtf.data.pool`): decoders are native code that is fed files from strangers.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from rdtf.data.duplicates import fingerprint
from rdtf.data.filters import FilterOptions, check, normalise, statistics, thumbnails
from rdtf.data.keyframes import (
    FEATURE_SIZE,
    KeyFrames,
    Method,
    candidate_frames,
    choose_key_frames,
    encode_frames,
    frame_feature,
    without_hidden_colour,
)
from rdtf.data.sources import Skipped, SourceItem, describe_synthetic, read_member
from rdtf.errors import StickerError, UserError
from rdtf.stickers import Budget, LottieFile, Sticker, decode_sticker, read_sticker
from rdtf.stickers.files import DURATIONS_FILE, recognise
from rdtf.stickers.sticker import DEFAULT_DURATION_MS

if TYPE_CHECKING:
    from rdtf.synthetic.characters import SyntheticStickers

# Of `rdtf.data.filters.check`, with the limit.
_WHY = {
    "blank": "it shows one colour",
    "extreme aspect": "what it shows is more than {max_aspect:g} times as long as wide",
    "too little information": "its colours carry less than {min_entropy:g} bits a pixel",
    "nearly still": "its motion is less than the limit of {min_motion:g}",
    "text-heavy": "it shows more than {max_letters} letters",
}
_NAME = "the file"  # what errors call it, so that equal reasons can be counted


@dataclass(frozen=True)
class ClipOptions:
    """How a sticker becomes a clip; see `rdtf.data.prepare.prepare`."""

    canvas: int
    max_frames: int
    keyframe_method: Method
    filters: FilterOptions | None
    budget: Budget


@dataclass(frozen=True)
class PreparedClip:
    """A sticker as it goes into a shard; `pixels` is its frames as an animated lossless WebP.

    `fingerprint` is the same for near duplicates, but for a few bits; `statistics` measure how
    difficult the clip is.
    """

    item: SourceItem
    durations_ms: tuple[int, ...]
    native_frames: int
    motion: float
    pixel_hash: str
    pixels: bytes
    fingerprint: bytes
    statistics: Mapping[str, float]


def prepare_item(
    item: SourceItem, options: ClipOptions, synthetic: SyntheticStickers | None = None
) -> PreparedClip | Skipped:
    """Prepare one sticker, or say why it is left out."""
    try:
        if item.path is None:
            assert synthetic is not None
            sticker = synthetic[int(item.file.rpartition("/")[2])]
            return _finish(describe_synthetic(item, sticker), *_shorten(sticker, options), options)
        opened = open_item(item, options.budget)
        if isinstance(opened, LottieFile):
            item = _with_missing(item, opened.info.not_drawn)
            return _finish(item, *_render_lottie(opened, options), options)
        return _finish(item, *_shorten(opened, options), options)
    except Exception as error:  # a stranger's file must never end a run over a million others
        if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
            return Skipped(item.file, "memory", "it needs more memory than a worker may use")
        return Skipped(item.file, "unreadable", _reason(error, item))


def open_item(item: SourceItem, budget: Budget) -> Sticker | LottieFile:
    """Decode an item that has a path; vector graphics are only opened.

    Raises:
        StickerError: missing, cut off, damaged, over budget, or no sticker at all.
    """
    assert item.path is not None
    if len(item.members) > 1:
        return _read_frames(item, budget)
    if not item.members and item.path.is_dir():
        return read_sticker(item.path, budget=budget)
    if item.members:
        data = read_member(item.path, item.members[0], budget)
    else:
        data = budget.read(item.path)
    if recognise(data, _NAME) == "lottie":
        return LottieFile(data, _NAME, budget)
    sticker = decode_sticker(data, _NAME, budget=budget)
    return sticker if item.sprite is None else _cut_sheet(sticker, item.sprite, item.attributes)


def _read_frames(item: SourceItem, budget: Budget) -> Sticker:
    """A folder of frames in an archive, by way of a temporary folder, under names of our own."""
    assert item.path is not None
    budget.check_bytes(_NAME, sum(member.size for member in item.members))
    with tempfile.TemporaryDirectory(prefix="rdtf-frames-") as folder:
        for number, member in enumerate(item.members):
            name = PurePosixPath(member.name)
            new = DURATIONS_FILE if name.name == DURATIONS_FILE else f"{number:06d}{name.suffix}"
            Path(folder, new).write_bytes(read_member(item.path, member, budget))
        return read_sticker(folder, budget=budget)


def _cut_sheet(sheet: Sticker, sprite: tuple[Any, ...], attributes: Mapping[str, Any]) -> Sticker:
    """The frames of a sprite sheet; cells of a grid that are empty at its end are none."""
    picture = sheet.frames[0]
    height, width = picture.shape[:2]
    duration_ms = attributes.get("duration_ms", DEFAULT_DURATION_MS)
    if sheet.num_frames > 1:
        return sheet
    if isinstance(sprite[0], int):
        cell_width, cell_height = sprite
        columns, rows = width // cell_width, height // cell_height
        if columns * rows == 0 or width % cell_width or height % cell_height:
            return sheet  # no sheet of such frames
        cells = [
            (column * cell_width, row * cell_height, cell_width, cell_height, duration_ms)
            for row in range(rows)
            for column in range(columns)
        ]
    else:
        cells = list(sprite)
    frames, durations_ms = [], []
    for x, y, cell_width, cell_height, shown_ms in cells:
        frame = picture[max(y, 0) : y + cell_height, max(x, 0) : x + cell_width]
        if frame.shape[:2] != (cell_height, cell_width) or frame.size == 0:
            raise StickerError(f"frame at {x}, {y} lies outside of the sprite sheet")
        if frame.shape != frames[0].shape if frames else False:
            raise StickerError("frames of the sprite sheet have different sizes")
        frames.append(frame)
        durations_ms.append(max(int(shown_ms), 1))
    while len(frames) > 1 and not frames[-1][..., 3].any():
        frames.pop()
    return sheet.replace(
        frames=np.stack(frames), durations_ms=np.array(durations_ms[: len(frames)])
    )


def _reason(error: Exception, item: SourceItem) -> str:
    """What went wrong, without the name of the file, so that equal reasons can be counted."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return text.removeprefix(f"{item.path}: ").removeprefix(f"{_NAME}: ")


def _shorten(sticker: Sticker, options: ClipOptions) -> tuple[Sticker, KeyFrames, int]:
    """The key frames of `sticker`, how they were chosen, and how many frames it had."""
    candidates, durations_ms = candidate_frames(sticker.durations_ms)
    features = np.stack([frame_feature(sticker.frames[index]) for index in candidates])
    keys = choose_key_frames(
        features, durations_ms, options.max_frames, method=options.keyframe_method
    )
    chosen = sticker.select(candidates[keys.indices]).with_durations(keys.durations_ms)
    if options.filters is not None and options.filters.cut_background:
        chosen = chosen.replace(frames=normalise(chosen.frames, options.filters))
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
        reason = f"it needs {', '.join(missing)}" if missing else why
        return Skipped(item.file, "empty", reason, "filter")
    frames, durations_ms = _merge_equal(without_hidden_colour(sticker.frames), sticker.durations_ms)
    listed_ms = [int(duration) for duration in durations_ms]
    small = thumbnails(frames)
    if options.filters is not None:
        kind = check(frames, listed_ms, options.filters, small)
        if kind is not None:
            return Skipped(item.file, kind, _WHY[kind].format(**asdict(options.filters)), "filter")
    return PreparedClip(
        item=item,
        durations_ms=tuple(listed_ms),
        native_frames=native_frames,
        motion=keys.motion,
        pixel_hash=hashlib.sha256(frames.tobytes()).hexdigest(),
        pixels=encode_frames(frames, durations_ms),
        fingerprint=fingerprint(frames, small),
        statistics=statistics(frames, listed_ms, small),
    )


def _merge_equal(frames: np.ndarray, durations_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal neighbours become one frame that is shown as long as both."""
    pixels = frames.reshape(len(frames), -1).view(np.uint32)
    changed = (pixels[1:] != pixels[:-1]).any(axis=1)
    first = np.flatnonzero(np.concatenate([[True], changed]))
    return frames[first], np.add.reduceat(durations_ms, first)
