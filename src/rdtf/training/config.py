"""Everything that decides a run, as frozen dataclasses. The resolved config is saved with it."""

from __future__ import annotations

import dataclasses
import types
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
    steps: int = 4000
    batch_size: int = 8
    accumulation: int = 1
    precision: str = "auto"
    given_frame_weight: float = 0.0
    gradient_checkpointing: bool = False
    log_every: int = 10
    save_every: int = 250
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

    @property
    def clips_per_step(self) -> int:
        return self.batch_size * self.accumulation


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(kind: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """Rebuild a config dataclass; an unknown field is a `ConfigError` that names it."""
    hints = typing.get_type_hints(kind)
    unknown = set(values) - set(hints)
    if unknown:
        raise ConfigError(f"{where} has unknown field {sorted(unknown)[0]!r}")
    return kind(**{name: _restore(hints[name], value, where) for name, value in values.items()})


def _restore(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if typing.get_origin(hint) is tuple:
        return tuple(value)
    if isinstance(hint, types.UnionType) and value is None:
        return None
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
