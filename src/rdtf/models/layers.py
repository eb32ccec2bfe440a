"""Small layers that every block of the network is made of.

Inside the network a clip is `[B·F, C, H, W]`: spatial layers see frames as a batch, so nothing
they do can leak from one frame to another. `ClipShape` carries what the temporal layers need to
fold the frames back.

Normalisations keep little for the backward pass on CPUs: what autograd keeps of a chain of small
operations is much of a training step's memory, and the chain is many passes over it. On GPUs and
under the compiler, which fuse such chains, these are torch's own operations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# What torch takes for float32 where nobody says otherwise.
_RMS_EPSILON = torch.finfo(torch.float32).eps


def _fused_by_torch(x: Tensor) -> bool:
    return x.device.type != "cpu" or torch.compiler.is_compiling()


class _RMSNorm(nn.RMSNorm):
    """torch's RMSNorm over the last axis, with its epsilon for float32.

    On CPUs torch's own is a chain of small operations that keeps every intermediate, and on GPUs it
    is fused only if the weight has the type of the input, which autocast does not see to.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D]` → the same shape and type."""
        if _fused_by_torch(x):
            weight = self.weight.to(x.dtype)
            return F.rms_norm(x, weight.shape, weight, _RMS_EPSILON)
        return _RootMeanSquare.apply(x, self.weight)


class _RootMeanSquare(torch.autograd.Function):
    """x / rms(x) · weight; keeps x and one number per row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        weight = weight.to(x.dtype)
        norm = torch.linalg.vector_norm(
            x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32)
        )
        scale = norm.square_().div_(x.shape[-1]).add_(_RMS_EPSILON).rsqrt_().to(x.dtype)
        ctx.save_for_backward(x, scale, weight)
        return (x * scale).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        x, scale, weight = ctx.saved_tensors
        normed = x * scale
        product = normed * grad
        grad_weight = product.sum(dim=tuple(range(x.ndim - 1)))
        mean = (product @ weight).div_(x.shape[-1])[..., None]
        return (grad * weight).sub_(normed.mul_(mean)).mul_(scale), grad_weight


def silu_of_norm(norm: nn.GroupNorm, x: Tensor, *modulation: Tensor) -> Tensor:
    """silu(norm(x)), or silu(norm(x) · scale + shift).

    Args:
        x: `[B·F, C, H, W]`.
        modulation: nothing, or scale and shift `[B, 1, C, 1, 1]`, which a clip's frames share.
    """
    if _fused_by_torch(x):
        return F.silu(_modulated(norm(x), *modulation))
    return _SiluOfNorm.apply(x, norm, norm.weight, norm.bias, *modulation)


def _modulated(x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    if scale is None or shift is None:
        return x
    return torch.addcmul(shift, x.unflatten(0, (len(scale), -1)), scale).flatten(0, 1)


class _SiluOfNorm(torch.autograd.Function):
    """Keeps x and two numbers per group; the rest is computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.GroupNorm, *parameters: Tensor) -> Tensor:
        weight, bias, *modulation = parameters
        ctx.groups, ctx.epsilon = norm.num_groups, norm.eps
        x = x.contiguous()
        normed, mean, rstd = _group_norm(ctx, x, weight, bias)
        ctx.save_for_backward(x, mean, rstd, weight, bias, *modulation)
        return F.silu(_modulated(normed, *modulation), inplace=True)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, mean, rstd, weight, bias, *modulation = ctx.saved_tensors
        normed = _group_norm(ctx, x, weight, bias)[0]
        grad = torch.ops.aten.silu_backward(grads[0].contiguous(), _modulated(normed, *modulation))
        of_modulation = []
        if modulation:
            scale, shift = modulation
            clips = grad.unflatten(0, (len(scale), -1))
            of_scale = (clips * normed.view(clips.shape)).sum_to_size(scale.shape)
            of_modulation = [of_scale, clips.sum_to_size(shift.shape)]
            grad = (clips * scale).flatten(0, 1)
        of_norm = torch.ops.aten.native_group_norm_backward(
            grad, x, mean, rstd, weight, *_sizes(x), ctx.groups, [True, True, True]
        )
        return of_norm[0], None, *of_norm[1:], *of_modulation


def _group_norm(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """Normed features, mean and 1 / deviation per frame and group."""
    return torch.native_group_norm(x, weight, bias, *_sizes(x), ctx.groups, ctx.epsilon)


def _sizes(x: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1], x.shape[2] * x.shape[3]


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
        self.norm_q = _RMSNorm(head_dim)
        self.norm_k = _RMSNorm(head_dim)
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
