"""Clips as plain arrays: all frames in one memory-mapped file, so that any device can hold them.

    STORE/frames.npy     uint8 [T, S, S, 4] straight RGBA, the frames of all clips one after another
    STORE/clips.json     per clip: start, count, durations_ms, captions, motion, source, concept

Small enough sets (up to some 100,000 frames of 128 px) are held by the training device as a whole:
no loader stands between the data and the network. A `Bundle` (see `rdtf.data.bundle`) is decoded
into one that all runs on a machine share.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rdtf.data.keyframes import without_hidden_colour
from rdtf.data.pool import default_workers
from rdtf.errors import DataError, UserError
from rdtf.fileio import atomic_folder, read_json, write_text

BUNDLE_FORMAT, BUNDLE_VERSION = "rdtf-bundle", 1
MANIFEST_FILE, SIZES_FILE, TEXT_FOLDER = "manifest.json", "frame_bytes.npy", "text"
FRAMES_FILE, CLIPS_FILE = "frames.npy", "clips.json"


@dataclass(frozen=True)
class StoredClip:
    """One clip of a store.

    start, count: its frames; durations_ms: of each; captions: from short to long; motion: what it
    does, "" if nobody said; source: which collection it is from; concept: what it shows (splits go
    by it).
    """

    start: int
    count: int
    durations_ms: tuple[int, ...]
    captions: tuple[str, ...]
    motion: str = ""
    source: str = ""
    concept: str = ""

    @property
    def times_ms(self) -> np.ndarray:
        """Start of each frame, `[F]`."""
        return np.concatenate([[0], np.cumsum(self.durations_ms)[:-1]]).astype(np.float64)

    @property
    def total_ms(self) -> int:
        return int(sum(self.durations_ms))


@dataclass(frozen=True)
class ClipStore:
    """frames: uint8 `[T, S, S, 4]` straight RGBA; clips: what they are."""

    frames: np.ndarray
    clips: tuple[StoredClip, ...]

    @property
    def canvas(self) -> int:
        return int(self.frames.shape[1])

    @classmethod
    def open(cls, folder: Path | str) -> ClipStore:
        """Memory-map a saved store.

        Raises:
            UserError: no store there.
        """
        folder = Path(folder)
        if not (folder / CLIPS_FILE).is_file() or not (folder / FRAMES_FILE).is_file():
            raise UserError(f"{folder} is no clip store: {FRAMES_FILE} and {CLIPS_FILE} are needed")
        # Copy on write: torch wants arrays that it may write to, the file stays as it is.
        frames = np.load(folder / FRAMES_FILE, mmap_mode="c", allow_pickle=False)
        clips = []
        for entry in json.loads((folder / CLIPS_FILE).read_text()):
            entry["durations_ms"] = tuple(entry["durations_ms"])
            entry["captions"] = tuple(entry["captions"])
            clips.append(StoredClip(**entry))
        return cls(frames, tuple(clips))


def write_clips(folder: Path, clips: Iterable[StoredClip]) -> None:
    """clips.json of a store, whole or not at all."""
    write_text(folder / CLIPS_FILE, json.dumps([asdict(clip) for clip in clips]))


# ------------------------------------------------------------------------ bundles

_ID_FILE = "bundle.txt"
_CHUNK = 256  # frames that a worker decodes at once


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are all there, in one folder or in several."""

    manifest: dict[str, Any]
    files: dict[str, Path]

    @property
    def id(self) -> str:
        return manifest_id(self.manifest)

    @property
    def canvas(self) -> int:
        return int(self.manifest["canvas"])

    @property
    def text_folder(self) -> Path:
        return self.files[f"{TEXT_FOLDER}/config.json"].parent

    @classmethod
    def find(cls, folders: Sequence[Path | str]) -> Bundle:
        """Look for all files of one bundle in `folders`; a bundle's own parts are found by it.

        Raises:
            DataError: no bundle, parts of different ones, or files missing or cut off.
        """
        if not folders:
            raise DataError("no bundle is named; give its folder: rdtf train-network KIND BUNDLE …")
        places: list[Path] = []
        for name in folders:
            folder = Path(name)
            parts = sorted(folder.glob(f"part-*/{MANIFEST_FILE}"))
            places += [part.parent for part in parts] or [folder]
        manifests = [_read_manifest(place) for place in places]
        if len({manifest_id(manifest) for manifest in manifests}) != 1:
            raise DataError(f"{', '.join(map(str, places))} are parts of different bundles")
        manifest, files, missing = manifests[0], {}, set()
        for name, about in manifest["files"].items():
            found = [place / name for place in places if (place / name).is_file()]
            if found and found[0].stat().st_size == about["num_bytes"]:
                files[name] = found[0]
            else:
                missing.add(about["part"] or name)
        if missing:
            raise DataError(f"the bundle is incomplete: {', '.join(sorted(missing))} is missing")
        return cls(manifest, files)

    def store(self, folder: Path | str | None = None, workers: int | None = None) -> ClipStore:
        """The clips, decoded once into `folder` (default: `store` beside the manifest).

        Raises:
            DataError: a file is not as it was written.
        """
        folder = self.store_folder(folder)
        known = folder / _ID_FILE
        if not known.is_file() or known.read_text() != self.id:
            if folder.exists() and not known.is_file() and any(folder.iterdir()):
                raise UserError(f"{folder} is taken by something else; name another folder")
            for name, about in self.manifest["files"].items():
                if _sha256(self.files[name]) != about["sha256"]:
                    raise DataError(f"{self.files[name]} has changed; copy the bundle again")
            with atomic_folder(folder) as new:
                self._decode(new, workers)
                (new / CLIPS_FILE).write_bytes(self.files[CLIPS_FILE].read_bytes())
                write_text(new / _ID_FILE, self.id)
        return ClipStore.open(folder)

    def store_folder(self, folder: Path | str | None = None) -> Path:
        return self.files[CLIPS_FILE].parent / "store" if folder is None else Path(folder)

    def _decode(self, folder: Path, workers: int | None) -> None:
        sizes = np.load(self.files[SIZES_FILE], allow_pickle=False).astype(np.int64)
        shape = (len(sizes), self.canvas, self.canvas, 4)
        target = folder / FRAMES_FILE
        np.lib.format.open_memmap(target, "w+", np.uint8, shape).flush()
        jobs = []
        for file in self.manifest["frames"]:
            own = sizes[file["first"] : file["first"] + file["count"]]
            offsets = np.concatenate([[0], np.cumsum(own)])
            for at in range(0, len(own), _CHUNK):
                part = offsets[at : at + _CHUNK + 1]
                jobs.append((self.files[file["name"]], file["first"] + at, part))
        count = default_workers(len(sizes)) if workers is None else workers
        if count == 0:
            for job in jobs:
                _decode_chunk(target, job)
            return
        # The standard library's pool: a rented machine has no other.
        with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
            list(pool.map(partial(_decode_chunk, target), jobs))


def _decode_chunk(target: Path, job: tuple[Path, int, np.ndarray]) -> None:
    """Frames of one stretch of a file, into their rows of the store."""
    path, first, offsets = job
    frames = np.load(target, mmap_mode="r+", allow_pickle=False)
    with path.open("rb") as file:
        for number, (start, end) in enumerate(pairwise(offsets)):
            file.seek(int(start))
            data = file.read(int(end - start))
            try:
                with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
                    pixels = np.asarray(image.convert("RGBA"))
            except OSError as error:
                raise DataError(f"frame {first + number} in {path} is damaged: {error}") from error
            frames[first + number] = without_hidden_colour(pixels)


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not (folder / MANIFEST_FILE).is_file():
        raise DataError(f"{folder} holds no bundle; make one with: rdtf data bundle DATA {folder}")
    manifest = read_json(folder / MANIFEST_FILE, "bundle")
    if manifest.get("format") != BUNDLE_FORMAT or manifest.get("version") != BUNDLE_VERSION:
        raise DataError(f"{folder} holds no bundle of version {BUNDLE_VERSION}")
    return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_id(manifest: dict[str, Any]) -> str:
    """Hex digest that tells bundles apart."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
