"""What a training step costs, counted on the network itself.

The usual "three times the forward pass" is wrong for adapters: the gradient has to pass through
the frozen layers down to the deepest adapter, but frozen weights need none of their own, so it is
about twice; and a bypassed layer costs nothing. So a forward and a backward pass are run and their
operations counted: multiplications and additions of convolutions, matrix products and attention,
frozen parts included. So are pooling, resizing and warping, of which the frame composer and its
matching are made: for every result as many as values are read for it, a product and a sum each. The
optimizer and everything element by element are left out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rdtf.models.conditions import Conditions

_LENGTHS = (2, 3, 4)
_TOKENS = (2, 6)


@dataclass(frozen=True)
class FlopTable:
    """Operations of a batch of clips: quadratic in frames, linear in text tokens.

    Layers work per clip, per frame, on pairs of frames, and on pairs of a frame and a token, so a
    few counts settle all lengths. forward, training: counts at `_LENGTHS` ×
    `_TOKENS` for `clips` clips; a little is computed once for all of them.
    """

    clips: int
    forward: tuple[tuple[int, ...], ...]
    training: tuple[tuple[int, ...], ...]

    def per_batch(self, frames: int, tokens: int) -> int:
        """Forward and backward pass of `clips` clips."""
        return _interpolate(self.training, frames, tokens)

    def per_clip(self, frames: int, tokens: int) -> float:
        """A clip's part of `per_batch`."""
        return self.per_batch(frames, tokens) / self.clips

    def forward_per_clip(self, frames: int, tokens: int) -> float:
        """A clip's part of a forward pass."""
        return _interpolate(self.forward, frames, tokens) / self.clips

    def to_dict(self) -> dict[str, Any]:
        return {"clips": self.clips, "forward": self.forward, "training": self.training}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FlopTable:
        counts = (tuple(map(tuple, values[name])) for name in ("forward", "training"))
        return cls(values["clips"], *counts)


def _interpolate(counts: tuple[tuple[int, ...], ...], frames: int, tokens: int) -> int:
    """Lagrange through the counts in frames, a line in tokens; exact for whole numbers."""
    first, second = _TOKENS
    at_tokens = [low + (high - low) * (tokens - first) // (second - first) for low, high in counts]
    one, two, three = at_tokens
    bend, slope = one - 2 * two + three, two - one
    steps = frames - _LENGTHS[0]
    return one + slope * steps + bend * steps * (steps - 1) // 2


def count_flops(
    network: nn.Module, *, clips: int, latent_channels: int, latent_size: int, text_width: int
) -> FlopTable:
    """The table of a network in its present stage, for batches of `clips`; clears its gradients.

    One frame is given, and nobody looks at which, as on a GPU: the composer searches all frames for
    motion and composes them all, as it must where it can't tell the hidden ones. (I2V-Adapter
    projects each given frame that is looked at once more, which changes its count by less than one
    per cent with more of them.)
    """
    device = next(network.parameters()).device
    count = functools.partial(
        _count, network, clips, latent_channels, latent_size, text_width, device=device
    )
    counts = [[count(frames, tokens) for tokens in _TOKENS] for frames in _LENGTHS]
    network.zero_grad(set_to_none=True)
    return FlopTable(
        clips, *(tuple(tuple(pair[part] for pair in row) for row in counts) for part in (0, 1))
    )


def _count(
    network: nn.Module,
    clips: int,
    channels: int,
    size: int,
    text_width: int,
    frames: int,
    tokens: int,
    *,
    device: torch.device,
) -> tuple[int, int]:
    """Operations of the forward pass, and of both, over a batch."""
    inputs = clip_inputs(clips, channels, frames, size, tokens, text_width, device)
    counter = flop_counter()
    # Fused attention has no operations that the counter knows on every device; this form has.
    with torch.random.fork_rng(), sdpa_kernel(SDPBackend.MATH), counter:
        loss = network(*inputs).square().mean()
        forward = counter.get_total_flops()
        loss.backward()
    return forward, counter.get_total_flops()


def flop_counter() -> FlopCounterMode:
    """Counts what the module's description says, between `with` and its end."""
    return FlopCounterMode(display=False, custom_mapping=_READING)


def _bilinear(*_: Any, out_shape: Any, **__: Any) -> int:
    """Four values for every result."""
    return 8 * math.prod(out_shape)


def _bilinear_backward(grad: Any, *_: Any, **__: Any) -> int:
    return 8 * math.prod(grad)


def _warp_backward(grad: Any, *_: Any, **__: Any) -> int:
    """To what was read, and to where."""
    return 16 * math.prod(grad)


def _pool(_: Any, kernel: Any, *__: Any, out_shape: Any, **___: Any) -> int:
    sides = [kernel] if isinstance(kernel, int) else list(kernel)
    return 2 * math.prod(sides if len(sides) == 2 else sides * 2) * math.prod(out_shape)


def _pool_backward(grad: Any, read: Any, kernel: Any, *_: Any, **__: Any) -> int:
    return _pool(read, kernel, out_shape=grad)


def _adaptive_pool(read: Any, *_: Any, **__: Any) -> int:
    return 2 * math.prod(read)


_READING: dict[Any, Any] = {
    torch.ops.aten.grid_sampler_2d: _bilinear,
    torch.ops.aten.grid_sampler_2d_backward: _warp_backward,
    torch.ops.aten.upsample_bilinear2d: _bilinear,
    torch.ops.aten.upsample_bilinear2d_backward: _bilinear_backward,
    torch.ops.aten.avg_pool2d: _pool,
    torch.ops.aten.avg_pool2d_backward: _pool_backward,
    torch.ops.aten._adaptive_avg_pool2d: _adaptive_pool,
}


class _Unread(Tensor):
    """A mask whose values no layer looks at to save work (`rdtf.models.conditions.has_values`)."""


def clip_inputs(
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
            given=(torch.arange(frames).expand(batch, -1) < 1).as_subclass(_Unread),
            valid=torch.ones(batch, frames, dtype=torch.bool),
            text=[torch.zeros(batch, tokens, text_width)],
            text_mask=[torch.ones(batch, tokens, dtype=torch.bool)],
        )
        return torch.zeros(shape), torch.full((batch,), 0.5), conditions
