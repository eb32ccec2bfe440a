"""An ordered parallel map over worker processes that survives a crashing decoder.

Decoders are native code that is fed files from strangers. When one takes its process down, the
items in flight are tried again one by one, each in a process of its own, and only the guilty one
is given up.

This module imports nothing heavy: it is the first thing that a new worker loads, and it limits the
threads of the numerical libraries before they start.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from rdtf.errors import UserError

Item = TypeVar("Item")
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
