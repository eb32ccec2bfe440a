"""Ordered maps over worker processes, here or on a Ray cluster, that survive a bad file.

Decoders are native code that is fed files from strangers. A worker that crashes, hangs or takes too
much memory costs the item that it was at, and is replaced.

This module imports nothing heavy: it is the first thing that a new worker loads, and it limits the
threads of the numerical libraries before they start.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as TaskTimeoutError
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from rdtf.errors import UserError

if TYPE_CHECKING:
    from pebble import ProcessFuture, ProcessPool

Item = TypeVar("Item")
Result = TypeVar("Result")
Engine = Literal["pool", "ray"]
ENGINES: tuple[Engine, ...] = ("pool", "ray")

SMALL_JOB = 16  # starting processes takes longer than this many stickers
_IN_FLIGHT = 24  # items per worker: enough to keep it busy, few enough to hold in memory
_RAY_BATCH = 16  # items of a Ray task: passing them on costs some milliseconds
_TASKS_PER_WORKER = 10_000  # native decoders leak; a new worker starts afresh
_LOG_SECONDS = 60.0


def processors() -> int:
    """Processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def default_workers(num_items: int) -> int:
    """0 (this process) for a small job, else one worker per processor."""
    return 0 if num_items <= SMALL_JOB else processors()


def track(
    items: Iterable[Item],
    description: str,
    total: int,
    *,
    done: int = 0,
    show: bool | None = None,
) -> Iterator[Item]:
    """Yield `items` and tell how far it is, how fast, and how long it will take.

    On a terminal that is a bar; elsewhere a line a minute on stderr. `show` True draws the bar
    anywhere, False nothing. `done` items of `total` were ready before.
    """
    if show is None and not sys.stderr.isatty():
        yield from _logged(items, description, total, done)
        return
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

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), disable=show is False) as progress:
        task = progress.add_task(description, total=total, completed=done, rate="")
        for count, item in enumerate(items, start=1):
            yield item
            speed = count / max(time.monotonic() - started, 1e-9)
            progress.update(task, completed=done + count, rate=f"{speed:.3g}/s")


def _logged(items: Iterable[Item], description: str, total: int, done: int) -> Iterator[Item]:
    started = told = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        if (now := time.monotonic()) - told >= _LOG_SECONDS:
            told, speed = now, count / (now - started)
            minutes = (total - done - count) / speed / 60
            text = f"{description}: {done + count} of {total}, {speed:.3g}/s, {minutes:.0f} min left"
            print(text, file=sys.stderr, flush=True)


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    failed: Callable[[Item, str], Result],
    seconds: float | None = None,
    memory_bytes: int | None = None,
    engine: Engine = "pool",
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order.

    Args:
        function: a function of a module or a partial of one (it travels to the workers).
        workers: number of processes; 0 works in this one, without any protection.
        failed: makes the result of an item whose worker crashed ("crash") or took too long
            ("time").
        seconds: that one item may take.
        memory_bytes: address space that a worker may use; what needs more gets a `MemoryError`.
        engine: "ray" runs tasks of a Ray cluster (`workers` is up to it then), see RAY_ADDRESS.

    Raises:
        UserError: workers can't be started.
    """
    if engine == "ray":
        yield from _ray_map(function, items, failed, seconds, memory_bytes)
    elif workers < 0:
        raise UserError(f"workers is {workers}; it must be 0 (this process) or more")
    elif workers == 0:
        yield from map(function, items)
    else:
        pool = _Pool(workers, seconds, memory_bytes)
        try:
            yield from pool.map(function, items, failed)
        finally:
            pool.stop()


class _Pool:
    """A pebble pool that is started again when it breaks as a whole."""

    def __init__(self, workers: int, seconds: float | None, memory_bytes: int | None) -> None:
        self._workers, self._seconds, self._memory_bytes = workers, seconds, memory_bytes
        self._pool: ProcessPool | None = None

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        failed: Callable[[Item, str], Result],
    ) -> Iterator[Result]:
        waiting = iter(items)
        pending: deque[tuple[Item, ProcessFuture[Result]]] = deque()
        while True:
            for item in islice(waiting, _IN_FLIGHT * self._workers - len(pending)):
                pending.append((item, self._schedule(function, item)))
            if not pending:
                return
            item, future = pending.popleft()
            try:
                yield self._result(future, item, failed)
            except BrokenProcessPool:
                # All workers died at once. One by one, it shows whose fault it was.
                again = [item, *(other for other, _ in pending)]
                pending.clear()
                self.stop()
                yield from self._one_by_one(function, again, failed)

    def _schedule(self, function: Callable[[Item], Result], item: Item) -> ProcessFuture[Result]:
        from pebble import ProcessFuture

        try:
            return self._running().schedule(function, (item,), timeout=self._seconds)
        except (RuntimeError, BrokenProcessPool):  # it broke since the last look
            broken: ProcessFuture[Result] = ProcessFuture()
            broken.set_exception(BrokenProcessPool())
            return broken

    def _result(
        self,
        future: ProcessFuture[Result],
        item: Item,
        failed: Callable[[Item, str], Result],
    ) -> Result:
        from pebble import ProcessExpired

        try:
            return future.result()
        except TaskTimeoutError:
            return failed(item, "time")
        except ProcessExpired:
            return failed(item, "crash")

    def _one_by_one(
        self,
        function: Callable[[Item], Result],
        items: list[Item],
        failed: Callable[[Item, str], Result],
    ) -> Iterator[Result]:
        for item in items:
            future = self._schedule(function, item)
            try:
                yield self._result(future, item, failed)
            except BrokenProcessPool:
                self.stop()
                yield failed(item, "crash")

    def _running(self) -> ProcessPool:
        if self._pool is None:
            from pebble import ProcessPool

            # Spawned, not forked: the caller may hold threads (torch) whose locks a fork would
            # copy.
            self._pool = ProcessPool(
                self._workers,
                max_tasks=_TASKS_PER_WORKER,
                initializer=_prepare_worker,
                initargs=(self._memory_bytes,),
                context=multiprocessing.get_context("spawn"),
            )
            try:
                self._pool.schedule(os.getpid).result()
            except BrokenProcessPool as error:
                self.stop()
                raise UserError(
                    "worker processes can't be started; in a script, put the call below "
                    "`if __name__ == '__main__':`, or pass workers=0"
                ) from error
        return self._pool

    def stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
            pool.join()


def _prepare_worker(memory_bytes: int | None) -> None:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # one process per processor is parallel enough
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the caller, which ends the workers
    if sys.platform == "linux":
        die_with_parent = 1  # PR_SET_PDEATHSIG: a killed caller leaves no worker behind
        ctypes.CDLL(None).prctl(die_with_parent, signal.SIGKILL)
    if memory_bytes is not None:
        with contextlib.suppress(ImportError):  # not on Windows
            import resource

            _, most = resource.getrlimit(resource.RLIMIT_AS)
            limit = memory_bytes if most == resource.RLIM_INFINITY else min(memory_bytes, most)
            resource.setrlimit(resource.RLIMIT_AS, (limit, most))


# ------------------------------------------------------------------------------------ Ray


def _ray_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    failed: Callable[[Item, str], Result],
    seconds: float | None,
    memory_bytes: int | None,
) -> Iterator[Result]:
    ray = _start_ray()
    task = ray.remote(num_cpus=1, max_retries=-1)(_ray_task)
    # Told once and shared by all tasks.
    job = ray.put((function, failed, seconds, memory_bytes))
    waiting = iter(items)
    pending: deque[Any] = deque()
    in_flight = 3 * max(int(ray.cluster_resources().get("CPU", 1)), 1)
    while True:
        while len(pending) < in_flight and (batch := list(islice(waiting, _RAY_BATCH))):
            pending.append(task.remote(job, batch))
        if not pending:
            return
        yield from ray.get(pending.popleft())


def _start_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError("engine ray needs Ray: pip install 'rdtf[scale]'") from error
    if not ray.is_initialized():
        # RAY_ADDRESS joins a cluster; without it a Ray starts on this machine.
        try:
            ray.init(log_to_driver=False, configure_logging=False, include_dashboard=None)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"Ray can't be started or joined: {error}") from error
    return ray


def _ray_task(job: tuple[Any, Any, float | None, int | None], batch: list[Any]) -> list[Any]:
    """A batch in a worker of the cluster, which keeps a protected process of its own for it."""
    function, failed, seconds, memory_bytes = job
    return list(_ray_pool(seconds, memory_bytes).map(function, batch, failed))


@functools.cache
def _ray_pool(seconds: float | None, memory_bytes: int | None) -> _Pool:
    return _Pool(1, seconds, memory_bytes)
