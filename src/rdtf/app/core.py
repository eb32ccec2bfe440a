"""The parts of a running server, put together; REST and studio hold the same one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rdtf.app.errors import Limits, NotFoundError, NotReadyError, ServiceError, UnavailableError
from rdtf.app.job import Job, JobState
from rdtf.app.jobs import JobQueue
from rdtf.app.keys import ApiKeys
from rdtf.app.runner import PipelineRunner
from rdtf.app.store import Result, Store
from rdtf.errors import UserError
from rdtf.stickers import Sticker, encode_sticker


@dataclass(frozen=True)
class Core:
    """One model, one queue, one work folder."""

    runner: PipelineRunner
    queue: JobQueue
    store: Store
    limits: Limits
    keys: ApiKeys

    @classmethod
    def build(
        cls,
        runner: PipelineRunner,
        work: Path | str,
        limits: Limits | None = None,
        keys: ApiKeys | None = None,
    ) -> Core:
        """Everything but the worker, which `start` starts.

        Raises:
            UserError: the work folder can't be used.
        """
        limits = limits or Limits()
        store = Store(work)
        return cls(runner, JobQueue(runner, store, limits), store, limits, keys or ApiKeys())

    def start(self) -> None:
        """Start the worker, which first loads the model."""
        self.queue.start()

    def close(self) -> None:
        """Stop the worker; of the work folder only jobs that go on after a restart are kept."""
        self.queue.close(timeout_s=10)
        self.store.close()

    def check_ready(self) -> None:
        """Raise `UnavailableError` with the reason if no job could be done."""
        self.runner.pipeline(0)
        if not self.queue.is_alive:
            raise UnavailableError("the worker has stopped; restart the server")
        if not self.store.is_writable():
            raise UnavailableError("the work folder can't be written")


def result_of(job: Job, index: int = 0) -> Result:
    """A stored variant of a completed job.

    Raises:
        NotReadyError: it is not completed.
    """
    if job.state is JobState.COMPLETED:
        return job.results[index]
    if job.error is not None:
        raise NotReadyError(f"the video failed: {job.error}", code="failed")
    raise NotReadyError(f"the video is {job.state.value}; ask again when it is completed")


def clip_of(job: Job, index: int = 0) -> Sticker:
    """The clip of a completed job, every pixel of it."""
    try:
        return result_of(job, index).clip()
    except (OSError, UserError) as error:
        if isinstance(error, ServiceError):
            raise
        raise NotReadyError("the video has expired", code="not_found") from error


Variant = Literal["video", "thumbnail", "spritesheet"]


def content_of(job: Job, variant: Variant = "video") -> tuple[bytes, str, str]:
    """Bytes, media type and suffix.

    Raises:
        NotReadyError: the job is not completed.
        NotFoundError: it has just expired.
    """
    if variant == "video":
        result = result_of(job)
        try:
            return result.path.read_bytes(), result.media_type, result.suffix
        except OSError as error:
            raise NotFoundError("there is no such video; it may have expired") from error
    clip = clip_of(job)
    if variant == "thumbnail":
        return encode_sticker(clip.select([0]), ".png"), "image/png", ".png"
    from rdtf.stickers.export import export_sticker

    return export_sticker(clip, "sheet").data, "image/png", ".png"
