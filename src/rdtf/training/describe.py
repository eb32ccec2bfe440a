"""What a run would be, before it is: the resolved config and its size (`--dry-run`)."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import torch

from rdtf.models.dfgn import DFGN
from rdtf.models.representation import as_representation
from rdtf.models.text import TextEncoders
from rdtf.training.config import TrainConfig, to_dict
from rdtf.training.presets import (
    PAPER_LATENT_CHANNELS,
    PAPER_TEXT_WIDTHS,
    build_autoencoder,
    build_denoiser,
)

_PARTS = {
    ".residual.": "residual blocks",
    ".temporal.": "spatio-temporal interaction",
    ".transformer.": "spatial and text attention",
    "composer.": "frame composer",
}


def meta_denoiser(config: TrainConfig) -> DFGN:
    """The denoiser on the meta device: its shape without its memory.

    Where the paper preset's public encoders are not named yet, the paper's widths stand in.
    """
    if config.representation.kind == "pixels" or config.representation.path:
        representation = as_representation(build_autoencoder(config))
        channels, down = representation.latent_channels, representation.downsampling
    else:
        channels, down = PAPER_LATENT_CHANNELS, 8
    widths = PAPER_TEXT_WIDTHS
    if all(config.text.encoders):
        widths = TextEncoders(config.text.encoders, config.text.max_tokens).widths
    with torch.device("meta"):
        return build_denoiser(
            config, latent_channels=channels, downsampling=down, text_widths=widths
        )


def describe_run(config: TrainConfig) -> dict[str, Any]:
    """Config, parameters in all and by part, samples in all; `text` says it for people."""
    parts: Counter[str] = Counter()
    for name, parameter in meta_denoiser(config).named_parameters():
        part = next((title for key, title in _PARTS.items() if key in name), "the rest")
        parts[part] += parameter.numel()
    total = sum(parts.values())
    lines = [json.dumps(to_dict(config), indent=2), f"parameters: {total / 1e6:.1f} M"]
    lines += [f"  {part}: {count / 1e6:.1f} M" for part, count in parts.most_common()]
    lines.append(f"samples: {config.steps * config.clips_per_step:,} in {config.steps:,} steps")
    return {
        "config": to_dict(config),
        "parameters": total,
        "parameters_by_part": dict(parts),
        "text": "\n".join(lines),
    }
