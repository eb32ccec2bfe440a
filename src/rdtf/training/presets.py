"""The four sizes, from one CPU to many GPUs, how their parts are built, and warm starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdtf.errors import CheckpointError, ConfigError
from rdtf.fileio import read_json
from rdtf.method.curriculum import CurriculumConfig
from rdtf.method.objective import ObjectiveConfig
from rdtf.training.config import (
    DataConfig,
    EngineConfig,
    ModelConfig,
    OptimizerConfig,
    RepresentationConfig,
    TextConfig,
    TrainConfig,
    from_dict,
    to_dict,
)

if TYPE_CHECKING:  # the settings of a preset are read without torch
    from torch import Tensor, nn

    from rdtf.models.dfgn import DFGN
    from rdtf.models.text import TextEncoders

PRESETS: dict[str, TrainConfig] = {
    "nano": TrainConfig(
        relative_loss_floor=0.02,
        model=ModelConfig(motion="alone"),
        objective=ObjectiveConfig(logit_mean=1.0),
    ),
    "mini": TrainConfig(
        preset="mini",
        canvas=128,
        max_frames=16,
        steps=60_000,
        batch_size=64,
        relative_loss_floor=0.02,
        representation=RepresentationConfig(patch=8),
        model=ModelConfig(
            channels=(64, 160, 384),
            layers_per_level=1,
            attention_head_dim=32,
            embedding_dim=512,
            text_dim=384,
            sti_heads=8,
            refine_widths=(48, 24),
            motion="alone",
        ),
        objective=ObjectiveConfig(logit_mean=1.0),
        optimizer=OptimizerConfig(
            learning_rate=5e-4, warmup_steps=1000, ema_decays=(0.9995, 0.9998)
        ),
        engine=EngineConfig(save_every=1000, validate_every=2000, sample_every=2000),
    ),
    "base": TrainConfig(
        preset="base",
        canvas=256,
        max_frames=16,
        steps=200_000,
        batch_size=64,
        relative_loss_floor=0.02,
        representation=RepresentationConfig(patch=8),
        model=ModelConfig(
            channels=(192, 320, 512),
            layers_per_level=2,
            extra_up_stage=True,
            attention_head_dim=64,
            expansion=4,
            embedding_dim=768,
            text_dim=768,
            sti_heads=8,
            refine_widths=(64, 32),
            motion="alone",
        ),
        optimizer=OptimizerConfig(
            learning_rate=3e-4, warmup_steps=2000, ema_decays=(0.9998, 0.9999)
        ),
        objective=ObjectiveConfig(logit_mean=1.0, shift=2.0),
        engine=EngineConfig(
            gradient_checkpointing=True,
            save_every=1000,
            keep_every=20_000,
            validate_every=5000,
            sample_every=5000,
        ),
    ),
    # Table 6 of the paper: eps on its DDPM schedule, a public 8× autoencoder, CLIP and T5 tokens,
    # no warp decoder. Widths of the text encoders are those of the paper, 1024 and 768.
    "paper": TrainConfig(
        preset="paper",
        canvas=256,
        max_frames=8,
        steps=50_000,
        batch_size=16,
        representation=RepresentationConfig(kind="public-autoencoder", path=""),
        text=TextConfig(encoders=("", ""), max_tokens=77),
        model=ModelConfig(
            channels=(320, 640, 1024, 1280),
            layers_per_level=2,
            extra_up_stage=True,
            attention_levels=(0, 1, 2),
            attention_head_dim=64,
            expansion=4,
            embedding_dim=1280,
            text_dim=1024,
            sti_heads=8,
            sti_head_dim=32,
            compose=False,
            refine_widths=(),
        ),
        data=DataConfig(still_share=0.0),
        objective=ObjectiveConfig(kind="ddpm", prediction="eps"),
        curriculum=CurriculumConfig(mode="adaptive"),
        optimizer=OptimizerConfig(
            learning_rate=1e-5, betas=(0.9, 0.999), warmup_steps=0, decay_share=0.0
        ),
        engine=EngineConfig(gradient_checkpointing=True, save_every=1000),
    ),
}
SUMMARIES = {
    "nano": "6 M parameters, 64 px, up to 8 frames: a CPU is enough.",
    "mini": "35 M parameters, 128 px, up to 16 frames: one GPU.",
    "base": "150 M parameters, 256 px, up to 16 frames: one GPU for days.",
    "paper": "0.92 B parameters, the paper's Table 6; needs --representation.path VAE, a public "
    "autoencoder, and --text.encoders CLIP T5.",
}
PAPER_LATENT_CHANNELS = 4
PAPER_TEXT_WIDTHS = (1024, 768)


def preset(name: str) -> TrainConfig:
    """A preset by name; an unknown one is a `ConfigError` that lists them."""
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r} is unknown; choose from {', '.join(PRESETS)}")
    return PRESETS[name]


def build_autoencoder(config: TrainConfig) -> nn.Module:
    """The module behind the representation; learned ones are loaded from their folder."""
    from rdtf.models.loading import load_pretrained
    from rdtf.models.representation import PixelPatches, RGBAAutoencoder

    representation = config.representation
    if representation.kind == "pixels":
        return PixelPatches(patch=representation.patch)
    if not (Path(representation.path) / "config.json").is_file():
        raise ConfigError(
            f"representation {representation.kind} needs a folder with its weights: "
            f"--representation.path FOLDER (now {representation.path!r})"
        )
    kind: Any = RGBAAutoencoder
    if representation.kind == "public-autoencoder":
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL as kind  # noqa: N813
    try:
        return load_pretrained(kind, representation.path)
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(
            f"representation {representation.kind} can't be loaded from {representation.path}: "
            f"{error}"
        ) from error


def build_denoiser(
    config: TrainConfig,
    *,
    latent_channels: int,
    downsampling: int,
    text_widths: tuple[int, ...],
) -> DFGN:
    """The denoiser of a config over the given latents and text states."""
    from rdtf.models.dfgn import DFGN
    from rdtf.models.warp import possible_widths

    patch = config.representation.patch if config.representation.kind == "pixels" else 1
    if config.canvas % downsampling:
        raise ConfigError(f"canvas {config.canvas} must be a multiple of {downsampling} pixels")
    model: dict[str, Any] = dict(vars(config.model))
    model["refine_widths"] = possible_widths(config.model.refine_widths, patch)
    return DFGN(
        latent_channels=latent_channels,
        text_widths=text_widths,
        prediction=config.objective.prediction,
        patch=patch,
        max_frames=config.max_frames,
        latent_size=config.canvas // downsampling,
        draws=config.learn != "motion",
        **model,
    )


def build_models(config: TrainConfig) -> tuple[DFGN, nn.Module, TextEncoders]:
    """Denoiser, autoencoder module and text encoders of a config."""
    from rdtf.models.representation import as_representation
    from rdtf.models.text import TextEncoders

    autoencoder = build_autoencoder(config)
    representation = as_representation(autoencoder)
    text_encoders = TextEncoders(config.text.encoders, config.text.max_tokens)
    denoiser = build_denoiser(
        config,
        latent_channels=representation.latent_channels,
        downsampling=representation.downsampling,
        text_widths=text_encoders.widths,
    )
    return denoiser, autoencoder, text_encoders


def build_scheduler(config: TrainConfig) -> Any:
    """The diffusers scheduler that matches the objective."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
        FlowMatchEulerDiscreteScheduler,
    )

    objective = config.objective
    if objective.kind == "flow":
        return FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=objective.num_train_timesteps, shift=objective.shift
        )
    prediction_type: Any = {"eps": "epsilon", "v": "v_prediction", "x": "sample"}[
        objective.prediction
    ]
    return DDIMScheduler(
        num_train_timesteps=objective.num_train_timesteps,
        beta_start=objective.beta_start,
        beta_end=objective.beta_end,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


# ------------------------------------------------------------------ warm start


SHIPPED = "shipped"


def warm_start_config(config: TrainConfig, source: str) -> TrainConfig:
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


def load_warm_start(model: nn.Module, source: str) -> None:
    """Copy the weights of `source` into a model of the same shape."""
    from safetensors import SafetensorError

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
    load_weights(model.state_dict(), {**buffers, **weights}, f"model {source}")


def _without_motion(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a model without motion latents for one with them.

    What is new starts as if from scratch: motion is not looked at yet, and how frames are composed
    is learned anew, for extrapolated frames come about in another way now.
    """
    mine = model.state_dict()
    grown = mine["conv_in.weight"].new_zeros(mine["conv_in.weight"].shape)
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
