"""What `rdtf data prepare` and the index of a training set take, on real and on made stickers.

`python -m benchmarks pile --data STICKERS`, or some parts of it: `--parts rates mutated`.

Other work on the machine makes wall time longer; processor time tells what a sticker costs.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import Table, say
from benchmarks.mutations import failed, timed, write_items
from rdtf.errors import UserError
from rdtf.fileio import size_text

_PREPARE = """
import json, sys, time
from rdtf.data.filters import FilterOptions
from rdtf.data.prepare import prepare
if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    started = time.monotonic()
    if options.get("engine") == "ray":  # before the clock of the summary starts
        import ray
        ray.init("local", log_to_driver=False, include_dashboard=False)
    begun = time.monotonic() - started
    summary = prepare(**options, filters=FilterOptions(), duplicates="near", progress=False)
    print(json.dumps(summary.to_dict() | {"start_seconds": begun}))
"""
_STREAM = """
import json, sys, time
from functools import partial
from rdtf.data.decode import ClipOptions, PreparedClip, prepare_item
from rdtf.data.pool import ordered_map
from rdtf.data.sources import collect_synthetic
from rdtf.stickers import DEFAULT_BUDGET
from rdtf.synthetic.characters import SyntheticStickers
if __name__ == "__main__":
    count, workers = int(sys.argv[1]), int(sys.argv[2])
    stickers = SyntheticStickers(0, count, 32, 4)
    options = ClipOptions(32, 4, "piecewise", None, DEFAULT_BUDGET)
    function = partial(prepare_item, options=options, synthetic=stickers)
    results = ordered_map(
        function, collect_synthetic(stickers), workers=workers, failed=lambda item, kind: kind
    )
    started = time.monotonic()
    clips = sum(isinstance(result, PreparedClip) for result in results)
    print(json.dumps({"num_clips": clips, "seconds": time.monotonic() - started}))
"""
_OPEN = """
import json, sys, time
from rdtf.data.dataset import PreparedDataset
from rdtf.training.batches import MixedOrder
from rdtf.training.progress import process_peak_bytes
before, started, computed = process_peak_bytes(), time.monotonic(), time.process_time()
dataset = PreparedDataset(sys.argv[1])
clips = dataset.clips("train")
order = MixedOrder(clips.num_frames, 0.15, 0, clips.concepts)
order[0], order[10]
opened, computed = time.monotonic() - started, time.process_time() - computed
peak = process_peak_bytes()
started = time.monotonic()
for position in range(10_000):
    clip = clips[order[position]]
drawn = 10_000 / (time.monotonic() - started)
values = {"opened": opened, "computed": computed, "peak": peak, "added": peak - before}
print(json.dumps(values | {"drawn": drawn}))
"""
_READ = """
import json, sys, time
import numpy as np
from rdtf.training.config import override
from rdtf.training.loader import open_stores
from rdtf.training.presets import preset
_, store, _ = open_stores(sys.argv[1], override(preset("nano"), {"canvas": int(sys.argv[2])}))
order = np.random.default_rng(0).integers(0, len(store), 6000).tolist()
for reading in range(2):  # first into memory
    started = time.process_time()
    for clip in order:
        store.stored(clip, np.arange(store.num_frames[clip]), False)
        store.durations_ms(clip), store.text(clip, 0.5)
print(json.dumps({"rate": len(order) / (time.process_time() - started)}))
"""

Part = str
PARTS: tuple[Part, ...] = (
    *("rates", "duplicates", "cache", "ray", "mutated", "prepare", "slices", "index"),
)
_Row = tuple[str, str, str]


@dataclass(frozen=True)
class Pile:
    """Rates, memory, and limits of preparing, part by part; each beside its goal."""

    data: Path | None = None
    """Folder of sticker files, at any depth; parts that need it are left out without."""
    parts: tuple[Part, ...] = PARTS
    """Which parts to run."""
    counts: tuple[int, ...] = (10_000, 30_000, 100_000)
    """Synthetic stickers to stream (slices), and tiny pictures to prepare (prepare)."""
    entries: int = 1_000_000
    """Entries of the index to open."""
    files: int = 600
    """Real files to prepare (rates, ray); of Lottie a fifth."""
    mutated: int = 10_000
    """Damaged files to read."""
    workers: int = 2
    """Processes that decode."""

    def run(self) -> Table:
        for part in self.parts:
            if part not in PARTS:
                raise UserError(f"part {part!r} is none of {', '.join(PARTS)}")
        rows: list[_Row] = []
        values: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as folder:
            for part in self.parts:
                say(part)
                for row, found in getattr(self, f"_{part}")(Path(folder)):
                    rows.append(row)
                    values |= found
        load = os.getloadavg()[0]
        return Table(
            f"A pile of stickers, {self.workers} workers; load {load:.1f} at the end",
            ("what", "measured", "goal"),
            rows,
            values,
        )

    # ------------------------------------------------------------------ real stickers

    def _rates(self, folder: Path) -> Iterator[tuple[_Row, dict[str, float]]]:
        for name, kinds, count, goal in (
            ("GIF and WebP", (".gif", ".webp"), self.files, 60),
            ("Lottie", (".tgs", ".json"), self.files // 5, 12),
        ):
            files = self._real(kinds, count)
            if not files:
                continue
            made, usage = _prepared(files, folder / name, workers=self.workers)
            rate, cost = len(files) / made["seconds"], 1000 * usage.seconds / len(files)
            what = f"{name}, {len(files)} files of 16 frames and more, at 128 px"
            text = (
                f"{rate:.0f} a second; {cost:.0f} ms of processor time each; largest process "
                f"{size_text(usage.largest)}, all together {size_text(usage.together)}"
            )
            want = f"≥ {goal} a second on two idle cores ({2000 / goal:.0f} ms), < 1.5 GB"
            found = {"rate": rate, "milliseconds": cost, "bytes": usage.together}
            yield (what, text, want), _named(name.split()[0].lower(), found)

    def _duplicates(self, folder: Path) -> Iterator[tuple[_Row, dict[str, float]]]:
        from benchmarks.duplicates import Duplicates

        values = Duplicates(self.data, edited=5, most=2 * self.files, entries=1000).run().values
        recall, precision = values["all"], values["precision"]
        text = f"recall {recall:.3f}, precision {precision:.3f}"
        found = _named("duplicates", {"recall": recall, "precision": precision})
        yield ("near duplicates, known edits", text, "≥ .98 and ≥ .95"), found

    def _cache(self, folder: Path) -> Iterator[tuple[_Row, dict[str, float]]]:
        from rdtf.data.prepare import prepare
        from rdtf.synthetic.characters import SyntheticStickers

        data = folder / "cached"
        prepare(SyntheticStickers(0, 300), data, canvas=128, workers=self.workers)
        for canvas in (64, 128):
            rate = _measured(_READ, data, canvas)[0]["rate"]
            what = f"cached clips with text read, {canvas} px, at random, one core"
            yield (what, f"{rate:,.0f} a second", "≥ 2,000"), {f"read_{canvas}": rate}

    def _ray(self, folder: Path) -> Iterator[tuple[_Row, dict[str, float]]]:
        files = self._real((".gif", ".webp"), self.files)
        if find_spec("ray") is None or not files:
            yield ("Ray", "not measured: needs ray and --data", "≥ .8 × the pool's rate"), {}
            return
        made = {}
        for engine in ("pool", "ray"):
            made[engine], _ = _prepared(files, folder / engine, workers=self.workers, engine=engine)
        seconds = made["pool"]["seconds"]
        ratio = seconds / made["ray"]["seconds"]
        whole = seconds / (made["ray"]["seconds"] + made["ray"]["start_seconds"])
        equal = made["pool"]["fingerprint"] == made["ray"]["fingerprint"]
        text = (
            f"{ratio:.2f}, with its start {whole:.2f}; manifests {'equal' if equal else 'differ'}"
        )
        want = "≥ .8 × the pool's rate, equal manifests"
        yield (f"Ray, {len(files)} files", text, want), {"ray_ratio": ratio, "ray_equal": equal}

    def _real(self, suffixes: Sequence[str], count: int) -> list[Path]:
        """Animated files of 16 frames and more, spread over all that there are."""
        from rdtf.stickers import probe

        if self.data is None:
            return []
        paths = sorted(p for p in self.data.rglob("*") if p.suffix.lower() in suffixes)
        found = []
        for number in np.random.default_rng(0).permutation(len(paths)):
            if len(found) == count:
                break
            try:
                if probe(paths[number]).num_frames >= 16:
                    found.append(paths[number])
            except UserError:
                continue
        return found

    # ------------------------------------------------------------------ damaged files

    def _mutated(self, folder: Path) -> Iterator[tuple[_Row, dict[str, float]]]:
        from rdtf.data.decode import ClipOptions
        from rdtf.data.filters import FilterOptions
        from rdtf.data.pool import ordered_map
        from rdtf.data.stages import WORKER_MEMORY_BYTES
        from rdtf.stickers import DEFAULT_BUDGET

        options = ClipOptions(128, 16, "piecewise", FilterOptions(), DEFAULT_BUDGET)
        outcomes: Counter[str] = Counter()
        slowest, untyped, usage = 0.0, 0, _Usage(os.getpid())
        results = ordered_map(
            partial(timed, options=options),
            write_items(range(self.mutated), folder),
            workers=self.workers,
            failed=failed,
            seconds=60.0,
            memory_bytes=WORKER_MEMORY_BYTES,
        )
        for number, (kind, reason, seconds) in enumerate(results):
            outcomes[kind] += 1
            slowest = max(slowest, seconds)
            untyped += kind != "prepared" and (not reason or "\n" in reason)
            if number % 50 == 0:
                usage.look()
        crashes = outcomes["crash"] + outcomes["time"]
        kinds = ", ".join(f"{count} {kind}" for kind, count in outcomes.most_common())
        text = (
            f"{kinds}; slowest {slowest:.1f} s, largest process {size_text(usage.largest)}, "
            f"{untyped} without a reason"
        )
        want = "no crash, none over 2 s, no process over 512 MB, every refusal typed"
        found = {"crashes": crashes, "slowest": slowest, "bytes": usage.largest, "untyped": untyped}
        yield (f"{self.mutated:,} mutated files", text, want), _named("mutated", found)

    # ------------------------------------------------------------------ large numbers

    def _prepare(self, folder: Path) -> Iterator[tuple[_Row, dict[str, float]]]:
        for count in self.counts:
            source = folder / f"pile-{count}"
            _write_shards(source, count)
            made, usage = _prepared([source], folder / "tiny", workers=self.workers, canvas=8)
            what = f"{count:,} tiny stickers (8 px) from shards, prepared"
            yield _slice(what, count, made["seconds"], usage, f"prepare_{count}")

    def _slices(self, folder: Path) -> Iterator[tuple[_Row, dict[str, float]]]:
        for count in self.counts:
            made, usage = _measured(_STREAM, count, self.workers)
            what = f"{count:,} synthetic stickers (32 px), streamed, no pixels stored"
            yield _slice(what, made["num_clips"], made["seconds"], usage, f"stream_{count}")

    def _index(self, folder: Path) -> Iterator[tuple[_Row, dict[str, float]]]:
        data = folder / "index"
        _write_index(data, self.entries)
        found, _ = _measured(_OPEN, data)
        text = (
            f"{found['opened']:.2f} s ({found['computed']:.2f} s of processor time), adds "
            f"{size_text(found['added'])} to {size_text(found['peak'] - found['added'])} of torch; "
            f"{found['drawn']:,.0f} clips a second drawn"
        )
        what = f"index of {self.entries:,} opened in training, sampled by concept"
        yield (what, text, "< 2 s, < 300 MB"), _named("index", found)


def _slice(
    what: str, count: int, seconds: float, usage: _Usage, name: str
) -> tuple[_Row, dict[str, float]]:
    text = (
        f"{count / seconds:,.0f} a second, {1000 * usage.seconds / count:.2f} ms of processor time "
        f"each, main process {size_text(usage.first)}, all together {size_text(usage.together)}"
    )
    found = {"seconds": seconds, "processor_seconds": usage.seconds, "bytes": usage.first}
    return (what, text, "memory flat, cost linear"), _named(name, found)


def _named(name: str, values: dict[str, Any]) -> dict[str, float]:
    return {f"{name}_{key}": float(value) for key, value in values.items()}


def _prepared(
    inputs: Sequence[Path], out: Path, canvas: int = 128, **options: Any
) -> tuple[dict[str, Any], _Usage]:
    named = {"inputs": [str(path) for path in inputs], "out": str(out), "canvas": canvas}
    return _measured(_PREPARE, json.dumps(named | options | {"overwrite": True}))


# ------------------------------------------------------------------------ processes


@dataclass
class _Usage:
    """What a process and all below it take, as far as /proc tells; `look` again and again.

    seconds: processor time; first: peak memory of the process itself, largest: of any one,
    together: of all at one time; bytes.
    """

    process: int
    first: int = 0
    largest: int = 0
    together: int = 0
    _ticks: dict[int, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK")

    def look(self) -> None:
        below: dict[int, list[int]] = {}
        ticks: dict[int, int] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            below.setdefault(int(fields[1]), []).append(process := int(path.parent.name))
            ticks[process] = int(fields[11]) + int(fields[12])
        waiting, together = [self.process], 0
        while waiting:
            process = waiting.pop()
            waiting += below.get(process, [])
            self._ticks[process] = max(ticks.get(process, 0), self._ticks.get(process, 0))
            peak, now = _memory(process)
            together += now
            if process == self.process:
                self.first = peak or self.first
            else:
                self.largest = max(self.largest, peak)
        self.together = max(self.together, together)


def _memory(process: int) -> tuple[int, int]:
    """Peak and present resident memory of a process in bytes."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    values = dict(line.split(":", 1) for line in lines)
    peak, now = (1024 * int(values.get(key, "0").split()[0]) for key in ("VmHWM", "VmRSS"))
    return peak, now


def _measured(program: str, *arguments: object) -> tuple[dict[str, Any], _Usage]:
    """The JSON that a program prints at last, and what it took."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed, text=True, env=environment)
        usage = _Usage(process.pid)
        while process.poll() is None:
            usage.look()
            time.sleep(0.1)
        if process.returncode:
            raise UserError(f"a measured program ended with status {process.returncode}")
        printed.seek(0)
        return json.loads(printed.read().splitlines()[-1]), usage


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
