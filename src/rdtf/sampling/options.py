"""How to sample: the options that all methods of the pipeline share.

Imports no torch, so that the command line refuses a wrong option at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from rdtf.errors import UserError

if TYPE_CHECKING:
    import torch

    from rdtf.sampling.defaults import TaskSampling

StepCallback = Callable[[int, float, Any], Any]
StepEndCallback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any] | None]
#: The motion that is drawn by the network whatever the words are.
NETWORK = "network"
#: What `callback_on_step_end` may ask for and replace.
CALLBACK_TENSORS = ("latents",)
#: Size of the result unless another is asked for: see `SamplingOptions.output_size`.
AUTO_SIZE = "auto"
LARGEST_AUTO_SIDE, LARGEST_SIDE = 512, 2048
MAX_SEED = 2**63 - 1024  # the largest that JSON's floats hold exactly
NO_MOTION = "this model has no motion network, so it takes no motion by name"
CANNOT_DRAW = "this model animates pictures and can't draw from text alone; add a picture"


def _within(default: Any, least: float, most: float) -> Any:
    """A number with its range; None is not checked."""
    return field(default=default, metadata={"least": least, "most": most})


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample: the one source of what the command line, REST, the studio and ComfyUI offer.

    They take names, texts (`option_help`) and ranges (`option_range`) from here.

    Args:
        num_inference_steps: Denoising steps per window of frames: fewer are faster. Default: the
            model's for the task, see docs/model.md.
        guidance_scale: How strongly to follow the text; 1 = off. Default: the model's for the task.
        image_guidance_scale: How strongly what is drawn follows the given frames; 1 = off. Default:
            the model's for the task. A model that only moves given pictures takes no other value.
        eta: Noise that DDIM adds in its steps, 0 to 1; other schedulers have none.
        motion_scale: How far things move beyond the given frames: 0.5 = half as far, 2 = twice.
        motion: A motion by name, such as jump, spin or wobble. Default: by the text; a text that
            names no motion breathes and sways a little. "network" = all by the motion network.
        negative_prompt: what the text guidance leads away from, for all or a list with one for each
            prompt; without guidance it says nothing.
        generator: noise is drawn with it, for all or a list with one for each sticker. A CPU
            generator gives the same sticker on every device.
        callback: called after each step with (index in the window, noise level, latents).
        callback_on_step_end: diffusers' callback, called after each step with (pipeline, index of
            `pipeline.num_timesteps` steps, timestep, {name: tensor}); tensors of the dictionary
            that it returns replace the pipeline's.
        callback_on_step_end_tensor_inputs: which tensors it gets; there are "latents"
            `[1, C, F, h, w]`.
        output_size: "canvas" = all frames at the model's canvas; "input" = at the size of the given
            frames, which then are the very pixels that came in; "auto" = "input" up to 512 pixels,
            or "canvas" if nothing is given; a number = a square of so many pixels. Above the
            canvas, made frames are composed of the given frames' own pixels, as far as they show
            what was given.
        loop: Make a loop: the last frame leads back to the first and does not repeat it.
    """

    num_inference_steps: int | None = None
    guidance_scale: float | None = _within(None, 0, 30)
    image_guidance_scale: float | None = _within(None, 0, 30)
    eta: float | None = _within(None, 0, 1)
    motion_scale: float = _within(1.0, 0, 4)
    motion: str | None = None
    negative_prompt: str | Sequence[str] | None = None
    generator: torch.Generator | Sequence[torch.Generator] | None = None
    callback: StepCallback | None = None
    callback_on_step_end: StepEndCallback | None = None
    callback_on_step_end_tensor_inputs: Sequence[str] = CALLBACK_TENSORS
    output_size: str | int = "canvas"
    loop: bool = False

    @classmethod
    def of(cls, **values: Any) -> SamplingOptions:
        """Checked options.

        Raises:
            TypeError: an option that there is not.
            UserError: a value that does not fit.
        """
        names = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise TypeError(f"there is no option {unknown[0]!r}; there are {', '.join(names)}")
        return cls(**values)

    def __post_init__(self) -> None:
        from rdtf.sampling.checks import real, text, whole

        if self.num_inference_steps is not None:
            whole("steps", self.num_inference_steps, 1)
        for option in fields(self):
            value = getattr(self, option.name)
            if option.metadata and not (value is None and option.default is None):
                real(option.name, value, **option.metadata)
        check_output_size(self.output_size)
        check_motion(self.motion)
        negatives = self.negative_prompt
        for negative in negatives if isinstance(negatives, (list, tuple)) else [negatives]:
            text("negative_prompt", negative)
        for name in ("callback", "callback_on_step_end"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise UserError(f"{name} must be a function, not {type(value).__name__}")
        unknown = [
            name for name in self.callback_on_step_end_tensor_inputs if name not in CALLBACK_TENSORS
        ]
        if unknown:
            raise UserError(
                f"callback_on_step_end can't get {unknown[0]!r}; there are "
                f"{', '.join(CALLBACK_TENSORS)}"
            )

    def resolved(self, defaults: TaskSampling) -> SamplingOptions:
        """With the model's defaults for a task where nothing was said."""
        unset = {
            name: value for name, value in vars(defaults).items() if getattr(self, name) is None
        }
        return replace(self, **unset)

    @property
    def sampling(self) -> dict[str, Any]:
        """The numbers of resolved options, as the sampling loop takes them."""
        names = ("num_inference_steps", "guidance_scale", "image_guidance_scale", "eta")
        return {name: getattr(self, name) for name in names}

    def arguments(self) -> dict[str, Any]:
        """Those that were set, as the pipeline's methods take them."""
        values = vars(self)
        return {o.name: values[o.name] for o in fields(self) if values[o.name] != o.default}


def option_range(name: str) -> tuple[float | None, float | None]:
    """The least and the most that the option `name` may be; None = it has no range."""
    found = SamplingOptions.__dataclass_fields__[name].metadata
    return found.get("least"), found.get("most")


def option_help(name: str) -> str:
    """What the docstring of `SamplingOptions` says of the option `name`."""
    lines = re.MULTILINE | re.DOTALL
    entry = rf"^ +{name}: (.+?)(?=\n +\w+: |\Z)"
    found = re.search(entry, SamplingOptions.__doc__ or "", lines)
    return " ".join(found[1].split()) if found else ""


def check_motion(name: str | None) -> str | None:
    """`name` itself; `UserError` if there is no such motion."""
    from rdtf.sampling.checks import text
    from rdtf.synthetic.verbs import find_verb
    from rdtf.synthetic.words import motion_of

    if name is not None and text("motion", name) != NETWORK and motion_of(name) is None:
        find_verb(name)
    return name


def check_output_size(size: str | int) -> None:
    """Raise `UserError` for a size of the result that there is not."""
    is_pixels = isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= LARGEST_SIDE
    if size not in (AUTO_SIZE, "canvas", "input") and not is_pixels:
        raise UserError(
            f"output size {size!r} is unknown; choose auto, input, canvas or a number of "
            f"pixels from 1 to {LARGEST_SIDE}"
        )
