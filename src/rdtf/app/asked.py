"""From the fields of a request to a `JobSpec`: the tasks in terms of given frames."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rdtf.app.errors import ServiceError
from rdtf.app.limits import Limits
from rdtf.app.schemas import CreateVideo
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
from rdtf.stickers import Sticker

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
