"""Look at a training set: what is in it, what was left out and why, as numbers and as a page.

The page is one HTML file that stands alone, without scripts: pictures are base64 data URIs of WebP,
histograms are boxes, and a content security policy forbids it to load anything. Its template
(`templates/inspect.html`) escapes every value.
"""

from __future__ import annotations

import base64
import io
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rdtf.data.dataset import Clip, PreparedDataset
from rdtf.data.duplicates import clusters, fingerprint
from rdtf.data.filters import thumbnails
from rdtf.data.pool import track
from rdtf.data.shards import CACHE_FOLDER, SKIPPED_FILE
from rdtf.errors import DataError, UserError
from rdtf.fileio import size_text, write_text
from rdtf.stickers import read_sticker

_NUM_WORDS = 60
_MOST_REASONS, _MOST_LINES = 40, 10
# Words that say nothing about a picture.
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a about an and are as at be by for from has in into is it its of on or that the their "
        "then there this to up while with",
    )
)


@dataclass(frozen=True)
class _SkippedGroup:
    """Stickers that were left out for one reason, with one of them as an example."""

    kind: str
    reason: str
    count: int
    example: str


@dataclass(frozen=True)
class Histogram:
    """How many of the set's clips have what a label says, a range or a number."""

    title: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class _DuplicateGroup:
    """A sticker that was kept, by its file, and how many copies of it were left out."""

    file: str
    count: int
    copies: tuple[str, ...]


@dataclass(frozen=True)
class DatasetReport:
    """What a training set holds.

    Attributes:
        splits: for each split the number of clips, animated clips, frames, captions, concepts.
        stages: of preparing, in order: `stage`, how many stickers came `in` and went `out`, and how
            many were `dropped` for each reason.
        histograms: frames, length, motion and size of clips.
        words: the most frequent words of captions, and how many clips have them.
        concepts: the largest concepts and their numbers of clips.
        duplicates: the stickers of which most copies were left out.
        without_caption: clips that can be trained on without text only.
        caches: name -> bytes.
    """

    path: str
    fingerprint: str
    canvas: int
    max_frames: int
    num_bytes: int
    splits: dict[str, dict[str, int]]
    stages: list[dict[str, Any]]
    skipped: list[_SkippedGroup]
    duplicates: list[_DuplicateGroup]
    histograms: list[Histogram]
    words: dict[str, int]
    concepts: dict[str, int]
    sources: dict[str, int]
    licenses: dict[str, int]
    attributions: dict[str, int]
    without_caption: int
    caches: dict[str, int]
    made: dict[str, Any]

    @property
    def num_clips(self) -> int:
        return sum(counts["num_clips"] for counts in self.splits.values())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        """A few lines for people."""
        lines = [
            f"{self.path}: {self.num_clips:,} clips of {self.canvas} pixels, "
            f"{size_text(self.num_bytes)}, fingerprint {self.fingerprint[:16]}"
        ]
        for split, counts in self.splits.items():
            parts = (f"{count:,} {name.removeprefix('num_')}" for name, count in counts.items())
            lines.append(f"{split}: {', '.join(parts)}")
        for row in self.stages:
            dropped = ", ".join(f"{count:,} {kind}" for kind, count in row["dropped"].items())
            why = f" ({dropped})" if dropped else ""
            lines.append(f"{row['stage']}: {row['in']:,} in, {row['out']:,} out{why}")
        for group in self.skipped[:_MOST_LINES]:
            lines.append(
                f"left out: {group.count:,} {group.kind}, as {group.example}: {group.reason}"
            )
        licenses = (f"{count:,} {name}" for name, count in self.licenses.items())
        lines.append(f"licences: {', '.join(licenses)}")
        if self.without_caption:
            lines.append(f"{self.without_caption:,} clips have no caption")
        return "\n".join(lines)


def inspect_dataset(dataset: PreparedDataset) -> DatasetReport:
    """Count everything in a training set; no pictures are read.

    Raises:
        DataError: the list of what was left out is damaged.
    """
    counted = _Counts()
    for clip in dataset.clips():
        counted.add(clip)
    skipped, duplicates = _read_skipped(dataset.path / SKIPPED_FILE)
    head = dataset.head
    return DatasetReport(
        path=str(dataset.path),
        fingerprint=dataset.fingerprint,
        canvas=dataset.canvas,
        max_frames=dataset.max_frames,
        num_bytes=sum(shard["num_bytes"] for shard in head["shards"]),
        splits=head["splits"],
        stages=head.get("stages", []),
        skipped=skipped,
        duplicates=duplicates,
        histograms=counted.histograms(),
        words=dict(counted.words.most_common(_NUM_WORDS)),
        concepts=dict(counted.concepts.most_common(_NUM_WORDS)),
        sources=dict(counted.sources.most_common()),
        licenses=dict(counted.licenses.most_common()),
        attributions=dict(counted.attributions.most_common()),
        without_caption=counted.without_caption,
        caches=_cache_sizes(dataset.path / CACHE_FOLDER),
        made=head["made"],
    )


@dataclass
class _Counts:
    """What is counted in one pass over the clips."""

    words: Counter[str] = field(default_factory=Counter)
    concepts: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    licenses: Counter[str] = field(default_factory=Counter)
    attributions: Counter[str] = field(default_factory=Counter)
    without_caption: int = 0
    values: list[tuple[int, int, float, int]] = field(default_factory=list)

    def add(self, clip: Clip) -> None:
        text = " ".join(clip.captions).casefold()
        self.words.update(set(re.findall(r"[^\W\d_]{2,}", text)) - _STOP_WORDS)
        self.concepts[clip.concept] += 1
        self.sources[clip.source or "unknown"] += 1
        self.licenses[clip.license or "unknown"] += 1
        if clip.attribution:
            self.attributions[clip.attribution] += 1
        self.without_caption += not clip.captions
        self.values.append((clip.num_frames, clip.total_ms, clip.motion, clip.location.num_bytes))

    def histograms(self) -> list[Histogram]:
        frames, total_ms, motion, num_bytes = np.array(self.values, np.float64).T
        moves = frames > 1
        counts = np.bincount(frames.astype(int))
        numbers = range(1, len(counts))
        title = "key frames of a clip"
        return [
            Histogram(title, tuple(map(str, numbers)), tuple(counts[1:].tolist())),
            _histogram("length of an animated clip, s", total_ms[moves] / 1000),
            _histogram("motion of an animated clip (root mean square)", motion[moves]),
            _histogram("size of a clip, kB", num_bytes / 1000),
        ]


def _histogram(title: str, values: np.ndarray) -> Histogram:
    """Of positive values, in bins that start at 1, 2 and 5 times a power of ten."""
    values = np.maximum(values, 1e-9)
    if not len(values):
        return Histogram(title, (), ())
    low, high = np.floor(np.log10([np.percentile(values, 1), values.max()])).astype(int)
    edges = [factor * 10.0**power for power in range(low, high + 1) for factor in (1, 2, 5)]
    places = np.searchsorted(edges, values, side="right")
    counts = np.bincount(places, minlength=len(edges) + 1)
    labels = [f"< {edges[0]:g}", *(f"{edge:g}" for edge in edges[:-1]), f"≥ {edges[-1]:g}"]
    used = np.flatnonzero(counts)
    shown = slice(used[0], used[-1] + 1)
    return Histogram(title, tuple(labels[shown]), tuple(counts[shown].tolist()))


_OWNER = re.compile(r"its pixels equal those of (.+)|it looks like (.+)", re.DOTALL)
_MOST_GROUPS, _MOST_COPIES = 24, 7


def _read_skipped(path: Path) -> tuple[list[_SkippedGroup], list[_DuplicateGroup]]:
    """What skipped.jsonl says, by reason (where names and numbers don't count) and by owner."""
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], dict[str, str]] = {}
    copies: Counter[str] = Counter()
    some: dict[str, list[str]] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                owner = _OWNER.fullmatch(row["reason"]) if "duplicate" in row["kind"] else None
                if owner is not None:
                    kept = owner[1] or owner[2]
                    copies[kept] += 1
                    some.setdefault(kept, []).append(row["file"])
                    del some[kept][_MOST_COPIES:]
                pattern = "" if owner else re.sub(r"\d+(\.\d+)?", "0", row["reason"])
                key = row["kind"], pattern
                counts[key] += 1
                examples.setdefault(key, {"reason": row["reason"], "file": row["file"]})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}; prepare the training set again") from error
    groups = [
        _SkippedGroup(key[0], examples[key]["reason"], count, examples[key]["file"])
        for key, count in counts.most_common()
    ]
    largest = copies.most_common(_MOST_GROUPS)
    return groups, [_DuplicateGroup(file, count, tuple(some[file])) for file, count in largest]


def _cache_sizes(folder: Path) -> dict[str, int]:
    caches = sorted(path for path in folder.glob("*-*") if (path / "meta.json").is_file())
    return {
        cache.name: sum(file.stat().st_size for file in cache.iterdir() if file.is_file())
        for cache in caches
    }


# ------------------------------------------------------------------------- page

_SAMPLE = 400  # clips whose pictures are read for colours and near duplicates
_NUM_COLORS = 24
_SHEET_CONCEPTS, _SHEET_CLIPS = 24, 4
_STRIP_FRAMES, _CELL = 8, 64  # pixels


def write_page(
    dataset: PreparedDataset, report: DatasetReport, path: Path | str, *, seed: int = 0
) -> Path:
    """Write the report with pictures of some clips to one HTML file, whole or not at all.

    Args:
        dataset: what the report is of.
        path: of the file (.html); an existing one is replaced.
        seed: another one shows other clips and concepts.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    wanted = {group.file for group in report.duplicates}
    owners: dict[str, int] = {}
    concepts: dict[str, list[int]] = {}
    for clip in dataset.clips():
        concepts.setdefault(clip.concept, []).append(clip.index)
        if clip.file in wanted:
            owners[clip.file] = clip.index
    indices = random.Random(seed).sample(range(len(dataset)), min(len(dataset), _SAMPLE))
    sample = [_read(dataset, index) for index in track(indices, "looking", len(indices))]
    environment = Environment(
        loader=PackageLoader("rdtf.data"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    page = environment.get_template("inspect.html").render(
        report=report,
        counts=_totals(report),
        colors=_colors(sample),
        num_sampled=len(sample),
        copies=_dropped_copies(dataset, report, owners),
        left=_near_duplicates(dataset, sample),
        sheets=_concept_sheets(dataset, concepts, seed),
        most_reasons=_MOST_REASONS,
    )
    write_text(path, page + "\n")
    return Path(path)


def _totals(report: DatasetReport) -> dict[str, int]:
    names = next(iter(report.splits.values()), {})
    return {name: sum(counts[name] for counts in report.splits.values()) for name in names}


@dataclass(frozen=True)
class _Look:
    """A clip that was looked at: its small copies and its fingerprint."""

    index: int
    small: np.ndarray
    fingerprint: bytes


def _read(dataset: PreparedDataset, index: int) -> _Look:
    frames = dataset.read_frames(index)
    small = thumbnails(frames)
    return _Look(index, small, fingerprint(frames, small))


def _colors(sample: Sequence[_Look]) -> list[tuple[str, float]]:
    """The main colours of what is visible, as "#rrggbb" with their shares, light ones first."""
    pixels = np.concatenate([look.small[len(look.small) // 2].reshape(-1, 4) for look in sample])
    visible = pixels[pixels[:, 3] > 0.9]
    if not len(visible):
        return []
    rgb = np.rint(255 * visible[:, :3] / visible[:, 3:]).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(rgb[None]).quantize(_NUM_COLORS, Image.Quantize.MEDIANCUT, kmeans=2)
    palette = np.array(picture.getpalette(), np.uint8).reshape(-1, 3)
    counts = np.bincount(np.asarray(picture).reshape(-1), minlength=len(palette))
    order = np.argsort(-palette @ np.array([0.299, 0.587, 0.114]))
    return [
        ("#" + palette[at].tobytes().hex(), float(counts[at] / counts.sum()))
        for at in order
        if counts[at]
    ]


def _near_duplicates(
    dataset: PreparedDataset, sample: Sequence[_Look]
) -> list[list[dict[str, str]]]:
    """Clips of the sample that look alike and were kept all the same."""
    looks = sorted(sample, key=lambda look: look.index)
    members: dict[int, list[int]] = {}
    for look, first in zip(looks, clusters([look.fingerprint for look in looks]), strict=True):
        members.setdefault(first, []).append(look.index)
    alike = sorted((group for group in members.values() if len(group) > 1), key=len, reverse=True)
    return [
        [_picture(dataset, index) for index in group[: _MOST_COPIES + 1]]
        for group in alike[:_MOST_GROUPS]
    ]


def _picture(dataset: PreparedDataset, index: int, num_frames: int = 1) -> dict[str, str]:
    clip = dataset.clip(index)
    frames = dataset.read_frames(index)
    return {
        "name": clip.captions[0] if clip.captions else clip.file,
        "about": f"{_length(clip)}, {clip.split}",
        "image": _strip(frames, num_frames),
    }


def _length(clip: Clip) -> str:
    if clip.num_frames == 1:
        return "still"
    return f"{clip.num_frames} frames, {clip.total_ms / 1000:.1f} s"


def _strip(frames: np.ndarray, num_frames: int = 1) -> str:
    """Some frames side by side as a WebP data URI; the middle one, if it is but one."""
    count = min(len(frames), num_frames)
    places = (np.arange(count) * 2 + 1) * len(frames) // (2 * count)
    strip = Image.new("RGBA", (count * _CELL, _CELL))
    for at, place in enumerate(places):
        cell = Image.fromarray(frames[place])
        if (factor := _CELL // max(cell.size)) > 1:
            cell = cell.resize(
                (cell.width * factor, cell.height * factor), Image.Resampling.NEAREST
            )
        cell.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
        strip.paste(cell, (at * _CELL + (_CELL - cell.width) // 2, (_CELL - cell.height) // 2))
    buffer = io.BytesIO()
    strip.save(buffer, "WEBP", quality=80, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _dropped_copies(
    dataset: PreparedDataset, report: DatasetReport, owners: Mapping[str, int]
) -> list[dict[str, Any]]:
    """The stickers with most copies left out: their picture, and the copies' where there are any.

    Copies are read from where the stickers came from, if they are still there.
    """
    inputs = [Path(name) for name in report.made.get("inputs", [])]
    shown = []
    for group in report.duplicates:
        index = owners.get(group.file)
        pictures = [] if index is None else [_picture(dataset, index)]
        copies = [{"name": file, "image": _source_picture(file, inputs)} for file in group.copies]
        shown.append({"file": group.file, "count": group.count, "kept": pictures, "copies": copies})
    return shown


def _source_picture(file: str, inputs: Iterable[Path]) -> str | None:
    parts = Path(file).parts
    if not parts or ".." in parts:
        return None
    for folder in inputs:
        path = folder.joinpath(*parts[1:])
        if parts[0] == folder.name and path.is_relative_to(folder) and path.is_file():
            try:
                return _strip(read_sticker(path).frames)
            except UserError:
                return None
    return None


def _concept_sheets(
    dataset: PreparedDataset, concepts: Mapping[str, list[int]], seed: int
) -> list[dict[str, Any]]:
    """Clips of the largest concepts and of as many others, frame by frame."""
    by_size = sorted(concepts, key=lambda name: (-len(concepts[name]), name))
    large = [name for name in by_size if len(concepts[name]) > 1][: _SHEET_CONCEPTS // 2]
    others = by_size[len(large) :]
    drawn = random.Random(seed).sample(others, min(len(others), _SHEET_CONCEPTS - len(large)))
    sheets = []
    for name in track([*large, *drawn], "drawing", len(large) + len(drawn)):
        members = concepts[name]
        some = random.Random(f"{seed}:{name}").sample(members, min(len(members), _SHEET_CLIPS))
        clips = [_picture(dataset, index, _STRIP_FRAMES) for index in sorted(some)]
        sheets.append({"name": name, "count": len(members), "clips": clips})
    return sheets
