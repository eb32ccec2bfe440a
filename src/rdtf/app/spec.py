"""What one job is to make: checked once, then the same for REST and studio."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace

import numpy as np

from rdtf.app.errors import Limits, ServiceError, TooLargeError
from rdtf.sampling.options import MAX_SEED, SamplingOptions
from rdtf.sampling.requests import ClipRequest, auto_sized

_DURATIONS_MS = (1, 10_000)


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

    @property
    def num_bytes(self) -> int:
        return int(self.request.frames.nbytes)

    @property
    def known(self) -> tuple[int, ...]:
        return tuple(np.flatnonzero(self.request.known).tolist())

    def without_pixels(self) -> JobSpec:
        """The same with an empty picture: what is kept of a job that is done."""
        request = self.request
        return replace(self, request=replace(request, frames=request.frames[:, :1, :1].copy()))


def settled_size(
    request: ClipRequest, output_size: str, canvas: int
) -> tuple[ClipRequest, str, tuple[int, int]]:
    """Request, `output_size` and (height, width) of the result, with "auto" settled."""
    request, output = auto_sized(request, output_size, canvas)
    height, width = request.frames.shape[1:3] if output == "input" else (canvas, canvas)
    return request, str(output), (height, width)


def check_spec(spec: JobSpec, limits: Limits) -> JobSpec:
    """`spec` itself if it is within the limits.

    Raises:
        ServiceError: it is not; `param` names the field.
    """
    request = spec.request
    check_prompt(spec.prompt, limits)
    within("frames", request.num_frames, 1, limits.max_frames)
    if spec.options.num_inference_steps is not None:
        within("steps", spec.options.num_inference_steps, 1, limits.max_steps)
    within("variants", len(spec.seeds), 1, limits.max_variants)
    for seed in spec.seeds:
        within("seed", seed, 0, MAX_SEED)
    within("frame_ms", int(request.durations_ms.min()), *_DURATIONS_MS)
    within("frame_ms", int(request.durations_ms.max()), *_DURATIONS_MS)
    for side in spec.size:
        within("size", side, 1, limits.max_side)
    if spec.num_bytes > limits.max_waiting_bytes:
        raise TooLargeError("the given frames are too large together; make them smaller")
    if request.known.all():
        raise ServiceError(
            "all frames are given, so there is nothing to make; give fewer, or ask for more frames",
            param="frames",
        )
    if not spec.prompt.strip() and not request.known.any():
        raise ServiceError("nothing to start from: give a prompt, a picture, or both")
    return spec


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
    return tuple(first + index for index in range(count))
