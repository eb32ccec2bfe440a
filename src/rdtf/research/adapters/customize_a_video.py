"""Customize-A-Video (arXiv 2402.14780): a motion learnt from a clip, apart from its looks.

On a frozen text-to-video U-Net, two low-rank adapters in two stages:

1. "appearance": the layers over time are bypassed, so frames are single images in no order, and an
   *appearance absorber* (low-rank, on the attention within the frame) learns what they look like.
2. "motion": the absorber is frozen and stays in, the layers over time are back, and a *temporal
   LoRA* (on all attention over time) learns the clip: of what is left to learn, the motion.

At "sampling" the absorber is dropped and the motion goes with whatever the prompt says. Motions
learnt apart can be added together with weights. The paper's other absorber, a textual-inversion
token, is not built.

**As a baseline over a set** of clips the wanted result has the set's looks, so there
`keep_appearance=True` leaves the absorber in. (How the RDTF paper turned this one-shot method into
its baseline is not said.) One-shot use: `rdtf.research.adapters.use`.

Size on ModelScope's U-Net at rank 4: 798,720 parameters in 128 linear layers; 831,488 with the
attention over time at the input (`include_input=True`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn

from rdtf.errors import ConfigError
from rdtf.research.adapters.common import SAMPLING, AdaptedUNet, copy_tensors
from rdtf.research.adapters.files import read_adapter
from rdtf.research.adapters.lora import activate, add_lora, lora_parameters

APPEARANCE, MOTION = "appearance", "motion"
_LINEAR = r"to_(q|k|v|out\.0)"
_SPATIAL = rf".*\.attentions\..*\.attn[12]\.{_LINEAR}"
_TEMPORAL = rf".*temp_attentions\..*\.attn[12]\.{_LINEAR}"
_TEMPORAL_AND_INPUT = rf".*(temp_attentions|transformer_in)\..*\.attn[12]\.{_LINEAR}"


class CustomizeAVideo(AdaptedUNet):
    """Appearance absorber and temporal LoRA on a frozen `UNet3DConditionModel`.

    Args:
        base: the text-to-video U-Net.
        rank: of the temporal LoRA (the paper compares at 4).
        appearance_rank: of the absorber.
        include_input: adapt `transformer_in` too.
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
        appearance_rank: int = 4,
        include_input: bool = False,
        keep_appearance: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(base, **settings)
        self.rank, self.appearance_rank = rank, appearance_rank
        self.include_input, self.keep_appearance = include_input, keep_appearance
        self.motion_weights: dict[str, float] = {}
        self._targets = _TEMPORAL_AND_INPUT if include_input else _TEMPORAL
        self.stage = ""
        add_lora(base, APPEARANCE, appearance_rank, _SPATIAL)
        self._add_motion(MOTION, rank, 1.0)
        self.begin(APPEARANCE)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            **super().settings,
            "rank": self.rank,
            "appearance_rank": self.appearance_rank,
            "include_input": self.include_input,
            "keep_appearance": self.keep_appearance,
        }

    # ------------------------------------------------------------------ stages

    def begin(self, stage: str) -> None:
        """`AdaptedUNet.begin`; also which low-rank adapters run, and whether time does."""
        super().begin(stage)
        self.stage = stage
        strengths = {
            APPEARANCE: {APPEARANCE: 1.0},
            MOTION: {APPEARANCE: 1.0, MOTION: 1.0},
            SAMPLING: dict(self.motion_weights),
        }[stage]
        if stage == SAMPLING and self.keep_appearance:
            strengths[APPEARANCE] = 1.0
        activate(self.base, strengths)
        bypass_time(self.base, stage == APPEARANCE)

    def _trained(self, stage: str) -> Sequence[nn.Parameter]:
        return [] if stage == SAMPLING else list(lora_parameters(self.base, stage).values())

    def _base_parameters(self) -> list[nn.Parameter]:
        return [p for name, p in self.base.named_parameters() if ".lora_" not in name]

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Absorber and own motion, as `appearance.PATH` and `motion.PATH`; not the added ones."""
        return {
            f"{part}.{path}": parameter
            for part in (APPEARANCE, MOTION)
            for path, parameter in lora_parameters(self.base, part).items()
        }

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of the absorber and of each motion."""
        return {
            part: sum(p.numel() for p in lora_parameters(self.base, part).values())
            for part in (APPEARANCE, *self.motion_weights)
        }

    # ------------------------------------------------------------------ several motions

    def _add_motion(self, name: str, rank: int, weight: float) -> None:
        add_lora(self.base, name, rank, self._targets)
        self.motion_weights[name] = weight

    def add_motion(self, folder: Path | str, name: str, weight: float = 1.0) -> None:
        """Load the motion that another Customize-A-Video adapter saved, beside this one's.

        It runs in the sampling stage, times `weight`, together with all others.
        """
        if name in (APPEARANCE, *self.motion_weights) or not name.isidentifier():
            raise ConfigError(f"motion name {name!r} is taken or no plain name; choose another")
        saved = read_adapter(folder, self.name)
        if bool(saved.settings.get("include_input")) != self.include_input:
            raise ConfigError(f"{folder} was trained with another include_input than this adapter")
        self._add_motion(name, int(saved.settings["rank"]), weight)
        tensors = {
            path.removeprefix(f"{MOTION}."): tensor
            for path, tensor in saved.tensors.items()
            if path.startswith(f"{MOTION}.")
        }
        try:
            copy_tensors(lora_parameters(self.base, name), tensors, f"motion {folder}")
        except ValueError:
            del self.motion_weights[name]
            raise
        self.begin(self.stage)

    def set_motion_weights(self, weights: dict[str, float]) -> None:
        """Strength of each motion at sampling; motions that are not named get 0."""
        unknown = sorted(set(weights) - set(self.motion_weights))
        if unknown:
            raise ConfigError(
                f"there is no motion {unknown[0]!r}; loaded: {', '.join(self.motion_weights)}"
            )
        self.motion_weights = {name: weights.get(name, 0.0) for name in self.motion_weights}
        self.begin(self.stage)


# ------------------------------------------------------------------ bypassing time


def _unchanged(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    """Stands in for a temporal convolution."""
    return hidden_states


def _unchanged_tuple(hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
    """Stands in for a temporal transformer, which the U-Net's blocks ask for a tuple."""
    return (hidden_states,)


def bypass_time(base: nn.Module, enable: bool) -> None:
    """Switch the base's layers over time off (each frame becomes an image of its own) or on."""
    for module in base.modules():
        if isinstance(module, (TemporalConvLayer, TransformerTemporalModel)):
            is_convolution = isinstance(module, TemporalConvLayer)
            if enable:
                vars(module)["forward"] = _unchanged if is_convolution else _unchanged_tuple
            else:
                vars(module).pop("forward", None)
