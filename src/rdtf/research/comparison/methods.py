"""What is compared, how each method is built, trained and sampled, and how much all may spend."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rdtf.errors import ConfigError
from rdtf.method.curriculum import Curriculum
from rdtf.randomness import Purpose, stream
from rdtf.research.adapters import FrameSimilarityPrior, build_adapter, load_base, small_base
from rdtf.research.adapters.use import GIVEN_TASKS, TEXT_ONLY
from rdtf.research.comparison.networks import SingleTask, Trainee, Tuned
from rdtf.training.config import TrainConfig, override
from rdtf.training.presets import build_denoiser, preset

# ------------------------------------------------------------------------------- budget


@dataclass(frozen=True)
class Budget:
    """A comparison's size.

    canvas, patch, max_frames: pixels a side, pixels per latent cell and side, longest clip.
    channels, embedding_dim, text_dim: of the DFGN (`rdtf.models.dfgn.DFGN`).
    base_ratio: parameters of the larger U-Nets over the DFGN's.
    steps, batch_size: of the DFGN; what FLOPs that takes is the budget 1 ×, for everybody.
    points: budgets at which runs are scored, as multiples of that.
    warmup_steps: for all methods. The rate stays constant after the warm-up;
    decay_share: at each point a copy of the run takes this last share of its budget, its rate
        falling to zero, and is scored.
    learning_rate_scale: times each method's own rate (`METHODS`).
    pretrain_clips: clips that a base has seen, one base of each kind for each number.
    target_count, source_count: synthetic stickers to draw, where no training set is named.
    captions: most captions per synthetic sticker.
    held_out: clips to score on.
    reference_clips: of training; they scale the set distances and teach words to the classifier.
    sampling_steps: network evaluations per clip.
    seeds: default number of seeds.
    """

    name: str = "small"
    canvas: int = 32
    patch: int = 4
    max_frames: int = 8
    channels: tuple[int, ...] = (32, 48, 64)
    attention_head_dim: int = 16
    embedding_dim: int = 128
    text_dim: int = 96
    base_ratio: float = 4.0
    steps: int = 500
    points: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    batch_size: int = 4
    warmup_steps: int = 20
    decay_share: float = 0.2
    learning_rate_scale: float = 1.0
    pretrain_clips: tuple[int, ...] = (16_000, 160_000)
    target_count: int = 2000
    source_count: int = 6000
    captions: int = 2
    held_out: int = 40
    reference_clips: int = 1000
    sampling_steps: int = 4
    seeds: int = 3

    def __post_init__(self) -> None:
        for name, low in _AT_LEAST.items():
            value = getattr(self, name)
            if not value >= low:  # written so that NaN is refused too
                raise ConfigError(f"setting {name} is {value}; it must be at least {low}")
        if not 0 < self.decay_share < 0.5:
            raise ConfigError(f"setting decay_share is {self.decay_share}; it must be in (0, 0.5)")
        for name in ("points", "pretrain_clips"):
            values = getattr(self, name)
            if not values or min(values) < 1 or list(values) != sorted(set(values)):
                raise ConfigError(f"setting {name} is {values}; give rising numbers of at least 1")
        if self.canvas % (4 * self.patch):
            raise ConfigError(
                f"setting canvas is {self.canvas}; it must be a multiple of {4 * self.patch}, "
                "four latent cells: the U-Nets halve the grid twice"
            )


_AT_LEAST = {
    "canvas": 8, "patch": 1, "max_frames": 4, "base_ratio": 0, "steps": 1, "batch_size": 1,
    "warmup_steps": 0, "learning_rate_scale": 0, "target_count": 10,
    "source_count": 10, "captions": 1, "held_out": 2, "reference_clips": 2,
    "sampling_steps": 1, "seeds": 1,
}  # fmt: skip

_BUDGETS: dict[str, Budget] = {
    # Minutes on one CPU core: shows that everything runs, and little else.
    "tiny": Budget(
        name="tiny",
        steps=30,
        points=(1, 2, 4),
        warmup_steps=10,
        pretrain_clips=(100, 400),
        target_count=400,
        source_count=300,
        captions=1,
        held_out=8,
        reference_clips=200,
        seeds=1,
    ),
    # The first points take hours on a CPU core, all of them days.
    "small": Budget(),
    # For a GPU: the DFGN is the preset nano without its warp decoder.
    "full": Budget(
        name="full",
        canvas=64,
        channels=(64, 96, 128),
        attention_head_dim=32,
        embedding_dim=256,
        text_dim=192,
        steps=1000,
        batch_size=32,
        warmup_steps=100,
        target_count=6000,
        source_count=12_000,
        captions=4,
        held_out=200,
        sampling_steps=8,
    ),
}


def budget_named(name: str, settings: Sequence[str] = ()) -> Budget:
    """A budget by name, with `NAME=VALUE` settings applied; a mistake is a `ConfigError`."""
    if name not in _BUDGETS:
        raise ConfigError(f"budget {name!r} is unknown; choose from {', '.join(_BUDGETS)}")
    budget = _BUDGETS[name]
    changes: dict[str, Any] = {}
    fields = {field.name for field in dataclasses.fields(Budget)} - {"name"}
    for pair in settings:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set takes NAME=VALUE, got {pair!r}")
        if key not in fields:
            raise ConfigError(
                f"there is no setting {key!r}; choose from {', '.join(sorted(fields))}"
            )
        changes[key] = _parse(value, getattr(budget, key), key)
    return dataclasses.replace(budget, **changes)


def _parse(text: str, old: Any, name: str) -> Any:
    try:
        if isinstance(old, tuple):
            return tuple(int(part) for part in text.split(","))
        return type(old)(text)
    except ValueError as error:
        kind = "whole numbers with commas" if isinstance(old, tuple) else type(old).__name__
        raise ConfigError(f"setting {name} takes {kind}, not {text!r}") from error


def train_config(budget: Budget, seed: int, **changes: Any) -> TrainConfig:
    """The config of a run. What all methods share is here; `changes` as `model__compose=False`.

    No single images and no shorter cuts: every method sees the same clips in the same order, each
    batch of one length (`rdtf.research.comparison.clips`).
    """
    shared: Mapping[str, Any] = {
        "canvas": budget.canvas,
        "max_frames": budget.max_frames,
        "seed": seed,
        "steps": budget.steps,
        "batch_size": budget.batch_size,
        "representation.patch": budget.patch,
        "model.channels": budget.channels,
        "model.attention_head_dim": budget.attention_head_dim,
        "model.embedding_dim": budget.embedding_dim,
        "model.text_dim": budget.text_dim,
        # All networks are given the same latents and the same noise.
        "model.motion": "none",
        "data.still_share": 0.0,
        "data.subclip_probability": 0.0,
        "optimizer.warmup_steps": budget.warmup_steps,
        "optimizer.decay_share": 0.0,
    }
    own = {name.replace("__", "."): value for name, value in changes.items()}
    return override(preset("nano"), {**shared, **own})


# ------------------------------------------------------------------------------ methods

# The paper's network as far as it is the paper's: DFGN, dual mask, adaptive curriculum; with
# rectified flow instead of eps, and pixel patches instead of a public autoencoder.
REFERENCE = "dfgn"
_CONTROL = "unet-from-scratch"  # tells what pre-training brings


@dataclass(frozen=True)
class Method:
    """One row of the comparison.

    label: for tables; learning_rate: constant after the warm-up; base: kind of U-Net, "" for the
        DFGN;
    adapter: its name in `research.adapters`, with `settings`; pretrained: whether the U-Net is.
    changes: of the DFGN's `TrainConfig`; dual_mask: off, it is `SingleTask`.
    stage_tasks: stage → task weights; a stage without them follows the adaptive curriculum.
    prior: where sampling starts, for I2V-Adapter.
    """

    name: str
    label: str
    learning_rate: float
    base: str = ""
    adapter: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = True
    changes: Mapping[str, Any] = field(default_factory=dict)
    dual_mask: bool = True
    stage_tasks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    prior: FrameSimilarityPrior | None = None

    @property
    def pretrained_base(self) -> str:
        """Kind of the pre-trained U-Net that it starts from; "" if it starts from scratch."""
        return self.base if self.pretrained else ""

    @property
    def network_key(self) -> str:
        """The same for methods that train the same network in the same way, whatever it is fed."""
        if self.adapter:
            return f"{self.adapter} on {self.base}"
        model = (f"{key}={value}" for key, value in self.changes.items() if "model__" in key)
        return " ".join(["dfgn", *sorted(model)])

    @property
    def has_horizon(self) -> bool:
        """Whether training depends on where it will end: each point is a run of its own then."""
        mode = self.changes.get("curriculum__mode", "adaptive")
        return not self.base and self.dual_mask and mode != "none"

    def config(self, budget: Budget, seed: int, point: int = 1) -> TrainConfig:
        """The config of a run; the curriculum's horizon is `point`."""
        changes: dict[str, Any] = {
            "steps": budget.steps * point,
            "optimizer__learning_rate": self.learning_rate * budget.learning_rate_scale,
            **self.changes,
        }
        if not self.dual_mask:
            changes["given_frame_weight"] = 1.0  # no loss mask: given frames count as well
        return train_config(budget, seed, **changes)

    def curriculum(self, stage: str, config: TrainConfig) -> Curriculum:
        """How the tasks of a stage are drawn."""
        if stage in self.stage_tasks:
            return _TaskMix(self.stage_tasks[stage])
        return Curriculum(config.curriculum)


class _TaskMix(Curriculum):
    """Task weights that stay as they are."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self._weights = dict(weights)

    def task_weights(self, progress: float, quantile: float | None = None) -> dict[str, float]:
        return dict(self._weights)


def _dfgn(name: str, label: str, *, dual_mask: bool = True, **changes: object) -> Method:
    return Method(name, label, 1e-3, changes={"model__compose": False, **changes},
                  dual_mask=dual_mask)  # fmt: skip


_MOTION = {"base": "motion", "stage_tasks": {"tune": GIVEN_TASKS}}
# The DFGN step by step as in the paper's Tables 3 and 4, then what it is compared with. The paper's
# static curriculum is its linear one: the knots lie on a line.
_ALL = (
    _dfgn(REFERENCE, "DFGN, dual mask, adaptive curriculum"),
    _dfgn("linear", "DFGN, dual mask, linear (= static) curriculum", curriculum__mode="linear"),
    _dfgn("dual-mask", "DFGN, dual mask, no curriculum", curriculum__mode="none"),
    _dfgn("sti", "DFGN alone (STI)", dual_mask=False),
    _dfgn("conv3d", "DFGN alone, 3D convolution", dual_mask=False, model__temporal_layer="conv3d"),
    Method(
        "i2v-adapter",
        "I2V-Adapter on the motion U-Net",
        1e-2,
        adapter="i2v-adapter",
        # As late as one of four evaluations allows; half of the start is blurred.
        prior=FrameSimilarityPrior(start_t=0.8, blur_share=0.5, kernel_size=9, sigma=3.0),
        **_MOTION,
    ),
    Method(
        "simda",
        "SimDA on the image U-Net",
        1e-2,
        base="image",
        adapter="simda",
        stage_tasks={"tune": GIVEN_TASKS},
    ),
    Method(
        "customize-a-video",
        "Customize-A-Video on the video U-Net",
        3e-2,
        base="video",
        adapter="customize-a-video",
        settings={"keep_appearance": True},
        # Frame by frame, without time, the first stage learns looks: nothing is given.
        stage_tasks={"appearance": TEXT_ONLY, "motion": GIVEN_TASKS},
    ),
    Method(
        "full-fine-tuning",
        "full fine-tuning of the motion U-Net",
        3e-3,
        adapter="full-fine-tuning",
        **_MOTION,
    ),
    Method(
        _CONTROL,
        "the motion U-Net, from scratch",
        3e-3,
        adapter="full-fine-tuning",
        pretrained=False,
        **_MOTION,
    ),
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}


# The largest of 1e-3 and 3e-3 with which each trains well; with 3e-3 the image U-Net collapses.
_RATES = {"motion": 3e-3, "image": 1e-3, "video": 1e-3}


def pretraining(kind: str) -> Method:
    """All of a new U-Net trained on text alone: nothing is given."""
    return Method(
        f"pretrain-{kind}",
        f"pre-training of the {kind} U-Net",
        _RATES[kind],
        base=kind,
        adapter="full-fine-tuning",
        pretrained=False,
        stage_tasks={"tune": TEXT_ONLY},
    )


# ----------------------------------------------------------------------------- building


@dataclass(frozen=True)
class Sizes:
    """What every network must know about latents and text states."""

    latent_channels: int
    latent_size: int
    text_width: int


def build_network(
    method: Method, budget: Budget, seed: int, sizes: Sizes, base_folder: Path | None = None
) -> Trainee:
    """A method's network before training; the same for the same seed.

    Args:
        base_folder: of the pre-trained U-Net, where the method has one.
    """
    torch.manual_seed(int(stream(seed, Purpose.INIT).integers(2**31)))
    if not method.base:
        return _from_scratch(method, budget, seed, sizes)
    if method.pretrained:
        assert base_folder is not None
        base = load_base(method.base, base_folder)
    else:
        base = _new_base(method.base, budget, sizes)
    network = Tuned(build_adapter(method.adapter, base, **method.settings))
    network.begin(network.stages[0])
    return network


def _from_scratch(method: Method, budget: Budget, seed: int, sizes: Sizes) -> Trainee:
    config = method.config(budget, seed)
    denoiser = build_denoiser(
        config,
        latent_channels=sizes.latent_channels,
        downsampling=budget.patch,
        text_widths=(sizes.text_width,),
    )
    network = Trainee(denoiser) if method.dual_mask else SingleTask(denoiser, budget.max_frames)
    network.begin("train")
    return network


def _new_base(kind: str, budget: Budget, sizes: Sizes) -> Any:
    """A U-Net of the wanted ratio to the DFGN's size, untrained."""
    return small_base(
        kind,
        round(budget.base_ratio * _reference_parameters(budget, sizes)),
        latent_channels=sizes.latent_channels,
        text_width=sizes.text_width,
        latent_size=sizes.latent_size,
        max_frames=budget.max_frames,
    )


def _reference_parameters(budget: Budget, sizes: Sizes) -> int:
    """Parameters of the DFGN at this budget."""
    with torch.device("meta"):
        return _from_scratch(METHODS[REFERENCE], budget, 0, sizes).num_parameters


# ----------------------------------------------------------------------------- jobs


@dataclass(frozen=True)
class Job:
    """One point of one run: a method, the clips that its base has seen (0 = no base), a seed."""

    method: Method
    base_clips: int
    seed: int
    point: int

    @property
    def row(self) -> str:
        """Of the tables: all seeds together."""
        return f"{self.method.name}@{self.base_clips}" if self.base_clips else self.method.name

    @property
    def name(self) -> str:
        """Of the run: all points together."""
        return f"{self.row}-{self.seed}"


def plan_jobs(budget: Budget, methods: Sequence[str], seeds: int) -> list[Job]:
    """Poorer bases first, then by point: whenever one stops, all methods have come equally far.

    Raises:
        ConfigError: an unknown method, or no seed.
    """
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}; it must be at least 1")
    for name in methods:
        if name not in METHODS:
            raise ConfigError(f"method {name!r} is unknown; choose from {', '.join(METHODS)}")
    jobs = []
    for quality, clips in enumerate(budget.pretrain_clips):
        for point in (0, *budget.points):
            for seed in range(seeds):
                for name, method in METHODS.items():
                    if (name in methods or not methods) and (method.pretrained_base or not quality):
                        own = clips if method.pretrained_base else 0
                        jobs.append(Job(method, own, seed, point))
    return jobs
