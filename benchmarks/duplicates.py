"""Near duplicates: how many copies are found, what is taken for one, and how fast.

`python -m benchmarks duplicates --data FOLDER --edited 20 --sheet pairs.png`
"""

from __future__ import annotations

import io
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import Table, say
from rdtf.data.duplicates import FINGERPRINT_BYTES, clusters, fingerprint
from rdtf.data.filters import FilterOptions, check, thumbnails
from rdtf.data.keyframes import candidate_frames, choose_key_frames
from rdtf.errors import UserError
from rdtf.stickers import (
    SUPPORTED_SUFFIXES,
    LottieFile,
    Sticker,
    read_sticker,
    write_sheet,
)
from rdtf.stickers.canvas import on_background
from rdtf.synthetic.characters import SyntheticStickers

_SIDE, _FRAMES, _CANDIDATES = 128, 16, 48


@dataclass(frozen=True)
class Duplicates:
    """Copies made by known edits among real stickers: recall, precision, and the rate."""

    data: Path | None = None
    """Folder of sticker files, at any depth; synthetic stickers if none is named."""
    edited: int = 10
    """Of how many stickers one is edited."""
    most: int | None = None
    """Take every n-th sticker, so that there are at most so many."""
    entries: int = 100_000
    """Fingerprints of the timed search; a tenth of them are copies."""
    sheet: Path | None = None
    """Write pairs of different files that are taken for copies to this PNG, to judge them."""

    def run(self) -> Table:
        names, prints, origins = self._read()
        found = np.array(clusters(prints))
        rows, values = _judge(np.array(names), np.array(origins), found)
        seconds = _seconds_a_clip()
        say(f"searching {self.entries} fingerprints")
        many = _spread(prints, self.entries)
        started = time.process_time()
        clusters(many)
        searched = time.process_time() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        if self.sheet is not None:
            self._write_pairs(found, names, origins)
        timing = {f"{name}_ms": 1000 * value for name, value in seconds.items()}
        return Table(
            f"Near duplicates: {names.count('original')} stickers, one of {self.edited} edited",
            ("edit", "copies", "found"),
            rows,
            {**values, **timing, "search_seconds": searched, "peak_gib": peak},
            (
                f"precision {values['precision']:.4f}",
                f"{values['merged']} stickers taken for copies of other files",
                *(
                    f"{name}: {1000 * value:.2f} ms of processor time a clip"
                    for name, value in seconds.items()
                ),
                f"{self.entries} fingerprints searched in {searched:.1f} s of processor time",
                f"peak memory {peak:.2f} GiB",
            ),
        )

    def _stickers(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Name, frames [F,128,128,4] and durations of each; what can't be read is left out."""
        if self.data is None:
            stickers = SyntheticStickers(0, self.most or 200, _SIDE, _FRAMES)
            for index in range(len(stickers)):
                yield str(index), stickers[index].frames, stickers[index].durations_ms
            return
        paths = sorted(p for p in self.data.rglob("*") if p.suffix.lower() in SUPPORTED_SUFFIXES)
        for path in paths[:: -(-len(paths) // (self.most or len(paths)))]:
            try:
                yield str(path), *_read(path)
            except UserError:
                continue

    def _read(self) -> tuple[list[str], list[bytes], list[str]]:
        """Edit, fingerprint and file of each sticker and of each copy."""
        say("reading and editing stickers")
        names, prints, origins = [], [], []
        for number, (path, frames, durations_ms) in enumerate(self._stickers()):
            made = [("original", frames, durations_ms)]
            if number % self.edited == 0:
                made += edits(frames, durations_ms, np.random.default_rng(number))
            for name, copy, shown_ms in made:
                names.append(name)
                prints.append(_fingerprint(copy, shown_ms))
                origins.append(path)
        return names, prints, origins

    def _write_pairs(self, found: np.ndarray, names: list[str], origins: list[str]) -> None:
        original = np.array(names) == "original"
        pairs = [
            (first, other)
            for other, first in enumerate(found)
            if first != other and original[first] and original[other]
        ]
        frames = {path: frames[0] for path, frames, _ in self._stickers()}
        chosen = np.random.default_rng(0).permutation(len(pairs))[:200]
        shown = [frames[origins[side]] for pair in chosen for side in pairs[pair]]
        assert self.sheet is not None
        if shown:
            write_sheet(
                [shown[at : at + 16] for at in range(0, len(shown), 16)], self.sheet, cell=64
            )


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if path.suffix.lower() in (".tgs", ".json"):
        file = LottieFile(path.read_bytes(), str(path))
        chosen, durations_ms = candidate_frames(file.info.durations_ms, _CANDIDATES)
        return np.stack([file.render(int(index), _SIDE) for index in chosen]), durations_ms
    sticker = read_sticker(path)
    chosen, durations_ms = candidate_frames(sticker.durations_ms, _CANDIDATES)
    return sticker.select(chosen).fit_canvas(_SIDE).frames, durations_ms


def _fingerprint(frames: np.ndarray, durations_ms: np.ndarray) -> bytes:
    """As in preparing: of the key frames."""
    small = thumbnails(frames)
    keys = choose_key_frames(small.reshape(len(small), -1), durations_ms, _FRAMES)
    return fingerprint(frames, small[keys.indices])


def _judge(
    names: np.ndarray, origins: np.ndarray, found: np.ndarray
) -> tuple[list[tuple[str, str, str]], dict[str, object]]:
    """Rows and values: the share of each edit's copies that are with their original."""
    original = names == "original"
    home = dict(zip(origins[original], found[original], strict=True))
    with_original = np.array([home[origin] for origin in origins]) == found
    rows, recall = [], {}
    for name in dict.fromkeys(names[~original]):
        share = float(with_original[names == name].mean())
        recall[str(name)] = share
        rows.append((str(name), str((names == name).sum()), f"{share:.4f}"))
    copies = ~original & ~np.char.startswith(names, RECOLOUR)
    all_found = float(with_original[copies].mean())
    rows.append(("all copies", str(copies.sum()), f"{all_found:.4f}"))
    joined = found != np.arange(len(found))
    right = (origins == origins[found]) & ~np.char.startswith(names, RECOLOUR)
    values = {
        "recall": recall,
        "all": all_found,
        "precision": float(right[joined].mean()),
        "merged": int((joined & original & original[found]).sum()),
    }
    return rows, values


def _seconds_a_clip() -> dict[str, float]:
    """Processor time of the filters and the fingerprint, 16 frames of 128 pixels."""
    stickers = SyntheticStickers(0, 400, _SIDE, _FRAMES)
    clips = [sticker for sticker in map(stickers.__getitem__, range(30)) if sticker.num_frames > 12]
    options = FilterOptions()
    started = time.process_time()
    for _ in range(5):
        for clip in clips:
            small = thumbnails(clip.frames)
            check(clip.frames, list(clip.durations_ms), options, small)
            fingerprint(clip.frames, small)
    return {"filters and fingerprint": (time.process_time() - started) / (5 * len(clips))}


def _spread(fingerprints: Sequence[bytes], entries: int) -> np.ndarray:
    """Many fingerprints like the real ones: mixtures of two each, and a copy of every tenth."""
    prints = np.frombuffer(b"".join(fingerprints), np.uint8).reshape(-1, FINGERPRINT_BYTES)
    draws = np.random.default_rng(0)
    made = np.empty((entries, FINGERPRINT_BYTES), np.uint8)
    for start in range(0, entries, 10_000):
        count = min(10_000, entries - start)
        one, other = prints[draws.integers(0, len(prints), (2, count))].astype(np.float32)
        share = draws.uniform(0, 1, (count, 1)).astype(np.float32)
        mixed = one + share * (other - one) + draws.normal(0, 1, one.shape)
        mixed[9::10] = mixed[8::10][: len(mixed[9::10])]
        made[start : start + count] = np.rint(mixed).clip(0, 255)
    return draws.permutation(made)


# ------------------------------------------------------------------------- edits

RECOLOUR = "recolour"
Edited = tuple[str, np.ndarray, np.ndarray]


def edits(
    frames: np.ndarray, durations_ms: np.ndarray, draws: np.random.Generator
) -> Iterator[Edited]:
    """Copies of a clip and two recolours: name, frames and durations of each."""
    for name, copy in _edited(frames):
        yield name, copy, durations_ms
    for degrees in (40, 120):
        turned = np.stack([_turned_hue(frame, degrees) for frame in frames])
        if np.abs(turned.astype(int) - frames).mean() > 1:  # grey has no hue
            yield f"{RECOLOUR} by {degrees}°", turned, durations_ms
    if len(frames) > 1:
        factors = draws.uniform(0.5, 2, len(frames))
        yield "re-timed", frames, np.maximum(durations_ms * factors, 1).astype(np.int64)
        yield "reversed", frames[::-1], durations_ms[::-1]
        yield "reversed, GIF", in_palette(frames[::-1]), durations_ms[::-1]
    if len(frames) >= 24:
        half = frames[::2]
        yield "half the frames", half, np.full(len(half), 80)


def _edited(frames: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    white = on_background(frames, (255, 255, 255))
    yield "JPEG, quality 40, on white", coded(white, "JPEG", quality=40)
    yield "WebP, quality 30", coded(frames, "WEBP", quality=30, method=0)
    yield "GIF, 64 colours", in_palette(frames)
    yield "64 pixels", scaled(frames, 64)
    yield "45 pixels", scaled(frames, 45)
    yield "mirrored", frames[:, :, ::-1]
    small = scaled(frames[:, :, ::-1], 77)
    yield "mirrored, 77 pixels, WebP", coded(small, "WEBP", quality=50, method=0)


def coded(frames: np.ndarray, kind: str, **options: int) -> np.ndarray:
    """Every frame through a lossy codec of Pillow's; JPEG knows no alpha."""
    made = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, kind, **options)
        made.append(np.asarray(Image.open(buffer).convert("RGBA")))
    return np.stack(made)


def in_palette(frames: np.ndarray, colors: int = 64) -> np.ndarray:
    """As a GIF has it: few colours, dithered, and alpha of one bit."""
    made = []
    for frame in frames:
        picture = Image.fromarray(frame[..., :3]).quantize(colors).convert("RGB")
        visible = frame[..., 3:] > 127
        made.append(
            np.dstack([np.asarray(picture), np.full_like(visible, 255, np.uint8)]) * visible
        )
    return np.stack(made)


def scaled(frames: np.ndarray, side: int) -> np.ndarray:
    return Sticker(frames, np.full(len(frames), 100)).fit_canvas(side).frames


def _turned_hue(frame: np.ndarray, degrees: int) -> np.ndarray:
    turned = np.array(Image.fromarray(frame[..., :3]).convert("HSV"))
    turned[..., 0] += np.uint8(round(degrees / 360 * 256))
    picture = Image.fromarray(turned, "HSV").convert("RGB")
    return np.dstack([np.asarray(picture), frame[..., 3]])
