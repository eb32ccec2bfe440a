"""A prepared training set, opened and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rdtf.data.keyframes import (
    FEATURE_SIZE,
    MAX_CANVAS,
    MAX_FRAMES,
    KeyFrames,
    Method,
    candidate_frames,
    choose_key_frames,
    decode_frames,
    encode_frames,
    frame_feature,
    without_hidden_colour,
)
from rdtf.data.shards import (
    CLIPS_FILE,
    DATASET_FORMAT,
    DATASET_VERSION,
    HEAD_FILE,
    SHARDS_FOLDER,
    Location,
    content_fingerprint,
)
from rdtf.data.sources import SPLITS, Skipped, SourceItem, Split, describe_synthetic
from rdtf.errors import DataError, UserError
from rdtf.fileio import read_json
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


@dataclass(frozen=True)
class Clip:
    """One clip of a training set: everything but its pixels.

    Attributes:
        index: position in `PreparedDataset`, and in its caches.
        id: name that stays the same when other stickers come or go.
        captions: best first; may be empty.
        durations_ms: one per key frame, each >= 1.
        native_frames: frames that the file had.
        motion: root mean square change about the best single frame, 0 to 1.
    """

    index: int
    id: str
    split: Split
    concept: str
    captions: tuple[str, ...]
    durations_ms: tuple[int, ...]
    native_frames: int
    motion: float
    file: str
    source: str | None
    license: str | None
    attribution: str | None
    attributes: Mapping[str, Any]
    location: Location

    @property
    def num_frames(self) -> int:
        return len(self.durations_ms)

    @property
    def total_ms(self) -> int:
        return sum(self.durations_ms)


_PREPARE_AGAIN = "prepare the training set again"


class PreparedDataset:
    """Read a training set that `prepare` has made. Small, and safe to send to other processes.

    Raises:
        DataError: the folder is missing, of another version, or damaged.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.head = read_head(self.path)
        self.canvas: int = self.head["canvas"]
        self.max_frames: int = self.head["max_frames"]
        self.fingerprint: str = self.head["fingerprint"]
        self._clips = _read_clips(self.path, self.head)
        counts = [clip.num_frames for clip in self._clips]
        # Frames of clip i are rows frame_offsets[i] to frame_offsets[i + 1] of the caches.
        self.frame_offsets: np.ndarray = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self._clips)

    def __repr__(self) -> str:
        return f"PreparedDataset({str(self.path)!r}, {len(self)} clips, canvas {self.canvas})"

    @property
    def num_frames(self) -> int:
        return int(self.frame_offsets[-1])

    def clip(self, index: int) -> Clip:
        return self._clips[index]

    def clips(self, split: Split | None = None) -> list[Clip]:
        """The clips of one split, or all, in a fixed order."""
        if split is not None and split not in SPLITS:
            raise DataError(f"split {split!r} is unknown; use one of {SPLITS}")
        return [clip for clip in self._clips if split in (None, clip.split)]

    def captions(self) -> list[str]:
        """All different captions, in a fixed order."""
        return list(dict.fromkeys(text for clip in self._clips for text in clip.captions))

    def read_frames(self, index: int) -> np.ndarray:
        """Straight RGBA uint8 [F,S,S,4] of one clip."""
        return read_clip_frames(self.path, self._clips[index], self.canvas)

    def read_sticker(self, index: int) -> Sticker:
        """One clip as a `Sticker`, with its captions and licence."""
        clip = self._clips[index]
        return Sticker(
            frames=self.read_frames(index),
            durations_ms=np.array(clip.durations_ms),
            captions=clip.captions,
            source=clip.source,
            license=clip.license,
            attribution=clip.attribution,
            metadata={**clip.attributes, "id": clip.id, "concept": clip.concept},
        )

    def verify(self) -> None:
        """Hash every shard: a `DataError` names the first that is not as it was written."""
        for shard in self.head["shards"]:
            path = self.path / shard["file"]
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != shard["sha256"]:
                    raise DataError(f"shard {path} has changed; {_PREPARE_AGAIN}")


def read_clip_frames(folder: Path, clip: Clip, canvas: int) -> np.ndarray:
    """Straight RGBA uint8 [F,S,S,4] of one clip of the training set in `folder`."""
    path = folder / clip.location.shard
    try:
        with path.open("rb") as file:
            file.seek(clip.location.offset)
            data = file.read(clip.location.num_bytes)
    except OSError as error:
        raise DataError(f"shard {path} can't be read: {error.strerror}") from error
    return decode_frames(data, clip.num_frames, canvas, f"clip {clip.id} in {path}")


def read_head(path: Path) -> dict[str, Any]:
    """dataset.json, after checks of everything that the rest relies on."""
    if not (path / HEAD_FILE).is_file():
        raise DataError(f"{path} holds no training set ({HEAD_FILE} is missing); prepare one there")
    try:
        head = read_json(path / HEAD_FILE, "training set")
    except UserError as error:
        raise DataError(str(error)) from error
    if not isinstance(head, dict) or head.get("format") != DATASET_FORMAT:
        raise DataError(f"{path / HEAD_FILE} describes no training set; {_PREPARE_AGAIN}")
    if head.get("version") != DATASET_VERSION:
        raise DataError(
            f"{path} is a training set of version {head.get('version')!r}, this program reads "
            f"version {DATASET_VERSION}; {_PREPARE_AGAIN}"
        )
    try:
        _check_head(path, head)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path / HEAD_FILE} is damaged: {error}; {_PREPARE_AGAIN}") from error
    return head


def _check_head(path: Path, head: dict[str, Any]) -> None:
    for key in ("splits", "skipped", "made"):
        if not isinstance(head[key], dict):
            raise TypeError(f"{key} is no object")
    if not 1 <= head["canvas"] <= MAX_CANVAS or not 1 <= head["max_frames"] <= MAX_FRAMES:
        raise ValueError("canvas or max_frames is out of range")
    hashes = [shard["sha256"] for shard in head["shards"]]
    if content_fingerprint(head["canvas"], path / CLIPS_FILE, hashes) != head["fingerprint"]:
        raise ValueError(f"{CLIPS_FILE} does not fit to it")
    for shard in head["shards"]:
        file = path / shard["file"]
        if file.parent != path / SHARDS_FOLDER or file.suffix != ".tar":
            raise ValueError(f"shard {shard['file']} lies elsewhere")
        if not file.is_file() or file.stat().st_size != shard["num_bytes"]:
            raise ValueError(f"shard {shard['file']} is missing or cut off")


def _read_clips(path: Path, head: dict[str, Any]) -> list[Clip]:
    sizes = {shard["file"]: shard["num_bytes"] for shard in head["shards"]}
    clips: list[Clip] = []
    try:
        with (path / CLIPS_FILE).open(encoding="utf-8") as lines:
            for line in lines:
                clips.append(_parse_clip(len(clips), json.loads(line), sizes))
    except (OSError, KeyError, TypeError, ValueError) as error:
        where = f"{path / CLIPS_FILE}:{len(clips) + 1}"
        raise DataError(f"{where} is damaged: {error}; {_PREPARE_AGAIN}") from error
    if not clips:
        raise DataError(f"{path} holds no clip; {_PREPARE_AGAIN}")
    return clips


def _parse_clip(index: int, row: dict[str, Any], shard_sizes: Mapping[str, int]) -> Clip:
    location = Location(row["shard"], int(row["offset"]), int(row["num_bytes"]))
    end = location.offset + location.num_bytes
    if location.offset < 0 or location.num_bytes < 1 or end > shard_sizes[location.shard]:
        raise ValueError("its bytes lie outside of the shard")
    durations_ms = tuple(int(duration) for duration in row["durations_ms"])
    if not 1 <= len(durations_ms) <= MAX_FRAMES or min(durations_ms) < 1:
        raise ValueError("its durations make no sense")
    if row["split"] not in SPLITS:
        raise ValueError(f"split {row['split']!r} is unknown")
    return Clip(
        index=index,
        id=str(row["id"]),
        split=row["split"],
        concept=str(row["concept"]),
        captions=tuple(str(text) for text in row["captions"]),
        durations_ms=durations_ms,
        native_frames=int(row["native_frames"]),
        motion=float(row["motion"]),
        file=str(row["file"]),
        source=row["source"],
        license=row["license"],
        attribution=row["attribution"],
        attributes=dict(row["attributes"]),
        location=location,
    )
