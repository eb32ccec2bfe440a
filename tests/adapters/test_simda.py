from __future__ import annotations

from typing import Any

import pytest
import torch

from rdtf.errors import ConfigError
from rdtf.research.adapters import SimDA
from rdtf.research.adapters.common import ClipState, spatial_blocks
from rdtf.research.adapters.simda import _MAX_SHIFT, _shift_map, _shifted_keys, _temporal_sites

from .networks import clips, plain, tiny_adapter, tiny_base

# ------------------------------------------------------------------ latent-shift attention


def test_shift_reads_up_to_four_earlier_frames_and_no_later_one():
    source = _shift_map(7, 8, 8)
    own = torch.arange(7)[:, None, None]
    assert (source <= own).all()
    assert set((own - source)[6].flatten().tolist()) == set(range(_MAX_SHIFT + 1))
    assert source[0].eq(0).all()
    # The same in every tile.
    assert source.unflatten(1, (2, 4)).diff(dim=1).eq(0).all()


def test_tokens_without_so_early_a_frame_stay_their_own():
    source = _shift_map(3, 4, 4)
    own = torch.arange(3)[:, None, None]
    shift = 6 - _shift_map(7, 4, 4)[6]
    assert source.eq(torch.where(own >= shift, own - shift, own)).all()


def numbered(batch: int, frames: int, height: int, width: int) -> torch.Tensor:
    """Tokens that hold (clip, frame, row, column)."""
    grids = torch.meshgrid(
        *(torch.arange(n) for n in (batch, frames, height, width)), indexing="ij"
    )
    return torch.stack(grids, dim=-1).flatten(2, 3).flatten(0, 1).float()


def test_keys_move_in_time_only():
    tokens = numbered(2, 6, 4, 8)
    keys = _shifted_keys(tokens, 6, (4, 8))
    assert keys.shape == (12, 64, 4)
    first, second = keys.unflatten(0, (2, 6)).chunk(2, dim=2)
    own = tokens.unflatten(0, (2, 6))
    source = _shift_map(6, 4, 8).flatten(1)
    for part in (first, second):
        assert part[..., [0, 2, 3]].equal(own[..., [0, 2, 3]])
    assert second[..., 1].equal(source.expand(2, -1, -1).float())
    assert first.equal(own)


def test_keys_and_values_are_the_frozen_projections_of_the_shifted_frame():
    adapter: Any = tiny_adapter("simda")
    block = next(iter(spatial_blocks(adapter.base).values()))
    seen: dict[str, torch.Tensor] = {}
    for name in ("to_q", "to_k", "to_v"):
        getattr(block.attn1, name).register_forward_pre_hook(
            lambda module, args, name=name: seen.update({name: args[0]})
        )
    clips([[False] * 6]).through(adapter)
    assert seen["to_k"].equal(_shifted_keys(seen["to_q"], 6, (8, 8)))
    assert seen["to_v"].equal(seen["to_k"])


def test_frames_see_each_other_only_backwards_through_the_shift():
    """Latent shift is causal; of what SimDA adds only the temporal adapters look ahead."""
    adapter = SimDA(tiny_base("image"))
    adapter.begin("sampling")
    batch = clips([[False] * 3])
    later = batch.noisy.clone()
    later[:, :, 2] += 1
    change = (batch.replace(noisy=later).through(adapter) - batch.through(adapter)).abs()
    assert not change[:, :, :2].any() and change[:, :, 2].max() > 1e-3
    earlier = batch.noisy.clone()
    earlier[:, :, 0] += 1
    change = (batch.replace(noisy=earlier).through(adapter) - batch.through(adapter)).abs()
    assert change[:, :, 2].max() > 1e-5


def test_single_images_and_still_clips_pass_as_through_the_base():
    base, single = tiny_base("image"), clips([[False]])
    still = clips([[False] * 3])
    still = still.replace(noisy=still.noisy[:, :, :1].expand(-1, -1, 3, -1, -1).contiguous())
    expected = [plain(base, batch) for batch in (single, still)]
    adapter = SimDA(base)
    assert single.through(adapter).equal(expected[0])
    torch.testing.assert_close(still.through(adapter), expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("grid", "positions", "expected"),
    [((16, 16), 64, (8, 8)), ((5, 7), 12, (3, 4)), ((5, 7), 35, (5, 7)), ((16, 4), 4, (4, 1))],
)
def test_feature_grid(grid, positions, expected):
    assert ClipState(1, grid).feature_grid(positions) == expected


def test_positions_of_no_level_are_refused():
    with pytest.raises(ConfigError, match="no level"):
        ClipState(1, (16, 16)).feature_grid(60)


# ------------------------------------------------------------------ the adapters


def test_places():
    """One pair in each transformer block, one temporal behind each attending residual block."""
    adapter: Any = tiny_adapter("simda", awake=False)
    base: Any = adapter.base
    assert len(adapter.blocks) == len(spatial_blocks(base))
    attending = [b for b in (*base.down_blocks, *base.up_blocks) if hasattr(b, "attentions")]
    wanted = {id(resnet) for b in attending for resnet in b.resnets}
    wanted.add(id(base.mid_block.resnets[0]))
    assert {id(resnet) for resnet in _temporal_sites(base).values()} == wanted
    assert len(adapter.temporal) == len(wanted)


def test_block_is_what_the_paper_draws():
    """Self-attention → spatial adapter; feed-forward beside its adapter, fed without the norm.

    On single frames, which the shift leaves alone.
    """
    adapter: Any = tiny_adapter("simda")
    name, block = next(iter(spatial_blocks(adapter.base).items()))
    own = adapter.blocks[name.replace(".", "-")]
    seen: dict[str, Any] = {}
    block.register_forward_hook(
        lambda module, args, kwargs, output: seen.update(
            x=args[0], text=kwargs["encoder_hidden_states"], out=output
        ),
        with_kwargs=True,
    )
    clips([[False], [False]]).through(adapter)
    x = seen["x"]
    # The frozen layers by themselves: calling the block again would run the hooks again.
    attention = block.attn1.forward(block.norm1(x))
    x = x + attention + own.spatial.up(torch.nn.functional.gelu(own.spatial.down(attention)))
    x = x + block.attn2.forward(block.norm2(x), encoder_hidden_states=seen["text"])
    beside = own.feed_forward.up(torch.nn.functional.gelu(own.feed_forward.down(x)))
    out = x + block.ff.forward(block.norm3.forward(x)) + beside
    torch.testing.assert_close(seen["out"], out)


def test_temporal_adapter_is_a_depthwise_convolution_over_time():
    adapter: Any = tiny_adapter("simda")
    temporal = next(iter(adapter.temporal.values()))
    frames, channels = 5, temporal.down.in_channels
    x = torch.randn(2 * frames, channels, 3, 4, generator=torch.Generator().manual_seed(0))
    adapter.context.begin(ClipState(frames, (3, 4)))
    inner = temporal.down(x).unflatten(0, (2, frames)).transpose(1, 2)
    weight = temporal.time_weight[:, None, :, None, None]
    inner = torch.nn.functional.conv3d(
        inner, weight, temporal.time_bias, padding=(1, 0, 0), groups=len(weight)
    )
    expected = x + temporal.up(inner.transpose(1, 2).flatten(0, 1))
    torch.testing.assert_close(temporal(x), expected)


def test_base_called_directly_says_what_to_do():
    adapter = tiny_adapter("simda")
    with pytest.raises(RuntimeError, match="call the adapter"):
        plain(adapter.base, clips([[False]]))
