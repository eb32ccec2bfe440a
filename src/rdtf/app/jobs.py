"""The queue: jobs wait in order, one worker makes them, every slot is freed whatever happens."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from rdtf.app.errors import Limits, ServiceError
from rdtf.app.job import Job, JobCancelledError, JobSpec, JobState
from rdtf.app.store import Store, finish
from rdtf.errors import UserError
from rdtf.fileio import no_room

if TYPE_CHECKING:
    from rdtf.app.runner import PipelineRunner

_SWEEP_S = 5.0
_MAX_RETRY_S = 600


class JobQueue:
    """Jobs of all clients and their one worker.

    Args:
        runner: makes the clips; called by one thread at a time.
        store: where results lie until they expire.
        clock: seconds since 1970; replaced in tests.
    """

    def __init__(
        self,
        runner: PipelineRunner,
        store: Store,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits or Limits()
        self._runner, self._store, self._clock = runner, store, clock
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._waiting: list[Job] = []
        self._served: dict[str, int] = {}  # client → number of its latest turn
        self._running: Job | None = None
        self._seconds_per_job: deque[float] = deque(maxlen=20)
        self._is_closed = False
        self._worker = threading.Thread(target=self._work, name="rdtf-worker", daemon=True)
        #: Called with a job that has just finished, by the worker.
        self.listeners: list[Callable[[Job], None]] = []
        with self._changed:
            self._take_up()

    def start(self) -> None:
        self._worker.start()

    def close(self, timeout_s: float | None = None) -> None:
        """Stop the worker. Durable jobs go on after a restart, all others are cancelled."""
        with self._changed:
            self._is_closed = True
            for job in [*self._waiting, *([self._running] if self._running else [])]:
                job.cancel.set()
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join(timeout_s)

    # ----------------------------------------------------------------- for clients

    @property
    def is_alive(self) -> bool:
        return self._worker.is_alive()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return int(self._running is not None)

    @property
    def num_kept(self) -> int:
        return len(self._jobs)

    def submit(
        self,
        spec: JobSpec,
        owner: str = "",
        *,
        client: str | None = None,
        max_own: int | None = None,
        remix_of: str | None = None,
        is_durable: bool = False,
    ) -> Job:
        """Put a job into the queue; clients take turns.

        Args:
            client: whose turn it takes; default: the owner's.
            max_own: how many jobs of the client may wait.
            is_durable: whether it survives a restart.
        """
        spec.check(self.limits)
        self._runner.check(spec)
        with self._changed:
            if self._is_closed:
                message = "the server is stopping; try again later"
                raise ServiceError(message, code="unavailable", retry_after_s=10)
            client = owner if client is None else client
            self._check_room(spec, client, max_own)
            job_id = f"video_{secrets.token_hex(16)}"
            job = Job(job_id, owner, spec, self._clock(), remix_of, client, is_durable)
            if is_durable:
                job.save_frames(self._store)
                job.save(self._store)
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def check_room(self, client: str = "", max_own: int | None = None) -> None:
        """Raise `ServiceError` if nothing more can wait: asked before an upload is decoded."""
        with self._changed:
            self._check_room(None, client, max_own)

    def get(self, job_id: str, owner: str = "") -> Job:
        """The job, if it exists, is not expired, and is `owner`'s."""
        with self._changed:
            job = self._jobs.get(job_id)
            if job is None or job.owner != owner or self._is_expired(job):
                message = "there is no such video; it may have expired"
                raise ServiceError(message, code="not_found", param="video_id")
            return job

    def list(self, owner: str = "") -> list[Job]:
        """All of `owner`'s jobs, oldest first."""
        with self._changed:
            jobs = self._jobs.values()
            return [job for job in jobs if job.owner == owner and not self._is_expired(job)]

    def position(self, job: Job) -> int:
        """How many jobs are before it; 0 = it is next or already there."""
        with self._changed:
            if job not in self._waiting:
                return 0
            waiting, served, turns = list(self._waiting), dict(self._served), self.num_running
            while (following := _following(waiting, served)) is not job:
                waiting.remove(following)
                turns += 1
            return turns

    def cancel(self, job: Job) -> None:
        """Free its slot: at once if it waits, at the next denoising step if it runs."""
        with self._changed:
            job.cancel.set()
            if job in self._waiting:
                self._waiting.remove(job)
                self._settle(job, JobState.CANCELLED)

    def delete(self, job: Job) -> None:
        """Cancel it if needed, and forget it with its files."""
        self.cancel(job)
        with self._changed:
            job.is_deleted = True
            self._jobs.pop(job.id, None)
            if job.is_finished:
                self._store.delete_job(job.id)

    def wait(self, job: Job, version: int = -1, timeout_s: float | None = None) -> int:
        """Wait until the job is newer than `version` (-1: finished); returns its version."""
        with self._changed:
            self._changed.wait_for(
                lambda: job.is_finished or (version >= 0 and job.version > version), timeout_s
            )
            return job.version

    def retry_after_s(self) -> int:
        """When a place is likely to be free, in whole seconds."""
        recent = self._seconds_per_job
        return max(1, min(_MAX_RETRY_S, round(sum(recent) / len(recent)) if recent else 5))

    def expire(self) -> None:
        """Forget what has expired or is too much; the worker does so now and then."""
        with self._changed:
            finished = [job for job in self._jobs.values() if job.is_finished]
            doomed = [job for job in finished if self._is_expired(job)]
            kept = [job for job in finished if not self._is_expired(job)]
            num_bytes = sum(_stored_bytes(job) for job in kept)
            for index, job in enumerate(kept):
                over = len(kept) - index > self.limits.max_kept
                if not over and num_bytes <= self.limits.max_kept_bytes:
                    break
                num_bytes -= _stored_bytes(job)
                doomed.append(job)
            for job in doomed:
                job.is_deleted = True
                self._jobs.pop(job.id, None)
                self._store.delete_job(job.id)

    # ------------------------------------------------------------------- inside

    def _check_room(self, spec: JobSpec | None, client: str, max_own: int | None) -> None:
        retry, problem, num_waiting = self.retry_after_s(), None, self.num_waiting
        num_bytes = sum(job.spec.request.frames.nbytes for job in self._waiting)
        num_bytes += 0 if spec is None else spec.request.frames.nbytes
        if num_waiting >= self.limits.max_waiting:
            problem = (
                f"the queue is full: {self.num_waiting} jobs are waiting; try again in {retry} s"
            )
        elif max_own is not None and sum(j.client == client for j in self._waiting) >= max_own:
            problem = f"{max_own} of your own jobs are waiting already; wait or cancel one"
        elif spec is not None and num_bytes > self.limits.max_waiting_bytes:
            problem = f"the queue is full: it holds too many pictures; try again in {retry} s"
        if problem:
            raise ServiceError(problem, code="queue_full", retry_after_s=retry)

    def _take_up(self) -> None:
        """Under the lock: jobs of an earlier server; those that waited wait again.

        One that was running when the server died may be why it died: it is reported as interrupted.
        """
        for job_id, row in self._store.rows():
            try:
                job = Job.load(self._store, job_id, row)
            except (OSError, ValueError, KeyError, TypeError):
                self._store.delete_job(job_id)
                continue
            self._jobs[job.id] = job
            if job.state is JobState.QUEUED:
                self._waiting.append(job)
            elif job.state is JobState.IN_PROGRESS:
                self._store.delete("jobs", job.id)
                message = "the server stopped while the video was being made; create it again"
                self._settle(job, JobState.FAILED, ServiceError(message, code="interrupted"))

    def _save(self, job: Job) -> None:
        """Under the lock: the row of a durable job; a full disk must not stop the worker."""
        if job.is_durable and not job.is_deleted:
            with contextlib.suppress(ServiceError):
                job.save(self._store)

    def _is_expired(self, job: Job) -> bool:
        return job.expires_s is not None and job.expires_s <= self._clock()

    def _touch(self, job: Job) -> None:
        with self._changed:
            job.version += 1
            self._changed.notify_all()

    def _settle(self, job: Job, state: JobState, error: ServiceError | None = None) -> None:
        """Under the lock: the end of a job. Its pixels are let go."""
        if self._is_closed and state is JobState.CANCELLED and job.is_durable:
            job.state, job.steps_done = JobState.QUEUED, 0  # its row: it is taken up again
            self._save(job)
            job.is_durable = False
        job.state, job.error = state, error
        job.finished_s = self._clock()
        job.expires_s = job.finished_s + self.limits.keep_seconds
        job.drop_pixels()
        job.version += 1
        if job.is_durable:
            self._save(job)
            job.delete_frames(self._store)
        self._changed.notify_all()

    def _work(self) -> None:
        self._runner.load()
        while (job := self._next()) is not None:
            started = time.monotonic()
            state, error = self._make(job)
            seconds = time.monotonic() - started
            with self._changed:
                self._running = None
                if job.is_deleted:
                    self._store.delete_job(job.id)
                    job.results = ()
                elif state is not JobState.COMPLETED and not (self._is_closed and job.is_durable):
                    self._store.delete("jobs", job.id)
                self._settle(job, state, error)
                if state is JobState.COMPLETED:
                    self._seconds_per_job.append(seconds)
            for listener in self.listeners:
                listener(job)
            self.expire()

    def _next(self) -> Job | None:
        """The next job to make, or None when the queue is closed."""
        while True:
            with self._changed:
                if not self._waiting and not self._is_closed:
                    self._changed.wait(_SWEEP_S)
                if self._is_closed:
                    while self._waiting:
                        self._settle(self._waiting.pop(0), JobState.CANCELLED)
                    return None
                if self._waiting:
                    job = _following(self._waiting, self._served)
                    self._waiting.remove(job)
                    job.state, job.started_s = JobState.IN_PROGRESS, self._clock()
                    job.version += 1
                    self._running = job
                    self._save(job)
                    self._changed.notify_all()
                    return job
            self.expire()

    def _make(self, job: Job) -> tuple[JobState, ServiceError | None]:
        """Run, export and store a job; whatever goes wrong becomes its error."""
        try:
            stickers = self._runner.run(job, lambda: self._touch(job))
            job.results = finish(self._store, job, stickers)
        except JobCancelledError:
            return JobState.CANCELLED, None
        except Exception as error:
            return JobState.FAILED, _as_service_error(error)
        return JobState.COMPLETED, None


def _following(waiting: list[Job], served: dict[str, int]) -> Job:
    """Whose turn it is: the oldest job of the client that was served longest ago.

    Notes the turn in `served`, which holds clients that wait and the latest one only.
    """
    job = min(waiting, key=lambda job: served.get(job.client, 0))
    turn = max(served.values(), default=0) + 1
    clients = {other.client for other in waiting}
    for client in [client for client in served if client not in clients]:
        del served[client]
    served[job.client] = turn
    return job


def _stored_bytes(job: Job) -> int:
    return sum(result.num_bytes_stored for result in job.results)


def _as_service_error(error: Exception) -> ServiceError:
    """Any failure as one that a client may see: no paths, no insides."""
    if isinstance(error, ServiceError):
        return error
    if reason := no_room(error):
        return ServiceError(f"the server can't store the result: {reason}", code="disk_full")
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return ServiceError(
            "the server ran out of memory; ask for fewer frames or a smaller size",
            code="out_of_memory",
        )
    if isinstance(error, UserError):
        reason = getattr(error, "reason", None)
        return ServiceError(str(error), code=f"export_{reason}" if reason else "invalid_request")
    return ServiceError(
        "the job failed by internal server error; see the server's log", code="internal"
    )
