"""SimDA (arXiv 2308.09710, §3): a text-to-image U-Net made to draw clips by small adapters.

The frozen U-Net sees the frames as a batch. Added to it, all trained and all zero at their last
layer, so that they start as the identity:

- *spatial adapter*: bottleneck d → d/4 → GELU → d with a skip, on the self-attention's output;
- *feed-forward adapter*: the same without the skip, beside the feed-forward layer, fed with what
  goes into that layer's norm;
- *temporal adapter*: 1×1 convolution C → C/2, depthwise convolution over three frames, 1×1 back,
  with a skip, behind each residual block of the attending down and up blocks and behind the first
  of the middle block.

*Latent-shift attention* has no parameters: keys and values of each self-attention come from the
frame itself and from a copy of it in which tokens are replaced by those of earlier frames
(eq. 6–8; the released code reads the shifted previous frame and the shifted current one). That is
not the identity on a moving clip: the adapted U-Net starts as the base on single frames only.
The paper does not say which token takes which shift; here the shifts 0–4 lie on the diagonals of a
4×4 tile, in about equal shares. A token without so early a frame stays its own.

Everything is hooked into the base's own modules, so that gradient checkpointing recomputes it with
them (the released code's down and up blocks leave their temporal adapters out when checkpointing
is on, as it is by default: they never train).

Size at Stable Diffusion 1.5: 12,421,600 spatial and feed-forward, 12,434,080 temporal, together
24,855,680 parameters (paper: 24M).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdtf.models.layers import zero_init
from rdtf.research.adapters.common import AdaptedUNet, ClipContext, in_own_dtype, spatial_blocks

_MAX_SHIFT = 4
_TILE = 4


class _Bottleneck(nn.Module):
    """d → d/4 → GELU → d, the last layer zero; with or without a skip. Any `[..., d]`."""

    def __init__(self, width: int, skip: bool) -> None:
        super().__init__()
        self.down = nn.Linear(width, width // 4)
        self.up = zero_init(nn.Linear(width // 4, width))
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        out = self.up(F.gelu(self.down(x)))
        return x + out if self.skip else out


class _BlockAdapters(nn.Module):
    """Spatial and feed-forward adapter of one transformer block, and its latent shift."""

    def __init__(self, block: Any, context: ClipContext) -> None:
        super().__init__()
        width = block.attn1.to_q.in_features
        self.spatial = _Bottleneck(width, skip=True)
        self.feed_forward = _Bottleneck(width, skip=False)
        self._context = context
        self._beside: Tensor | None = None

    def attach(self, block: Any) -> None:
        """Hook into the block: `norm3` sees what the feed-forward adapter is fed with."""
        block.attn1.register_forward_pre_hook(self._shift_keys, with_kwargs=True)
        block.attn1.register_forward_hook(self._after_attention)
        block.norm3.register_forward_hook(self._at_norm)
        block.ff.register_forward_hook(self._after_feed_forward)

    def _shift_keys(self, module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        state = self._context.state
        if state.frames > 1:
            tokens = args[0] if args else kwargs["hidden_states"]
            grid = state.feature_grid(tokens.shape[1])
            kwargs["encoder_hidden_states"] = _shifted_keys(tokens, state.frames, grid)
        return args, kwargs

    def _after_attention(self, module: Any, args: Any, output: Tensor) -> Tensor:
        return in_own_dtype(self.spatial, output)

    def _at_norm(self, module: Any, args: Any, output: Tensor) -> None:
        self._beside = in_own_dtype(self.feed_forward, args[0])

    def _after_feed_forward(self, module: Any, args: Any, output: Tensor) -> Tensor:
        beside, self._beside = self._beside, None
        assert beside is not None
        return output + beside


class _TemporalAdapter(nn.Module):
    """1×1 convolution to half the width, depthwise over three frames, 1×1 back, with a skip."""

    def __init__(self, channels: int, context: ClipContext) -> None:
        super().__init__()
        inner = channels // 2
        self.down = nn.Conv2d(channels, inner, 1)
        bound = 1 / math.sqrt(3)  # as torch's convolutions: three inputs per output
        self.time_weight = nn.Parameter(torch.empty(inner, 3).uniform_(-bound, bound))
        self.time_bias = nn.Parameter(torch.empty(inner).uniform_(-bound, bound))
        self.up = zero_init(nn.Conv2d(inner, channels, 1))
        self._context = context

    def after(self, module: Any, args: Any, output: Tensor) -> Tensor:
        """Forward hook of a residual block."""
        return in_own_dtype(self, output)

    def forward(self, x: Tensor) -> Tensor:
        """`x` is `[B·F, C, h, w]`; zeros stand before the first frame and behind the last."""
        h = self.down(x).unflatten(0, (-1, self._context.state.frames))
        padded = F.pad(h, (0, 0, 0, 0, 0, 0, 1, 1))
        before, now, behind = self.time_weight[:, :, None, None].unbind(1)
        h = before * padded[:, :-2] + now * h + behind * padded[:, 2:]
        h = h + self.time_bias[:, None, None]
        return x + self.up(h.flatten(0, 1))


class SimDA(AdaptedUNet):
    """SimDA's adapters on a frozen `UNet2DConditionModel`.

    Args:
        base: the text-to-image U-Net.
        settings: see `AdaptedUNet`. SimDA itself is a text-to-video method; how given frames
            enter is said in `rdtf.research.adapters.common`.
    """

    name: ClassVar[str] = "simda"
    base_kinds: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(self, base: nn.Module, **settings: Any) -> None:
        super().__init__(base, **settings)
        self.blocks, self.temporal = nn.ModuleDict(), nn.ModuleDict()
        device = next(base.parameters()).device
        with torch.device(device):
            for name, block in spatial_blocks(base).items():
                adapters = _BlockAdapters(block, self.context)
                adapters.attach(block)
                self.blocks[name.replace(".", "-")] = adapters
            for name, resnet in _temporal_sites(base).items():
                adapter = _TemporalAdapter(resnet.out_channels, self.context)
                resnet.register_forward_hook(adapter.after)
                self.temporal[name.replace(".", "-")] = adapter
        self.begin("tune")


def _temporal_sites(base: Any) -> dict[str, Any]:
    """Residual blocks that get a temporal adapter, by their name in the base."""
    sites: dict[str, Any] = {}
    for side in ("down_blocks", "up_blocks"):
        for level, block in enumerate(getattr(base, side)):
            if hasattr(block, "attentions"):
                for index, resnet in enumerate(block.resnets):
                    sites[f"{side}.{level}.resnets.{index}"] = resnet
    sites["mid_block.resnets.0"] = base.mid_block.resnets[0]
    return sites


# ------------------------------------------------------------------ latent-shift attention


def _shift_map(frames: int, height: int, width: int) -> Tensor:
    """From which frame each token is taken, int64 `[F, h, w]`."""
    row = torch.arange(height)[:, None] % _TILE
    column = torch.arange(width)[None, :] % _TILE
    shift = (row + column) % (_MAX_SHIFT + 1)
    own = torch.arange(frames)[:, None, None].expand(-1, height, width)
    return torch.where(own >= shift, own - shift, own)


def _shifted_keys(tokens: Tensor, frames: int, grid: tuple[int, int]) -> Tensor:
    """What keys and values are made from.

    Args:
        tokens: normalised input of a self-attention, `[B·F, N, D]`.
        frames: F; grid: height and width with h·w = N.

    Returns:
        `[B·F, 2·N, D]`: the frame and its shifted copy.
    """
    height, width = grid
    clips = tokens.unflatten(0, (-1, frames)).unflatten(2, grid)
    source = _shift_map(frames, height, width).to(tokens.device)
    rows = torch.arange(height, device=tokens.device)[None, :, None]
    columns = torch.arange(width, device=tokens.device)[None, None, :]
    shifted = clips[:, source, rows, columns]
    pair = [part.flatten(2, 3) for part in (clips, shifted)]
    return torch.cat(pair, dim=2).flatten(0, 1)
