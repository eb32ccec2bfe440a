"""The shapes of requests and answers: pydantic models, and with them the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from rdtf.app.job import Job, JobState
from rdtf.sampling.options import (
    MAX_SEED,
    NETWORK,
    SamplingOptions,
    check_motion,
    option_help,
    option_range,
)
from rdtf.synthetic.verbs import VERBS

Seconds = Annotated[float, Field(gt=0, le=600)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Motion = Annotated[
    str,
    AfterValidator(check_motion),
    WithJsonSchema({"type": "string", "enum": [*VERBS, NETWORK]}),
]
_SIZE: dict[str, Any] = {"pattern": "^(auto|canvas|input|[0-9]{1,5}x[0-9]{1,5})$"}


def _option(name: str) -> Any:
    """Text and range of the sampling option `name`."""
    least, most = option_range(name)
    return Field(description=option_help(name), ge=least, le=most)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Reference(_Body):
    """A given picture or clip: one of `image_url` and `video_id`."""

    image_url: str | None = Field(default=None, description="Data URL; other URLs are not fetched.")
    video_id: str | None = Field(default=None, description="A completed video of your own.")
    frame: NonNegativeInt | None = Field(
        default=None, description="The frame that it becomes, from 0; `generate` only."
    )


class VideoFields(_Body):
    """What to make, but for the given pictures."""

    prompt: str = Field(default="", description="What to show.")
    model: str | None = Field(default=None, description="Name of the model; see /v1/models.")
    task: Literal["generate", "interpolate", "predict", "fill"] = Field(
        default="generate",
        description="generate: from text, stills, or both; interpolate: new frames between frames; "
        "predict: new frames at the end or start; fill: all frames but `known`.",
    )
    seconds: Seconds | None = Field(
        default=None, description="Length of the clip; a number or a text."
    )
    frames: PositiveInt | None = Field(default=None, description="Number of frames.")
    frame_ms: PositiveInt | None = Field(
        default=None, description="How long each frame is shown; default 100."
    )
    size: Annotated[str, Field(json_schema_extra=_SIZE)] | None = Field(
        default=None,
        description="`auto` (the default): that of the given pictures up to 512 pixels, made of "
        "their own pixels, or the model's; WIDTHxHEIGHT; `canvas`: the model's own; `input`: that "
        "of the given frames, which come back untouched.",
    )
    seed: Seed | None = Field(
        default=None, description="The same seed gives the same sticker; default: a new one."
    )
    steps: Annotated[PositiveInt | None, _option("num_inference_steps")] = None
    guidance: Annotated[float | None, _option("guidance_scale")] = None
    image_guidance: Annotated[float | None, _option("image_guidance_scale")] = None
    loop: Annotated[bool, _option("loop")] = False
    motion: Annotated[Motion | None, _option("motion")] = None
    motion_scale: Annotated[float, _option("motion_scale")] = 1.0
    known: list[NonNegativeInt] | None = Field(
        default=None, description="fill: frames to keep, from 0."
    )
    factor: Annotated[int, Field(ge=2)] = Field(
        default=2, description="interpolate: 2 = one new frame between any two."
    )
    after: NonNegativeInt = Field(default=0, description="predict: frames to add at the end.")
    before: NonNegativeInt = Field(default=0, description="predict: frames to add at the start.")
    platform: str | None = Field(
        default=None, description="Export for a messenger (`rdtf export --list`); default webp."
    )
    format: str | None = Field(
        default=None, description="The same for a plain format: webp, gif, apng..."
    )

    def options(self) -> SamplingOptions:
        return SamplingOptions(
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            image_guidance_scale=self.image_guidance,
            motion=self.motion,
            motion_scale=self.motion_scale,
            loop=self.loop,
        )


class CreateVideo(VideoFields):
    """What to make."""

    input_reference: Reference | str | list[Reference | str] | None = Field(
        default=None, description="Given pictures: data URLs or objects, one or a list."
    )

    def references(self) -> list[Reference]:
        sent = self.input_reference
        listed = sent if isinstance(sent, list) else [] if sent is None else [sent]
        return [Reference(image_url=one) if isinstance(one, str) else one for one in listed]


def _without_null(schema: dict[str, Any]) -> None:
    """A form knows no null: what may be missing is one type, and not required."""
    for name, entry in schema["properties"].items():
        if len(kinds := [kind for kind in entry.get("anyOf", ()) if kind["type"] != "null"]) == 1:
            plain = {key: value for key, value in entry.items() if key not in ("anyOf", "default")}
            schema["properties"][name] = {**plain, **kinds[0]}


class CreateVideoForm(VideoFields):
    """The same as a form with files. Lists are repeated fields, or numbers with commas."""

    model_config = ConfigDict(json_schema_extra=_without_null)
    input_reference: list[UploadFile] = Field(default=[], description="Given pictures: files.")
    input_reference_frame: list[NonNegativeInt] = Field(
        default=[], description="The frame that each file becomes, in the order of the files."
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if value != ""}

    @field_validator("known", "input_reference_frame", mode="before")
    @classmethod
    def _split(cls, parts: Any) -> Any:
        if not isinstance(parts, list):
            return parts
        return [one for part in parts for one in str(part).split(",") if one.strip()]

    @field_validator("input_reference_frame")
    @classmethod
    def _one_for_each_file(cls, frames: list[int], info: Any) -> list[int]:
        count = len(info.data.get("input_reference", ()))
        if frames and len(frames) != count:
            raise ValueError(f"{count} files need {count} positions, got {len(frames)}")
        return frames


class Remix(_Body):
    """The same given frames, settings and seed, another text."""

    prompt: str


class VideoId(_Body):
    id: str


class Extend(_Body):
    """More frames behind a completed video."""

    video: VideoId
    prompt: str = ""
    seconds: Seconds | None = None
    frames: PositiveInt | None = None
    seed: Seed | None = None
    steps: Annotated[PositiveInt | None, _option("num_inference_steps")] = None


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
    motion: str | None = Field(
        default=None, description="What was understood of the words, and the motion that it is."
    )
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
        seconds=f"{int(spec.request.durations_ms.sum()) / 1000:g}",
        size=f"{result.width}x{result.height}" if result else _size_text(job),
        seed=spec.seeds[0],
        task=spec.task,
        frames=spec.request.num_frames,
        platform=spec.platform,
        queue_position=position if job.state is JobState.QUEUED else None,
        bytes=result.num_bytes if result else None,
        motion=(result.motion or None) if result else None,
        remixed_from_video_id=job.remix_of,
        error=error,
    )


def _size_text(job: Job) -> str:
    output = job.spec.output
    return f"{output[1]}x{output[0]}" if isinstance(output, tuple) else output
