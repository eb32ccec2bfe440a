from __future__ import annotations

import pytest
import torch

from rdtf.models.layers import (
    Attention,
    ResidualBlock,
    SpatialTransformer,
    group_norm,
    sinusoidal_embedding,
)

from .networks import perturb


def test_masked_keys_are_not_read():
    attention = perturb(Attention(16, heads=2, head_dim=8, context_dim=12))
    x, context = torch.randn(2, 5, 16), torch.randn(2, 4, 12)
    mask = torch.tensor([[True, True, False, False], [True, False, True, True]])
    out = attention(x, context, mask)
    changed = torch.where(mask[..., None], context, 50.0)
    torch.testing.assert_close(attention(x, changed, mask), out)
    torch.testing.assert_close(attention(x[:1], context[:1, :2]), out[:1])


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 7)])
def test_residual_block_starts_as_the_identity(size):
    x, embedding = torch.randn(3, 16, *size), torch.randn(3, 8)
    block = ResidualBlock(16, 16, 8)
    torch.testing.assert_close(block(x, embedding), x)
    perturb(block)
    assert not torch.allclose(block(x, embedding + 1), block(x, embedding), atol=1e-3)


def test_frames_of_a_clip_share_its_conditions():
    """Conditioning vector and text are given once per clip."""
    x, embedding = torch.randn(6, 16, 4, 4), torch.randn(2, 8)
    text, mask = torch.randn(2, 3, 12), torch.tensor([[True, True, True], [True, False, True]])
    block, transformer = perturb(ResidualBlock(16, 16, 8)), SpatialTransformer(16, 8, text_dim=12)
    perturb(transformer)
    blocks, transformed = block(x, embedding), transformer(x, text, mask)
    for frame in range(6):
        clip = slice(frame // 3, frame // 3 + 1)
        alone = x[frame : frame + 1]
        torch.testing.assert_close(blocks[frame], block(alone, embedding[clip])[0])
        expected = transformer(alone, text[clip], mask[clip])[0]
        torch.testing.assert_close(transformed[frame], expected, rtol=1e-4, atol=1e-5)


def test_transformer_learns_to_hear_the_text():
    x, mask = torch.randn(3, 16, 5, 7), torch.ones(3, 2, dtype=torch.bool)
    transformer = SpatialTransformer(16, head_dim=8, text_dim=12)
    text, other = torch.randn(2, 3, 2, 12)
    torch.testing.assert_close(transformer(x, other, mask), transformer(x, text, mask))
    perturb(transformer)
    assert not torch.allclose(transformer(x, other, mask), transformer(x, text, mask), atol=1e-3)


@pytest.mark.parametrize("channels", [4, 16, 24, 64, 176, 320, 1280])
def test_groups_divide_the_channels_and_hold_eight_or_more(channels):
    groups = group_norm(channels).num_groups
    assert channels % groups == 0 and groups <= 32
    assert groups == 1 or channels // groups >= 8


def test_sinusoids_tell_numbers_apart():
    embedded = sinusoidal_embedding(torch.arange(1000.0), 32)
    assert embedded.shape == (1000, 32)
    assert embedded.abs().max() <= 1
    distances = torch.cdist(embedded, embedded) + 10 * torch.eye(1000)
    assert distances.min() > 0.05
