"""How much a comparison spends: sizes, steps, clips. Everything that decides its numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rdtf.errors import ConfigError
from rdtf.training.config import TrainConfig, override
from rdtf.training.presets import preset


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
    learning_rate_scale: times each method's own rate (`rdtf.research.comparison.methods`).
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

BUDGETS: dict[str, Budget] = {
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
    if name not in BUDGETS:
        raise ConfigError(f"budget {name!r} is unknown; choose from {', '.join(BUDGETS)}")
    budget = BUDGETS[name]
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
