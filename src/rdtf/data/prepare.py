"""Prepare a training set: any stickers in, one folder out, the same for the same input.

What the folder holds is described in `rdtf.data.shards`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdtf import __version__
from rdtf.data.dataset import ClipOptions, PreparedClip, prepare_item
from rdtf.data.keyframes import MAX_CANVAS, MAX_FRAMES, METHODS, Method
from rdtf.data.pool import default_workers, ordered_map, spool_results, track, write_shards
from rdtf.data.shards import (
    CLIPS_FILE,
    DATASET_FORMAT,
    DATASET_NAMES,
    DATASET_VERSION,
    HEAD_FILE,
    SKIPPED_FILE,
    ShardInfo,
    content_fingerprint,
    is_dataset,
    write_lines,
)
from rdtf.data.sources import (
    SPLITS,
    Skipped,
    SourceItem,
    collect_folders,
    collect_synthetic,
    split_concepts,
)
from rdtf.errors import ConfigError, UserError
from rdtf.fileio import atomic_folder, ensure_folder, write_json
from rdtf.stickers import DEFAULT_BUDGET, Budget

if TYPE_CHECKING:
    from rdtf.synthetic.characters import SyntheticStickers


@dataclass(frozen=True)
class PrepareSummary:
    """What was prepared: counts, the content fingerprint and the seconds that it took.

    `splits` maps a split to its number of clips, `skipped` a kind of reason to its count,
    `not_drawn` a part of Lottie files that is not drawn to the number of clips that lack it.
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
    min_motion: float = 0.0,
    dedupe: bool = True,
    seed: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
    budget: Budget = DEFAULT_BUDGET,
    progress: bool | None = None,
) -> PrepareSummary:
    """Turn stickers into a training set in the folder `out`, which appears whole or not at all.

    Files that can't be used are skipped and counted, never fatal. The result depends on the input
    and the options only, not on `workers`.

    Args:
        inputs: folders (searched to the bottom) or files, or a synthetic generator (which draws
            at `canvas`, whatever its own is).
        out: folder to make; an existing training set is replaced only with `overwrite`.
        canvas: side in pixels that stickers are letterboxed to.
        max_frames: most key frames of a clip.
        keyframe_method: "piecewise" (best approximation) or "equal" (evenly in time).
        val_fraction: share of concepts for validation.
        min_motion: animated clips that move less (root mean square, 0 to 1) are skipped.
        dedupe: keep only the first of clips whose pixels are equal.
        seed: settles the split and the order of clips in the shards.
        workers: processes; 0 is this one; None is one per processor, or 0 for a small job.
        budget: limits for a single file.
        progress: draw a bar; None: if stderr is a terminal.

    Raises:
        UserError: an option or input makes no sense, nothing usable is in it, or `out` is taken.
    """
    started = time.monotonic()
    out = Path(out)
    options = _check_options(canvas, max_frames, keyframe_method, min_motion, budget)
    split_concepts((), val_fraction, seed)  # refuses a fraction that makes no sense
    _check_output(out, overwrite)
    source = _collect(inputs, canvas)
    made = {
        "inputs": source.names,
        "keyframe_method": keyframe_method,
        "val_fraction": val_fraction,
        "min_motion": min_motion,
        "dedupe": dedupe,
        "seed": seed,
    }
    results = ordered_map(
        partial(prepare_item, options=options, synthetic=source.synthetic),
        source.items,
        workers=default_workers(len(source.items)) if workers is None else workers,
        crashed=lambda item: Skipped(item.file, "crash", "the decoder crashed on it"),
    )
    shown = track(results, "preparing", len(source.items), show=progress)
    try:
        with atomic_folder(out) as folder:
            head = _build(folder, shown, source.skipped, options, made)
    except OSError as error:
        raise UserError(f"output {out} can't be written: {error.strerror or error}") from error
    return _summary(out, head, time.monotonic() - started)


def _build(
    folder: Path,
    results: Iterable[PreparedClip | Skipped],
    skipped: Sequence[Skipped],
    options: ClipOptions,
    made: dict[str, Any],
) -> dict[str, Any]:
    """Write the whole training set into an empty folder; returns what dataset.json says."""
    spool_file = folder / "spool"
    with spool_file.open("w+b") as spool:
        clips, left_out = spool_results(results, spool, made["dedupe"])
        skipped = [*skipped, *left_out]
        if not clips:
            raise UserError(_nothing_usable(skipped))
        concepts = {clip.item.concept for clip in clips}
        sides = split_concepts(concepts, made["val_fraction"], made["seed"])
        rows, shards = write_shards(folder, clips, spool, sides, made["seed"])
    spool_file.unlink()
    write_lines(folder / CLIPS_FILE, rows)
    write_lines(folder / SKIPPED_FILE, (asdict(row) for row in skipped))
    head = _describe(folder, rows, shards, skipped, options, made)
    write_json(folder / HEAD_FILE, head)
    return head


@dataclass(frozen=True)
class _Source:
    """All that is to be prepared."""

    names: list[str]
    items: list[SourceItem]
    skipped: list[Skipped]
    synthetic: SyntheticStickers | None = None


def _collect(inputs: Any, canvas: int) -> _Source:
    from rdtf.synthetic.characters import SyntheticStickers

    if isinstance(inputs, SyntheticStickers):
        drawn = SyntheticStickers(inputs.seed, inputs.count, canvas, inputs.max_frames)
        name = f"{drawn.count} synthetic stickers of seed {drawn.seed}"
        return _Source([name], collect_synthetic(drawn), [], drawn)
    paths = [Path(name) for name in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    return _Source([str(path) for path in paths], *collect_folders(paths))


def _check_options(
    canvas: int, max_frames: int, method: Method, min_motion: float, budget: Budget
) -> ClipOptions:
    if not 8 <= canvas <= MAX_CANVAS:
        raise ConfigError(f"canvas is {canvas} pixels; it must be from 8 to {MAX_CANVAS}")
    if not 1 <= max_frames <= MAX_FRAMES:
        raise ConfigError(f"max_frames is {max_frames}; it must be from 1 to {MAX_FRAMES}")
    if method not in METHODS:
        raise ConfigError(f"key frame method {method!r} is unknown; use one of {METHODS}")
    if not 0 <= min_motion < 1:
        raise ConfigError(f"min_motion is {min_motion}; it must be at least 0 and below 1")
    return ClipOptions(canvas, max_frames, method, min_motion, budget)


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


def _describe(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    shards: Sequence[ShardInfo],
    skipped: Sequence[Skipped],
    options: ClipOptions,
    made: dict[str, Any],
) -> dict[str, Any]:
    """The contents of dataset.json."""
    hashes = [shard.sha256 for shard in shards]
    return {
        "format": DATASET_FORMAT,
        "version": DATASET_VERSION,
        "fingerprint": content_fingerprint(options.canvas, folder / CLIPS_FILE, hashes),
        "canvas": options.canvas,
        "max_frames": options.max_frames,
        **_count(rows),
        "splits": {split: _count([r for r in rows if r["split"] == split]) for split in SPLITS},
        "skipped": dict(Counter(row.kind for row in skipped).most_common()),
        "not_drawn": dict(
            Counter(part for row in rows for part in row["attributes"].get("not_drawn", ()))
        ),
        "shards": [asdict(shard) for shard in shards],
        "made": made | {"rdtf_version": __version__},
    }


def _count(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    return {
        "num_clips": len(rows),
        "num_animated": sum(row["num_frames"] > 1 for row in rows),
        "num_frames": sum(row["num_frames"] for row in rows),
        "num_captions": sum(len(row["captions"]) for row in rows),
        "num_concepts": len({row["concept"] for row in rows}),
    }


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
    )
