"""What is trained and sampled: the DFGN, an adapted U-Net, or the DFGN without the dual mask.

All have one face (`Trainee`), so that one loop trains them and one sampler samples them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rdtf.models.conditions import Conditions
from rdtf.models.dfgn import DFGN
from rdtf.research.adapters import AdaptedUNet

_LENGTHS = (2, 3, 4)
_TOKENS = (2, 6)


@dataclass(frozen=True)
class FlopTable:
    """Operations of training on a batch of clips: quadratic in frames, linear in text tokens.

    Layers work per clip, per frame, on pairs of frames, and on pairs of a frame and a token, so a
    few `counts`, at `_LENGTHS` × `_TOKENS`, settle all lengths.
    """

    counts: Sequence[Sequence[int]]

    def per_batch(self, frames: int, tokens: int) -> int:
        """Lagrange through the counts in frames, a line in tokens; exact for whole numbers."""
        first, second = _TOKENS
        one, two, three = (
            low + (high - low) * (tokens - first) // (second - first) for low, high in self.counts
        )
        bend, slope = one - 2 * two + three, two - one
        steps = frames - _LENGTHS[0]
        return one + slope * steps + bend * steps * (steps - 1) // 2


def count_flops(
    network: nn.Module, *, clips: int, latent_channels: int, latent_size: int, text_width: int
) -> FlopTable:
    """The table of a network in its present stage, for batches of `clips`; clears its gradients.

    Forward and backward pass, as far as the stage needs it. One frame is given. (I2V-Adapter
    projects each given frame that is looked at once more, which changes its count by less than one
    per cent.)
    """
    device = next(network.parameters()).device

    def count(frames: int, tokens: int) -> int:
        inputs = _clip_inputs(
            clips, latent_channels, frames, latent_size, tokens, text_width, device
        )
        counter = FlopCounterMode(display=False)
        # Fused attention has no operations that the counter knows on every device; this form has.
        with torch.random.fork_rng(), sdpa_kernel(SDPBackend.MATH), counter:
            network(*inputs).square().mean().backward()
        return counter.get_total_flops()

    table = FlopTable([[count(frames, tokens) for tokens in _TOKENS] for frames in _LENGTHS])
    network.zero_grad(set_to_none=True)
    return table


def _clip_inputs(
    batch: int,
    channels: int,
    frames: int,
    size: int,
    tokens: int,
    text_width: int,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor, Conditions]:
    """Arguments of a network for clips of zeros, the first frame given."""
    shape = (batch, channels, frames, size, size)
    with torch.device(device):
        conditions = Conditions(
            clean=torch.zeros(shape),
            given=torch.arange(frames).expand(batch, -1) < 1,
            valid=torch.ones(batch, frames, dtype=torch.bool),
            text=[torch.zeros(batch, tokens, text_width)],
            text_mask=[torch.ones(batch, tokens, dtype=torch.bool)],
        )
        return torch.zeros(shape), torch.full((batch,), 0.5), conditions


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

    The U-Net predicts the clean clip and is shown the best linear estimate of it instead of the
    plain noisy latents, as the DFGN is: that helped the DFGN, so nobody shall go without it.
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
        return self.network(noisy * _linear_estimate_scale(t), t, conditions, **options)


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


def _linear_estimate_scale(t: Tensor) -> Tensor:
    """What turns noisy latents of rectified flow into the best linear estimate of the clean ones.

    `[B]` → `[B, 1, 1, 1, 1]`; zero where there is only noise.
    """
    t = t.float()[:, None, None, None, None]
    signal = (1 - t) * _DATA_STD**2
    return signal / ((1 - t) * signal + t**2)
