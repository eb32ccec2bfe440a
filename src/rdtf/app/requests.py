"""What a REST request asks for, as a job; pictures in it by content, with a budget first."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rdtf.app.core import Core, clip_of
from rdtf.app.errors import Limits, ServiceError, TooLargeError
from rdtf.app.schema import CreateVideo, CreateVideoForm, Reference, VideoFields
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
from rdtf.stickers.export.measured import hidden_parts

_DATA_URL = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w=.+-]+)*;base64,", re.ASCII)
_PICTURES = "input_reference"  # the field that errors name
_NAME_CHARACTERS = 48
_DEFAULT_FRAMES = 8
_LEAST_SIDE = 16  # pixels; smaller pictures are enlarged to the model's canvas


# ------------------------------------------------------------------------------ pictures


def decode_upload(data: bytes, name: str | None, limits: Limits) -> Sticker:
    """The clip (or still) in an uploaded file.

    Args:
        data: content of the file.
        name: what the client calls it; used in messages only, never as a path.
        limits: `limits.upload` is checked against headers, before any pixel is decoded.

    Raises:
        TooLargeError: more bytes than the budget.
        ServiceError: not one of the formats, damaged, over the budget, or also something else (an
            archive, a document, a script). Any other tail is ignored: phones append videos.
    """
    shown = shown_name(name)
    budget = limits.upload
    if len(data) > budget.max_bytes:
        message = f"{shown} has {len(data)} bytes; the limit is {budget.max_bytes}"
        raise TooLargeError(message, param=_PICTURES)
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
    """The bytes of a `data:…;base64,…` URL; nothing is ever fetched.

    Raises:
        TooLargeError: longer than the limit.
        ServiceError: another kind of URL, or not base64.
    """
    if len(url) > limits.max_data_url_chars:
        message = f"a picture has {len(url)} characters; the limit is {limits.max_data_url_chars}"
        raise TooLargeError(message, param=_PICTURES)
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

    Raises:
        ServiceError: fields that do not fit each other; `param` names one.
    """
    check_prompt(asked.prompt, limits)
    if asked.size in (None, "auto"):
        given, output = _auto_sized(given, canvas)
    else:
        output = _output(asked.size)

    def check_frames(num_frames: int) -> None:
        """Before a clip of so many frames is allocated."""
        if num_frames > limits.max_frames:
            message = f"{num_frames} frames are too many; the limit is {limits.max_frames}"
            raise ServiceError(message, param="frames")

    try:
        # At the model's canvas, unless the pixels that came in are to come back.
        stickers = [visible(g.sticker) for g in given]
        if output != "input":
            stickers = [sticker.fit_canvas(canvas) for sticker in stickers]
        pictures = [Given(s, g.frame) for s, g in zip(stickers, given, strict=True)]
        if asked.task == "generate":
            default = min(_DEFAULT_FRAMES, max_frames)
            request = _generated(asked, pictures, canvas, default, check_frames)
        else:
            request = _completed(asked, _clip(pictures), check_frames)
    except ServiceError:
        raise
    except UserError as error:
        raise ServiceError(str(error)) from error
    return JobSpec(
        request=request,
        prompt=asked.prompt,
        seeds=new_seeds(asked.seed, 1),
        options=asked.options(),
        output=output,
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
        return blank_request(num_frames, (canvas, canvas), frame_ms)
    positions = [index if g.frame is None else g.frame for index, g in enumerate(given)]
    order = np.argsort(positions, kind="stable")
    stills = _stacked([given[index].sticker.select([0]) for index in order])
    return place(stills, [positions[index] for index in order], num_frames, frame_ms)


def _completed(
    asked: VideoFields, clip: Sticker, check_frames: Callable[[int], None]
) -> ClipRequest:
    """The tasks that start from a clip."""
    if asked.task == "interpolate":
        check_frames(clip.num_frames * asked.factor - (0 if asked.loop else asked.factor - 1))
        return interpolate_request(clip, asked.factor, asked.loop)
    if asked.task == "predict":
        check_frames(clip.num_frames + asked.after + asked.before)
        return predict_request(clip, asked.after, asked.before)
    if asked.known is None:
        raise ServiceError("fill needs known: the frames to keep, such as [0, 3]", param="known")
    check_frames(max(clip.num_frames, asked.frames or 0, max(asked.known, default=0) + 1))
    return fill_request(clip, asked.known, asked.frames, asked.frame_ms)


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


def _auto_sized(given: list[Given], canvas: int) -> tuple[list[Given], OutputSize]:
    """The size of the given pictures up to 512 px; the model's if there are none, or of many."""
    smaller = [Given(shrunk(g.sticker), g.frame) for g in given]
    sizes = {(g.sticker.width, g.sticker.height) for g in smaller}
    if len(sizes) != 1 or sizes == {(canvas, canvas)} or min(min(sizes)) < _LEAST_SIDE:
        return given, "canvas"
    return smaller, "input"


def _output(size: str | None) -> OutputSize:
    if size == "canvas" or size == "input":
        return size
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size or "", re.ASCII)
    if match is None:
        message = f"size {(size or '')[:20]!r} must be WIDTHxHEIGHT, auto, canvas or input"
        raise ServiceError(message, param="size")
    return int(match[2]), int(match[1])


def _platform(asked: VideoFields) -> str:
    """The id of the export; checked now, because nobody wants to wait for that."""
    from rdtf.stickers.export import find_platform

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
