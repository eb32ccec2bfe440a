"""Look at a training set: counts, what was left out and why, and a sheet of clips to see."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rdtf.data.dataset import Clip, PreparedDataset
from rdtf.data.shards import CACHE_FOLDER, SKIPPED_FILE
from rdtf.data.sources import SPLITS
from rdtf.errors import DataError
from rdtf.stickers import write_sheet

_PERCENTILES = (0, 10, 50, 90, 100)
_MOST_REASONS = 20


@dataclass(frozen=True)
class SkippedGroup:
    """Stickers that were left out for one reason, with one of them as an example."""

    kind: str
    reason: str
    count: int
    example: str


@dataclass(frozen=True)
class DatasetReport:
    """What a training set holds.

    Attributes:
        splits: for each split the number of clips, animated clips, frames, captions, concepts.
        frame_counts: key frames of a clip -> number of clips.
        clip_ms: percentile -> length of an animated clip in milliseconds.
        frame_ms: percentile -> time that one key frame of an animated clip is shown.
        without_caption: clips that can be trained on without text only.
        caches: name -> bytes.
    """

    path: str
    fingerprint: str
    canvas: int
    max_frames: int
    num_bytes: int
    splits: dict[str, dict[str, int]]
    sources: dict[str, int]
    licenses: dict[str, int]
    frame_counts: dict[int, int]
    clip_ms: dict[str, int]
    frame_ms: dict[str, int]
    without_caption: int
    skipped: list[SkippedGroup]
    caches: dict[str, int]
    made: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def tables(self) -> RenderableType:
        """The report for a terminal."""
        title = Text(f"{self.path}: canvas {self.canvas}, up to {self.max_frames} frames, ")
        title.append(f"{_megabytes(self.num_bytes)}, fingerprint {self.fingerprint[:16]}")
        parts: list[RenderableType] = [
            title,
            _splits_table(self.splits),
            _count_table("sources", self.sources),
            _count_table("licences", self.licenses),
            _count_table("key frames of a clip", self.frame_counts, bars=True),
            _percentile_table({"animated clip, ms": self.clip_ms, "key frame, ms": self.frame_ms}),
        ]
        if self.without_caption:
            parts.append(Text(f"{self.without_caption} clips have no caption"))
        if self.skipped:
            parts.append(_skipped_table(self.skipped))
        if self.caches:
            sizes = {name: _megabytes(size) for name, size in self.caches.items()}
            parts.append(_count_table("caches", sizes))
        return Group(*parts)


def inspect_dataset(path: Path | str, *, verify: bool = False) -> DatasetReport:
    """Count everything in the training set at `path`; `verify` also hashes all shards.

    Raises:
        DataError: the training set is missing or damaged.
    """
    dataset = PreparedDataset(path)
    if verify:
        dataset.verify()
    clips = dataset.clips()
    animated = [clip for clip in clips if clip.num_frames > 1]
    return DatasetReport(
        path=str(dataset.path),
        fingerprint=dataset.fingerprint,
        canvas=dataset.canvas,
        max_frames=dataset.max_frames,
        num_bytes=sum(shard["num_bytes"] for shard in dataset.head["shards"]),
        splits=dataset.head["splits"],
        sources=_counted(clip.source or "unknown" for clip in clips),
        licenses=_counted(clip.license or "unknown" for clip in clips),
        frame_counts=dict(sorted(Counter(clip.num_frames for clip in clips).items())),
        clip_ms=_percentiles([clip.total_ms for clip in animated]),
        frame_ms=_percentiles([ms for clip in animated for ms in clip.durations_ms]),
        without_caption=sum(not clip.captions for clip in clips),
        skipped=_skipped_groups(dataset.path / SKIPPED_FILE),
        caches=_cache_sizes(dataset.path / CACHE_FOLDER),
        made=dataset.head["made"],
    )


def write_clip_sheet(
    dataset: PreparedDataset,
    path: Path | str,
    *,
    clips_per_split: int = 8,
    cell: int = 96,
    seed: int = 0,
) -> Path:
    """Draw random clips of both splits, one row each with all their key frames, to a PNG.

    Three of four are animated where there are enough: they have more to show.
    """
    chosen = [
        clip for split in SPLITS for clip in _draw(dataset.clips(split), clips_per_split, seed)
    ]
    rows = [dataset.read_sticker(clip.index) for clip in chosen]
    labels = [_label(clip) for clip in chosen]
    return write_sheet(rows, path, labels, cell=cell)


def _draw(clips: list[Clip], count: int, seed: int) -> list[Clip]:
    shuffled = random.Random(seed).sample(clips, len(clips))
    animated = [clip for clip in shuffled if clip.num_frames > 1]
    still = [clip for clip in shuffled if clip.num_frames == 1]
    num_still = max(count - len(animated), min(count // 4, len(still)))
    return animated[: max(count - num_still, 0)] + still[:num_still]


def _label(clip: Clip) -> str:
    caption = clip.captions[0] if clip.captions else "(no caption)"
    return (
        f"{clip.split} | {caption} | {clip.num_frames} of {clip.native_frames}, {clip.total_ms} ms"
    )


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _percentiles(values: list[int]) -> dict[str, int]:
    if not values:
        return {}
    found = np.percentile(values, _PERCENTILES)
    return {f"p{at}": round(float(value)) for at, value in zip(_PERCENTILES, found, strict=True)}


def _skipped_groups(path: Path) -> list[SkippedGroup]:
    """Rows of skipped.jsonl grouped by reason, where names and numbers in it don't count."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for row in rows:
            groups.setdefault((row["kind"], _pattern(row["kind"], row["reason"])), []).append(row)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}; prepare the training set again") from error
    counted = [
        SkippedGroup(kind, same[0]["reason"], len(same), same[0]["file"])
        for (kind, _), same in groups.items()
    ]
    return sorted(counted, key=lambda group: -group.count)


def _pattern(kind: str, reason: str) -> str:
    return "" if kind == "duplicate" else re.sub(r"\d+(\.\d+)?", "0", reason)


def _cache_sizes(folder: Path) -> dict[str, int]:
    caches = sorted(path for path in folder.glob("*-*") if (path / "meta.json").is_file())
    return {
        cache.name: sum(file.stat().st_size for file in cache.iterdir() if file.is_file())
        for cache in caches
    }


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"


def _splits_table(splits: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table(title="splits", title_justify="left")
    names = list(next(iter(splits.values()), {}))
    table.add_column("split")
    for name in names:
        table.add_column(name.removeprefix("num_"), justify="right")
    for split, counts in splits.items():
        table.add_row(split, *(f"{counts[name]:,}" for name in names))
    return table


def _count_table(title: str, counts: Mapping[Any, int | str], *, bars: bool = False) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    largest = max((value for value in counts.values() if isinstance(value, int)), default=1)
    for name, value in counts.items():
        shown = f"{value:,}" if isinstance(value, int) else value
        bar = ["█" * round(30 * value / largest)] if bars and isinstance(value, int) else []
        table.add_row(Text(str(name)), shown, *bar)
    return table


def _percentile_table(rows: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table(title="durations", title_justify="left")
    table.add_column("")
    for at in _PERCENTILES:
        table.add_column(f"p{at}", justify="right")
    for name, values in rows.items():
        if values:
            table.add_row(name, *(f"{value:,}" for value in values.values()))
    return table


def _skipped_table(groups: list[SkippedGroup]) -> Table:
    table = Table(title="left out", title_justify="left")
    table.add_column("kind")
    table.add_column("count", justify="right")
    table.add_column("reason, for example")
    table.add_column("file", overflow="fold")
    for group in groups[:_MOST_REASONS]:
        table.add_row(group.kind, f"{group.count:,}", Text(group.reason), Text(group.example))
    return table
