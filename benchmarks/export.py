"""How long an export takes, all of it: drawing, search, encoding, check, loss.

`python -m benchmarks export --to telegram whatsapp --runs 9`
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import Table, say
from rdtf.stickers import Sticker, read_sticker
from rdtf.stickers.export import Export, export_sticker
from rdtf.synthetic.characters import SyntheticStickers

_SIDE = 512
_AIMS_SECONDS = {"telegram": 3.0, "whatsapp": 2.0}


@dataclass(frozen=True)
class ExportTime:
    """Seconds of an export of 8 frames of 512 x 512: drawn, photographic, and files of yours."""

    to: tuple[str, ...] = ("telegram", "whatsapp")
    """Platforms."""
    files: tuple[Path, ...] = ()
    """Sticker files to take besides, by as many frames."""
    frames: int = 8
    """Frames of each clip."""
    runs: int = 3
    """Exports that count, after one to warm up; the median is told."""

    def run(self) -> Table:
        clips = {"drawn": _drawn(self.frames), "photographic": _photographic(self.frames)}
        clips |= {path.stem: _shortened(path, self.frames) for path in self.files}
        rows, values = [], {}
        for name, clip in clips.items():
            for platform in self.to:
                say(f"{name} to {platform}")
                export, elapsed, spent = _timed(clip, platform, self.runs)
                rows.append(_row(name, platform, export, elapsed, spent))
                values[f"{name} {platform}"] = {
                    "seconds": elapsed,
                    "processor_seconds": spent,
                    "num_bytes": export.report.num_bytes,
                    "psnr_white_db": export.report.loss.psnr_white_db,
                    "tries": export.report.tries,
                }
        return Table(
            f"Export of {self.frames} frames of {_SIDE} x {_SIDE}, median of {self.runs}",
            ("clip", "to", "s", "s of processors", "aim, s", "kB", "settings", "loss"),
            rows,
            values,
            ["s is what passes on this machine as it is; others' work makes it longer."],
        )


def _timed(clip: Sticker, to: str, runs: int) -> tuple[Export, list[float], list[float]]:
    """The export, and of each run what passed and what all threads together worked."""
    export, elapsed, spent = export_sticker(clip, to), [], []
    for _ in range(runs):
        start, worked = time.perf_counter(), time.process_time()
        export = export_sticker(clip, to)
        elapsed.append(time.perf_counter() - start)
        spent.append(time.process_time() - worked)
    return export, elapsed, spent


def _row(
    name: str, to: str, export: Export, elapsed: list[float], spent: list[float]
) -> tuple[str, ...]:
    report, aim = export.report, _AIMS_SECONDS.get(to)
    return (
        name,
        to,
        f"{statistics.median(elapsed):.2f}",
        f"{statistics.median(spent):.2f}",
        "" if aim is None else f"< {aim:g}",
        f"{report.num_bytes / 1000:.0f}",
        report.settings,
        str(report.loss),
    )


def _drawn(num_frames: int) -> Sticker:
    """The first synthetic sticker that has so many frames."""
    stickers = SyntheticStickers(seed=5, canvas=_SIDE, max_frames=num_frames)
    for index in range(1000):
        if len(stickers.describe(index).durations_ms) == num_frames:
            return stickers[index]
    raise ValueError(f"there are no synthetic stickers of {num_frames} frames")


def _photographic(num_frames: int) -> Sticker:
    """The same with shading and grain that differs from frame to frame: hard to make small."""
    clip, random = _drawn(num_frames), np.random.default_rng(0)
    shade = np.linspace(0.75, 1.1, _SIDE)[:, None, None]
    grain = random.normal(0, 5, (num_frames, _SIDE, _SIDE, 1))
    frames = clip.frames.copy()
    frames[..., :3] = (frames[..., :3] * shade + grain).clip(0, 255)
    return clip.replace(frames=frames)


def _shortened(path: Path, num_frames: int) -> Sticker:
    """Frames of a file, evenly chosen, an eighth of a second each."""
    clip = read_sticker(path, lottie_size=_SIDE)
    chosen = np.linspace(0, clip.num_frames - 1, num_frames).round().astype(int)
    return clip.select(chosen).with_durations(np.full(num_frames, 125))
