"""An ordered parallel map over worker processes that survives a crashing decoder.

Decoders are native code that is fed files from strangers. When one takes its process down, the
items in flight are tried again one by one, each in a process of its own, and only the guilty one
is given up.

This module imports nothing heavy: it is the first thing that a new worker loads, and it limits the
threads of the numerical libraries before they start.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import re
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

from rdtf.data.dataset import PreparedClip
from rdtf.data.shards import ShardInfo, ShardWriter
from rdtf.data.sources import SPLITS, Skipped, SourceItem, Split
from rdtf.errors import UserError

Item = TypeVar("Item")


def track(
    items: Iterable[Item], description: str, total: int, *, show: bool | None = None
) -> Iterator[Item]:
    """Yield `items` and draw a bar. `show` None: if stderr is a terminal."""
    # Not above: a rented machine that trains on a bundle has no rich.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    visible = console.is_terminal if show is None else show
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not visible) as progress:
        yield from progress.track(items, total=total, description=description)


Result = TypeVar("Result")

SMALL_JOB = 16  # starting processes takes longer than this many stickers
_BATCHES_IN_FLIGHT = 3  # per worker: enough to keep it busy, few enough to hold in memory


def default_workers(num_items: int) -> int:
    """0 (this process) for a small job, else one worker per processor."""
    if num_items <= SMALL_JOB:
        return 0
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    crashed: Callable[[Item], Result],
    batch_size: int = 8,
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order.

    Args:
        function: a function of a module or a partial of one (it travels to the workers).
        workers: number of processes; 0 works in this one, without protection from crashes.
        crashed: makes the result of an item whose process died.
        batch_size: items sent at once.

    Raises:
        UserError: workers can't be started.
    """
    if workers < 0:
        raise UserError(f"workers is {workers}; it must be 0 (this process) or more")
    if workers == 0:
        yield from map(function, items)
        return
    batches = _batches(items, batch_size)
    pending: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    pool = _start_pool(workers)
    try:
        while True:
            wanted = _BATCHES_IN_FLIGHT * workers - len(pending)
            pending.extend(
                (batch, _submit(pool, function, batch)) for batch in islice(batches, wanted)
            )
            if not pending:
                return
            batch, future = pending.popleft()
            try:
                results = future.result()
            except BrokenProcessPool:
                in_flight = [batch, *(other for other, _ in pending)]
                pending.clear()
                pool.shutdown(wait=False, cancel_futures=True)
                yield from _one_by_one(function, in_flight, crashed)
                pool = _start_pool(workers)
                continue
            yield from results
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _submit(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], batch: list[Item]
) -> Future[list[Result]]:
    try:
        return pool.submit(_apply, function, batch)
    except BrokenProcessPool as error:  # it broke since the last look; found when its turn comes
        failed: Future[list[Result]] = Future()
        failed.set_exception(error)
        return failed


def _apply(function: Callable[[Item], Result], batch: list[Item]) -> list[Result]:
    return [function(item) for item in batch]


def _one_by_one(
    function: Callable[[Item], Result],
    batches: list[list[Item]],
    crashed: Callable[[Item], Result],
) -> Iterator[Result]:
    with contextlib.ExitStack() as stack:
        pool: ProcessPoolExecutor | None = None
        for item in (item for batch in batches for item in batch):
            pool = pool or stack.enter_context(_start_pool(1))
            try:
                yield pool.submit(function, item).result()
            except BrokenProcessPool:
                pool = None
                yield crashed(item)


def _start_pool(workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: the caller may hold threads (torch) whose locks a fork would copy.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        pool.shutdown(wait=False)
        raise UserError(
            "worker processes can't be started; in a script, put the call below "
            "`if __name__ == '__main__':`, or pass workers=0"
        ) from error
    return pool


def _prepare_worker() -> None:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # one process per processor is parallel enough
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the caller, which ends the workers


@dataclass(frozen=True)
class SpooledClip:
    """A prepared clip whose pixels wait in the spool file."""

    item: SourceItem
    durations_ms: tuple[int, ...]
    native_frames: int
    motion: float
    pixel_hash: str
    offset: int
    num_bytes: int

    @property
    def clip_id(self) -> str:
        """Readable, and the same however many other stickers there are."""
        stem = self.item.file.rpartition("/")[2].rpartition(".")[0] or "sticker"
        slug = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40]
        return f"{slug or 'sticker'}-{_sha256(self.item.file)[:12]}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def spool_results(
    results: Iterable[PreparedClip | Skipped], spool: IO[bytes], dedupe: bool
) -> tuple[list[SpooledClip], list[Skipped]]:
    """Append the pixels of clips to `spool`; with `dedupe`, of the first of equal ones only."""
    clips: list[SpooledClip] = []
    skipped: list[Skipped] = []
    owner_of: dict[str, str] = {}
    for result in results:
        if isinstance(result, Skipped):
            skipped.append(result)
            continue
        owner = owner_of.setdefault(result.pixel_hash, result.item.file)
        if dedupe and owner != result.item.file:
            reason = f"its pixels equal those of {owner}"
            skipped.append(Skipped(result.item.file, "duplicate", reason))
            continue
        place = (spool.tell(), spool.write(result.pixels))
        about = (result.item, result.durations_ms, result.native_frames, result.motion)
        clips.append(SpooledClip(*about, result.pixel_hash, *place))
    return clips, skipped


def write_shards(
    folder: Path,
    clips: Sequence[SpooledClip],
    spool: IO[bytes],
    sides: dict[str, Split],
    seed: int,
) -> tuple[list[dict[str, Any]], list[ShardInfo]]:
    """Move the clips from the spool into shards; one row a clip, in the order of the shards.

    They are shuffled once, because a reader that streams shards sees neighbours together.
    """
    rows: list[dict[str, Any]] = []
    shards: list[ShardInfo] = []
    shuffled = sorted(clips, key=lambda clip: _sha256(f"{seed}:{clip.item.file}"))
    for split in SPLITS:
        writer = ShardWriter(folder, split)
        chosen = [clip for clip in shuffled if sides[clip.item.concept] == split]
        for clip in chosen:
            spool.seek(clip.offset)
            writer.write(clip.clip_id, spool.read(clip.num_bytes), _row(clip, split))
        writer.close()
        places = (writer.locations[clip.clip_id] for clip in chosen)
        rows += [
            _row(clip, split) | asdict(place) for clip, place in zip(chosen, places, strict=True)
        ]
        shards += writer.shards
    return rows, shards


def _row(clip: SpooledClip, split: Split) -> dict[str, Any]:
    item = clip.item
    return {
        "id": clip.clip_id,
        "split": split,
        "concept": item.concept,
        "captions": list(item.captions),
        "durations_ms": list(clip.durations_ms),
        "num_frames": len(clip.durations_ms),
        "native_frames": clip.native_frames,
        "motion": round(clip.motion, 6),
        "pixel_hash": clip.pixel_hash,
        "file": item.file,
        "source": item.source,
        "license": item.license,
        "attribution": item.attribution,
        "attributes": dict(item.attributes),
    }
