"""Small layers that every block of the network is made of.

Inside the network a clip is `[B·F, C, H, W]`: spatial layers see frames as a batch, so nothing
they do can leak from one frame to another. `ClipShape` carries what the temporal layers need to
fold the frames back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdtf.models.norms import RMSNorm, silu_of_norm


@dataclass(frozen=True)
class ClipShape:
    """Batch size, frames per clip, and which frames exist (`valid`, bool `[B, F]`).

    `padded=False` promises that every frame exists: masks and zeroing are left out.
    """

    batch: int
    frames: int
    valid: Tensor
    padded: bool = True

    def valid_frames(self) -> Tensor:
        """Validity per flattened frame, bool `[B·F, 1, 1, 1]`."""
        return self.valid.reshape(-1, 1, 1, 1)


def sinusoidal_embedding(values: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Sines and cosines of `values` (any shape `[...]`) at `dim // 2` periods: `[..., dim]`."""
    half = dim // 2
    exponents = torch.arange(half, device=values.device, dtype=torch.float32) / half
    angles = values.float()[..., None] * torch.exp(-math.log(max_period) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm over one frame with at most 32 groups of at least 8 channels."""
    groups = math.gcd(channels, 32)
    while groups > 1 and channels // groups < 8:
        groups //= 2
    return nn.GroupNorm(groups, channels)


def zero_init(module: nn.Module) -> nn.Module:
    """Set all parameters of `module` to zero: its branch starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Attention(nn.Module):
    """Multi-head attention with separate context, key mask and query-key normalisation."""

    def __init__(self, dim: int, heads: int, head_dim: int, context_dim: int | None = None) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(context_dim or dim, inner, bias=False)
        self.to_v = nn.Linear(context_dim or dim, inner, bias=False)
        self.norm_q = RMSNorm(head_dim)
        self.norm_k = RMSNorm(head_dim)
        self.to_out = nn.Linear(inner, dim)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))

    def forward(
        self, x: Tensor, context: Tensor | None = None, key_mask: Tensor | None = None
    ) -> Tensor:
        """`x [N, L, D]`, `context [N, S, Dc]`, `key_mask` bool `[N, S]` (True = may be read)."""
        context = x if context is None else context
        query = self.norm_q(self._split(self.to_q(x))).transpose(1, 2)
        key = self.norm_k(self._split(self.to_k(context))).transpose(1, 2)
        value = self._split(self.to_v(context)).transpose(1, 2)
        mask = None if key_mask is None else key_mask[:, None, None, :]
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.to_out(out.transpose(1, 2).flatten(-2))


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions per frame; the conditioning vector scales and shifts in between."""

    def __init__(self, in_channels: int, out_channels: int, embedding_dim: int) -> None:
        super().__init__()
        self.norm_in = group_norm(in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.condition = nn.Linear(embedding_dim, 2 * out_channels)
        self.norm_out = group_norm(out_channels)
        self.conv_out = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Conv2d(in_channels, out_channels, 1)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """`x [B·F, C, H, W]`, `embedding [B, E]`: the frames of a clip share it."""
        h = self.conv_in(silu_of_norm(self.norm_in, x))
        scale, shift = self.condition(F.silu(embedding))[:, None, :, None, None].chunk(2, dim=2)
        return self.skip(x) + self.conv_out(silu_of_norm(self.norm_out, h, 1 + scale, shift))


class SpatialTransformer(nn.Module):
    """Self-attention within a frame, cross-attention to the text, feed-forward.

    All three end in zero-initialised layers and only what they add is passed on: the identity at
    the start.
    """

    def __init__(self, channels: int, head_dim: int, text_dim: int, expansion: int = 4) -> None:
        super().__init__()
        heads = max(1, channels // head_dim)
        self.norm_in = group_norm(channels)
        self.norm_self = nn.LayerNorm(channels)
        self.self_attention = Attention(channels, heads, head_dim)
        self.norm_text = nn.LayerNorm(channels)
        self.text_attention = Attention(channels, heads, head_dim, context_dim=text_dim)
        self.norm_forward = nn.LayerNorm(channels)
        self.forward_in = nn.Linear(channels, 2 * expansion * channels)
        self.forward_out = zero_init(nn.Linear(expansion * channels, channels))
        zero_init(self.self_attention.to_out)
        zero_init(self.text_attention.to_out)

    def forward(self, x: Tensor, text: Tensor, text_mask: Tensor | None) -> Tensor:
        """`x [B·F, C, H, W]`, `text [B, T, D]`, `text_mask` bool `[B, T]`; None = all are read."""
        height, width = x.shape[-2:]
        start = self.norm_in(x).flatten(2).transpose(1, 2).contiguous()
        h = start + self.self_attention(self.norm_self(start))
        # All frames of a clip read the same text, so they ask as one: its keys are made only once.
        query = self.norm_text(h).reshape(len(text), -1, h.shape[-1])
        h = h + self.text_attention(query, text, text_mask).reshape(h.shape)
        value, gate = self.forward_in(self.norm_forward(h)).chunk(2, dim=-1)
        h = h + self.forward_out(value * F.gelu(gate))
        return x + (h - start).transpose(1, 2).unflatten(-1, (height, width))
