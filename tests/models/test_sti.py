from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rdtf.models.layers import ClipShape
from rdtf.models.sti import SpatioTemporalInteraction, TemporalConvolution

from .networks import perturb, unused_parameters

CHANNELS = 16
LAYERS = {
    "sti": lambda: SpatioTemporalInteraction(CHANNELS, heads=2, head_dim=8),
    "sti-3x3x3": lambda: SpatioTemporalInteraction(CHANNELS, 2, 8, kernel=(3, 3, 3)),
    "conv3d": lambda: TemporalConvolution(CHANNELS),
}
SHAPES = [(1, 1, 1), (1, 5, 4), (2, 1, 6), (3, 7, 7), (5, 1, 1), (8, 4, 3)]
every_layer = pytest.mark.parametrize("name", LAYERS)


def build(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return LAYERS[name]()


def features(frames: int, height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch * frames, CHANNELS, height, width, generator=generator)


def run(layer: nn.Module, x: Tensor, valid: list[list[bool]]) -> Tensor:
    """Output as `[B, F, C, H, W]`."""
    mask = torch.tensor(valid)
    with torch.no_grad():
        return layer(x, ClipShape(*mask.shape, mask)).unflatten(0, mask.shape)


@every_layer
@pytest.mark.parametrize("shape", SHAPES)
def test_identity_at_the_start_and_not_after(name, shape):
    layer, x = build(name), features(*shape)
    valid = [[True] * shape[0]]
    torch.testing.assert_close(run(layer, x, valid)[0], x, rtol=0, atol=0)
    changed = run(perturb(layer), x, valid)[0]
    assert changed.shape == x.shape
    assert (changed - x).abs().flatten(1).amax(dim=1).min() > 0.01


@every_layer
def test_gradient_opens_the_layer_and_then_reaches_all_of_it(name):
    layer, clip = build(name), ClipShape(1, 4, torch.ones(1, 4, dtype=torch.bool))
    x = features(4, 6, 6)
    layer(x, clip).square().mean().backward()
    assert {"norm_out.weight", "norm_out.bias"}.isdisjoint(unused_parameters(layer))

    perturb(layer).zero_grad()
    layer(x, clip).square().mean().backward()
    assert unused_parameters(layer) == []


@every_layer
@pytest.mark.parametrize("content", [0.0, 1e4, 1e30, float("nan"), float("inf")])
def test_content_of_padded_slots_changes_nothing(name, content):
    layer, x = perturb(build(name)), features(4, 5, 4, batch=2)
    valid = torch.tensor([[True, True, False, False], [True, True, True, False]])
    expected = run(layer, x, valid.tolist())
    x[~valid.flatten()] = content
    torch.testing.assert_close(run(layer, x, valid.tolist())[valid], expected[valid])


@given(
    name=st.sampled_from(sorted(LAYERS)),
    frames=st.integers(1, 6),
    slots=st.integers(1, 4),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 99),
)
def test_clip_alone_equals_the_clip_padded(name, frames, slots, size, seed):
    layer, x = perturb(build(name, seed), seed), features(frames, *size, seed=seed)
    padded = torch.cat([x, features(slots, *size, seed=seed + 1)])
    alone = run(layer, x, [[True] * frames])
    among = run(layer, padded, [[True] * frames + [False] * slots])
    torch.testing.assert_close(among[:, :frames], alone, rtol=1e-5, atol=1e-5)


@every_layer
@pytest.mark.parametrize("shape", SHAPES)
def test_promise_that_nothing_is_padded_changes_nothing(name, shape):
    layer, x = perturb(build(name)), features(*shape)
    valid = torch.ones(1, shape[0], dtype=torch.bool)
    careful, promised = (
        layer(x, ClipShape(1, shape[0], valid, padded)) for padded in (True, False)
    )
    torch.testing.assert_close(promised, careful, rtol=1e-5, atol=1e-5)


def test_attention_spans_the_clip_where_convolution_reaches_two_frames():
    """What the paper has the layer for: a place in frame 0 tells another place in frame 7."""
    for name, distant in (("sti", True), ("conv3d", False)):
        layer, x = perturb(build(name)), features(8, 6, 6)
        moved = x.clone()
        moved[0, :, 0, 0] += 3.0
        valid = [[True] * 8]
        change = (run(layer, moved, valid) - run(layer, x, valid))[0].abs()
        assert bool(change[7, :, 5, 5].max() > 1e-5) is distant
        assert change[2].max() > 1e-5


def test_layer_knows_the_order_of_frames_and_places():
    """Without the kernel's reach in time, only the positions can tell."""
    layer = perturb(SpatioTemporalInteraction(CHANNELS, 2, 8, kernel=(1, 1, 1)))
    x, valid = features(4, 4, 4), [[True] * 4]
    out = run(layer, x, valid)[0]
    assert not torch.allclose(run(layer, x.flip(0), valid)[0].flip(0), out, atol=1e-3)
    assert not torch.allclose(run(layer, x.flip(2), valid)[0].flip(2), out, atol=1e-3)
    assert not torch.allclose(run(layer, x.flip(3), valid)[0].flip(3), out, atol=1e-3)


@settings(max_examples=10)
@given(seed=st.integers(0, 99), name=st.sampled_from(sorted(LAYERS)))
def test_clips_of_a_batch_do_not_meet(seed, name):
    layer, x = perturb(build(name, seed), seed), features(3, 4, 4, batch=2, seed=seed)
    both = run(layer, x, [[True] * 3] * 2)
    torch.testing.assert_close(both[:1], run(layer, x[:3], [[True] * 3]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(both[1:], run(layer, x[3:], [[True] * 3]), rtol=1e-5, atol=1e-5)
