"""Prepare a training set: any stickers in, one folder out, the same for the same input.

Stages: list → decode → filter → dedupe → captions → shards. Each one is done in slices or as a
whole, and noted in a work folder beside the output (`rdtf.data.work`): a run that was stopped or
killed goes on where it was when the same command is given again, and ends with the same bytes. What
the output holds is described in `rdtf.data.shards`.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rdtf import __version__
from rdtf.data.decode import ClipOptions, PreparedClip, prepare_item
from rdtf.data.duplicates import FINGERPRINT_BYTES, clusters
from rdtf.data.filters import FilterOptions
from rdtf.data.keyframes import MAX_CANVAS, MAX_FRAMES, METHODS, Method
from rdtf.data.listing import list_inputs
from rdtf.data.pool import ENGINES, Engine, ordered_map, processors, track
from rdtf.data.shards import (
    CLIPS_FILE,
    DATASET_FORMAT,
    DATASET_NAMES,
    DATASET_VERSION,
    HEAD_FILE,
    INDEX_FILE,
    MAX_SHARD_BYTES,
    MAX_SHARD_CLIPS,
    SKIPPED_FILE,
    content_fingerprint,
    index_rows,
    is_dataset,
    write_lines,
    write_shard,
)
from rdtf.data.sources import SPLITS, Skipped, SourceItem, collect_synthetic, split_concepts
from rdtf.data.work import Work
from rdtf.errors import ConfigError, UserError
from rdtf.fileio import atomic_path, ensure_folder, publish_folder, read_json, write_json
from rdtf.stickers import DEFAULT_BUDGET, Budget

if TYPE_CHECKING:
    from rdtf.synthetic.characters import SyntheticStickers

Duplicates = Literal["near", "exact", "keep"]
DUPLICATES: tuple[Duplicates, ...] = ("near", "exact", "keep")
STAGES = ("list", "decode", "filter", "dedupe")

# Measured: the largest sticker within the default budget needs 2.6 GB of address space.
_WORKER_MEMORY_BYTES = 4 * 2**30
_ITEM_SECONDS = 60.0
_SLICE_CLIPS = 256
_SLICE_BYTES = 32 * 2**20
_SLICE_SECONDS = 10.0


@dataclass(frozen=True)
class PrepareSummary:
    """What was prepared: counts, the content fingerprint and the seconds that it took.

    `splits` maps a split to its number of clips, `skipped` a kind of reason to its count,
    `not_drawn` a part of Lottie files that is not drawn to the number of clips that lack it,
    `stages` has a row per stage: its name, how many items came in and out, and reasons.
    """

    path: Path
    num_clips: int
    num_animated: int
    num_frames: int
    num_captions: int
    num_bytes: int
    splits: dict[str, int]
    skipped: dict[str, int]
    fingerprint: str
    seconds: float
    not_drawn: dict[str, int]
    stages: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


def prepare(
    inputs: Path | str | Sequence[Path | str] | SyntheticStickers,
    out: Path | str,
    *,
    canvas: int = 256,
    max_frames: int = 16,
    keyframe_method: Method = "piecewise",
    val_fraction: float = 0.1,
    filters: FilterOptions | None = None,
    duplicates: Duplicates = "exact",
    sprite: tuple[int, int] | None = None,
    seed: int = 0,
    workers: int | None = None,
    engine: Engine = "pool",
    overwrite: bool = False,
    budget: Budget = DEFAULT_BUDGET,
    progress: bool | None = None,
) -> PrepareSummary:
    """Turn stickers into a training set in the folder `out`, which appears whole or not at all.

    Files that can't be used are skipped and counted, never fatal. The result depends on the input
    and the options only, not on `workers`, the engine, or how often it was interrupted.

    Args:
        inputs: folders (searched to the bottom), archives, tables of captions or files, or a
            synthetic generator (which draws at `canvas`, whatever its own is).
        out: folder to make; an existing training set is replaced only with `overwrite`. Unfinished
            work is in `OUT.work` beside it.
        canvas: side in pixels that stickers are letterboxed to.
        max_frames: most key frames of a clip.
        keyframe_method: "piecewise" (best approximation) or "equal" (evenly in time).
        val_fraction: share of concepts for validation.
        filters: what is worth training on; None: all but clips that show nothing.
        duplicates: of clips that look alike keep the first ("near"), of clips whose pixels are
            equal ("exact"), or keep all ("keep").
        sprite: width and height in pixels of a frame: stills that are sheets of such frames are
            clips.
        seed: settles the split and the order of clips in the shards.
        workers: processes; None is one per processor. 0 works in this process, where a file that
            crashes or hangs its decoder ends or stops everything.
        engine: "pool" (processes of this machine) or "ray" (a Ray cluster, see RAY_ADDRESS).
        budget: limits for a single file.
        progress: draw a bar; None: if stderr is a terminal, else a line a minute.

    Raises:
        UserError: an option or input makes no sense, nothing usable is in it, or `out` is taken.
    """
    started = time.monotonic()
    out = Path(out)
    options = _check_options(canvas, max_frames, keyframe_method, filters, budget)
    split_concepts((), val_fraction, seed)  # refuses a fraction that makes no sense
    for name, value, known in (("duplicates", duplicates, DUPLICATES), ("engine", engine, ENGINES)):
        if value not in known:
            raise ConfigError(f"{name} is {value!r}; use one of {known}")
    if workers is not None and workers < 0:
        raise ConfigError(f"workers is {workers}; it must be 0 (this process) or more")
    source = _Source.of(inputs, canvas)
    made = {
        "inputs": source.names,
        "keyframe_method": keyframe_method,
        "val_fraction": val_fraction,
        "filters": None if filters is None else asdict(filters),
        "duplicates": duplicates,
        "sprite": sprite,
        "seed": seed,
    }
    identity = {"options": asdict(options), "made": made, "version": __version__}
    work_folder = out.with_name(f"{out.name}.work")
    if not work_folder.exists():
        _check_output(out, overwrite)
    with Work(work_folder, identity, replace=overwrite) as work:
        try:
            run = _Run(work, source, options, made, progress)
            if not run.is_published(out):
                _check_output(out, overwrite)
                run.list(sprite)
                run.make_clips(processors() if workers is None else workers, engine)
                run.drop_duplicates()
                run.write_set(work_folder / "set")
                publish_folder(work_folder / "set", out)
        except UserError:
            if not work.count("SELECT count(*) FROM clips"):  # there is nothing to go on with
                work.delete()
            raise
        except OSError as error:
            raise UserError(f"output {out} can't be written: {error.strerror or error}") from error
        work.delete()
    head = read_json(out / HEAD_FILE)
    return _summary(Path(out), head, time.monotonic() - started)


@dataclass(frozen=True)
class _Source:
    """All that is to be prepared."""

    names: list[str]
    paths: list[Path]
    synthetic: SyntheticStickers | None = None

    @classmethod
    def of(cls, inputs: Any, canvas: int) -> _Source:
        from rdtf.synthetic.characters import SyntheticStickers

        if isinstance(inputs, SyntheticStickers):
            drawn = SyntheticStickers(inputs.seed, inputs.count, canvas, inputs.max_frames)
            name = f"{drawn.count} synthetic stickers of seed {drawn.seed}"
            return cls([name], [], drawn)
        paths = [Path(name) for name in ([inputs] if isinstance(inputs, str | Path) else inputs)]
        return cls([str(path) for path in paths], paths)


@dataclass(frozen=True)
class _Run:
    """The stages of one preparation; each does nothing if the work folder says that it is done."""

    work: Work
    source: _Source
    options: ClipOptions
    made: dict[str, Any]
    progress: bool | None

    def is_published(self, out: Path) -> bool:
        """Whether the set is in its place already: the run was killed while it cleaned up."""
        made = self.work.done("set")
        return made is not None and is_dataset(out) and (
            read_json(out / HEAD_FILE).get("fingerprint") == made
        )

    def list(self, sprite: tuple[int, int] | None) -> None:
        """Find the items and settle their order."""
        if self.work.done("list") is not None:
            return
        with self.work.transaction():
            if self.source.synthetic is not None:
                for item in collect_synthetic(self.source.synthetic):
                    self.work.add_item(item)
                found = self.work.number_items()
            else:
                found = list_inputs(self.source.paths, self.work, sprite)
            self.work.mark("list", str(found))

    # ------------------------------------------------------------------ decode and filter

    def make_clips(self, workers: int, engine: Engine) -> None:
        """Decode, filter, choose key frames and measure, in slices of items."""
        if self.work.done("clips") is not None:
            return
        total = int(self.work.done("list") or 0)
        start = int(self.work.done("next item") or 0)
        results = ordered_map(
            partial(prepare_item, options=self.options, synthetic=self.source.synthetic),
            self.work.items(start),
            workers=min(workers, max(total - start, 1)),
            failed=_failed,
            seconds=_ITEM_SECONDS,
            memory_bytes=_WORKER_MEMORY_BYTES,
            engine=engine,
        )
        shown = track(results, "preparing", total, done=start, show=self.progress)
        for number, group in _slices(shown, start):
            with self.work.transaction():
                self._keep_slice(number, group)
                self.work.mark("next item", str(number + len(group)))
        if not self.work.count("SELECT count(*) FROM clips"):
            raise UserError(_nothing_usable(list(self.work.skipped(STAGES))))
        self.work.mark("clips")

    def _keep_slice(self, start: int, results: Sequence[PreparedClip | Skipped]) -> None:
        rows, pixels, offset = [], [], 0
        for n, result in enumerate(results, start):
            if isinstance(result, Skipped):
                self.work.skip(result, n)
                continue
            item, size = result.item, len(result.pixels)
            shuffle = hashlib.sha256(f"{self.made['seed']}:{item.file}".encode()).hexdigest()
            about = (item.file, item.concept, result.pixel_hash, result.fingerprint, shuffle)
            rows.append((n, *about, start, offset, size, json.dumps(_row(result))))
            pixels.append(result.pixels)
            offset += size
        self.work.add_slice(start, pixels, rows)

    # ------------------------------------------------------------------ dedupe

    def drop_duplicates(self) -> None:
        """Keep the first of clips that are alike; settle the split of the rest."""
        if self.work.done("dedupe") is not None:
            return
        with self.work.transaction():
            if self.made["duplicates"] != "keep":
                self._drop_exact()
            if self.made["duplicates"] == "near":
                self._drop_near()
            names = [name for (name,) in self.work.run("SELECT DISTINCT concept FROM clips")]
            sides = split_concepts(names, self.made["val_fraction"], self.made["seed"])
            self.work.run("CREATE TEMP TABLE sides (concept TEXT PRIMARY KEY, split TEXT)")
            self.work.run_many("INSERT INTO sides VALUES (?, ?)", sides.items())
            self.work.run(
                "UPDATE clips SET split = (SELECT split FROM sides s WHERE s.concept = clips.concept)"
            )
            self.work.run("DROP TABLE sides")
            self.work.run("CREATE INDEX IF NOT EXISTS shuffled ON clips (split, shuffle)")
            self.work.mark("dedupe")

    def _drop_exact(self) -> None:
        self.work.run("CREATE INDEX IF NOT EXISTS by_pixels ON clips (pixel_hash, n)")
        self.work.run(
            "INSERT INTO skipped SELECT 'dedupe', c.n, c.file, 'duplicate', "
            "'its pixels equal those of ' || first.file FROM clips c JOIN clips first ON first.n = "
            "(SELECT min(n) FROM clips o WHERE o.pixel_hash = c.pixel_hash) WHERE first.n < c.n"
        )
        self._forget_dropped()

    def _drop_near(self) -> None:
        """Fingerprints go through a file: half a gigabyte for a million clips."""
        assert self.work.folder is not None
        numbers = np.array([n for (n,) in self.work.run("SELECT n FROM clips ORDER BY n")])
        path = self.work.folder / "fingerprints"
        with path.open("wb") as file:
            rows = self.work.run("SELECT fingerprint FROM clips ORDER BY n")
            file.writelines(print for (print,) in rows)
        if not len(numbers):
            return
        prints = np.memmap(path, np.uint8, "r", shape=(len(numbers), FINGERPRINT_BYTES))
        first_of = np.asarray(clusters(prints))
        copies = np.flatnonzero(first_of != np.arange(len(numbers)))
        self.work.run_many(
            "INSERT INTO skipped SELECT 'dedupe', c.n, c.file, 'near duplicate', "
            "'it looks like ' || first.file FROM clips c, clips first "
            "WHERE c.n = ? AND first.n = ?",
            zip(numbers[copies].tolist(), numbers[first_of[copies]].tolist(), strict=True),
        )
        self._forget_dropped()

    def _forget_dropped(self) -> None:
        self.work.run(
            "DELETE FROM clips WHERE n IN (SELECT n FROM skipped WHERE stage = 'dedupe')"
        )

    # ------------------------------------------------------------------ shards

    def write_set(self, folder: Path) -> None:
        """Everything that the output holds, into `folder`; finished shards stay as they are."""
        if self.work.done("set") is not None:
            return
        rows_folder = ensure_folder(folder.with_name("rows"))
        ensure_folder(folder)
        for split in SPLITS:
            self._write_shards(folder, rows_folder, split)
        found = self.work.run("SELECT info FROM shards ORDER BY n")
        shards = [json.loads(info) for (info,) in found]
        with (folder / CLIPS_FILE).open("wb") as clips:
            for shard in shards:
                clips.write((rows_folder / f"{Path(shard['file']).stem}.jsonl").read_bytes())
        write_lines(
            folder / SKIPPED_FILE, (asdict(row) for row in self.work.skipped(STAGES))
        )
        index = index_rows(folder / CLIPS_FILE, [shard["file"] for shard in shards], SPLITS)
        np.save(folder / INDEX_FILE, index, allow_pickle=False)
        head = self._describe(folder, shards)
        write_json(folder / HEAD_FILE, head)
        self.work.mark("set", head["fingerprint"])

    def _write_shards(self, folder: Path, rows_folder: Path, split: str) -> None:
        """The clips are shuffled once, because who streams shards sees neighbours together."""
        sql = (
            "SELECT count(*), coalesce(sum(json_extract(info, '$.num_clips')), 0) "
            "FROM shards WHERE split = ?"
        )
        number, done = self.work.run(sql, (split,)).fetchone()
        for group in _shard_groups(self._shuffled(split, done)):
            name = f"{split}-{number:06d}"
            clips = ((row["id"], self.work.read_pixels(*place), row) for row, place in group)
            info, locations = write_shard(folder, name, clips)
            with atomic_path(rows_folder / f"{name}.jsonl") as path:
                pairs = zip(group, locations, strict=True)
                write_lines(path, (row | asdict(location) for (row, _), location in pairs))
            with self.work.transaction():
                values = (split, json.dumps(asdict(info)))
                self.work.run("INSERT INTO shards (split, info) VALUES (?, ?)", values)
            number += 1

    def _shuffled(self, split: str, start: int) -> Iterator[_Placed]:
        """Row and place in the work folder of each clip of a split, from number `start` on."""
        found = self.work.run(
            "SELECT row, slice, offset, num_bytes FROM clips WHERE split = ? "
            "ORDER BY shuffle LIMIT -1 OFFSET ?",
            (split, start),
        )
        for row, *place in found:
            about = json.loads(row)
            yield {"id": about.pop("id"), "split": split, **about}, tuple(place)

    # ------------------------------------------------------------------ dataset.json

    def _describe(self, folder: Path, shards: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The contents of dataset.json."""
        hashes = [shard["sha256"] for shard in shards]
        counts = {split: Counter[str]() for split in SPLITS}
        concepts: dict[str, set[str]] = {split: set() for split in SPLITS}
        not_drawn: Counter[str] = Counter()
        with (folder / CLIPS_FILE).open("rb") as lines:
            for row in map(json.loads, lines):
                concepts[row["split"]].add(row["concept"])
                counts[row["split"]].update(
                    num_clips=1,
                    num_animated=row["num_frames"] > 1,
                    num_frames=row["num_frames"],
                    num_captions=len(row["captions"]),
                )
                not_drawn.update(row["attributes"].get("not_drawn", ()))
        names = ("num_clips", "num_animated", "num_frames", "num_captions")
        by_split = {
            split: {name: counts[split][name] for name in names}
            | {"num_concepts": len(concepts[split])}
            for split in SPLITS
        }
        skipped = self.work.run("SELECT kind, count(*) FROM skipped GROUP BY 1 ORDER BY 2 DESC, 1")
        with (folder / INDEX_FILE).open("rb") as file:
            index_hash = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "format": DATASET_FORMAT,
            "version": DATASET_VERSION,
            "fingerprint": content_fingerprint(self.options.canvas, folder / CLIPS_FILE, hashes),
            "canvas": self.options.canvas,
            "max_frames": self.options.max_frames,
            **{name: sum(by_split[split][name] for split in SPLITS) for name in by_split["val"]},
            "splits": by_split,
            "skipped": dict(skipped),
            "stages": self._stages(),
            "not_drawn": dict(not_drawn),
            "shards": list(shards),
            "index_sha256": index_hash,
            "made": self.made | {"rdtf_version": __version__},
        }

    def _stages(self) -> list[dict[str, Any]]:
        """How many items came into and out of each stage, and why the others did not."""
        left = int(self.work.done("list") or 0)
        rows = []
        for stage in STAGES:
            sql = "SELECT kind, count(*) FROM skipped WHERE stage = ? GROUP BY 1 ORDER BY 2 DESC, 1"
            dropped = dict(self.work.run(sql, (stage,)))
            # What can't be listed has not become an item.
            came = left + sum(dropped.values()) if stage == "list" else left
            left = came - sum(dropped.values())
            rows.append({"stage": stage, "in": came, "out": left, "dropped": dropped})
        return rows


_Placed = tuple[dict[str, Any], tuple[int, int, int]]


def _failed(item: SourceItem, kind: str) -> Skipped:
    reasons = {
        "crash": "the decoder crashed on it",
        "time": f"decoding it takes longer than {_ITEM_SECONDS:.0f} s",
    }
    return Skipped(item.file, kind, reasons[kind])


def _slices(
    results: Iterable[PreparedClip | Skipped], start: int
) -> Iterator[tuple[int, list[PreparedClip | Skipped]]]:
    """Consecutive results, as many as are worth a transaction, and the number of the first."""
    group: list[PreparedClip | Skipped] = []
    size, began = 0, time.monotonic()
    for result in results:
        group.append(result)
        size += len(result.pixels) if isinstance(result, PreparedClip) else 0
        full = len(group) >= _SLICE_CLIPS or size >= _SLICE_BYTES
        if full or time.monotonic() - began >= _SLICE_SECONDS:
            yield start, group
            start += len(group)
            group, size, began = [], 0, time.monotonic()
    if group:
        yield start, group


def _shard_groups(clips: Iterable[_Placed]) -> Iterator[list[_Placed]]:
    """The clips of one shard each."""
    group: list[_Placed] = []
    size = 0
    for row, place in clips:
        if group and (len(group) >= MAX_SHARD_CLIPS or size + place[2] > MAX_SHARD_BYTES):
            yield group
            group, size = [], 0
        group.append((row, place))
        size += place[2]
    if group:
        yield group


def _row(clip: PreparedClip) -> dict[str, Any]:
    """What clips.jsonl says of a clip, but for its split and its place."""
    item = clip.item
    # Readable, and the same however many other stickers there are.
    stem = item.file.rpartition("/")[2].rpartition(".")[0] or "sticker"
    slug = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40]
    name_hash = hashlib.sha256(item.file.encode()).hexdigest()[:12]
    return {
        "id": f"{slug or 'sticker'}-{name_hash}",
        "concept": item.concept,
        "captions": list(item.captions),
        "durations_ms": list(clip.durations_ms),
        "num_frames": len(clip.durations_ms),
        "native_frames": clip.native_frames,
        "motion": round(clip.motion, 6),
        "statistics": {name: round(value, 6) for name, value in clip.statistics.items()},
        "pixel_hash": clip.pixel_hash,
        "file": item.file,
        "source": item.source,
        "license": item.license,
        "attribution": item.attribution,
        "attributes": dict(item.attributes),
    }


def _check_options(
    canvas: int,
    max_frames: int,
    method: Method,
    filters: FilterOptions | None,
    budget: Budget,
) -> ClipOptions:
    if not 8 <= canvas <= MAX_CANVAS:
        raise ConfigError(f"canvas is {canvas} pixels; it must be from 8 to {MAX_CANVAS}")
    if not 1 <= max_frames <= MAX_FRAMES:
        raise ConfigError(f"max_frames is {max_frames}; it must be from 1 to {MAX_FRAMES}")
    if method not in METHODS:
        raise ConfigError(f"key frame method {method!r} is unknown; use one of {METHODS}")
    if filters is not None and not 0 <= filters.min_motion < 1:
        raise ConfigError(f"min_motion is {filters.min_motion}; it must be at least 0 and below 1")
    return ClipOptions(canvas, max_frames, method, filters, budget)


def _check_output(out: Path, overwrite: bool) -> None:
    """Only a new or empty folder, or (on request) one with nothing but a training set in it."""
    if out.exists() and not out.is_dir():
        raise UserError(f"output {out} is a file; name a folder")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if names and not is_dataset(out):
        raise UserError(f"output {out} holds something else; name a new or empty folder")
    if names and not overwrite:
        raise UserError(
            f"output {out} is a training set already; name another or overwrite it (--overwrite)"
        )
    if foreign := sorted(names - DATASET_NAMES):
        raise UserError(
            f"output {out} holds {foreign[0]} beside a training set; move that away first"
        )
    ensure_folder(out.parent)


def _nothing_usable(skipped: Sequence[Skipped]) -> str:
    reasons = Counter(row.reason for row in skipped).most_common(3)
    text = "; ".join(f"{count} x {reason}" for reason, count in reasons)
    return f"none of the {len(skipped)} stickers can be used: {text}"


def _summary(out: Path, head: dict[str, Any], seconds: float) -> PrepareSummary:
    return PrepareSummary(
        path=out,
        num_clips=head["num_clips"],
        num_animated=head["num_animated"],
        num_frames=head["num_frames"],
        num_captions=head["num_captions"],
        num_bytes=sum(shard["num_bytes"] for shard in head["shards"]),
        splits={split: counts["num_clips"] for split, counts in head["splits"].items()},
        skipped=head["skipped"],
        fingerprint=head["fingerprint"],
        seconds=round(seconds, 3),
        not_drawn=head["not_drawn"],
        stages=head["stages"],
    )
