"""What is trained and sampled: the DFGN, an adapted U-Net, or the DFGN without the dual mask.

All have one face (`Trainee`), so that one loop trains them and one sampler samples them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rdtf.models.conditions import Conditions
from rdtf.models.dfgn import DFGN
from rdtf.research.adapters import AdaptedUNet

# Spread of premultiplied sticker pixels in [-1, 1], as the DFGN assumes.
_DATA_STD = 0.7


class Trainee(nn.Module):
    """A network in one of its stages.

    Attributes:
        stages: what to train, one after the other.
        pad_to: clips are sampled with this many frames and then cut; None = at their length.
    """

    stages: tuple[str, ...] = ("train",)
    pad_to: int | None = None

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def begin(self, stage: str) -> None:
        """Make ready for one of `stages`, or for "sampling", where nothing is trained."""
        self.train(stage != "sampling")

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """What some stage trains, by name: what a checkpoint holds."""
        return dict(self.network.named_parameters())

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """What the present stage trains."""
        return {name: value for name, value in self.own_parameters().items() if value.requires_grad}

    @property
    def num_parameters(self) -> int:
        """All, the frozen ones too."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, noisy: Tensor, t: Tensor, conditions: Conditions, **options: Any) -> Tensor:
        """As `rdtf.models.dfgn.DFGN`."""
        return self.network(noisy, t, conditions, **options)


class Tuned(Trainee):
    """An adapter (or full fine-tuning) on a U-Net.

    The U-Net predicts the clean clip and is shown the best linear guess of it instead of the plain
    noisy latents, as the DFGN is: that helped the DFGN, so nobody shall go without it.
    """

    def __init__(self, adapter: AdaptedUNet) -> None:
        super().__init__(adapter)
        self.adapter = (adapter,)  # in a tuple: registered once, as `network`
        self.stages = adapter.stages

    def begin(self, stage: str) -> None:
        self.adapter[0].begin(stage)
        self.training = stage != "sampling"

    def own_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.adapter[0].adapter_parameters())

    def forward(self, noisy: Tensor, t: Tensor, conditions: Conditions, **options: Any) -> Tensor:
        return self.network(noisy * linear_guess_scale(t), t, conditions, **options)


class SingleTask(Trainee):
    """The DFGN without the dual mask: one task, no mask channel, no loss mask.

    It is shown the clean first frame in its condition channels and zeros for all other frames, as
    in the released code; the plane that tells given from hidden stays zero. So other given frames
    reach it only through the sampler, which puts them back, noised, before every step
    (replacement). It is trained on clips padded to `pad_to` frames and samples as many.
    """

    def __init__(self, network: DFGN, pad_to: int) -> None:
        super().__init__(network)
        self.pad_to = pad_to
        self._plane = 2 * int(network.config_.latent_channels)
        network.conv_in.register_forward_pre_hook(self._hide_mask)

    def _hide_mask(self, module: nn.Module, args: Any) -> Any:
        channels = args[0].clone()
        channels[:, self._plane] = 0
        return (channels, *args[1:])

    def forward(self, noisy: Tensor, t: Tensor, conditions: Conditions, **options: Any) -> Tensor:
        first = torch.zeros_like(conditions.given)
        first[:, 0] = conditions.given[:, 0]
        return self.network(noisy, t, replace(conditions, given=first), **options)


def linear_guess_scale(t: Tensor) -> Tensor:
    """What turns noisy latents of rectified flow into the best linear guess of the clean ones.

    `[B]` → `[B, 1, 1, 1, 1]`; zero where there is only noise.
    """
    t = t.float()[:, None, None, None, None]
    signal = (1 - t) * _DATA_STD**2
    return signal / ((1 - t) * signal + t**2)


class ParameterView(nn.Module):
    """The same parameters under flat names: for an optimizer and averages of a part of a model."""

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        super().__init__()
        for name, parameter in parameters.items():
            self.register_parameter(name.replace(".", "-"), parameter)
