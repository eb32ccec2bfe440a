"""Customize-A-Video (arXiv 2402.14780): a motion learnt from a clip, apart from its looks.

On a frozen text-to-video U-Net, two low-rank adapters in two stages:

1. "appearance": the layers over time are bypassed, so frames are single images in no order, and an
   *appearance absorber* (low-rank, on the attention within the frame) learns what they look like.
2. "motion": the absorber is frozen and stays in, the layers over time are back, and a *temporal
   LoRA* (on all attention over time) learns the clip: of what is left to learn, the motion.

At "sampling" the absorber is dropped and the motion goes with whatever the prompt says. The paper's
other absorber, a textual-inversion token, and sums of several motions are not built.

**As a baseline over a set** of clips the wanted result has the set's looks, so there
`keep_appearance=True` leaves the absorber in. (How the RDTF paper turned this one-shot method into
its baseline is not said.) One-shot use: `rdtf.research.adapters.use`.

Size on ModelScope's U-Net at rank 4: 798,720 parameters in 128 linear layers (the attention over
time at the input is left alone).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn

from rdtf.errors import ConfigError
from rdtf.research.adapters.common import SAMPLING, AdaptedUNet


def _add_lora(base: nn.Module, name: str, rank: int, targets: str) -> None:
    """Put a low-rank adapter `name` beside every linear layer whose path matches `targets`.

    It starts at zero (identity) and at strength 1, in float32 whatever the base's type.

    Args:
        targets: regular expression over whole module paths in `base`.
    """
    try:
        import peft
    except ImportError as error:
        raise ConfigError(
            "low-rank adapters need peft; pip install 'rdtf[adapters]' (or pip install peft)"
        ) from error
    if rank < 1:
        raise ConfigError(f"rank is {rank}; it must be at least 1")
    config = peft.LoraConfig(
        r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", target_modules=targets
    )
    with warnings.catch_warnings():
        # peft asks whether a second adapter in one model is meant; it is.
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        peft.inject_adapter_in_model(config, base, adapter_name=name)
    for parameter in _lora_parameters(base, name).values():
        parameter.data = parameter.data.float()


def _lora_parameters(base: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """Parameters of one low-rank adapter, by path without its name."""
    return {
        path.replace(f".{name}.", "."): parameter
        for path, parameter in base.named_parameters()
        if f".{name}." in path and ".lora_" in path
    }


def _activate(base: nn.Module, names: Sequence[str]) -> None:
    """Run these low-rank adapters and no others; gradients are left alone."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    trained = {
        name: parameter.requires_grad
        for name, parameter in base.named_parameters()
        if ".lora_" in name
    }
    for module in base.modules():
        if isinstance(module, BaseTunerLayer):
            layer: Any = module
            layer.set_adapter([name for name in names if name in layer.r])
    for name, parameter in base.named_parameters():
        if name in trained:
            parameter.requires_grad_(trained[name])


APPEARANCE, MOTION = "appearance", "motion"
_LINEAR = r"to_(q|k|v|out\.0)"
_SPATIAL = rf".*\.attentions\..*\.attn[12]\.{_LINEAR}"
_TEMPORAL = rf".*temp_attentions\..*\.attn[12]\.{_LINEAR}"


class CustomizeAVideo(AdaptedUNet):
    """Appearance absorber and temporal LoRA on a frozen `UNet3DConditionModel`.

    Args:
        base: the text-to-video U-Net.
        rank: of the temporal LoRA (the paper compares at 4) and of the absorber.
        keep_appearance: leave the absorber in at sampling, see this module's docstring.
        settings: see `AdaptedUNet`. It is a text-to-video method; how given frames enter is said
            in `rdtf.research.adapters.common`.
    """

    name: ClassVar[str] = "customize-a-video"
    base_kinds: ClassVar[tuple[str, ...]] = ("video",)
    stages: ClassVar[tuple[str, ...]] = (APPEARANCE, MOTION)

    def __init__(
        self,
        base: nn.Module,
        *,
        rank: int = 4,
        keep_appearance: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(base, **settings)
        self.rank, self.keep_appearance = rank, keep_appearance
        self.stage = ""
        _add_lora(base, APPEARANCE, rank, _SPATIAL)
        _add_lora(base, MOTION, rank, _TEMPORAL)
        self.begin(APPEARANCE)

    @property
    def settings(self) -> dict[str, Any]:
        return {"rank": self.rank, "keep_appearance": self.keep_appearance}

    # ------------------------------------------------------------------ stages

    def begin(self, stage: str) -> None:
        """`AdaptedUNet.begin`; also which low-rank adapters run, and whether time does."""
        super().begin(stage)
        self.stage = stage
        drop = stage == SAMPLING and not self.keep_appearance
        running = [MOTION] * (stage != APPEARANCE) + [APPEARANCE] * (not drop)
        _activate(self.base, running)
        _bypass_time(self.base, stage == APPEARANCE)

    def _trained(self, stage: str) -> Sequence[nn.Parameter]:
        return [] if stage == SAMPLING else list(_lora_parameters(self.base, stage).values())

    def _base_parameters(self) -> list[nn.Parameter]:
        return [p for name, p in self.base.named_parameters() if ".lora_" not in name]

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Absorber and motion, as `appearance.PATH` and `motion.PATH`."""
        return {
            f"{part}.{path}": parameter
            for part in (APPEARANCE, MOTION)
            for path, parameter in _lora_parameters(self.base, part).items()
        }


# ------------------------------------------------------------------ bypassing time


def _unchanged(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    """Stands in for a temporal convolution."""
    return hidden_states


def _unchanged_tuple(hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
    """Stands in for a temporal transformer, which the U-Net's blocks ask for a tuple."""
    return (hidden_states,)


def _bypass_time(base: nn.Module, enable: bool) -> None:
    """Switch the base's layers over time off (each frame becomes an image of its own) or on."""
    for module in base.modules():
        if isinstance(module, (TemporalConvLayer, TransformerTemporalModel)):
            is_convolution = isinstance(module, TemporalConvLayer)
            if enable:
                vars(module)["forward"] = _unchanged if is_convolution else _unchanged_tuple
            else:
                vars(module).pop("forward", None)
