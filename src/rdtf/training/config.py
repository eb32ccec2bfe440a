"""Everything that decides a run, as frozen dataclasses. The resolved config is saved with it."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

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
    temporal_layer: Literal["sti", "conv3d"] = "sti"
    sti_heads: int = 4
    sti_head_dim: int = 32
    sti_kernel: tuple[int, int, int] = (3, 1, 1)
    sti_conv_layers: int = 2
    compose: bool = True
    refine_widths: tuple[int, ...] = (24,)
    motion: Literal["none", "alone"] = "none"


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

    name: Literal["adamw", "muon"] = "adamw"
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
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    parallel: Literal["ddp", "fsdp"] = "ddp"
    compile: Literal["auto", "on", "off"] = "auto"
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
    learn: Literal["all", "motion"] = "all"
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
        for name, (kind, value) in settings(self).items():
            low, high = _LIMITS.get(name, (-math.inf, math.inf))
            for number in value if isinstance(value, tuple) else (value,):
                if name in _LIMITS and not low <= number <= high:  # NaN is refused too
                    limits = f"at least {low}" if high == math.inf else f"from {low} to {high}"
                    raise ConfigError(f"setting {name} is {number}; it must be {limits}")
            if typing.get_origin(kind) is Literal and value not in typing.get_args(kind):
                choices = ", ".join(typing.get_args(kind))
                raise ConfigError(f"setting {name} is {value!r}; choose from {choices}")
        for name, value in (("optimizer.ema_decays", self.optimizer.ema_decays),
                            ("model.channels", self.model.channels)):  # fmt: skip
            if not value:
                raise ConfigError(f"setting {name} is empty; give at least one number")
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


_LIMITS: dict[str, tuple[float, float]] = {
    name: limits
    for limits, names in {
        (0, 1): "data.still_share data.flip_probability data.reverse_probability "
        "data.subclip_probability data.text_dropout data.image_dropout optimizer.decay_share "
        "optimizer.ema_decays",
        (0, math.inf): "seed given_frame_weight relative_loss_floor engine.micro_batch_size "
        "engine.skip_nonfinite engine.keep_checkpoints engine.keep_every engine.validate_every "
        "engine.sample_every optimizer.learning_rate optimizer.warmup_steps",
        (1, math.inf): "steps batch_size model.refine_widths engine.log_every engine.save_every "
        "representation.patch text.max_tokens optimizer.ema_every",
        (2, math.inf): "max_frames",
        (8, math.inf): "canvas",
        (-1, 7): "engine.num_workers",
    }.items()
    for name in names.split()
}


def settings(config: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Every setting's dotted name → its declared type and its value."""
    found: dict[str, tuple[Any, Any]] = {}
    for name, kind in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            found |= settings(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = kind, value
    return found


def settings_text(config: TrainConfig) -> dict[str, str]:
    """Every setting as `--set NAME=VALUE` takes it."""

    def text(value: Any) -> str:
        if isinstance(value, (tuple, list)):
            return ",".join(map(str, value))
        return str(value).lower() if isinstance(value, bool) else str(value)

    return {name: text(value) for name, (_, value) in settings(config).items()}


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


def override(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """A copy with `changes` applied, e.g. {"optimizer.learning_rate": 3e-4}.

    The section may be left out where only one has a setting of that name: {"save_every": 100}.
    """
    known, values = settings(config), to_dict(config)
    for name, value in changes.items():
        dotted = _with_section(name, values)
        if dotted in values and isinstance(values[dotted], dict):
            raise ConfigError(f"setting {dotted} takes no value; name one of its settings")
        if dotted not in known:
            raise ConfigError(f"there is no setting {dotted!r}; see `rdtf train PRESET --dry-run`")
        *parents, last = dotted.split(".")
        target = functools.reduce(dict.__getitem__, parents, values)
        target[last] = _coerce(value, known[dotted][0], dotted)
    return from_dict(TrainConfig, values)


def _with_section(name: str, values: Mapping[str, Any]) -> str:
    if "." in name or name in values:
        return name
    sections = [key for key, inner in values.items() if isinstance(inner, dict) and name in inner]
    if len(sections) > 1:
        choices = " or ".join(f"{section}.{name}" for section in sections)
        raise ConfigError(f"setting {name!r} is in several sections; say {choices}")
    return f"{sections[0]}.{name}" if sections else name


def _coerce(value: Any, kind: Any, name: str) -> Any:
    """Text from the command line → the declared type of the setting."""
    if not isinstance(value, str) or kind is str or typing.get_origin(kind) is Literal:
        return value
    plain = typing.get_origin(kind) or kind
    try:
        if plain is bool:
            return {"true": True, "false": False}[value.lower()]
        if plain is tuple:
            part_kind = typing.get_args(kind)[0]
            return tuple(part_kind(part) for part in value.split(",")) if value else ()
        return plain(value)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"setting {name} takes {plain.__name__}, not {value!r}") from error
