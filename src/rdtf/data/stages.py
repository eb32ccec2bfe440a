"""The stages of a preparation: list, decode and filter, dedupe, captions, shards.

Each one notes in the work folder what it has done, in slices or as a whole, and does the rest when
it is called again.
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
from typing import TYPE_CHECKING, Any

import numpy as np

from rdtf import __version__
from rdtf.data.captions import BATCH, Captioner, CaptionOptions, with_variants
from rdtf.data.decode import ClipOptions, PreparedClip, prepare_item
from rdtf.data.duplicates import FINGERPRINT_BYTES, clusters
from rdtf.data.keyframes import decode_frames
from rdtf.data.listing import list_inputs
from rdtf.data.pool import Engine, ordered_map, track
from rdtf.data.shards import (
    CLIPS_FILE,
    HEAD_FILE,
    INDEX_FILE,
    MAX_SHARD_BYTES,
    MAX_SHARD_CLIPS,
    SHARDS_FOLDER,
    SKIPPED_FILE,
    describe_index,
    index_rows,
    is_dataset,
    write_lines,
    write_shard,
)
from rdtf.data.sources import SPLITS, Skipped, SourceItem, collect_synthetic, split_concepts
from rdtf.data.work import Work
from rdtf.errors import UserError
from rdtf.fileio import atomic_path, ensure_folder, read_json, remove_leftovers, write_json

if TYPE_CHECKING:
    from rdtf.synthetic.characters import SyntheticStickers

STAGES = ("list", "decode", "filter", "dedupe", "captions", "shards")

# A worker never takes more than 512 MiB with its libraries. Enough for some 300 frames of 512 x 512
# pixels.
WORKER_MEMORY_BYTES = 384 * 2**20
_ITEM_SECONDS = 60.0
_SLICE_CLIPS = 256
_SLICE_BYTES = 32 * 2**20
_SLICE_SECONDS = 10.0


@dataclass(frozen=True)
class Source:
    """All that is to be prepared."""

    names: list[str]
    paths: list[Path]
    synthetic: SyntheticStickers | None = None

    @classmethod
    def of(cls, inputs: Any, canvas: int) -> Source:
        from rdtf.synthetic.characters import SyntheticStickers

        if isinstance(inputs, SyntheticStickers):
            drawn = SyntheticStickers(inputs.seed, inputs.count, canvas, inputs.max_frames)
            name = f"{drawn.count} synthetic stickers of seed {drawn.seed}"
            return cls([name], [], drawn)
        paths = [Path(name) for name in ([inputs] if isinstance(inputs, str | Path) else inputs)]
        return cls([str(path) for path in paths], paths)


@dataclass(frozen=True)
class Run:
    """The stages of one preparation; each does nothing if the work folder says that it is done."""

    work: Work
    source: Source
    options: ClipOptions
    captions: CaptionOptions
    made: dict[str, Any]
    progress: bool | None

    def is_published(self, out: Path) -> bool:
        """Whether the set is in its place already: the run was killed while it cleaned up."""
        made = self.work.done("set")
        return (
            made is not None
            and is_dataset(out)
            and (read_json(out / HEAD_FILE).get("fingerprint") == made)
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
            memory_bytes=WORKER_MEMORY_BYTES,
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
                "UPDATE clips SET split = "
                "(SELECT split FROM sides WHERE sides.concept = clips.concept)"
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
        self.work.run("DELETE FROM clips WHERE n IN (SELECT n FROM skipped WHERE stage = 'dedupe')")

    # ------------------------------------------------------------------ captions

    def write_captions(self) -> None:
        """Let a model say what is on clips that only their names are known of."""
        if self.captions.captioner is None or self.work.done("captions") is not None:
            return
        captioner = Captioner(self.captions.captioner)
        wanted = "FROM clips WHERE caption IS NULL AND json_extract(row, '$.is_named')"
        total = self.work.count(f"SELECT count(*) {wanted}")
        for _ in track(range(0, total, BATCH), "captions", -(-total // BATCH), show=self.progress):
            found = self.work.run(
                f"SELECT n, row, slice, offset, num_bytes {wanted} ORDER BY n LIMIT {BATCH}"
            ).fetchall()
            rows = [json.loads(row) for _, row, *_ in found]
            pictures = []
            for row, (_, _, *place) in zip(rows, found, strict=True):
                data, count = self.work.read_pixels(*place), row["num_frames"]
                frames = decode_frames(data, count, self.options.canvas, row["file"])
                pictures.append(frames[count // 2])
            said = captioner([row["pixel_hash"] for row in rows], pictures)
            with self.work.transaction():
                values = [(text, n) for text, (n, *_) in zip(said, found, strict=True)]
                self.work.run_many("UPDATE clips SET caption = ? WHERE n = ?", values)
        self.work.mark("captions")

    # ------------------------------------------------------------------ shards

    def write_set(self, folder: Path) -> None:
        """Everything that the output holds, into `folder`; finished shards stay as they are."""
        if self.work.done("set") is not None:
            return
        rows_folder = ensure_folder(folder.with_name("rows"))
        for place in (rows_folder, ensure_folder(folder / SHARDS_FOLDER), folder):
            remove_leftovers(place)  # of a run that was killed
        for split in SPLITS:
            self._write_shards(folder, rows_folder, split)
        found = self.work.run("SELECT info FROM shards ORDER BY n")
        shards = [json.loads(info) for (info,) in found]
        with (folder / CLIPS_FILE).open("wb") as clips:
            for shard in shards:
                clips.write((rows_folder / f"{Path(shard['file']).stem}.jsonl").read_bytes())
        write_lines(folder / SKIPPED_FILE, (asdict(row) for row in self.work.skipped(STAGES)))
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
            "SELECT row, caption, slice, offset, num_bytes FROM clips WHERE split = ? "
            "ORDER BY shuffle LIMIT -1 OFFSET ?",
            (split, start),
        )
        for row, said, *place in found:
            about = json.loads(row)
            del about["is_named"]
            captions = [*([said] if said else []), *about["captions"]]
            key = f"{self.made['seed']}:{about['file']}"
            variants = with_variants(captions, about["attributes"], self.captions, key)
            about["captions"] = list(variants)
            yield {"id": about.pop("id"), "split": split, **about}, tuple(place)

    # ------------------------------------------------------------------ dataset.json

    def _describe(self, folder: Path, shards: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The contents of dataset.json."""
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
        return {
            **describe_index(folder, self.options.canvas, shards),
            "canvas": self.options.canvas,
            "max_frames": self.options.max_frames,
            **{name: sum(by_split[split][name] for split in SPLITS) for name in by_split["val"]},
            "splits": by_split,
            "skipped": dict(skipped),
            "stages": self._stages(),
            "not_drawn": dict(not_drawn),
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
        "is_named": item.is_named,
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


def _nothing_usable(skipped: Sequence[Skipped]) -> str:
    reasons = Counter(row.reason for row in skipped).most_common(3)
    text = "; ".join(f"{count} x {reason}" for reason, count in reasons)
    return f"none of the {len(skipped)} stickers can be used: {text}"
