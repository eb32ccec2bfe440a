"""One job: what it is to make, how far it is, and its row in the store."""

from __future__ import annotations

import io
import secrets
import threading
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from rdtf.app.errors import Limits, ServiceError
from rdtf.app.store import Result, Store
from rdtf.sampling.options import MAX_SEED, SamplingOptions
from rdtf.sampling.requests import ClipRequest

_DURATIONS_MS = (1, 10_000)
_FRAMES_FILE = "request.npz"


@dataclass(frozen=True)
class JobSpec:
    """A clip to complete, and how.

    Attributes:
        request: the slots, and which frames are given.
        size: (height, width) of the result.
        prompt: text; "" = none.
        seeds: one variant for each.
        options: how to sample, but for generator and callback; with its `output_size` settled.
        platform: id of the export that is made of each variant; "webp" is the clip itself.
        task: what it was called by the client; decides nothing.
        previews: whether anybody looks while it is made.
    """

    request: ClipRequest
    size: tuple[int, int]
    prompt: str = ""
    seeds: tuple[int, ...] = (0,)
    options: SamplingOptions = field(default_factory=SamplingOptions)
    platform: str = "webp"
    task: str = "generate"
    previews: bool = False

    def check(self, limits: Limits) -> None:
        """Raise `ServiceError` for what is over the limits; `param` names the field."""
        request = self.request
        check_prompt(self.prompt, limits)
        within("frames", request.num_frames, 1, limits.max_frames)
        if self.options.num_inference_steps is not None:
            within("steps", self.options.num_inference_steps, 1, limits.max_steps)
        within("variants", len(self.seeds), 1, limits.max_variants)
        for seed in self.seeds:
            within("seed", seed, 0, MAX_SEED)
        within("frame_ms", int(request.durations_ms.min()), *_DURATIONS_MS)
        within("frame_ms", int(request.durations_ms.max()), *_DURATIONS_MS)
        for side in self.size:
            within("size", side, 1, limits.max_side)
        if request.frames.nbytes > limits.max_waiting_bytes:
            raise ServiceError(
                "the given frames are too large together; make them smaller", code="too_large"
            )
        if request.known.all():
            message = (
                "all frames are given, so there is nothing to make; give fewer, or ask for more"
            )
            raise ServiceError(f"{message} frames", param="frames")
        if not self.prompt.strip() and not request.known.any():
            raise ServiceError("nothing to start from: give a prompt, a picture, or both")


def check_prompt(prompt: str, limits: Limits) -> str:
    if len(prompt) > limits.max_prompt_chars:
        raise ServiceError(
            f"the prompt has {len(prompt)} characters; the limit is {limits.max_prompt_chars}",
            code="prompt_too_long",
            param="prompt",
        )
    if "\0" in prompt:
        raise ServiceError("the prompt holds a NUL character", param="prompt")
    return prompt


def within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # NaN is not within
        raise ServiceError(f"{name} is {value:g}; it must be {least:g} to {most:g}", param=name)


def new_seeds(seed: int | None, count: int) -> tuple[int, ...]:
    """`seed` and the numbers behind it; a random one if None."""
    first = secrets.randbelow(2**31) if seed is None else seed
    return tuple(range(first, first + count))


class JobState(StrEnum):
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_FINISHED = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


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
        return self.state in _FINISHED

    def check_cancelled(self) -> None:
        """Raise `JobCancelledError` if nobody wants it any more."""
        if self.cancel.is_set():
            raise JobCancelledError

    def drop_pixels(self) -> None:
        """Keep an empty picture only: it is done."""
        request = self.spec.request
        request = replace(request, frames=request.frames[:, :1, :1].copy())
        self.spec, self.preview = replace(self.spec, request=request), None

    def save(self, store: Store) -> None:
        """Write its row; the pixels are written by `save_frames` once."""
        row: dict[str, Any] = {name: getattr(self, name) for name in _ROW}
        row["spec"] = {
            **vars(self.spec),
            "request": {
                "known": self.spec.request.known.tolist(),
                "durations_ms": self.spec.request.durations_ms.tolist(),
            },
            "options": self.spec.options.arguments(),
        }
        row["results"] = [result.to_row() for result in self.results]
        if self.error is not None:
            row["error"] = {"message": str(self.error), "code": self.error.code}
        store.save_row(self.id, row)

    def save_frames(self, store: Store) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, frames=self.spec.request.frames)
        store.save("jobs", self.id, _FRAMES_FILE, buffer.getvalue())

    def delete_frames(self, store: Store) -> None:
        store.delete_file("jobs", self.id, _FRAMES_FILE)

    @classmethod
    def load(cls, store: Store, job_id: str, row: dict[str, Any]) -> Job:
        """The job of a row; one that was not finished has its pixels, read without pickle."""
        state, spec = JobState(row["state"]), row["spec"]
        known = np.array(spec["request"]["known"], bool)
        frames = np.zeros((len(known), 1, 1, 4), np.uint8)
        if state not in _FINISHED:
            data = io.BytesIO(store.read("jobs", job_id, _FRAMES_FILE))
            with np.load(data, allow_pickle=False) as stored:
                frames = stored["frames"]
        durations_ms = np.array(spec["request"]["durations_ms"], np.int64)
        spec = {
            **spec,
            "request": ClipRequest(frames, known, durations_ms),
            "size": tuple(spec["size"]),
            "seeds": tuple(spec["seeds"]),
            "options": SamplingOptions(**spec["options"]),
        }
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
