"""A tiny training set, a tiny config and a model trained with it: shared by several folders.

A folder's conftest imports the fixtures that its tests use.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from rdtf.data.prepare import prepare
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.synthetic.characters import SyntheticStickers
from rdtf.training.config import EngineConfig, TrainConfig, override
from rdtf.training.presets import preset
from rdtf.training.run import load_pipeline
from rdtf.training.train import train

CANVAS, MAX_FRAMES = 32, 4
TINY = {
    "canvas": CANVAS,
    "max_frames": MAX_FRAMES,
    "batch_size": 2,
    "engine.precision": "fp32",
    "engine.log_every": 1,
    "engine.save_every": 2,
    "engine.validate_every": 0,
    "engine.sample_every": 0,
    "model.channels": (16, 32),
    "model.attention_levels": (1,),
    "model.attention_head_dim": 8,
    "model.embedding_dim": 32,
    "model.text_dim": 16,
    "model.sti_heads": 2,
    "model.sti_head_dim": 8,
    "optimizer.warmup_steps": 1,
    "optimizer.learning_rate": 3e-3,
}


_ENGINE = {field.name for field in fields(EngineConfig)}


def tiny_config(**settings: Any) -> TrainConfig:
    """`nano` with steps of milliseconds.

    `model__compose=False` sets model.compose; settings of the engine need no prefix.
    """
    return override(preset("nano"), {**TINY, "steps": 6, **_dotted(settings)})


def _dotted(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        f"engine.{name}" if name in _ENGINE else name.replace("__", "."): value
        for name, value in settings.items()
    }


def tiny_arguments(**settings: Any) -> list[str]:
    """The same as arguments of `rdtf train nano`."""
    return [word for pair in {**TINY, **_dotted(settings)}.items() for word in _option(*pair)]


def _option(name: str, value: Any) -> list[str]:
    section, dot, name = name.replace("_", "-").rpartition(".")
    if isinstance(value, bool):
        return [f"--{section}{dot}{'' if value else 'no-'}{name}"]
    return [f"--{section}{dot}{name}", *map(str, value if isinstance(value, tuple) else [value])]


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 synthetic stickers of at most 6 frames at 32 pixels, some of them stills."""
    out = tmp_path_factory.getbasetemp() / "training-set"
    if not out.exists():
        stickers = SyntheticStickers(seed=0, count=24, max_frames=6)
        prepare(stickers, out, canvas=CANVAS, max_frames=6, val_fraction=0.2, workers=0)
    return out


@pytest.fixture(scope="session")
def tiny_run(training_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, long enough that the model's frames depend on everything it is told."""
    run = tmp_path_factory.getbasetemp() / "tiny-run"
    if not run.exists():
        train(tiny_config(steps=40, save_every=20), training_set, run, quiet=True)
    return run


@pytest.fixture(scope="session")
def pipeline(tiny_run: Path) -> StickerPipeline:
    """The model of `tiny_run`; tests that change it copy it first."""
    return load_pipeline(tiny_run)
