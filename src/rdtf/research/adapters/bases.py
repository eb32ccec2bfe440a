"""The U-Nets that adapters are put on: published ones from a local folder, and small new ones.

Three kinds, all diffusers':

| kind   | class                  | published                                  | adapter           |
|--------|------------------------|--------------------------------------------|-------------------|
| motion | `UNetMotionModel`      | Stable Diffusion 1.5 + AnimateDiff modules | I2V-Adapter       |
| image  | `UNet2DConditionModel` | Stable Diffusion 1.5                       | SimDA             |
| video  | `UNet3DConditionModel` | ModelScope and ZeroScope text-to-video     | Customize-A-Video |
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNet3DConditionModel, UNetMotionModel
from torch import Tensor, nn

from rdtf.errors import ConfigError
from rdtf.fileio import read_json
from rdtf.models.loading import load_pretrained
from rdtf.research.adapters.common import (
    BASE_CLASSES,
    AdaptedUNet,
    copy_tensors,
    read_adapter,
    write_adapter,
)

# Widths of the levels of a small U-Net, finest first, grow in about these proportions.
_PROPORTIONS = (1.0, 2.0, 3.0)


# ------------------------------------------------------------------ published weights


def load_base(
    kind: str,
    folder: Path | str,
    motion: Path | str | None = None,
) -> nn.Module:
    """Load a published U-Net from a local folder. Safetensors only; nothing is downloaded.

    Args:
        kind: "motion", "image" or "video".
        folder: what `save_pretrained` wrote: the U-Net's folder, or a pipeline's with `unet` in it.
        motion: for "motion", a folder with a `MotionAdapter` to put into a text-to-image U-Net in
            `folder`; without it, `folder` holds a whole `UNetMotionModel`.

    Raises:
        ConfigError: an unknown kind, no such folder, another class in it, or damaged weights.
    """
    if kind not in BASE_CLASSES:
        raise ConfigError(f"base {kind!r} is unknown; choose from {', '.join(BASE_CLASSES)}")
    if motion is None:
        return _load(BASE_CLASSES[kind], Path(folder))
    if kind != "motion":
        raise ConfigError(f"a motion adapter goes with base motion, not {kind}")
    image: Any = _load(UNet2DConditionModel, Path(folder))
    modules: Any = _load(MotionAdapter, Path(motion))
    unet: Any = UNetMotionModel.from_unet2d(image, modules)
    return unet


def _load(base_class: Any, folder: Path) -> nn.Module:
    if (folder / "unet" / "config.json").is_file():
        folder = folder / "unet"
    if not (folder / "config.json").is_file():
        raise ConfigError(f"base folder {folder} has no config.json; name the U-Net's own folder")
    saved_as = read_json(folder / "config.json", "base config").get("_class_name")
    if saved_as != base_class.__name__:
        raise ConfigError(f"base folder {folder} holds a {saved_as}, not a {base_class.__name__}")
    try:
        return load_pretrained(base_class, folder, local_files_only=True)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"base can't be loaded from {folder}: {error}") from error


# ------------------------------------------------------------------ small ones


def small_base(
    kind: str,
    parameters: int,
    *,
    latent_channels: int,
    text_width: int,
    latent_size: int = 16,
    max_frames: int = 32,
) -> nn.Module:
    """A new U-Net of about so many parameters, randomly initialised.

    Laid out as the published ones: attention at all levels but the coarsest, and in the middle.
    Three levels (16, 8 and 4 cells a side for latents of 16), one layer each, heads of 32 channels
    (8 below 2 M parameters). The widths come in units of a head, so the count is met within 12 %
    from 10 M parameters on, roughly below.

    Args:
        kind: "motion", "image" or "video".
        parameters: wanted count; less than the smallest there is gives the smallest.
        latent_channels: channels of the latents, in and out.
        text_width: width of the text encoder's token states.
        latent_size: cells per side, for the record; any size can be run.
        max_frames: longest clip of a motion U-Net (its positions are numbered).
    """
    if kind not in BASE_CLASSES:
        raise ConfigError(f"base {kind!r} is unknown; choose from {', '.join(BASE_CLASSES)}")
    channels = _channels(kind, parameters, latent_channels, text_width)
    return _build(kind, channels, latent_channels, text_width, latent_size, max_frames)


@functools.cache
def _channels(kind: str, parameters: int, latent_channels: int, text_width: int) -> tuple[int, ...]:
    """Widths of the levels with which the count comes nearest."""
    unit = 32 if parameters >= 2_000_000 else 8
    ladder = [tuple(unit * n for n in rung) for rung in _width_ladder()]

    @functools.cache
    def count(rung: int) -> int:
        with torch.device("meta"):
            base = _build(kind, ladder[rung], latent_channels, text_width, 16, 32)
        return sum(parameter.numel() for parameter in base.parameters())

    low, high = 0, len(ladder) - 1
    while low < high:  # the first rung that is at least as large
        middle = (low + high) // 2
        if count(middle) >= parameters:
            high = middle
        else:
            low = middle + 1
    return ladder[min(range(max(low - 1, 0), low + 1), key=lambda n: abs(count(n) - parameters))]


def _width_ladder(rungs: int = 120) -> list[tuple[int, ...]]:
    """Ever wider networks: each rung widens one level by a unit, keeping the proportions."""
    widths = [1] * len(_PROPORTIONS)
    ladder = [tuple(widths)]
    for _ in range(rungs):
        narrowest = min(range(len(widths)), key=lambda i: (widths[i] / _PROPORTIONS[i], -i))
        widths[narrowest] += 1
        ladder.append(tuple(widths))
    return ladder


def _build(
    kind: str,
    channels: tuple[int, ...],
    latent_channels: int,
    text_width: int,
    latent_size: int,
    max_frames: int,
) -> nn.Module:
    head_dim = math.gcd(32, *channels)
    heads = tuple(width // head_dim for width in channels)
    suffix = {"motion": "Motion", "image": "2D", "video": "3D"}[kind]
    block = f"Block{suffix}"
    common: dict[str, Any] = {
        "sample_size": latent_size,
        "in_channels": latent_channels,
        "out_channels": latent_channels,
        "block_out_channels": channels,
        "down_block_types": (*[f"CrossAttnDown{block}"] * 2, f"Down{block}"),
        "up_block_types": (f"Up{block}", *[f"CrossAttnUp{block}"] * 2),
        "layers_per_block": 1,
        # Groups of one channel would subtract what the timestep adds.
        "norm_num_groups": 8 if head_dim > 8 else 2,
        "cross_attention_dim": text_width,
    }
    if kind == "motion":
        return UNetMotionModel(
            **common,
            num_attention_heads=heads,
            motion_num_attention_heads=heads,
            motion_max_seq_length=max_frames,
        )
    if kind == "image":
        # In this class the argument is the number of heads, whatever it is called.
        common["attention_head_dim"] = heads
        return UNet2DConditionModel(**common)
    return UNet3DConditionModel(**common, attention_head_dim=head_dim)


class FullFineTuning(AdaptedUNet):
    """Every parameter of the base is trained; nothing is added.

    For *pre-training* a base, give it text-to-video samples only (task `t2v`): then nothing is
    given and it is the plain U-Net. A text-to-image base treats every frame as an image. The
    folder that `save` writes has the trained U-Net in `unet/`: `load_base(kind, folder)` reads it.
    """

    name: ClassVar[str] = "full-fine-tuning"
    base_kinds: ClassVar[tuple[str, ...]] = ("motion", "image", "video")

    def __init__(self, base: nn.Module, **settings: Any) -> None:
        super().__init__(base, **settings)
        self.begin("tune")

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.named_parameters())

    def _trained(self, stage: str) -> Sequence[nn.Parameter]:
        return [] if stage == "sampling" else list(self.base.parameters())

    def train(self, mode: bool = True) -> FullFineTuning:
        """Dropout works in training, as in any training of such a U-Net."""
        nn.Module.train(self, mode)
        return self

    def save(self, folder: Path | str) -> None:
        """Write adapter.json and the whole U-Net, as diffusers does, in `unet/`."""
        base = cast(Any, self.base)
        write_adapter(
            folder,
            self,
            {"null_text": self.get_buffer("null_text")},
            lambda place: base.save_pretrained(place / "unet", safe_serialization=True),
        )

    def load(self, folder: Path | str) -> None:
        _, _, tensors = read_adapter(folder, self.name)
        trained = load_base(self.base_kind, Path(folder))
        copy_tensors(
            dict(self.base.named_parameters()), dict(trained.named_parameters()), f"{folder}"
        )
        self.null_text = tensors["null_text"].to(cast(Tensor, self.null_text))
