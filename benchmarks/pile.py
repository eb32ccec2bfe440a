"""How `rdtf data prepare` and the index of a training set grow with the number of stickers.

`python -m benchmarks pile`
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import Table, say
from rdtf.fileio import size_text

_PREPARE = """
import sys
from pathlib import Path
from rdtf.data.prepare import prepare
from rdtf.training.progress import process_peak_bytes
if __name__ == "__main__":
    source, out, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    summary = prepare(source, out, canvas=8, workers=workers, duplicates="near", progress=False)
    print(summary.num_clips, summary.seconds, process_peak_bytes())
"""
_OPEN = """
import sys, time
import numpy as np
from rdtf.training.progress import process_peak_bytes
from rdtf.data.dataset import PreparedDataset
before, started = process_peak_bytes(), time.monotonic()
dataset = PreparedDataset(sys.argv[1])
clips = dataset.clips("train")
indices, edges = dataset.concepts("train")
opened = time.monotonic() - started
draws = np.random.default_rng(0)
started = time.monotonic()
for concept in draws.integers(0, len(edges) - 1, 10_000):
    clip = dataset.clip(int(draws.choice(indices[edges[concept] : edges[concept + 1]])))
drawn = 10_000 / (time.monotonic() - started)
print(len(dataset), opened, process_peak_bytes(), process_peak_bytes() - before, drawn)
"""


@dataclass(frozen=True)
class Pile:
    """Time and memory of preparing tiny stickers in growing numbers, and of opening an index."""

    counts: tuple[int, ...] = (10_000, 30_000, 100_000)
    """Stickers to prepare, of 8 x 8 pixels, from WebDataset shards of 10,000."""
    entries: int = 1_000_000
    """Entries of the index to open."""
    workers: int = 2
    """Processes that decode."""

    def run(self) -> Table:
        rows: list[tuple[str, ...]] = []
        values: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as folder:
            for count in self.counts:
                say(f"preparing {count} stickers")
                source = Path(folder) / f"pile-{count}"
                _write_shards(source, count)
                out = Path(folder) / f"set-{count}"
                _, seconds, peak = _measured(_PREPARE, source, out, self.workers)
                rows.append(_cells(f"prepare {count:,}", count, seconds, peak))
                values |= {f"prepare_{count}_seconds": seconds, f"prepare_{count}_bytes": peak}
            say(f"opening {self.entries} entries")
            data = Path(folder) / "index"
            _write_index(data, self.entries)
            _, seconds, peak, added, drawn = _measured(_OPEN, data)
            rows.append(_cells(f"open {self.entries:,}", self.entries, seconds, peak))
        values |= {"open_seconds": seconds, "open_bytes": peak, "drawn_per_second": drawn}
        return Table(
            f"A pile of stickers of 8 x 8 pixels, {self.workers} workers",
            ("what", "seconds", "a second", "peak memory of the main process"),
            rows,
            values,
            (
                f"opening adds {size_text(added)} to the process",
                f"{drawn:.0f} clips a second are drawn by concept and described",
            ),
        )


def _cells(what: str, count: int, seconds: float, peak: float) -> tuple[str, ...]:
    return what, f"{seconds:.2f}", f"{count / seconds:,.0f}", size_text(peak)


def _measured(program: str, *arguments: object) -> list[float]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return [float(word) for word in done.stdout.split()]


_SHARD = 10_000


def _write_shards(folder: Path, count: int) -> None:
    """WebDataset shards of random pictures, with captions."""
    folder.mkdir()
    for start in range(0, count, _SHARD):
        path = folder / f"{start // _SHARD:04d}.tar"
        _write_shard(path, range(start, min(start + _SHARD, count)))


def _write_shard(path: Path, numbers: range) -> None:
    draws = np.random.default_rng(numbers.start)
    with tarfile.open(path, "w") as archive:
        for number in numbers:
            picture = io.BytesIO()
            pixels = draws.integers(0, 256, (8, 8, 4), np.uint8)
            Image.fromarray(pixels).save(picture, "PNG")
            row = json.dumps({"caption": f"sticker {number}", "concept": f"c{number % 997}"})
            for suffix, data in (("png", picture.getvalue()), ("json", row.encode())):
                member = tarfile.TarInfo(f"{number:07d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def _write_index(folder: Path, count: int) -> None:
    """A training set of `count` clips whose shards are empty, as `prepare` would write it."""
    from rdtf.data.shards import describe_index, index_rows, write_lines
    from rdtf.data.sources import SPLITS
    from rdtf.fileio import write_json

    (folder / "shards").mkdir(parents=True)
    shards, size = [], 1000 * 40_960
    for number in range(-(-count // 1000)):
        file = folder / "shards" / f"train-{number:06d}.tar"
        with file.open("wb") as shard:
            shard.truncate(size)
        about = {"file": f"shards/{file.name}", "num_clips": 1000, "num_bytes": size}
        shards.append(about | {"sha256": "0" * 64})
    rows = (_row(number, shards) for number in range(count))
    write_lines(folder / "clips.jsonl", rows)
    index = index_rows(folder / "clips.jsonl", [shard["file"] for shard in shards], SPLITS)
    np.save(folder / "index.npy", index)
    head = {"canvas": 128, "max_frames": 16, "splits": {}, "skipped": {}, "made": {}}
    write_json(folder / "dataset.json", head | describe_index(folder, 128, shards))


def _row(number: int, shards: list[dict]) -> dict:
    return {
        "id": f"sticker-{number:08d}",
        "split": "train",
        "concept": f"concept {number % 200_003}",
        "captions": [f"a sticker of thing {number} in motion", f"thing {number}"],
        "durations_ms": [60] * (1 + number % 16),
        "num_frames": 1 + number % 16,
        "native_frames": 60,
        "motion": 0.05,
        "statistics": {"entropy": 3.5, "motion": 0.05, "length": 1 + number % 16},
        "pixel_hash": f"{number:064x}",
        "file": f"pile/{number:08d}.webp",
        "source": "pile",
        "license": "CC0-1.0",
        "attribution": None,
        "attributes": {},
        "shard": shards[number // 1000]["file"],
        "offset": 512 + (number % 1000) * 40_960,
        "num_bytes": 30_000,
    }
