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
    subclip_probability: a clip that would fit whole is cut to a random part of it.
    text_dropout, image_dropout: for guidance; independent, so at times neither is seen.
    """

    still_share: float = 0.15
    flip_probability: float = 0.5
    subclip_probability: float = 0.25
    text_dropout: float = 0.1
    image_dropout: float = 0.05


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up, a constant rate, and a linear decay over the last part."""

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    warmup_steps: int = 100
    decay_share: float = 0.25
    max_grad_norm: float = 1.0
    ema_decay: float = 0.998


@dataclass(frozen=True)
class TrainConfig:
    """A run. `steps` optimizer steps of `batch_size` clips each are its whole schedule."""

    preset: str = "nano"
    canvas: int = 64
    max_frames: int = 8
    seed: int = 0
    steps: int = 2000
    batch_size: int = 8
    accumulation: int = 1
    precision: str = "auto"
    given_frame_weight: float = 0.0
    gradient_checkpointing: bool = False
    log_every: int = 10
    save_every: int = 200
    keep_checkpoints: int = 2
    validate_every: int = 500
    sample_every: int = 500
    model: ModelConfig = field(default_factory=ModelConfig)
    representation: RepresentationConfig = field(default_factory=RepresentationConfig)
    text: TextConfig = field(default_factory=TextConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = _setting(self, name)
            if not low <= value <= high:  # written so that NaN is refused too
                limits = f"at least {low}" if high == math.inf else f"from {low} to {high}"
                raise ConfigError(f"setting {name} is {value}; it must be {limits}")
        for name, choices in _CHOICES.items():
            if _setting(self, name) not in choices:
                raise ConfigError(
                    f"setting {name} is {_setting(self, name)!r}; choose from {', '.join(choices)}"
                )
        if self.model.compose and self.objective.prediction != "x":
            raise ConfigError(
                "model.compose needs objective.prediction x: it composes clean frames; "
                "set model.compose=false"
            )

    @property
    def clips_per_step(self) -> int:
        return self.batch_size * self.accumulation


_RANGES: dict[str, tuple[float, float]] = {
    "canvas": (8, math.inf),
    "max_frames": (2, math.inf),
    "seed": (0, math.inf),
    "steps": (1, math.inf),
    "batch_size": (1, math.inf),
    "accumulation": (1, math.inf),
    "given_frame_weight": (0, math.inf),
    "log_every": (1, math.inf),
    "save_every": (1, math.inf),
    "keep_checkpoints": (0, math.inf),
    "validate_every": (0, math.inf),
    "sample_every": (0, math.inf),
    "representation.patch": (1, math.inf),
    "text.max_tokens": (1, math.inf),
    "data.still_share": (0, 1),
    "data.flip_probability": (0, 1),
    "data.subclip_probability": (0, 1),
    "data.text_dropout": (0, 1),
    "data.image_dropout": (0, 1),
    "optimizer.learning_rate": (0, math.inf),
    "optimizer.warmup_steps": (0, math.inf),
    "optimizer.decay_share": (0, 1),
    "optimizer.ema_decay": (0, 1),
}
_CHOICES = {
    "precision": ("auto", "bf16", "fp32"),
    "model.temporal_layer": ("sti", "conv3d"),
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
    """A copy with dotted `settings` applied, e.g. {"optimizer.learning_rate": 3e-4}."""
    values = to_dict(config)
    for dotted, value in settings.items():
        *parents, last = dotted.split(".")
        target = values
        for parent in parents:
            target = target.get(parent) if isinstance(target, dict) else None
        if not isinstance(target, dict) or last not in target:
            raise ConfigError(f"there is no setting {dotted!r}; see `rdtf train PRESET --dry-run`")
        target[last] = _coerce(value, target[last], dotted)
    return from_dict(TrainConfig, values)


def _coerce(value: Any, old: Any, name: str) -> Any:
    """Text from the command line → the type of the setting that it replaces."""
    if not isinstance(value, str) or isinstance(old, str):
        return value
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[value.lower()]
        if isinstance(old, (tuple, list)):
            kind = type(old[0]) if old else str
            return tuple(kind(part) for part in value.split(","))
        return type(old)(value)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"setting {name} takes {type(old).__name__}, not {value!r}") from error
