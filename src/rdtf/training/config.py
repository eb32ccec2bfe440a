"""Everything that decides a run, as frozen dataclasses. The resolved config is saved with it.

Every field is an option of `rdtf train PRESET`, made by tyro: its name, type, default and docstring
are what `--help` shows. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from rdtf.errors import ConfigError
from rdtf.method.curriculum import CurriculumConfig
from rdtf.method.objective import ObjectiveConfig

try:
    from tyro.conf import Suppress as _hidden  # noqa: N813
except ImportError:  # no command line where a bundle is trained on
    _hidden = None

T = TypeVar("T")


class Limits(NamedTuple):
    """Range of a number, or of each number of a tuple; both ends belong to it."""

    low: float
    high: float = math.inf

    def check(self, name: str, value: Any) -> None:
        """Raise a `ConfigError` for a number out of range; NaN is one."""
        for number in value if isinstance(value, tuple) else (value,):
            if not self.low <= number <= self.high:
                limits = f"from {self.low} to {self.high}"
                if self.high == math.inf:
                    limits = f"at least {self.low}"
                raise ConfigError(f"setting {name} is {number}; it must be {limits}")


_Share = Annotated[float, Limits(0, 1)]
_NotNegative = Annotated[float, Limits(0)]
_FromZero = Annotated[int, Limits(0)]
_FromOne = Annotated[int, Limits(1)]


@dataclass(frozen=True)
class ModelConfig:
    """Size and shape of the denoiser."""

    channels: Annotated[tuple[int, ...], Limits(1)] = (64, 96, 128)
    """Width of each U-Net level, finest first."""
    layers_per_level: _FromOne = 1
    """Stages (residual block, STI, attention) per level."""
    extra_up_stage: bool = False
    """One stage more per level on the way up."""
    attention_levels: Annotated[tuple[int, ...], Limits(0)] = (1, 2)
    """Levels with spatial self-attention and text cross-attention, 0 = finest."""
    attention_head_dim: _FromOne = 32
    """Width of an attention head."""
    expansion: _FromOne = 2
    """Hidden width of feed-forward layers, in multiples of their width."""
    embedding_dim: _FromOne = 256
    """Width of the embedding of diffusion time, number of frames and mean duration."""
    text_dim: _FromOne = 192
    """Width that text states are projected to."""
    temporal_layer: Literal["sti", "conv3d"] = "sti"
    """STI, or a plain 3D convolution (the paper's ablation)."""
    sti_heads: _FromOne = 4
    """Attention heads of the semantic branch."""
    sti_head_dim: _FromOne = 32
    """Width of each of these heads."""
    sti_kernel: Annotated[tuple[int, int, int], Limits(1)] = (3, 1, 1)
    """Kernel of the detail branch: time, height, width."""
    sti_conv_layers: _FromOne = 2
    """Convolutions of the detail branch."""
    compose: bool = True
    """Warp decoder: frames are given frames moved, refined and blended. Needs x-prediction."""
    refine_widths: Annotated[tuple[int, ...], Limits(1)] = (24,)
    """Widths of the warp decoder's refinement, one per doubling of the resolution."""
    motion: Literal["none", "alone"] = "none"
    """Motion latents: a diffusion of their own."""


@dataclass(frozen=True)
class RepresentationConfig:
    """What the denoiser works on."""

    kind: Literal["pixels", "rgba-autoencoder", "public-autoencoder"] = "pixels"
    """Patches of pixels, or latents of an autoencoder that is loaded from `path`."""
    patch: _FromOne = 4
    """Side of a pixel patch."""
    path: str = ""
    """Folder of the autoencoder."""


@dataclass(frozen=True)
class TextConfig:
    """Frozen text encoders, joined along the token axis."""

    encoders: tuple[str, ...] = ("all-MiniLM-L6-v2",)  # rdtf.models.text.DEFAULT_ENCODER
    """Folders or hub ids of text encoders."""
    max_tokens: _FromOne = 48
    """Captions are cut at so many tokens."""


@dataclass(frozen=True)
class DataConfig:
    """How clips become training samples."""

    sampling: Literal["clips", "concepts"] = "clips"
    """Every clip equally often, or every concept, whatever the number of its clips."""
    still_share: _Share = 0.15
    """Share of the samples that are single images (text to image), if there are any."""
    flip_probability: _Share = 0.5
    """Horizontal flips."""
    reverse_probability: _Share = 0.0
    """Clips played backwards."""
    subclip_probability: _Share = 0.25
    """A clip that would fit whole is cut to a random part of it."""
    text_dropout: _Share = 0.1
    """Samples without text, for guidance; independent of `image_dropout`."""
    image_dropout: _Share = 0.05
    """Samples without given frames, for guidance."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW: linear warm-up, a constant rate, and a linear decay over the last part."""

    learning_rate: _NotNegative = 1e-3
    """Peak of the learning rate."""
    betas: Annotated[tuple[float, float], Limits(0, 1)] = (0.9, 0.99)
    """Decays of the mean and of the variance of the gradient."""
    epsilon: _NotNegative = 1e-8
    """Added to the root of the variance."""
    weight_decay: _NotNegative = 0.01
    """Of all weights, per step and learning rate."""
    warmup_steps: _FromZero = 100
    """Steps until the peak."""
    decay_share: _Share = 0.25
    """Part of the run, at its end, over which the rate goes down to zero."""
    max_grad_norm: _NotNegative = 1.0
    """Gradients are clipped to this norm."""
    ema_decays: Annotated[tuple[float, ...], Limits(0, 1)] = (0.998,)
    """Averages of the weights to keep. The first is the model that a run shows and leaves, unless
    validation finds another one better."""
    ema_every: _FromOne = 1
    """Update the averages every so many steps."""


@dataclass(frozen=True)
class EngineConfig:
    """How a run is computed and watched. None of it changes what is learned, so all of it may
    change when a run is resumed (the last bits of the numbers may change with it)."""

    micro_batch_size: _FromZero = 0
    """Clips per forward pass and rank; 0 = all that fall to a rank. Lower it when memory is short:
    gradients are accumulated, the result is the same."""
    num_workers: Annotated[int, Limits(-1, 7)] = -1
    """Processes that load data; -1 = none on a CPU, up to 4 beside a GPU."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto: bf16 where the hardware has it."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """On several ranks: whole copies, or shards."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the blocks; auto = on a GPU."""
    deterministic: bool = False
    """On a GPU, kernels that repeat, where there are any: slower, and the backward passes of
    attention and `grid_sample` still differ in the last bits. A CPU always repeats."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, slower."""
    offload_ema: bool = False
    """Keep the averages in host memory."""
    skip_nonfinite: _FromZero = 0
    """Steps in a row with a non-finite loss or gradient that are skipped before the run stops."""
    log_every: _FromOne = 10
    """Steps between rows of metrics.jsonl."""
    save_every: _FromOne = 200
    """Steps between checkpoints."""
    keep_checkpoints: _FromZero = 2
    """How many of the newest checkpoints to keep; 0 = all."""
    keep_every: _FromZero = 0
    """Checkpoints to keep for good, in steps; 0 = none."""
    keep_best: bool = True
    """Keep the best checkpoint by validation."""
    validate_every: _FromZero = 500
    """Steps between validations; 0 = never."""
    sample_every: _FromZero = 500
    """Steps between contact sheets of samples; 0 = never."""
    track: str = "auto"
    """auto (TensorBoard when installed), none, or names: tensorboard, trackio, wandb."""
    log_lines: bool = True
    """One line per interval on stderr where it is no terminal."""


def plain_engine(engine: EngineConfig | None = None, **changes: Any) -> EngineConfig:
    """An engine that keeps the newest checkpoint, saved every minute, and has no tracker."""
    plain = {"save_every": 0, "keep_checkpoints": 1, "keep_best": False, "track": "none"}
    return dataclasses.replace(engine or EngineConfig(), **{**plain, **changes})


@dataclass(frozen=True)
class TrainConfig:
    """A run. `steps` optimizer steps of `batch_size` clips each are its whole schedule."""

    preset: Annotated[str, _hidden] = "nano"
    """Name of the preset that the run began with."""
    canvas: Annotated[int, Limits(8)] = 64
    """Side of the square canvas in pixels."""
    max_frames: Annotated[int, Limits(2)] = 8
    """Longest clip that the model sees."""
    seed: _FromZero = 0
    """Settles weights, order, tasks and noise."""
    steps: _FromOne = 2000
    """Optimizer steps of the whole schedule: curriculum and learning-rate decay follow it."""
    batch_size: _FromOne = 8
    """Clips per step over all ranks; the same number is the same run on any of them."""
    given_frame_weight: _NotNegative = 0.0
    """How much the given frames count in the loss."""
    relative_loss_floor: _NotNegative = 0.0
    """Above 0, a clip's error counts relative to the error that blending its given frames makes,
    plus this floor: clips that hardly move count as much as wild ones."""
    learn: Literal["all", "motion"] = "all"
    """motion: motion latents only, several times cheaper. Interpolated frames then stay as plain
    matching makes them, and others are given frames moved."""
    start_from: str = ""
    """Start with the weights of this model (a run, a saved pipeline, or "shipped") and take its
    shape and canvas: to teach it your own stickers, or to go on with only a model brought along."""
    model: ModelConfig = field(default_factory=ModelConfig)
    representation: RepresentationConfig = field(default_factory=RepresentationConfig)
    text: TextConfig = field(default_factory=TextConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        for name, kind, value in settings(self):
            if isinstance(value, float) and math.isnan(value):
                raise ConfigError(f"setting {name} is nan; it must be a number")
            for limits in getattr(kind, "__metadata__", ()):
                if isinstance(limits, Limits):
                    limits.check(name, value)
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
                "switch it off by --model.no-compose"
            )
        if self.model.compose and self.objective.kind == "ddpm":
            raise ConfigError(
                "model.compose needs objective.kind flow: it weighs noisy frames by the levels of "
                "a rectified flow; switch it off by --model.no-compose"
            )
        if self.learn == "motion" and not (self.model.compose and self.model.motion != "none"):
            raise ConfigError("learn=motion needs motion latents: add --model.motion alone")


def settings(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every setting: its dotted name, its declared type and its value."""
    for name, kind in typing.get_type_hints(type(config), include_extras=True).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            yield from settings(value, f"{prefix}{name}.")
        else:
            yield prefix + name, kind, value


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values, ready for JSON."""
    return dataclasses.asdict(config)


_GONE: dict[Any, tuple[str, ...]] = {OptimizerConfig: ("name", "muon_momentum")}  # of old runs


def from_dict(kind: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """Rebuild a config dataclass; an unknown field is a `ConfigError` that names it."""
    hints = typing.get_type_hints(kind)
    values = {name: value for name, value in values.items() if name not in _GONE.get(kind, ())}
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


def override(config: T, changes: Mapping[str, Any], prefix: str = "") -> T:
    """A copy with values changed by dotted name, e.g. {"optimizer.learning_rate": 3e-4}."""
    own: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        first, dot, rest = name.partition(".")
        is_section = dataclasses.is_dataclass(getattr(config, first, None))
        if not hasattr(config, first) or is_section != bool(dot):
            raise ConfigError(f"there is no setting {prefix + name!r}; see rdtf train nano --help")
        if dot:
            sections.setdefault(first, {})[rest] = value
        else:
            own[first] = value
    for section, inner in sections.items():
        own[section] = override(getattr(config, section), inner, f"{prefix}{section}.")
    return dataclasses.replace(typing.cast(Any, config), **own)
