"""How to sample: the options of all methods of the pipeline, and each model's defaults by task.

Imports no torch, so that the command line refuses a wrong option at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdtf.errors import CheckpointError, ConfigError, UserError

if TYPE_CHECKING:
    import torch

StepEndCallback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any] | None]
#: The motion that is drawn by the network whatever the words are.
NETWORK = "network"
#: What `callback_on_step_end` may ask for and replace.
CALLBACK_TENSORS = ("latents",)
#: Names of `SamplingOptions.output_size`.
OUTPUT_SIZES = ("auto", "input", "canvas")
LARGEST_AUTO_SIDE, _LARGEST_SIDE = 512, 2048
MAX_SEED = 2**63 - 1024  # the largest that JSON's floats hold exactly
NO_MOTION = "this model has no motion network, so it takes no motion by name"
CANNOT_DRAW = "this model animates pictures and can't draw from text alone; add a picture"

# ------------------------------------------------------------------------ single arguments


def whole(name: str, value: Any, least: int | None = None) -> int:
    """`value` as an int; whole numbers of any numeric type are taken."""
    number = _number(value)
    if number is None or not number.is_integer():
        raise UserError(f"{name} must be a whole number, got {_short(value)}")
    return int(real(name, number, least))


def real(name: str, value: Any, least: float | None = None, most: float | None = None) -> float:
    """`value` as a finite float."""
    number = _number(value)
    if number is None:
        raise UserError(f"{name} must be a number, got {_short(value)}")
    if least is not None and number < least:
        raise UserError(f"{name} must be at least {least:g}, got {number:g}")
    if most is not None and number > most:
        raise UserError(f"{name} must be at most {most:g}, got {number:g}")
    return number


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def text(name: str, value: Any) -> str:
    """`value` if it is a text; None is none."""
    if value is not None and not isinstance(value, str):
        raise UserError(f"{name} must be text, got {_short(value)}")
    return value or ""


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}… ({type(value).__name__})"


def check_model(path: Path) -> None:
    """Refuse a model that is not there: neither a run directory nor a saved pipeline."""
    if any((path / name).is_file() for name in ("model_index.json", "config.json")):
        return
    what = "is neither a run directory nor a saved pipeline" if path.exists() else "does not exist"
    raise CheckpointError(
        f"model {path} {what}; make one with: rdtf train nano --data DATA --out RUN"
    )


# ------------------------------------------------------------------------ defaults by task


@dataclass(frozen=True)
class TaskSampling:
    """How one family of tasks is sampled.

    num_inference_steps: of the scheduler, per window; guidance_scale, image_guidance_scale: of the
    text and of the given frames, 1 = off; eta: noise that DDIM adds in its steps, 0 to 1.
    """

    num_inference_steps: int
    guidance_scale: float = 1.0
    image_guidance_scale: float = 1.0
    eta: float = 0.0

    def __post_init__(self) -> None:
        whole("num_inference_steps", self.num_inference_steps, 1)
        real("guidance_scale", self.guidance_scale, 0)
        real("image_guidance_scale", self.image_guidance_scale, 0)
        real("eta", self.eta, 0, 1)


#: Of a text without a still, by a network that draws it first.
DRAWING = "drawing"


class SamplingTable(dict[str, TaskSampling]):
    """Family of tasks (see `rdtf.method.tasks.FAMILIES`), or DRAWING → how it is sampled.

    A model keeps its own in its `model_index.json`.
    """

    @classmethod
    def default(cls, process: str, compose: bool, moves: bool = False) -> SamplingTable:
        """The table of a new model.

        Frames between given ones are settled by them, and going on from several is nearly so; from
        one still or text alone motion has to be drawn. docs/model.md says what more or less steps
        give.

        Args:
            process: of "ddpm" it is Table 6 of the paper; compose: the denoiser composes; without,
                every frame is drawn from noise; moves: there is a motion network.
        """
        if process == "ddpm" and not moves:
            paper = TaskSampling(50, guidance_scale=7.5, image_guidance_scale=7.5, eta=1.0)
            return cls(generation=paper, interpolation=paper, prediction=paper)
        between, onwards = (1, 12) if moves else (1, 2) if compose else (20, 20)
        table = cls(
            generation=TaskSampling(20, guidance_scale=2.0),
            interpolation=TaskSampling(between),
            prediction=TaskSampling(onwards),
        )
        if moves:
            table[DRAWING] = TaskSampling(20, guidance_scale=3.0)
        return table

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values, for JSON."""
        return {family: asdict(sampling) for family, sampling in self.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SamplingTable:
        """The table that a model was stored with.

        Raises:
            ConfigError: a family is missing, or a value is unknown or out of range.
        """
        families = cls.default("flow", compose=True, moves=DRAWING in values)
        try:
            return cls({family: TaskSampling(**values[family]) for family in families})
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"sampling defaults of the model can't be read: {error}") from error


# ------------------------------------------------------------------------ options


def _within(default: Any, least: float, most: float) -> Any:
    """A number with its range; None is not checked."""
    return field(default=default, metadata={"least": least, "most": most})


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample: the one source of what the command line, REST, the studio and ComfyUI offer.

    They take names, texts (`option_help`), ranges (`option_range`) and defaults from here.

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
        callback_on_step_end: diffusers' callback, called after each step with (pipeline, index of
            `pipeline.num_timesteps` steps, timestep, {name: tensor}); tensors of the dictionary
            that it returns replace the pipeline's.
        callback_on_step_end_tensor_inputs: which tensors it gets; there are "latents"
            `[1, C, F, h, w]`.
        output_size: Size of the result: auto = that of the given frames, at most 512 pixels, or the
            model's canvas if there are none; input = that of the given frames; canvas = the
            model's; a number = a square of so many pixels. At their own size given frames come back
            pixel for pixel, and made ones are composed of their pixels.
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
    callback_on_step_end: StepEndCallback | None = None
    callback_on_step_end_tensor_inputs: Sequence[str] = CALLBACK_TENSORS
    output_size: str | int = "auto"
    loop: bool = False

    @classmethod
    def of(cls, **values: Any) -> SamplingOptions:
        """Checked options.

        Raises:
            TypeError: an option that there is not.
            UserError: a value that does not fit.
        """
        names = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(names)):
            raise TypeError(f"there is no option {unknown[0]!r}; there are {', '.join(names)}")
        return cls(**values)

    def __post_init__(self) -> None:
        if self.num_inference_steps is not None:
            whole("steps", self.num_inference_steps, 1)
        for option in fields(self):
            value = getattr(self, option.name)
            if option.metadata and not (value is None and option.default is None):
                real(option.name, value, **option.metadata)
        _check_output_size(self.output_size)
        check_motion(self.motion)
        negatives = self.negative_prompt
        for negative in negatives if isinstance(negatives, (list, tuple)) else [negatives]:
            text("negative_prompt", negative)
        callback = self.callback_on_step_end
        if callback is not None and not callable(callback):
            kind = type(callback).__name__
            raise UserError(f"callback_on_step_end must be a function, not {kind}")
        unknown = set(self.callback_on_step_end_tensor_inputs) - set(CALLBACK_TENSORS)
        if unknown:
            known = ", ".join(CALLBACK_TENSORS)
            raise UserError(f"callback_on_step_end can't get {min(unknown)!r}; there are {known}")

    def resolved(self, defaults: TaskSampling) -> SamplingOptions:
        """With the model's defaults for a task where nothing was said."""
        unset = {
            name: value for name, value in vars(defaults).items() if getattr(self, name) is None
        }
        return replace(self, **unset)

    @property
    def sampling(self) -> dict[str, Any]:
        """The numbers of resolved options, as the sampling loop takes them."""
        return {entry.name: getattr(self, entry.name) for entry in fields(TaskSampling)}

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
    from rdtf.synthetic.verbs import find_verb
    from rdtf.synthetic.words import motion_of

    if name is not None and text("motion", name) != NETWORK and motion_of(name) is None:
        find_verb(name)
    return name


def _check_output_size(size: str | int) -> None:
    is_pixels = isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= _LARGEST_SIDE
    if size not in OUTPUT_SIZES and not is_pixels:
        raise UserError(
            f"output size {size!r} is unknown; choose {', '.join(OUTPUT_SIZES)} or a number of "
            f"pixels from 1 to {_LARGEST_SIDE}"
        )
