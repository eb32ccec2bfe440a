"""A REST request, JSON or form, as a job; pictures in it by content, with a budget first."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartParser

from rdtf.app.core import Core, clip_of
from rdtf.app.errors import Limits, ServiceError, TooLargeError
from rdtf.app.schema import CreateVideo, Reference
from rdtf.app.spec import JobSpec, OutputSize, check_prompt, new_seeds
from rdtf.errors import UserError
from rdtf.sampling.requests import (
    DEFAULT_DURATION_MS,
    ClipRequest,
    blank_request,
    fill_request,
    interpolate_request,
    place,
    predict_request,
    shrunk,
    visible,
)
from rdtf.stickers import Sticker, decode_sticker
from rdtf.stickers.export.containers import hidden_parts

_DATA_URL = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w=.+-]+)*;base64,", re.ASCII)
_NAME_CHARACTERS = 48


def decode_upload(
    data: bytes, name: str | None, limits: Limits, *, param: str = "input_reference"
) -> Sticker:
    """The clip (or still) in an uploaded file.

    Args:
        data: content of the file.
        name: what the client calls it; used in messages only, never as a path.
        limits: `limits.upload` is checked against headers, before any pixel is decoded.
        param: the field that an error names.

    Raises:
        TooLargeError: more bytes than the budget.
        ServiceError: not one of the formats, damaged, over the budget, or also something else.
    """
    shown = shown_name(name)
    budget = limits.upload
    if len(data) > budget.max_bytes:
        message = f"{shown} has {len(data)} bytes; at most {budget.max_bytes} are taken"
        raise TooLargeError(message, param=param)
    try:
        _refuse_polyglot(data, shown)
        return decode_sticker(data, shown, budget=budget)
    except ServiceError:
        raise
    except UserError as error:
        message = str(error).replace("raise Budget.", "see the server's limit ")
        raise ServiceError(message, code="bad_picture", param=param) from error


def _refuse_polyglot(data: bytes, shown: str) -> None:
    """A file that is a picture and an archive, a document or a script too is no picture.

    Any other tail is ignored: phones append videos to their photos.
    """
    if found := hidden_parts(data):
        message = f"{shown} is not only a picture: it holds {'; '.join(found)}; refused"
        raise ServiceError(message, code="bad_picture", param="input_reference")


def shown_name(name: str | None) -> str:
    """A name that is safe to print: the last part, short, printable."""
    last = re.split(r"[/\\]", name or "")[-1]
    printable = "".join(c for c in last if c.isprintable())[:_NAME_CHARACTERS]
    return printable.strip(" .") or "the upload"


def decode_data_url(url: str, limits: Limits, *, param: str = "input_reference") -> bytes:
    """The bytes of a `data:…;base64,…` URL; nothing is ever fetched.

    Raises:
        TooLargeError: longer than the limit.
        ServiceError: another kind of URL, or not base64.
    """
    if len(url) > limits.max_data_url_chars:
        message = f"a picture has {len(url)} characters; at most {limits.max_data_url_chars}"
        raise TooLargeError(message, param=param)
    match = _DATA_URL.match(url[:256])
    if match is None:
        message = (
            "a picture in JSON must be a data URL (data:image/png;base64,...); none is fetched"
        )
        raise ServiceError(message, param=param)
    try:
        return base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ServiceError("a picture's data URL is not valid base64", param=param) from error


_MAX_FIELDS = 128
_POSITION = "input_reference_frame"

# Parts of a form stay in memory, which the limit on bodies bounds; no file is written for them.
MultiPartParser.spool_max_size = 2**40


@dataclass(frozen=True)
class Body:
    """A request as it came: fields, and the files of a form as (name, content, position)."""

    asked: CreateVideo
    files: tuple[tuple[str | None, bytes, int | None], ...] = ()


async def read_request(request: Request, limits: Limits) -> Body:
    """Parse the body.

    Raises:
        ServiceError: neither JSON nor a form, or fields that are unknown or wrong.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return Body(_validated(CreateVideo.model_validate_json, await request.body()))
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return await _read_form(request, limits)
    raise ServiceError("send application/json or multipart/form-data")


def _validated(validate: Any, value: Any) -> CreateVideo:
    try:
        return validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"][:1]) or None
        message = f"{param[:40]}: {first['msg']}" if param else first["msg"]
        raise ServiceError(message[:300], param=param) from error


async def _read_form(request: Request, limits: Limits) -> Body:
    most = limits.max_references
    async with request.form(
        max_files=most, max_fields=_MAX_FIELDS, max_part_size=limits.max_data_url_chars
    ) as form:
        fields: dict[str, Any] = {}
        uploads: list[tuple[str | None, bytes]] = []
        positions: list[str] = []
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name not in ("input_reference", "input_reference[]"):
                    raise ServiceError("files belong into input_reference", param=name[:40])
                uploads.append((value.filename, await value.read()))
            elif name in (_POSITION, f"{_POSITION}[]"):
                positions += value.split(",")
            elif name == "input_reference":
                fields.setdefault(name, []).append(value)
            elif value != "":
                fields[name] = value
    if "known" in fields:
        fields["known"] = [part for part in fields["known"].split(",") if part.strip()]
    asked = _validated(CreateVideo.model_validate, fields)
    frames = _positions(positions, len(uploads))
    files = zip(uploads, frames, strict=True)
    return Body(asked, tuple((name, data, frame) for (name, data), frame in files))


def _positions(texts: list[str], count: int) -> list[int | None]:
    if not texts:
        return [None] * count
    if len(texts) != count:
        raise ServiceError(
            f"{count} files need {count} positions, got {len(texts)}", param=_POSITION
        )
    if not all(text.strip().isdecimal() and len(text) < 9 for text in texts):
        raise ServiceError("positions are numbers from 0", param=_POSITION)
    return [int(text) for text in texts]


def to_given(body: Body, core: Core, owner: str) -> list[Given]:
    """Decode every picture of the request. Takes time and memory: not for the event loop."""
    references = body.asked.input_reference
    listed = references if isinstance(references, list) else [references] if references else []
    if len(listed) + len(body.files) > core.limits.max_references:
        most = core.limits.max_references
        raise ServiceError(f"at most {most} pictures are taken", param="input_reference")
    given = [_referenced(reference, core, owner) for reference in listed]
    for name, data, frame in body.files:
        given.append(Given(decode_upload(data, name, core.limits), frame))
    return given


def _referenced(reference: Reference | str, core: Core, owner: str) -> Given:
    if isinstance(reference, str):
        reference = Reference(image_url=reference)
    if (reference.image_url is None) == (reference.video_id is None):
        message = "a reference has one of image_url and video_id"
        raise ServiceError(message, param="input_reference")
    if reference.video_id is not None:
        return Given(clip_of(core.queue.get(reference.video_id, owner)), reference.frame)
    data = decode_data_url(reference.image_url or "", core.limits)
    return Given(decode_upload(data, "the picture", core.limits), reference.frame)


_DEFAULT_FRAMES = 8
_LEAST_SIDE = 16  # pixels; smaller pictures are enlarged to the model's canvas


@dataclass(frozen=True)
class Given:
    """A picture or clip that came with a request, and the slot that it is meant for."""

    sticker: Sticker
    frame: int | None = None


def to_spec(
    asked: CreateVideo, given: list[Given], canvas: int, max_frames: int, limits: Limits
) -> JobSpec:
    """What to do, within the limits.

    Args:
        canvas: side of the model's canvas in pixels.
        max_frames: of one window of the model; only the default length depends on it.

    Raises:
        ServiceError: fields that do not fit each other; `param` names one.
    """
    check_prompt(asked.prompt, limits)
    if asked.size in (None, "auto"):
        given, output = _auto_sized(given, canvas)
    else:
        output = _output(asked.size)
    try:
        pictures = [Given(_fitted(visible(g.sticker), canvas, output), g.frame) for g in given]
        request = _TASKS[asked.task](asked, pictures, _Frame(canvas, max_frames, limits))
    except ServiceError:
        raise
    except UserError as error:
        raise ServiceError(str(error)) from error
    return JobSpec(
        request=request,
        prompt=asked.prompt,
        seeds=new_seeds(asked.seed, 1),
        steps=asked.steps,
        guidance=asked.guidance,
        image_guidance=asked.image_guidance,
        motion=asked.motion,
        motion_scale=asked.motion_scale,
        loop=asked.loop,
        output=output,
        platform=_platform(asked),
        task=asked.task,
    )


@dataclass(frozen=True)
class _Frame:
    """What the model and the server allow."""

    canvas: int
    max_frames: int
    limits: Limits

    def check(self, num_frames: int) -> int:
        """Before a clip of so many frames is allocated."""
        most = self.limits.max_frames
        if num_frames > most:
            message = f"{num_frames} frames are too many; at most {most} are made"
            raise ServiceError(message, param="frames")
        return num_frames


def _fitted(sticker: Sticker, canvas: int, output: OutputSize) -> Sticker:
    """At the model's canvas, unless the pixels that came in are to come back."""
    return sticker if output == "input" else sticker.fit_canvas(canvas)


def _auto_sized(given: list[Given], canvas: int) -> tuple[list[Given], OutputSize]:
    """The size of the given pictures up to 512 px; the model's if there are none, or of many."""
    smaller = [Given(shrunk(g.sticker), g.frame) for g in given]
    sizes = {(g.sticker.width, g.sticker.height) for g in smaller}
    if len(sizes) != 1 or sizes == {(canvas, canvas)} or min(min(sizes)) < _LEAST_SIDE:
        return given, "canvas"
    return smaller, "input"


def _output(size: str) -> OutputSize:
    if size == "canvas":
        return "canvas"
    if size == "input":
        return "input"
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size, re.ASCII)
    if match is None:
        message = f"size {size[:20]!r} must be WIDTHxHEIGHT, auto, canvas or input"
        raise ServiceError(message, param="size")
    return int(match[2]), int(match[1])


def _platform(asked: CreateVideo) -> str:
    """The id of the export; checked now, because nobody wants to wait for that."""
    from rdtf.stickers.export import find_platform

    if asked.platform is not None and asked.format is not None:
        raise ServiceError("give platform or format, not both", param="format")
    name = asked.platform or asked.format or "webp"
    try:
        return find_platform(name[:40]).id
    except UserError as error:
        raise ServiceError(str(error), param="platform") from error


# ------------------------------------------------------------------------------ the tasks


def _length(asked: CreateVideo, otherwise: int) -> tuple[int, int]:
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


def _generate(asked: CreateVideo, given: list[Given], room: _Frame) -> ClipRequest:
    last = max((g.frame or 0 for g in given), default=0) + 1
    num_frames, frame_ms = _length(asked, max(min(_DEFAULT_FRAMES, room.max_frames), last))
    room.check(max(num_frames, last))
    if not given:
        return blank_request(num_frames, (room.canvas, room.canvas), frame_ms)
    positions = [index if g.frame is None else g.frame for index, g in enumerate(given)]
    order = np.argsort(positions, kind="stable")
    stills = _stacked([given[index].sticker.select([0]) for index in order])
    return place(stills, [positions[index] for index in order], num_frames, frame_ms)


def _interpolate(asked: CreateVideo, given: list[Given], room: _Frame) -> ClipRequest:
    clip = _clip(given)
    room.check((clip.num_frames - 1) * asked.factor + 1)
    return interpolate_request(clip, asked.factor)


def _predict(asked: CreateVideo, given: list[Given], room: _Frame) -> ClipRequest:
    clip = _clip(given)
    room.check(clip.num_frames + asked.after + asked.before)
    return predict_request(clip, asked.after, asked.before)


def _fill(asked: CreateVideo, given: list[Given], room: _Frame) -> ClipRequest:
    if asked.known is None:
        raise ServiceError("fill needs known: the frames to keep, such as [0, 3]", param="known")
    clip = _clip(given)
    room.check(max(clip.num_frames, asked.frames or 0, max(asked.known, default=0) + 1))
    return fill_request(clip, asked.known, asked.frames, asked.frame_ms)


_TASKS: dict[str, Callable[[CreateVideo, list[Given], _Frame], ClipRequest]] = {
    "generate": _generate,
    "interpolate": _interpolate,
    "predict": _predict,
    "fill": _fill,
}


def _clip(given: list[Given]) -> Sticker:
    """The clip that a task works on: one clip, or several stills in their order."""
    if not given:
        raise ServiceError("this task needs a clip in input_reference", param="input_reference")
    if any(g.frame is not None for g in given):
        raise ServiceError("only generate takes frame positions", param="input_reference")
    if len(given) == 1:
        return given[0].sticker
    return _stacked([g.sticker.select([0]) for g in given])


def _stacked(stills: list[Sticker]) -> Sticker:
    """Stills as one clip at the size of the first."""
    size = (stills[0].height, stills[0].width)
    frames = np.concatenate([still.fit_canvas(size).frames for still in stills])
    return Sticker(frames, np.full(len(frames), DEFAULT_DURATION_MS))


def remixed(spec: JobSpec, clip: Sticker, prompt: str, limits: Limits) -> JobSpec:
    """The same job with another prompt; its given frames are read back from its result."""
    frames = np.where(spec.request.known[:, None, None, None], clip.frames, 0).astype(np.uint8)
    request = ClipRequest(frames, spec.request.known, spec.request.durations_ms)
    return replace(spec, request=request, prompt=check_prompt(prompt, limits))
