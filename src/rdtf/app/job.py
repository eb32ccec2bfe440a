"""One job: what is asked for, how far it is, and its row in the store."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from rdtf.app.errors import ServiceError
from rdtf.app.spec import JobSpec
from rdtf.app.store import Result, Store
from rdtf.sampling.options import SamplingOptions
from rdtf.sampling.requests import ClipRequest

FRAMES_FILE = "request.npz"


class JobState(StrEnum):
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class JobCancelledError(Exception):
    """Raised inside the sampling loop to leave it."""


@dataclass
class Job:
    """One job. Fields change under the queue's lock; `version` grows with every change.

    Attributes:
        owner: who may see it: a key, a studio session, or everybody ("").
        client: whose turn it takes: the owner, or an address where everybody sees every job.
        is_durable: whether it survives a restart.
        steps_done, steps_total: denoising steps over all windows and variants.
        preview: encoded WebP of what is being made, if the spec asks for previews.
        preview_variant: which variant that is.
        error: why it failed.
    """

    id: str
    owner: str
    spec: JobSpec
    created_s: float
    remix_of: str | None = None
    client: str = ""
    is_durable: bool = False
    state: JobState = JobState.QUEUED
    started_s: float | None = None
    finished_s: float | None = None
    expires_s: float | None = None
    steps_done: int = 0
    steps_total: int = 0
    preview: bytes | None = None
    preview_variant: int = 0
    results: tuple[Result, ...] = ()
    error: ServiceError | None = None
    version: int = 0
    is_deleted: bool = False
    cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def progress(self) -> int:
        """Percent; 100 only when it is completed."""
        if self.state is JobState.COMPLETED:
            return 100
        return min(99, 100 * self.steps_done // max(self.steps_total, 1))

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    def to_row(self) -> dict[str, Any]:
        """Plain values for JSON: all that outlives the process but the pixels."""
        spec = {**vars(self.spec), "request": None, "options": self.spec.options.arguments()}
        row: dict[str, Any] = {name: getattr(self, name) for name in _ROW}
        row["spec"] = spec
        row["known"] = self.spec.request.known.tolist()
        row["durations_ms"] = self.spec.request.durations_ms.tolist()
        row["results"] = [result.to_row() for result in self.results]
        if self.error is not None:
            row["error"] = {"message": str(self.error), "code": self.error.code}
        return row

    @classmethod
    def from_row(cls, store: Store, job_id: str, row: dict[str, Any]) -> Job:
        """The job of a row; one that was not finished has its pixels, read without pickle.

        Raises:
            OSError, ValueError, KeyError, TypeError: files or fields are missing or damaged.
        """
        state = JobState(row["state"])
        known = np.array(row["known"], bool)
        frames = np.zeros((len(known), 1, 1, 4), np.uint8)
        if state not in FINISHED:
            frames = _read_frames(store.read("jobs", job_id, FRAMES_FILE))
        request = ClipRequest(frames, known, np.array(row["durations_ms"], np.int64))
        spec = {**row["spec"], "request": request, "seeds": tuple(row["spec"]["seeds"])}
        spec["options"] = SamplingOptions(**spec["options"])
        spec["size"] = tuple(spec["size"])
        error = row.get("error")
        return cls(
            job_id,
            spec=JobSpec(**spec),
            results=tuple(Result.from_row(store, job_id, result) for result in row["results"]),
            error=ServiceError(error["message"], code=error["code"]) if error else None,
            is_durable=True,
            **{**{name: row[name] for name in _ROW}, "state": state},
        )


#: Fields of a job that its row holds as they are.
_ROW = (
    *("owner", "client", "remix_of", "state", "created_s", "started_s", "finished_s", "expires_s"),
    *("steps_done", "steps_total"),
)


def frames_bytes(frames: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, frames=frames)
    return buffer.getvalue()


def _read_frames(data: bytes) -> np.ndarray:
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return stored["frames"]
