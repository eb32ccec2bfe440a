"""What REST requests ask for: their shapes (and so the OpenAPI document), and the job that follows.

Pictures are recognised by content, with a budget first.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
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

from rdtf.app.core import Core, clip_of
from rdtf.app.errors import Limits, ServiceError
from rdtf.app.job import JobSpec, check_prompt, new_seeds, within
from rdtf.errors import UserError
from rdtf.sampling.options import (
    MAX_SEED,
    NETWORK,
    OUTPUT_SIZES,
    SamplingOptions,
    check_motion,
    option_help,
    option_range,
)
from rdtf.sampling.requests import ClipRequest, shrunk, visible
from rdtf.stickers import Sticker, decode_sticker
from rdtf.stickers.export import find_platform
from rdtf.stickers.export.measured import hidden_parts
from rdtf.stickers.sticker import DEFAULT_DURATION_MS
from rdtf.synthetic.verbs import VERBS

_Seconds = Annotated[float, Field(gt=0, le=600)]
_Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
_Motion = Annotated[
    str, AfterValidator(check_motion), WithJsonSchema({"type": "string", "enum": [*VERBS, NETWORK]})
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
    seconds: _Seconds | None = Field(
        default=None, description="Length of the clip; a number or a text."
    )
    frames: PositiveInt | None = Field(default=None, description="Number of frames.")
    frame_ms: PositiveInt | None = Field(
        default=None, description="How long each frame is shown; default 100."
    )
    size: Annotated[str, Field(json_schema_extra=_SIZE)] | None = Field(
        default=None,
        description=option_help("output_size").partition("; a number")[0] + "; or WIDTHxHEIGHT.",
    )
    seed: _Seed | None = Field(
        default=None, description="The same seed gives the same sticker; default: a new one."
    )
    steps: Annotated[PositiveInt | None, _option("num_inference_steps")] = None
    guidance: Annotated[float | None, _option("guidance_scale")] = None
    image_guidance: Annotated[float | None, _option("image_guidance_scale")] = None
    loop: Annotated[bool, _option("loop")] = False
    motion: Annotated[_Motion | None, _option("motion")] = None
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
    seconds: _Seconds | None = None
    frames: PositiveInt | None = None
    seed: _Seed | None = None
    steps: Annotated[PositiveInt | None, _option("num_inference_steps")] = None


_DATA_URL = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w=.+-]+)*;base64,", re.ASCII)
_PICTURES = "input_reference"  # the field that errors name
_NAME_CHARACTERS = 48
_DEFAULT_FRAMES = 8
_LEAST_SIDE = 16  # pixels, of a size that is asked for


# ------------------------------------------------------------------------------ pictures


def decode_upload(data: bytes, name: str | None, limits: Limits) -> Sticker:
    """The clip (or still) in an uploaded file.

    Args:
        data: content of the file.
        name: what the client calls it; used in messages only, never as a path.
        limits: `limits.upload` is checked against headers, before any pixel is decoded.
    """
    shown = shown_name(name)
    budget = limits.upload
    if len(data) > budget.max_bytes:
        message = f"{shown} has {len(data)} bytes; the limit is {budget.max_bytes}"
        raise ServiceError(message, param=_PICTURES, code="too_large")
    try:
        if found := hidden_parts(data):
            message = f"{shown} is not only a picture: it holds {'; '.join(found)}; refused"
            raise UserError(message)
        return decode_sticker(data, shown, budget=budget)
    except UserError as error:
        message = str(error).replace("raise Budget.", "see the server's limit ")
        raise ServiceError(message, code="bad_picture", param=_PICTURES) from error


def shown_name(name: str | None) -> str:
    """A name that is safe to print: the last part, short, printable."""
    last = re.split(r"[/\\]", name or "")[-1]
    printable = "".join(c for c in last if c.isprintable())[:_NAME_CHARACTERS]
    return printable.strip(" .") or "the upload"


def decode_data_url(url: str, limits: Limits) -> bytes:
    """The bytes of a `data:…;base64,…` URL; nothing is ever fetched."""
    if len(url) > limits.max_data_url_chars:
        message = f"a picture has {len(url)} characters; the limit is {limits.max_data_url_chars}"
        raise ServiceError(message, param=_PICTURES, code="too_large")
    match = _DATA_URL.match(url[:256])
    if match is None:
        message = (
            "a picture in JSON must be a data URL (data:image/png;base64,...); URLs are not fetched"
        )
        raise ServiceError(message, param=_PICTURES)
    try:
        return base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ServiceError("a picture's data URL is not valid base64", param=_PICTURES) from error


@dataclass(frozen=True)
class Given:
    """A picture or clip that came with a request, and the frame that it is meant for."""

    sticker: Sticker
    frame: int | None = None


def given_of(asked: CreateVideo | CreateVideoForm, core: Core, owner: str) -> list[Given]:
    """Decode every picture of the request. Takes time and memory: not for the event loop."""
    limits = core.limits
    files = asked.input_reference if isinstance(asked, CreateVideoForm) else []
    references = asked.references() if isinstance(asked, CreateVideo) else []
    if len(files) + len(references) > limits.max_references:
        message = f"at most {limits.max_references} pictures are accepted"
        raise ServiceError(message, param=_PICTURES)
    if isinstance(asked, CreateVideo):
        return [_referenced(reference, core, owner) for reference in references]
    frames = asked.input_reference_frame or [None] * len(files)
    return [
        Given(decode_upload(upload.file.read(), upload.filename, limits), frame)
        for upload, frame in zip(files, frames, strict=True)
    ]


def _referenced(reference: Reference, core: Core, owner: str) -> Given:
    if (reference.image_url is None) == (reference.video_id is None):
        message = "a reference has one of image_url and video_id"
        raise ServiceError(message, param=_PICTURES)
    if reference.video_id is not None:
        return Given(clip_of(core.queue.get(reference.video_id, owner)), reference.frame)
    data = decode_data_url(reference.image_url or "", core.limits)
    return Given(decode_upload(data, "the picture", core.limits), reference.frame)


# ------------------------------------------------------------------------------ the job


def to_spec(
    asked: VideoFields, given: list[Given], canvas: int, max_frames: int, limits: Limits
) -> JobSpec:
    """What to do, within the limits.

    Args:
        canvas: side of the model's canvas in pixels.
        max_frames: of one window of the model; only the default length depends on it.
    """
    check_prompt(asked.prompt, limits)
    wanted, explicit = _sizes(asked.size, limits)

    def check_frames(num_frames: int) -> None:
        """Before a clip of so many frames is allocated."""
        if num_frames > limits.max_frames:
            message = f"{num_frames} frames are too many; the limit is {limits.max_frames}"
            raise ServiceError(message, param="frames")

    def fitted(sticker: Sticker) -> Sticker:
        """At the size that the result is to have."""
        if explicit is not None:
            return sticker.fit_canvas(explicit)
        if wanted == "canvas":
            return sticker.fit_canvas(canvas)
        return shrunk(sticker) if wanted == "auto" else sticker

    try:
        pictures = [Given(fitted(visible(g.sticker)), g.frame) for g in given]
        if asked.task == "generate":
            default = min(_DEFAULT_FRAMES, max_frames)
            request = _generated(asked, pictures, canvas, default, check_frames)
        else:
            request = _completed(asked, _clip(pictures), check_frames)
    except ServiceError:
        raise
    except UserError as error:
        raise ServiceError(str(error)) from error
    request, output, size = request.sized(wanted, canvas)
    return JobSpec(
        request=request,
        size=explicit or size,
        prompt=asked.prompt,
        seeds=new_seeds(asked.seed, 1),
        options=replace(asked.options(), output_size=output),
        platform=_platform(asked),
        task=asked.task,
    )


def _generated(
    asked: VideoFields,
    given: list[Given],
    canvas: int,
    default: int,
    check_frames: Callable[[int], None],
) -> ClipRequest:
    last = max((g.frame or 0 for g in given), default=0) + 1
    num_frames, frame_ms = _length(asked, max(default, last))
    check_frames(max(num_frames, last))
    if not given:
        return ClipRequest.blank(num_frames, (canvas, canvas), frame_ms)
    positions = [index if g.frame is None else g.frame for index, g in enumerate(given)]
    order = np.argsort(positions, kind="stable")
    stills = _stacked([given[index].sticker.select([0]) for index in order])
    return ClipRequest.place(stills, [positions[index] for index in order], num_frames, frame_ms)


def _completed(
    asked: VideoFields, clip: Sticker, check_frames: Callable[[int], None]
) -> ClipRequest:
    """The tasks that start from a clip."""
    if asked.task == "interpolate":
        check_frames(clip.num_frames * asked.factor - (0 if asked.loop else asked.factor - 1))
        return ClipRequest.interpolate(clip, asked.factor, asked.loop)
    if asked.task == "predict":
        check_frames(clip.num_frames + asked.after + asked.before)
        return ClipRequest.predict(clip, asked.after, asked.before)
    if asked.known is None:
        raise ServiceError("fill needs known: the frames to keep, such as [0, 3]", param="known")
    check_frames(max(clip.num_frames, asked.frames or 0, max(asked.known, default=0) + 1))
    return ClipRequest.fill(clip, asked.known, asked.frames, asked.frame_ms)


def _length(asked: VideoFields, otherwise: int) -> tuple[int, int]:
    """Frames and milliseconds of each, from any two of frames, seconds and frame_ms."""
    frame_ms = asked.frame_ms
    if asked.seconds is None:
        return asked.frames or otherwise, frame_ms or DEFAULT_DURATION_MS
    total_ms = round(asked.seconds * 1000)
    if asked.frames is not None:
        if frame_ms is not None:
            raise ServiceError("give two of frames, seconds and frame_ms, not all", param="seconds")
        return asked.frames, max(1, round(total_ms / asked.frames))
    frame_ms = frame_ms or DEFAULT_DURATION_MS
    return max(1, round(total_ms / frame_ms)), frame_ms


def _clip(given: list[Given]) -> Sticker:
    """The clip that a task works on: one clip, or several stills in their order."""
    if not given:
        raise ServiceError("this task needs a clip in input_reference", param=_PICTURES)
    if any(g.frame is not None for g in given):
        raise ServiceError("only generate takes frame positions", param=_PICTURES)
    if len(given) == 1:
        return given[0].sticker
    return _stacked([g.sticker.select([0]) for g in given])


def _stacked(stills: list[Sticker]) -> Sticker:
    """Stills as one clip at the size of the first."""
    size = (stills[0].height, stills[0].width)
    frames = np.concatenate([still.fit_canvas(size).frames for still in stills])
    return Sticker(frames, np.full(len(frames), DEFAULT_DURATION_MS))


def _sizes(size: str | None, limits: Limits) -> tuple[str, tuple[int, int] | None]:
    """`output_size` of the pipeline, and (height, width) if the client named them.

    Pictures are brought to a named size first, so that the result is made of their own pixels.
    """
    if size in (None, *OUTPUT_SIZES):
        return size or str(SamplingOptions.output_size), None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size or "", re.ASCII)
    if match is None:
        message = f"size {(size or '')[:20]!r} must be WIDTHxHEIGHT, {', '.join(OUTPUT_SIZES)}"
        raise ServiceError(message, param="size")
    height, width = int(match[2]), int(match[1])
    for side in (height, width):
        within("size", side, _LEAST_SIDE, limits.max_side)
    return "input", (height, width)


def _platform(asked: VideoFields) -> str:
    """The id of the export; checked now, because nobody wants to wait for that."""

    if asked.platform is not None and asked.format is not None:
        raise ServiceError("give platform or format, not both", param="format")
    name = asked.platform or asked.format or "webp"
    try:
        return find_platform(name[:40]).id
    except UserError as error:
        raise ServiceError(str(error), param="platform") from error


def remixed(spec: JobSpec, clip: Sticker, prompt: str, limits: Limits) -> JobSpec:
    """The same job with another prompt; its given frames are read back from its result."""
    frames = np.where(spec.request.known[:, None, None, None], clip.frames, 0).astype(np.uint8)
    request = ClipRequest(frames, spec.request.known, spec.request.durations_ms)
    return replace(spec, request=request, prompt=check_prompt(prompt, limits))
