"""A run directory: its config, its lock, and the models in it.

RUN/config.json     the resolved config and the data's fingerprint
RUN/checkpoints/    see `rdtf.training.checkpoint`
RUN/metrics.jsonl   see `rdtf.training.logging`
RUN/samples/        contact sheets with fixed seeds
RUN/pipeline/       the finished model, as `StickerPipeline.from_pretrained` reads it
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rdtf.errors import CheckpointError, ConfigError
from rdtf.fileio import ensure_folder, read_json, write_json
from rdtf.sampling.options import check_model
from rdtf.training.checkpoint import load_latest, load_step, load_weights
from rdtf.training.config import TrainConfig, from_dict, to_dict
from rdtf.training.device import default_device
from rdtf.training.presets import build_models, build_scheduler

CONFIG_FILE = "config.json"


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run for this process; a second trainer in the same folder is refused."""
    ensure_folder(run, "run folder")
    with (run / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"{run} is being trained by another process; wait or use another --out"
            ) from error
        yield


def check_config(run: Path, config: TrainConfig, data_fingerprint: str) -> None:
    """Compare with the config that the run was started with, if it was.

    What may change on resuming: how long, and how it is computed (`EngineConfig`). Anything else
    would silently make another run of it, so it is refused and named.
    """
    if not (run / CONFIG_FILE).exists():
        return
    saved = _read_config(run)
    if saved["data"] != data_fingerprint:
        raise ConfigError(
            f"{run} was trained on other data, or it has changed since; use another --out"
        )
    changed = _differences(to_dict(load_config(run)), to_dict(config))
    if changed:
        name, old, new = changed[0]
        raise ConfigError(f"{run} was started with {name} = {old}, not {new}; use another --out")


def save_config(run: Path, config: TrainConfig, data_fingerprint: str) -> None:
    """Write `config.json`: what the run is resumed and its model is built with."""
    write_json(run / CONFIG_FILE, {"config": to_dict(config), "data": data_fingerprint})


_MAY_CHANGE = {"steps", "engine"}


def _differences(old: Any, new: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(set(old) | set(new)):
            if name == "" and key in _MAY_CHANGE:
                continue
            found += _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
        return found
    same = list(old) == list(new) if isinstance(old, (list, tuple)) else old == new
    return [] if same else [(name, old, new)]


def load_config(run: Path) -> TrainConfig:
    """The config that a run was trained with."""
    return from_dict(TrainConfig, _read_config(run)["config"], str(run / CONFIG_FILE))


def _read_config(run: Path) -> dict[str, Any]:
    """`config` and `data` of a run; models have a `config.json` too, which is refused."""
    path = run / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(f"{run} is no run directory: it has no {CONFIG_FILE}")
    saved = read_json(path, "run config")
    if not isinstance(saved, dict) or not {"config", "data"} <= set(saved):
        raise CheckpointError(f"{run} is no run directory: its {CONFIG_FILE} is of something else")
    return saved


def pipeline_from_run(run: Path, step: int | None = None) -> Any:
    """The pipeline with the averaged weights of a run's checkpoint: the newest intact, or `step`'s.

    Of several averages, the one that the last validation found best.
    """
    from rdtf.sampling.pipeline import StickerPipeline

    config = load_config(run)
    checkpoint = load_latest(run) if step is None else load_step(run, step)
    if checkpoint is None:
        raise CheckpointError(
            f"{run} has no checkpoint yet; train it first: rdtf train {config.preset}"
        )
    denoiser, autoencoder, text_encoders = build_models(config)
    averages = checkpoint.load(f"ema-{checkpoint.state['ema_index']}")
    weights = {**checkpoint.load("model"), **averages}
    load_weights(denoiser.state_dict(), weights, f"checkpoint of {run}")
    denoiser.eval()
    return StickerPipeline(denoiser, autoencoder, text_encoders, build_scheduler(config))


def load_pipeline(path: Path | str | None = None) -> Any:
    """A pipeline from a run directory or a saved one, on the GPU if there is one.

    Without a path, the model that ships.
    """
    from rdtf.sampling.pipeline import SHIPPED_MODEL

    return _load_pipeline(Path(path or SHIPPED_MODEL)).to(default_device())


def _load_pipeline(path: Path) -> Any:
    from diffusers.utils import logging

    from rdtf.sampling.pipeline import StickerPipeline

    if (path / "model_index.json").is_file():
        logging.disable_progress_bar()
        try:
            return StickerPipeline.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"pipeline {path} can't be loaded: {error}") from error
    check_model(path)
    return pipeline_from_run(path)
