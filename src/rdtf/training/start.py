"""Start a run from the weights of a model: what it has learned stays, the run is a new one.

Only weights are taken along; the optimizer's memory begins anew. So a run can be carried to another
machine, or the model that ships be taught a team's own stickers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from rdtf.errors import CheckpointError, ConfigError
from rdtf.fileio import read_json
from rdtf.training.config import ModelConfig, TrainConfig, from_dict, to_dict

SHIPPED = "shipped"


def adopt(config: TrainConfig, source: str) -> TrainConfig:
    """`config` with the model, canvas and representation of `source`, to be started from it.

    Args:
        source: a saved pipeline, a run directory, or "shipped", the model that ships.

    Raises:
        CheckpointError: no model there. ConfigError: its latents are not pixels.
    """
    saved = _denoiser_config(_pipeline_folder(source))
    latents = saved["latent_channels"]
    if latents != 4 * saved["patch"] ** 2:
        raise ConfigError(
            f"{source} works on learned latents; only pixel models can be started from"
        )
    model = {name: saved[name] for name in to_dict(ModelConfig()) if name in saved}
    return replace(
        config,
        canvas=saved["latent_size"] * saved["patch"],
        max_frames=saved["max_frames"],
        start_from=source,
        model=from_dict(ModelConfig, model),
        representation=replace(config.representation, kind="pixels", patch=saved["patch"]),
        objective=replace(config.objective, kind="flow", prediction=saved["prediction"]),
    )


def load_start(model: nn.Module, source: str) -> None:
    """Copy the weights of `source` into a model of the same shape."""
    from rdtf.models.loading import load_weights_of
    from rdtf.training.checkpoint import load_weights

    folder = _pipeline_folder(source) / "denoiser"
    try:
        weights = load_weights_of(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"model {source} has no weights in {folder}: {error}") from error
    if hasattr(model, "conv_motion") and "conv_motion.weight" not in weights:
        weights = _without_motion(model, weights)
    buffers = dict(model.named_buffers())
    load_weights(model, {**buffers, **weights}, f"model {source}")


def _without_motion(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a model without motion latents for one with them.

    What is new starts as if from scratch: motion is not looked at yet, and how frames are composed
    is learned anew, for beyond the given frames that is another matter now.
    """
    mine = model.state_dict()
    grown = torch.zeros_like(mine["conv_in.weight"])
    grown[:, : weights["conv_in.weight"].shape[1]] = weights["conv_in.weight"]
    new = {
        n: x for n, x in mine.items() if n.startswith(("composer.", "norm_motion", "conv_motion"))
    }
    return {**weights, **new, "conv_in.weight": grown}


def _pipeline_folder(source: str) -> Path:
    from rdtf.sampling.pipeline import SHIPPED_MODEL

    folder = SHIPPED_MODEL if source == SHIPPED else Path(source)
    for candidate in (folder, folder / "pipeline"):
        if (candidate / "model_index.json").is_file():
            return candidate
    raise CheckpointError(f"there is no saved model in {folder}; name a run or a saved pipeline")


def _denoiser_config(folder: Path) -> dict[str, Any]:
    saved = read_json(folder / "denoiser" / "config.json", "model config")
    needed = {"latent_channels", "patch", "latent_size", "max_frames", "prediction"}
    if not isinstance(saved, dict) or not needed <= set(saved):
        raise CheckpointError(f"{folder} holds no model of this program")
    return saved
