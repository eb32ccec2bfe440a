"""From what a call is given, one or several of it, to one job per sticker; and who hears of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from rdtf.errors import UserError
from rdtf.sampling.large import PixelArt
from rdtf.sampling.moving import MotionWindow
from rdtf.sampling.options import SamplingOptions, text
from rdtf.sampling.requests import ClipRequest
from rdtf.sampling.windows import Stage
from rdtf.stickers import Sticker
from rdtf.stickers.formats.pillow import to_rgba
from rdtf.stickers.sticker import DEFAULT_DURATION_MS
from rdtf.synthetic.grammar import MotionDraw


@dataclass(frozen=True)
class Job:
    """One sticker to make.

    request: its slots, and which are known; caption, negative: texts, "" = none;
    motion: of the grammar, by name or by the words; None = a network says it;
    predicted: the given frames' movement goes on, and nothing of it is drawn by chance;
    pixel_art: what made frames have to look like;
    stages: what to do, in order, each with its resolved options; generator: of its noise.
    """

    request: ClipRequest
    caption: str
    negative: str
    options: SamplingOptions
    stages: tuple[tuple[Stage, SamplingOptions], ...]
    generator: torch.Generator | None
    motion: MotionDraw | None = None
    predicted: bool = False
    pixel_art: PixelArt | None = None

    @property
    def is_settled(self) -> bool:
        """Whether frames are moved without sampling."""
        return self.motion is not None or self.predicted

    @property
    def sampled(self) -> list[SamplingOptions]:
        """Options of the stages in which something is sampled."""
        return [
            options
            for stage, options in self.stages
            if not (self.is_settled and isinstance(stage.window, MotionWindow))
        ]


def as_list(value: Any) -> list[Any] | None:
    """The members of a list or tuple; None if it is a single thing."""
    return list(value) if isinstance(value, (list, tuple)) else None


def paired(prompts: Any, images: Any) -> list[tuple[str | None, Any]]:
    """Prompts and images, one or a list of each, as pairs; one goes with all of the other.

    Raises:
        UserError: lists of unequal length or without a member, or a prompt that is no text.
    """
    prompt_list, image_list = as_list(prompts), as_list(images)
    if prompt_list is not None and image_list is not None and len(prompt_list) != len(image_list):
        raise UserError(
            f"{len(prompt_list)} prompts and {len(image_list)} images: give as many of each, or one"
        )
    count = len(prompt_list if prompt_list is not None else image_list or [None])
    if count == 0 or image_list == []:
        raise UserError("an empty list of prompts or images asks for nothing")
    pairs = list(zip(prompt_list or [prompts] * count, image_list or [images] * count, strict=True))
    for prompt, image in pairs:
        if not text("prompt", prompt).strip() and image is None:
            raise UserError("nothing to start from: give a prompt, an image, or both")
    return pairs


def one_each(name: str, value: Any, count: int, per_prompt: int = 1) -> list[Any]:
    """`value` for each of `count` stickers: the same for all, or a list of one each.

    Args:
        per_prompt: so many stickers in a row share a prompt; a list of one per prompt is taken too.

    Raises:
        UserError: a list of another length.
    """
    values = as_list(value)
    if values is None:
        return [value] * count
    if per_prompt > 1 and len(values) * per_prompt == count:
        return [value for value in values for _ in range(per_prompt)]
    if len(values) != count:
        raise UserError(f"{name} is a list of {len(values)}, for {count} stickers it takes {count}")
    return values


def generators(value: Any, count: int) -> list[torch.Generator | None]:
    """The generator of each sticker; a single one is used by one after the other.

    Raises:
        UserError: a list of another length, or something else.
    """
    each = one_each("generator", value, count)
    for generator in each:
        if generator is not None and not isinstance(generator, torch.Generator):
            raise UserError(f"generator must be a torch.Generator, not {type(generator).__name__}")
    return each


def as_sticker(source: Any) -> Sticker:
    """A sticker, a file, a PIL image, RGBA `uint8 [H, W, 4]` or `[F, H, W, 4]`, or a list of such
    frames, as a sticker.

    Raises:
        UserError: something else, or frames that are not of one size.
    """
    if isinstance(source, (str, Path)):
        return Sticker.load(source)
    if isinstance(source, Sticker):
        return source
    members = as_list(source)
    arrays = [_pixels(member) for member in ([source] if members is None else members)]
    if not arrays or len({array.shape for array in arrays}) > 1:
        raise UserError("the frames of a clip must be there, and of one size")
    frames = np.stack(arrays)
    frames = frames[0] if members is None and frames.ndim == 5 else frames
    return Sticker(frames, np.full(len(frames), DEFAULT_DURATION_MS))


def _pixels(source: Any) -> np.ndarray:
    if isinstance(source, Image.Image):
        return to_rgba(ImageOps.exif_transpose(source))
    if not isinstance(source, np.ndarray):
        kind = type(source).__name__
        raise UserError(f"a sticker, a file, an image or RGBA frames are needed, not {kind}")
    return source


class StepWatch:
    """The sampling loop's callback over all stickers and windows of a call: progress bar and the
    caller's function."""

    def __init__(self, pipeline: Any, options: SamplingOptions, bar: Any) -> None:
        self._pipeline, self._options, self._bar = pipeline, options, bar
        self._count = 0

    @property
    def interrupted(self) -> bool:
        """Whether the call is to end: what is there so far is the result."""
        return self._pipeline.interrupt

    def __call__(self, index: int, t: float, latents: Tensor) -> Tensor:
        """After step `index` of a window; the latents to go on with.

        A window that takes no sampling (a motion by name, or a prediction) counts as one step at
        t = 0.
        """
        callback = self._options.callback_on_step_end
        if callback is not None:
            timestep = self._pipeline.scheduler.timesteps[index] if t else torch.zeros(())
            tensors = dict.fromkeys(self._options.callback_on_step_end_tensor_inputs, latents)
            answer = callback(self._pipeline, self._count, timestep, tensors)
            if answer is not None and not isinstance(answer, dict):
                message = "callback_on_step_end must give back a dictionary of tensors, or None"
                raise UserError(message)
            shape, latents = latents.shape, (answer or {}).get("latents", latents)
            if not isinstance(latents, Tensor) or latents.shape != shape:
                message = f"callback_on_step_end must give back latents of shape {list(shape)}"
                raise UserError(message)
        self._count += 1
        self._bar.update()
        return latents
