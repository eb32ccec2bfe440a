"""Caches of a training set: built once, whole or not at all, found again by their fingerprint.

    OUT/cache/KIND-FINGERPRINT/meta.json     what it was built from
    OUT/cache/KIND-FINGERPRINT/...           the rows

A fingerprint covers the contents of the training set, the encoder and its settings, so a stale
cache is never read. Where the training set can't be written, caches live in the user's own folder
(`$XDG_CACHE_HOME/rdtf`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from PIL import Image

from rdtf.data.dataset import Clip, PreparedDataset, read_clip_frames, user_cache_folder
from rdtf.data.pool import default_workers, ordered_map, track
from rdtf.data.shards import CACHE_FOLDER, RowWriter, open_rows
from rdtf.errors import DataError, UserError
from rdtf.fileio import atomic_folder, ensure_folder, read_json, remove_leftovers, write_json

if TYPE_CHECKING:
    from rdtf.models.representation import Representation
    from rdtf.models.text import TextEncoder

_CACHE_VERSION = 1
_META_FILE = "meta.json"

Cache = TypeVar("Cache")


def _build_once(
    dataset: PreparedDataset,
    kind: str,
    identity: Mapping[str, Any],
    build: Callable[[Path], None],
    open_cache: Callable[[Path], Cache],
) -> Cache:
    """Open the cache of `kind` for `identity`; build it first where it is missing or damaged.

    `build` fills an empty folder. Several processes may ask at once: one builds, the others wait.
    """
    meta = {"kind": kind, "version": _CACHE_VERSION, "dataset": dataset.fingerprint, **identity}
    text = json.dumps(meta, sort_keys=True)
    name = f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    for parent in (dataset.path / CACHE_FOLDER, user_cache_folder()):
        if (cache := _try_open(parent / name, meta, open_cache)) is not None:
            return cache
    parent = _writable_parent(dataset)
    with _locked(parent):
        if (cache := _try_open(parent / name, meta, open_cache)) is not None:
            return cache
        remove_leftovers(parent, name)
        with atomic_folder(parent / name) as folder:
            build(folder)
            write_json(folder / _META_FILE, meta)
        return open_cache(parent / name)


def _try_open(
    folder: Path, meta: Mapping[str, Any], open_cache: Callable[[Path], Cache]
) -> Cache | None:
    if not (folder / _META_FILE).is_file():
        return None
    try:
        return open_cache(folder) if read_json(folder / _META_FILE) == meta else None
    except UserError:  # damaged: it is built again in its place
        return None


def _writable_parent(dataset: PreparedDataset) -> Path:
    try:
        return ensure_folder(dataset.path / CACHE_FOLDER, "cache folder")
    except UserError:
        return ensure_folder(user_cache_folder(), "cache folder")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, where the system has such locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


_FRAMES_FILE = "frames.safetensors"


class PixelCache:
    """Premultiplied frames of a training set, uint8, at `canvas` pixels."""

    def __init__(self, rows: np.ndarray, frame_offsets: np.ndarray) -> None:
        if len(rows) != frame_offsets[-1]:
            raise DataError(f"pixel cache holds {len(rows)} frames, not {frame_offsets[-1]}")
        self.rows = rows
        self._offsets = frame_offsets

    @property
    def canvas(self) -> int:
        return int(self.rows.shape[1])

    def frames(self, index: int) -> np.ndarray:
        """Premultiplied RGBA uint8 [F,S,S,4] of clip `index`; a view into the file."""
        return self.rows[self._offsets[index] : self._offsets[index + 1]]


def ensure_pixels_cache(
    dataset: PreparedDataset,
    canvas: int | None = None,
    *,
    workers: int | None = None,
    progress: bool | None = None,
) -> PixelCache:
    """The pixel cache of `dataset` at `canvas` (its own canvas if None), built if needed.

    Raises:
        DataError: `canvas` is larger than what the training set was prepared at, or it is damaged.
    """
    canvas = _check_canvas(dataset, canvas)

    def build(folder: Path) -> None:
        clips = _iterate_pixels(dataset, canvas, workers=workers, progress=progress)
        with RowWriter(folder / _FRAMES_FILE, (canvas, canvas, 4), "uint8") as writer:
            for frames in clips:
                writer.append(frames)

    def open_cache(folder: Path) -> PixelCache:
        return PixelCache(open_rows(folder / _FRAMES_FILE), dataset.frame_offsets)

    return _build_once(dataset, "pixels", {"canvas": canvas}, build, open_cache)


def _check_canvas(dataset: PreparedDataset, canvas: int | None) -> int:
    canvas = dataset.canvas if canvas is None else canvas
    if not 1 <= canvas <= dataset.canvas:
        raise DataError(
            f"{dataset.path} was prepared at {dataset.canvas} pixels, {canvas} are wanted; "
            f"prepare it again with a canvas of at least {canvas}"
        )
    return canvas


def _iterate_pixels(
    dataset: PreparedDataset,
    canvas: int,
    *,
    workers: int | None = None,
    progress: bool | None = None,
) -> Iterator[np.ndarray]:
    """The frames of each clip in order: premultiplied RGBA uint8 [F,S,S,4]."""
    clips = dataset.clips()
    if workers is None:
        workers = default_workers(len(clips) // 8)  # reading a clip back costs little
    results = ordered_map(
        partial(_load_reduced, address=dataset.address, stored=dataset.canvas, canvas=canvas),
        clips,
        workers=workers,
        failed=_failed,
    )
    return track(results, f"frames at {canvas} pixels", len(clips), show=progress)


def _load_reduced(clip: Clip, address: str, stored: int, canvas: int) -> np.ndarray:
    return reduce_premultiplied(read_clip_frames(address, clip, stored), canvas)


def _failed(clip: Clip, _: str) -> np.ndarray:
    raise DataError(f"the decoder crashed on clip {clip.id}; prepare the training set again")


def reduce_premultiplied(frames: np.ndarray, canvas: int) -> np.ndarray:
    """Straight RGBA uint8 [F,S,S,4] -> premultiplied RGBA uint8 [F,canvas,canvas,4].

    Each pixel is the mean over its area, taken after colour was multiplied with alpha, so that
    hidden colours never bleed into edges. Colour never exceeds alpha.
    """
    return np.stack([_reduce(Image.fromarray(frame), canvas) for frame in frames])


def _reduce(image: Image.Image, canvas: int) -> np.ndarray:
    premultiplied = image.convert("RGBa")
    factor, rest = divmod(image.width, canvas)
    if rest:
        reduced = premultiplied.resize((canvas, canvas), Image.Resampling.BOX)
    else:
        reduced = premultiplied.reduce(factor)  # rounds once
    return np.asarray(reduced)


_MEAN_FILE = "mean.safetensors"
_LOGVAR_FILE = "logvar.safetensors"


class LatentCache:
    """Mean and log variance of the latents of a training set, float16.

    Keeping the variance keeps the noise of the encoder: each epoch can draw another sample.
    """

    def __init__(
        self, mean_rows: np.ndarray, logvar_rows: np.ndarray | None, frame_offsets: np.ndarray
    ) -> None:
        for rows in (mean_rows, logvar_rows):
            if rows is not None and len(rows) != frame_offsets[-1]:
                raise DataError(f"latent cache holds {len(rows)} frames, not {frame_offsets[-1]}")
        self.mean_rows = mean_rows
        self.logvar_rows = logvar_rows
        self._offsets = frame_offsets

    def mean(self, index: int) -> np.ndarray:
        """float16 [F,C,h,w] of clip `index`; a view into the file."""
        return self.mean_rows[self._offsets[index] : self._offsets[index + 1]]

    def logvar(self, index: int) -> np.ndarray | None:
        """As `mean`; None where the representation is deterministic."""
        if self.logvar_rows is None:
            return None
        return self.logvar_rows[self._offsets[index] : self._offsets[index + 1]]


def ensure_latents_cache(
    dataset: PreparedDataset,
    representation: Representation,
    canvas: int | None = None,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool | None = None,
) -> LatentCache:
    """The latent cache of `dataset` at `canvas` (its own if None), built if needed.

    `representation` must be on `device` already; it sees `batch_size` frames at once.
    """
    canvas = _check_canvas(dataset, canvas)

    def build(folder: Path) -> None:
        clips = _iterate_pixels(dataset, canvas, workers=workers, progress=progress)
        _write_latents(folder, representation, _batches(clips, batch_size), device)

    def open_cache(folder: Path) -> LatentCache:
        logvar = folder / _LOGVAR_FILE
        logvar_rows = open_rows(logvar) if logvar.exists() else None
        return LatentCache(open_rows(folder / _MEAN_FILE), logvar_rows, dataset.frame_offsets)

    identity = {"canvas": canvas, "representation": representation.fingerprint}
    return _build_once(dataset, "latents", identity, build, open_cache)


def _batches(clips: Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """Frames of all clips in order, regrouped into batches of `batch_size`."""
    waiting: list[np.ndarray] = []
    for frame in (frame for frames in clips for frame in frames):
        waiting.append(frame)
        if len(waiting) == batch_size:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)


@torch.no_grad()
def _write_latents(
    folder: Path,
    representation: Representation,
    batches: Iterable[np.ndarray],
    device: str | torch.device,
) -> None:
    writers: dict[str, RowWriter] = {}
    try:
        for frames in batches:
            pixels = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
            mean, logvar = representation.encode(pixels)
            for name, values in ((_MEAN_FILE, mean), (_LOGVAR_FILE, logvar)):
                if values is None:
                    continue
                rows = values.half().cpu().numpy()
                if name not in writers:
                    writers[name] = RowWriter(folder / name, rows.shape[1:], "float16")
                writers[name].append(rows)
    finally:
        for writer in writers.values():
            writer.close()


_STATES_FILE = "states.safetensors"
_OFFSETS_FILE = "offsets.safetensors"
_KEYS_FILE = "keys.safetensors"
_ROWS_FILE = "rows.safetensors"


class TextCache:
    """Token states of captions, float16, without padding.

    Captions are found by a 64-bit hash, in a file that is mapped into memory: a table of millions
    of texts would take gigabytes.
    """

    def __init__(
        self, keys: np.ndarray, rows: np.ndarray, states: np.ndarray, offsets: np.ndarray
    ) -> None:
        if not len(offsets) - 1 == len(rows) == len(keys) or offsets[-1] != len(states):
            raise DataError("text cache holds another number of captions than it says")
        self._keys = keys
        self._rows = rows
        self._states = states
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, caption: str) -> bool:
        return self._row(caption) is not None

    def _row(self, caption: str) -> int | None:
        key = _caption_key(caption)
        place = int(np.searchsorted(self._keys, key))
        found = place < len(self._keys) and self._keys[place] == key
        return int(self._rows[place]) if found else None

    @property
    def width(self) -> int:
        return int(self._states.shape[1])

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest caption."""
        return int(np.diff(self._offsets).max())

    def states(self, caption: str) -> np.ndarray:
        """float16 [T,D], a view into the file; T may be 0 for the empty caption "".

        Raises:
            DataError: the training set has no such caption.
        """
        if (row := self._row(caption)) is None:
            raise DataError(f"caption {caption!r} is not in the text cache")
        return self._states[self._offsets[row] : self._offsets[row + 1]]


def ensure_text_cache(
    dataset: PreparedDataset,
    encoder: TextEncoder,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 64,
    progress: bool | None = None,
) -> TextCache:
    """The text cache of `dataset` for `encoder`, built on `device` if needed."""

    def build(folder: Path) -> None:
        encoder.to(device)
        # Captions of like length share a batch, so that little is computed for padding.
        captions = sorted({"", *dataset.captions()}, key=lambda text: (len(text), text))
        starts = range(0, len(captions), batch_size)
        lengths: list[int] = []
        with RowWriter(folder / _STATES_FILE, (encoder.width,), "float16") as writer:
            for start in track(starts, "captions", len(starts), show=progress):
                for tokens in _encode(encoder, captions[start : start + batch_size]):
                    writer.append(tokens)
                    lengths.append(len(tokens))
        with RowWriter(folder / _OFFSETS_FILE, (), "int64") as writer:
            writer.append(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
        keys = np.array([_caption_key(caption) for caption in captions], np.int64)
        for name, values in ((_KEYS_FILE, np.sort(keys)), (_ROWS_FILE, np.argsort(keys))):
            with RowWriter(folder / name, (), "int64") as writer:
                writer.append(values)

    def open_cache(folder: Path) -> TextCache:
        names = (_KEYS_FILE, _ROWS_FILE, _STATES_FILE, _OFFSETS_FILE)
        return TextCache(*(open_rows(folder / name) for name in names))

    identity = {"encoder": encoder.fingerprint, "lookup": "sha256"}
    return _build_once(dataset, "text", identity, build, open_cache)


def _caption_key(caption: str) -> int:
    """int64; two captions share one with a chance of 1 in 2**64."""
    digest = hashlib.sha256(caption.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def _encode(encoder: TextEncoder, captions: list[str]) -> list[np.ndarray]:
    """The states of each caption's own tokens."""
    states, mask = encoder.encode(captions)
    rows = zip(states.half().cpu().numpy(), mask.cpu().numpy(), strict=True)
    return [tokens[used] for tokens, used in rows]
