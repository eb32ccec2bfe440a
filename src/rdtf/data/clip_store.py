"""Clips as plain arrays: all frames in one memory-mapped file, so that any device can hold them.

    STORE/frames.npy     uint8 [T, S, S, 4] straight RGBA, the frames of all clips one after another
    STORE/clips.json     per clip: start, count, durations_ms, captions, motion, source, concept

Small enough sets (up to some 100,000 frames of 128 px) are held by the training device as a whole:
no loader stands between the data and the network.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rdtf.errors import UserError
from rdtf.fileio import write_text

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

    def save(self, folder: Path | str) -> None:
        """Write the store; clips.json last, so that a half-written store is none."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / FRAMES_FILE, self.frames, allow_pickle=False)
        write_clips(folder, self.clips)

    @classmethod
    def of(cls, clips: Iterable[tuple[np.ndarray, dict]]) -> ClipStore:
        """From pairs of frames `uint8 [F, S, S, 4]` and the other fields of `StoredClip`."""
        frames, stored, start = [], [], 0
        for pixels, about in clips:
            frames.append(pixels)
            stored.append(StoredClip(start=start, count=len(pixels), **about))
            start += len(pixels)
        return cls(np.concatenate(frames), tuple(stored))


def write_clips(folder: Path, clips: Iterable[StoredClip]) -> None:
    """clips.json of a store, whole or not at all."""
    write_text(folder / CLIPS_FILE, json.dumps([asdict(clip) for clip in clips]))
