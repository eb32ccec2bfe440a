"""The shapes of requests and answers: pydantic models, and with them the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rdtf.app.job import Job, JobState
from rdtf.app.spec import seconds_text
from rdtf.sampling.options import MAX_MOTION_SCALE

Task = Literal["generate", "interpolate", "predict", "fill"]


class Reference(BaseModel):
    """A given picture or clip: one of `image_url` and `video_id`."""

    model_config = ConfigDict(extra="forbid")
    image_url: str | None = Field(default=None, description="Data URL; nothing is fetched.")
    video_id: str | None = Field(default=None, description="A completed video of your own.")
    frame: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="The frame that it becomes, from 0; `generate` only."
    )


class CreateVideo(BaseModel):
    """What to make. Multipart forms have the same fields."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    prompt: str = Field(default="", description="What to show.")
    model: str | None = Field(default=None, description="Name of the model; see /v1/models.")
    task: Task = Field(
        default="generate",
        description="generate: from text, stills, or both; interpolate: frames between frames; "
        "predict: frames behind or in front; fill: all frames but `known`.",
    )
    input_reference: Reference | str | list[Reference | str] | None = Field(
        default=None, description="Given pictures: data URLs or objects; in a form, files."
    )
    seconds: Annotated[float, Field(gt=0, le=600)] | None = Field(
        default=None, description="Length of the clip; a number or a text."
    )
    frames: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Number of frames."
    )
    frame_ms: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="How long each frame is shown; default 100."
    )
    size: str | None = Field(
        default=None,
        description="`auto` (the default): that of the given pictures up to 512 pixels, made of "
        "their own pixels, or the model's; WIDTHxHEIGHT; `canvas`: the model's own; `input`: that "
        "of the given frames, which come back untouched.",
    )
    seed: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="The same seed gives the same sticker; default: a new one."
    )
    steps: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Denoising steps; default: the model's for the task."
    )
    guidance: float | None = Field(
        default=None, description="Of the text; 1 = off. Default: the model's for the task."
    )
    image_guidance: float | None = Field(
        default=None, description="Of the given frames; 1 = off. Default: the model's."
    )
    loop: bool = Field(default=False, description="The last frame leads back to the first.")
    motion: str | None = Field(
        default=None,
        description="A motion by name (jump, spin...), or `network`; default: by the prompt.",
    )
    motion_scale: Annotated[float, Field(ge=0, le=MAX_MOTION_SCALE)] = Field(
        default=1.0, description="How far things move: 1 = as the model says."
    )
    known: list[int] | None = Field(default=None, description="fill: frames to keep, from 0.")
    factor: Annotated[int, Field(ge=2)] = Field(
        default=2, description="interpolate: 2 = one between."
    )
    after: Annotated[int, Field(ge=0)] = Field(default=0, description="predict: frames behind.")
    before: Annotated[int, Field(ge=0)] = Field(default=0, description="predict: frames in front.")
    platform: str | None = Field(
        default=None, description="Export for a messenger (`rdtf export --list`); default webp."
    )
    format: str | None = Field(
        default=None, description="The same for a plain format: webp, gif, apng..."
    )


class Remix(BaseModel):
    """The same given frames, settings and seed, another text."""

    model_config = ConfigDict(extra="forbid")
    prompt: str


class VideoId(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str


class Extend(BaseModel):
    """More frames behind a completed video."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    video: VideoId
    prompt: str = ""
    seconds: Annotated[float, Field(gt=0, le=600)] | None = None
    frames: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None


class JobError(BaseModel):
    code: str
    message: str


class Video(BaseModel):
    """A job and what came of it."""

    id: str
    object: Literal["video"] = "video"
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int = Field(description="Percent.")
    created_at: int
    completed_at: int | None = None
    expires_at: int | None = None
    model: str
    prompt: str
    seconds: str
    size: str = Field(description="WIDTHxHEIGHT, or what was asked for until it is completed.")
    seed: int
    task: str
    frames: int
    platform: str
    queue_position: int | None = Field(default=None, description="Jobs before this one.")
    bytes: int | None = Field(default=None, description="Size of the content.")
    remixed_from_video_id: str | None = None
    error: JobError | None = None


class VideoList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class VideoDeleted(BaseModel):
    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str


class ErrorAnswer(BaseModel):
    """Every refusal has this shape."""

    error: ErrorBody


def to_video(job: Job, model: str, position: int) -> Video:
    """A job as clients see it. The interface has no "cancelled": that is a failure with a code."""
    status: Any = job.state.value
    error = None
    if job.state is JobState.CANCELLED:
        status, error = "failed", JobError(code="cancelled", message="it was cancelled")
    elif job.error is not None:
        error = JobError(code=job.error.code, message=str(job.error))
    spec, result = job.spec, job.results[0] if job.results else None
    return Video(
        id=job.id,
        status=status,
        progress=job.progress,
        created_at=int(job.created_s),
        completed_at=int(job.finished_s) if job.finished_s and error is None else None,
        expires_at=int(job.expires_s) if job.expires_s else None,
        model=model,
        prompt=spec.prompt,
        seconds=seconds_text(spec.request.durations_ms),
        size=f"{result.width}x{result.height}" if result else _size_text(job),
        seed=spec.seeds[0],
        task=spec.task,
        frames=spec.request.num_frames,
        platform=spec.platform,
        queue_position=position if job.state is JobState.QUEUED else None,
        bytes=result.num_bytes if result else None,
        remixed_from_video_id=job.remix_of,
        error=error,
    )


def _size_text(job: Job) -> str:
    output = job.spec.output
    return f"{output[1]}x{output[0]}" if isinstance(output, tuple) else output
