"""Normalisations that keep little for the backward pass, for CPUs.

What autograd keeps of a chain of small operations is much of a training step's memory, and the
chain is many passes over it. On GPUs and under the compiler, which fuse such chains, these are
torch's own operations.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# What torch takes for float32 where nobody says otherwise.
_RMS_EPSILON = torch.finfo(torch.float32).eps


def _fused_by_torch(x: Tensor) -> bool:
    return x.device.type != "cpu" or torch.compiler.is_compiling()


class RMSNorm(nn.RMSNorm):
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
