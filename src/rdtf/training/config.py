"""Everything that decides a run, as frozen dataclasses. The resolved config is saved with it."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rdtf.errors import ConfigError
from rdtf.method.curriculum import CurriculumConfig
from rdtf.method.objective import ObjectiveConfig
from rdtf.models.text import DEFAULT_ENCODER

T = TypeVar("T")


@dataclass(frozen=True)
class ModelConfig:
    """The denoiser's size and shape; see `rdtf.models.dfgn.DFGN` for each field."""

    channels: tuple[int, ...] = (64, 96, 128)
    layers_per_level: int = 1
    extra_up_stage: bool = False
    attention_levels: tuple[int, ...] = (1, 2)
    attention_head_dim: int = 32
    expansion: int = 2
    embedding_dim: int = 256
    text_dim: int = 192
    temporal_layer: str = "sti"
    sti_heads: int = 4
    sti_head_dim: int = 32
    sti_kernel: tuple[int, int, int] = (3, 1, 1)
    sti_conv_layers: int = 2
    compose: bool = True
    refine_widths: tuple[int, ...] = (24,)
    motion: str = "none"


@dataclass(frozen=True)
class RepresentationConfig:
    """What the denoiser works on.

    kind: "pixels" (patches of `patch` pixels), "rgba-autoencoder" or "public-autoencoder" (both
        loaded from the folder `path`).
    """

    kind: str = "pixels"
    patch: int = 4
    path: str = ""


@dataclass(frozen=True)
class TextConfig:
    """Frozen encoders, joined along the token axis; captions are cut at `max_tokens`."""

    encoders: tuple[str, ...] = (DEFAULT_ENCODER,)
    max_tokens: int = 48


@dataclass(frozen=True)
class DataConfig:
    """How clips become training samples.

    still_share: share of the samples that are single images (text → image), if there are any.
    flip_probability: horizontal flips.
    reverse_probability: played backwards.
    subclip_probability: a clip that would fit whole is cut to a random part of it.
    text_dropout, image_dropout: for guidance; independent, so at times neither is seen.
    """

    still_share: float = 0.15
    flip_probability: float = 0.5
    reverse_probability: float = 0.0
    subclip_probability: float = 0.25
    text_dropout: float = 0.1
    image_dropout: float = 0.05


@dataclass(frozen=True)
class OptimizerConfig:
    """Linear warm-up, a constant rate, and a linear decay over the last part.

    name: "adamw", or "muon" for the matrices inside the blocks (and AdamW for the rest).
    ema_decays: averages to keep; the first is the model that a run shows and leaves, unless
        validation finds another one better. ema_every: update them every so many steps.
    """

    name: str = "adamw"
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    muon_momentum: float = 0.95
    warmup_steps: int = 100
    decay_share: float = 0.25
    max_grad_norm: float = 1.0
    ema_decays: tuple[float, ...] = (0.998,)
    ema_every: int = 1


@dataclass(frozen=True)
class EngineConfig:
    """How a run is computed and watched. None of it changes what is learned, so all of it may
    change when a run is resumed (the last bits of the numbers may change with it).

    micro_batch_size: clips per forward pass and rank; 0 = all that fall to a rank. Lower it when
        memory is short: gradients are accumulated, the result is the same.
    num_workers: processes that load data; −1 = none on a CPU, up to 4 beside a GPU.
    precision: "auto", "bf16" or "fp32".
    parallel: on several ranks, "ddp" (whole copies) or "fsdp" (shards).
    compile: compile the blocks; "auto" = on a GPU.
    deterministic: on a GPU, kernels that repeat, where there are any: slower, and the backward
        passes of attention and `grid_sample` still differ in the last bits. A CPU always repeats.
    gradient_checkpointing: recompute activations in the backward pass.
    offload_ema: keep the averages in host memory.
    skip_nonfinite: how many steps in a row with a loss or non-finite gradient are skipped
        before the run stops.
    save_every, keep_checkpoints, keep_every, keep_best: in steps; how many of the newest to keep
        (0 = all), which to keep for good (0 = none), and whether to keep the best by validation.
    track: "auto" (TensorBoard when installed), "none", or names: tensorboard, trackio, wandb.
    log_lines: one line per interval on stderr where it is no terminal.
    """

    micro_batch_size: int = 0
    num_workers: int = -1
    precision: str = "auto"
    parallel: str = "ddp"
    compile: str = "auto"
    deterministic: bool = False
    gradient_checkpointing: bool = False
    offload_ema: bool = False
    skip_nonfinite: int = 0
    log_every: int = 10
    save_every: int = 200
    keep_checkpoints: int = 2
    keep_every: int = 0
    keep_best: bool = True
    validate_every: int = 500
    sample_every: int = 500
    track: str = "auto"
    log_lines: bool = True


@dataclass(frozen=True)
class TrainConfig:
    """A run. `steps` optimizer steps of `batch_size` clips each are its whole schedule.

    batch_size: clips per step over all ranks; the same number is the same run on any of them.
    given_frame_weight: how much the given frames count in the loss.
    relative_loss_floor: above 0, a clip's error counts relative to the error that blending its
        given frames makes, plus this floor: clips that hardly move count as much as wild ones.
    learn: "all", or "motion": motion latents only, several times cheaper. Frames between given ones
        then stay as plain matching makes them, and others are given frames moved.
    start_from: the model whose weights the run starts with; empty = from scratch.
    """

    preset: str = "nano"
    canvas: int = 64
    max_frames: int = 8
    seed: int = 0
    steps: int = 2000
    batch_size: int = 8
    given_frame_weight: float = 0.0
    relative_loss_floor: float = 0.0
    learn: str = "all"
    start_from: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    representation: RepresentationConfig = field(default_factory=RepresentationConfig)
    text: TextConfig = field(default_factory=TextConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = _setting(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if not low <= number <= high:  # written so that NaN is refused too
                    limits = f"at least {low}" if high == math.inf else f"from {low} to {high}"
                    raise ConfigError(f"setting {name} is {number}; it must be {limits}")
        for name, choices in _CHOICES.items():
            if _setting(self, name) not in choices:
                raise ConfigError(
                    f"setting {name} is {_setting(self, name)!r}; choose from {', '.join(choices)}"
                )
        if not self.optimizer.ema_decays:
            raise ConfigError("setting optimizer.ema_decays is empty; give at least one decay")
        if not self.model.channels:
            raise ConfigError("setting model.channels is empty; give at least one width")
        if self.model.compose and self.objective.prediction != "x":
            raise ConfigError(
                "model.compose needs objective.prediction x: it composes clean frames; "
                "set model.compose=false"
            )
        if self.model.compose and self.objective.kind == "ddpm":
            raise ConfigError(
                "model.compose needs objective.kind flow: it weighs noisy frames by the levels of "
                "a rectified flow; set model.compose=false"
            )
        if self.learn == "motion" and not (self.model.compose and self.model.motion != "none"):
            raise ConfigError("learn=motion needs motion latents: set model.motion=alone")


_RANGES: dict[str, tuple[float, float]] = {
    "canvas": (8, math.inf),
    "max_frames": (2, math.inf),
    "seed": (0, math.inf),
    "steps": (1, math.inf),
    "batch_size": (1, math.inf),
    "given_frame_weight": (0, math.inf),
    "relative_loss_floor": (0, math.inf),
    "model.refine_widths": (1, math.inf),
    "engine.micro_batch_size": (0, math.inf),
    "engine.num_workers": (-1, 7),
    "engine.skip_nonfinite": (0, math.inf),
    "engine.log_every": (1, math.inf),
    "engine.save_every": (1, math.inf),
    "engine.keep_checkpoints": (0, math.inf),
    "engine.keep_every": (0, math.inf),
    "engine.validate_every": (0, math.inf),
    "engine.sample_every": (0, math.inf),
    "representation.patch": (1, math.inf),
    "text.max_tokens": (1, math.inf),
    "data.still_share": (0, 1),
    "data.flip_probability": (0, 1),
    "data.reverse_probability": (0, 1),
    "data.subclip_probability": (0, 1),
    "data.text_dropout": (0, 1),
    "data.image_dropout": (0, 1),
    "optimizer.learning_rate": (0, math.inf),
    "optimizer.warmup_steps": (0, math.inf),
    "optimizer.decay_share": (0, 1),
    "optimizer.ema_decays": (0, 1),
    "optimizer.ema_every": (1, math.inf),
}
_CHOICES = {
    "engine.precision": ("auto", "bf16", "fp32"),
    "engine.parallel": ("ddp", "fsdp"),
    "engine.compile": ("auto", "on", "off"),
    "optimizer.name": ("adamw", "muon"),
    "model.temporal_layer": ("sti", "conv3d"),
    "model.motion": ("none", "joint", "alone"),
    "learn": ("all", "motion"),
    "objective.prediction": ("x", "v", "eps"),
}


def _setting(config: TrainConfig, dotted: str) -> Any:
    return functools.reduce(getattr, dotted.split("."), config)


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(kind: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """Rebuild a config dataclass; an unknown field is a `ConfigError` that names it."""
    hints = typing.get_type_hints(kind)
    unknown = set(values) - set(hints)
    if unknown:
        raise ConfigError(f"{where} has unknown field {sorted(unknown)[0]!r}")
    return kind(
        **{name: _restore(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    )


def _restore(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        if kinds[-1] is not Ellipsis and len(value) != len(kinds):
            raise ConfigError(f"{where} takes {len(kinds)} values, not {len(value)}")
        return tuple(value)
    return value


def override(config: TrainConfig, settings: Mapping[str, Any]) -> TrainConfig:
    """A copy with `settings` applied, e.g. {"optimizer.learning_rate": 3e-4}.

    The section may be left out where only one has a setting of that name: {"save_every": 100}.
    """
    values = to_dict(config)
    for name, value in settings.items():
        dotted = _with_section(name, values)
        *parents, last = dotted.split(".")
        target = values
        for parent in parents:
            target = target.get(parent) if isinstance(target, dict) else None
        if not isinstance(target, dict) or last not in target:
            raise ConfigError(f"there is no setting {dotted!r}; see `rdtf train PRESET --dry-run`")
        target[last] = _coerce(value, target[last], dotted)
    return from_dict(TrainConfig, values)


def _with_section(name: str, values: Mapping[str, Any]) -> str:
    if "." in name or name in values:
        return name
    sections = [key for key, inner in values.items() if isinstance(inner, dict) and name in inner]
    if len(sections) > 1:
        choices = " or ".join(f"{section}.{name}" for section in sections)
        raise ConfigError(f"setting {name!r} is in several sections; say {choices}")
    return f"{sections[0]}.{name}" if sections else name


def _hint(dotted: str) -> Any:
    """Declared type of a setting."""
    return functools.reduce(
        lambda kind, part: typing.get_type_hints(kind)[part], dotted.split("."), TrainConfig
    )


def _coerce(value: Any, old: Any, name: str) -> Any:
    """Text from the command line → the type of the setting that it replaces."""
    if not isinstance(value, str) or isinstance(old, str):
        return value
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[value.lower()]
        if isinstance(old, (tuple, list)):
            kind = typing.get_args(_hint(name))[0]
            return tuple(kind(part) for part in value.split(",")) if value else ()
        return type(old)(value)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"setting {name} takes {type(old).__name__}, not {value!r}") from error
