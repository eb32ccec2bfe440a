from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdtf.models.layers import _RMSNorm, group_norm, silu_of_norm

from .networks import perturb


def test_rms_norm_is_torchs():
    """Forward and backward, one row of zeros included."""
    ours, torchs = perturb(_RMSNorm(8)), perturb(torch.nn.RMSNorm(8))
    x = torch.randn(3, 5, 2, 8)
    x[0, 0, 0] = 0
    results = []
    for norm in (ours, torchs):
        leaf = x.clone().requires_grad_()
        out = norm(leaf)
        out.square().sum().backward()
        results.append((out, leaf.grad, norm.weight.grad))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_rms_norm_has_the_right_gradient():
    norm = perturb(_RMSNorm(6)).double()
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))


@pytest.mark.filterwarnings("error")
def test_rms_norm_under_autocast():
    """What a bf16 linear layer gives, with float32 weights."""
    norm, x = perturb(_RMSNorm(8)), torch.randn(4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        out = norm(x.bfloat16())
    out.float().square().sum().backward()
    assert out.dtype == torch.bfloat16
    assert norm.weight.grad is not None and norm.weight.grad.dtype == torch.float32
    torch.testing.assert_close(out.float(), norm(x), rtol=0.02, atol=0.02)


# ------------------------------------------------------------------ silu of a group norm


def plain(norm: nn.GroupNorm, x: Tensor, *modulation: Tensor) -> Tensor:
    """The same from torch's own operations."""
    h = norm(x)
    if modulation:
        scale, shift = (each.expand(-1, 3, -1, -1, -1).flatten(0, 1) for each in modulation)
        h = h * scale + shift
    return F.silu(h)


def arguments(modulated: bool, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Features of two clips of three frames, and perhaps a scale and a shift for each clip."""
    shapes = [(6, 16, 5, 3), *([(2, 1, 16, 1, 1)] * 2 if modulated else [])]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("strided", [False, True])
def test_silu_of_norm_is_what_it_says(modulated, strided):
    """Forward and backward; features may lie in memory as they like."""
    norm, inputs = perturb(group_norm(16)), arguments(modulated)
    results = []
    for function in (silu_of_norm, plain):
        leaves = [each.detach().clone().requires_grad_() for each in inputs]
        features, *modulation = leaves
        if strided:
            features = features.to(memory_format=torch.channels_last)
        norm.zero_grad()
        out = function(norm, features, *modulation)
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        found = [*(leaf.grad for leaf in leaves), norm.weight.grad, norm.bias.grad]
        results.append((out, *found))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("modulated", [False, True])
def test_silu_of_norm_has_the_right_gradient(modulated):
    norm = perturb(group_norm(16)).double()

    def function(*inputs: Tensor) -> Tensor:
        return silu_of_norm(norm, *inputs)[:, ::5, ::2]

    assert torch.autograd.gradcheck(function, arguments(modulated, torch.float64))


def test_silu_of_norm_with_bf16_features():
    """As under autocast: float32 weights, everything else bf16."""
    norm, inputs = perturb(group_norm(16)), arguments(modulated=True)
    out = silu_of_norm(norm, *(each.bfloat16() for each in inputs))
    out.float().sum().backward()
    expected = plain(norm, *(each.detach() for each in inputs))
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)
    assert all(each.grad is not None and each.grad.isfinite().all() for each in inputs)
    assert norm.weight.grad is not None and norm.weight.grad.dtype == torch.float32
