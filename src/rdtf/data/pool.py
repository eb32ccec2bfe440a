"""Ordered maps over worker processes, here or on a Ray cluster, that survive a bad file.

Decoders are native code that is fed files from strangers. A worker that crashes, hangs or takes too
much memory costs the item that it was at, and is replaced.

This module imports nothing heavy: it is the first thing that a new worker loads, and it limits the
threads of the numerical libraries before they start.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from rdtf.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
Engine = Literal["pool", "ray"]
ENGINES: tuple[Engine, ...] = ("pool", "ray")

_SMALL_JOB = 16  # starting processes takes longer than this many stickers
_IN_FLIGHT = 64  # items per worker: one slow item holds up few, and few are held in memory
_ITEMS_AT_ONCE = 8  # of a worker: it goes on while the caller is busy
_RAY_BATCH = 16  # items of a Ray task: passing them on costs some milliseconds
_RENEWED_AFTER = 10_000  # items: native decoders leak, a new worker starts afresh
_LOG_SECONDS = 60.0


def processors() -> int:
    """Processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def default_workers(num_items: int) -> int:
    """0 (this process) for a small job, else one worker per processor."""
    return 0 if num_items <= _SMALL_JOB else processors()


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
            text = (
                f"{description}: {done + count} of {total}, {speed:.3g}/s, {minutes:.0f} min left"
            )
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
        memory_bytes: of data that a worker may hold, beyond what importing `function` took; what
            needs more gets a `MemoryError`.
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
        pool = _Pool(function, workers, seconds, memory_bytes)
        try:
            yield from pool.map(items, failed)
        finally:
            pool.stop()


class _Worker:
    """A process and the items that it is at: it gets a few at once and answers one by one."""

    def __init__(self, function: Callable[[Any], Any], memory_bytes: int | None) -> None:
        # Spawned, not forked: the caller may hold threads (torch) whose locks a fork would copy.
        context = multiprocessing.get_context("spawn")
        self.connection, other_end = context.Pipe()
        self._process = context.Process(target=_work, args=(other_end, memory_bytes), daemon=True)
        self._process.start()
        other_end.close()
        with contextlib.suppress(OSError):
            self.connection.send(function)
        self.items: deque[tuple[int, Any]] = deque()
        self.num_done = 0
        self.since: float | None = None  # when it began its first item; None: it is starting

    @property
    def is_started(self) -> bool:
        return self.since is not None

    def give(self, items: list[tuple[int, Any]]) -> None:
        # Only to a worker that waits: two that write to each other would wait for ever.
        self.items.extend(items)
        self.since = time.monotonic()
        with contextlib.suppress(OSError):  # it died: its end of the pipe tells
            self.connection.send([item for _, item in items])

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


class _Pool:
    """Processes that apply `function` to items, each of which may fail on its own."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        workers: int,
        seconds: float | None,
        memory_bytes: int | None,
    ) -> None:
        self._function, self._memory_bytes = function, memory_bytes
        self._limit, self._seconds = workers, seconds
        self._workers: list[_Worker] = []

    def map(self, items: Iterable[Any], failed: Callable[[Any, str], Any]) -> Iterator[Any]:
        waiting = enumerate(items)
        again: deque[tuple[int, Any]] = deque()
        results: dict[int, Any] = {}
        taken = following = 0
        while True:
            while following in results:
                yield results.pop(following)
                following += 1
            room = _IN_FLIGHT * self._limit - (taken - following)
            fresh = list(islice(waiting, room))
            again.extend(fresh)
            taken += len(fresh)
            if following == taken:
                return
            for worker in self._idle():
                share = -(-len(again) // self._limit)
                given = [again.popleft() for _ in range(min(share, _ITEMS_AT_ONCE))]
                if given:
                    worker.give(given)
            for index, result in self._next_results(again, failed):
                results[index] = result

    def _idle(self) -> list[_Worker]:
        """Workers that wait for items, after those that are missing were started."""
        for worker in [w for w in self._workers if not w.items and w.num_done >= _RENEWED_AFTER]:
            self._drop(worker)
        while len(self._workers) < self._limit:
            self._workers.append(_Worker(self._function, self._memory_bytes))
        return [worker for worker in self._workers if worker.is_started and not worker.items]

    def _next_results(
        self, again: deque[tuple[int, Any]], failed: Callable[[Any, str], Any]
    ) -> Iterator[tuple[int, Any]]:
        """Wait for a result or a failure. Items behind a failed one are put into `again`."""
        busy = {w.connection: w for w in self._workers if w.items or not w.is_started}
        started = [worker.since for worker in busy.values() if worker.since is not None]
        timeout = None
        if self._seconds is not None and started:
            timeout = max(min(started) + self._seconds - time.monotonic(), 0)
        ready = multiprocessing.connection.wait(list(busy), timeout)
        for connection, worker in busy.items():
            kind, value = "", None
            if connection in ready:
                try:
                    kind, value = worker.connection.recv()
                except (EOFError, OSError):
                    kind = "crash"
            elif self._seconds is not None and worker.since is not None:
                overdue = time.monotonic() - worker.since > self._seconds
                kind = "time" if overdue else ""
            if kind == "error":
                assert isinstance(value, Exception)
                raise value
            if kind == "crash" and not worker.is_started:
                raise UserError(
                    "worker processes can't be started; in a script, put the call below "
                    "`if __name__ == '__main__':`, or pass workers=0"
                )
            if kind in ("crash", "time"):
                index, item = worker.items.popleft()
                again.extendleft(reversed(worker.items))
                self._drop(worker)
                yield index, failed(item, kind)
            elif kind:
                worker.since = time.monotonic()
                if kind == "result":
                    worker.num_done += 1
                    yield worker.items.popleft()[0], value

    def _drop(self, worker: _Worker) -> None:
        worker.stop()
        self._workers.remove(worker)

    def stop(self) -> None:
        for worker in self._workers[:]:
            self._drop(worker)


def _work(connection: Any, memory_bytes: int | None) -> None:
    """A worker's life: lists of items in, ("result", ...) or ("error", ...) for each one out."""
    _prepare_worker()
    with contextlib.suppress(EOFError, OSError):  # the caller has ended
        function = connection.recv()  # imports numpy: after the threads were limited
        if memory_bytes is not None:
            _limit_memory(memory_bytes)
        connection.send(("started", None))
        while True:
            for item in connection.recv():
                try:
                    answer = ("result", function(item))
                except Exception as error:
                    answer = ("error", error)
                connection.send(answer)


def _prepare_worker() -> None:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # one process per processor is parallel enough
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the caller, which ends the workers
    if sys.platform == "linux":
        die_with_parent = 1  # PR_SET_PDEATHSIG: a killed caller leaves no worker behind
        ctypes.CDLL(None).prctl(die_with_parent, signal.SIGKILL)


def _limit_memory(num_bytes: int) -> None:
    """Let this process hold so much more data than it holds now, as imported libraries do."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    now = 0
    with contextlib.suppress(OSError), Path("/proc/self/statm").open() as file:
        now = int(file.read().split()[5]) * resource.getpagesize()
    # Not the address space: libraries reserve much more of it than they ever touch.
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = now + num_bytes
    limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


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
    job = ray.put((secrets.token_hex(8), function, failed, seconds, memory_bytes))
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
        # By name: the types are checked without the extra `scale` too.
        ray: Any = import_module("ray")
    except ImportError as error:
        raise UserError("engine ray needs Ray: pip install 'rdtf[scale]'") from error
    if not ray.is_initialized():
        # RAY_ADDRESS joins a cluster. Without it a Ray starts on this machine: left to itself, Ray
        # would look for the last cluster that ran here, which may be gone.
        try:
            address = os.environ.get("RAY_ADDRESS") or "local"
            dashboard = False if address == "local" else None
            ray.init(
                address,
                log_to_driver=False,
                configure_logging=False,
                include_dashboard=dashboard,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"Ray can't be started or joined: {error}") from error
    return ray


def _ray_task(job: tuple[str, Any, Any, float | None, int | None], batch: list[Any]) -> list[Any]:
    """A batch in a worker of the cluster, which keeps a protected process of its own for it."""
    name, function, failed, seconds, memory_bytes = job
    if name not in _ray_pools:
        for pool in _ray_pools.values():
            pool.stop()
        _ray_pools.clear()
        _ray_pools[name] = _Pool(function, 1, seconds, memory_bytes)
    return list(_ray_pools[name].map(batch, failed))


_ray_pools: dict[str, _Pool] = {}  # one at most
