"""Prepare a training set: any stickers in, one folder out, the same for the same input.

Stages: list → decode → filter → dedupe → captions → shards. Each one is done in slices or as a
whole, and noted in a work folder beside the output (`rdtf.data.work`): a run that was stopped or
killed goes on where it was when the same command is given again, and ends with the same bytes. What
the output holds is described in `rdtf.data.shards`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rdtf import __version__
from rdtf.data.captions import CaptionOptions
from rdtf.data.decode import ClipOptions
from rdtf.data.filters import FilterOptions
from rdtf.data.keyframes import MAX_CANVAS, MAX_FRAMES, METHODS, Method
from rdtf.data.pool import ENGINES, Engine, processors
from rdtf.data.shards import (
    DATASET_NAMES,
    HEAD_FILE,
    is_dataset,
)
from rdtf.data.sources import split_concepts
from rdtf.data.stages import Run, Source
from rdtf.data.work import Work
from rdtf.errors import ConfigError, UserError
from rdtf.fileio import check_apart, ensure_folder, publish_folder, read_json
from rdtf.stickers import DEFAULT_BUDGET, Budget

if TYPE_CHECKING:
    from rdtf.synthetic.characters import SyntheticStickers

Duplicates = Literal["near", "exact", "keep"]
_DUPLICATES: tuple[Duplicates, ...] = ("near", "exact", "keep")


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
    captions: CaptionOptions | None = None,
    sprite: tuple[int, int] | None = None,
    seed: int = 0,
    workers: int | None = None,
    engine: Engine = "pool",
    overwrite: bool = False,
    budget: Budget = DEFAULT_BUDGET,
    progress: bool | None = None,
    finish: Callable[[Path], object] | None = None,
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
        keyframe_method: "piecewise" (best approximation), "equal" (evenly in time) or "clusters"
            (of alike frames).
        val_fraction: share of concepts for validation.
        filters: what is worth training on; None: all but clips that show nothing.
        duplicates: of clips that look alike keep the first ("near"), of clips whose pixels are
            equal ("exact"), or keep all ("keep").
        captions: a model that writes captions, and variants of captions; None: as they are.
        sprite: width and height in pixels of a frame: stills that are sheets of such frames are
            clips.
        seed: settles the split and the order of clips in the shards.
        workers: processes; None is one per processor. 0 works in this process, where a file that
            crashes or hangs its decoder ends or stops everything.
        engine: "pool" (processes of this machine) or "ray" (a Ray cluster, see RAY_ADDRESS).
        budget: limits for a single file.
        progress: draw a bar; None: if stderr is a terminal, else a line a minute.
        finish: is called with `out` once the set is there, to build its caches, and again by the
            next call of a run that was killed meanwhile.

    Raises:
        UserError: an option or input makes no sense, nothing usable is in it, or `out` is taken.
    """
    started = time.monotonic()
    out = Path(out)
    options = _check_options(canvas, max_frames, keyframe_method, filters, budget)
    split_concepts((), val_fraction, seed)  # refuses a fraction that makes no sense
    for name, value, known in (
        ("duplicates", duplicates, _DUPLICATES),
        ("engine", engine, ENGINES),
    ):
        if value not in known:
            raise ConfigError(f"{name} is {value!r}; use one of {known}")
    if workers is not None and workers < 0:
        raise ConfigError(f"workers is {workers}; it must be 0 (this process) or more")
    source = Source.of(inputs, canvas)
    check_apart(source.paths, out)
    made = {
        "inputs": source.names,
        "keyframe_method": keyframe_method,
        "val_fraction": val_fraction,
        "filters": None if filters is None else asdict(filters),
        "duplicates": duplicates,
        "captions": None if captions is None else asdict(captions),
        "sprite": sprite,
        "seed": seed,
    }
    paths = [str(path.resolve()) for path in source.paths]
    identity = {"options": asdict(options), "made": made, "paths": paths, "version": __version__}
    work_folder = out.absolute().with_name(f"{out.absolute().name}.work")
    if not work_folder.exists():
        _check_output(out, overwrite)
    with Work(work_folder, identity, replace=overwrite) as work:
        try:
            run = Run(work, source, options, captions or CaptionOptions(), made, progress)
            if not run.is_published(out):
                _check_output(out, overwrite)
                run.list(sprite)
                run.make_clips(processors() if workers is None else workers, engine)
                run.drop_duplicates()
                run.write_captions()
                run.write_set(work_folder / "set")
                publish_folder(work_folder / "set", out)
            if finish is not None:
                work.forget_pixels()
                finish(out)
        except UserError:
            if not work.count("SELECT count(*) FROM clips"):  # there is nothing to go on with
                work.delete()
            raise
        except OSError as error:
            raise UserError(f"output {out} can't be written: {error.strerror or error}") from error
        work.delete()
    head = read_json(out / HEAD_FILE)
    return _summary(Path(out), head, time.monotonic() - started)


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
