from __future__ import annotations

from typing import Any

import pytest
import torch

from rdtf.errors import ConfigError
from rdtf.research.adapters import I2VAdapter
from rdtf.research.adapters.common import spatial_blocks
from rdtf.research.adapters.i2v_adapter import _anchors, _nearest_given

from .networks import clips, plain, tiny_adapter, tiny_base

# ------------------------------------------------------------------ which frame is read


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1, 0, 0, 0], [0, 0, 0, 0]),  # the paper's: all look at the first
        ([0, 0, 1, 0], [2, 2, 2, 2]),
        ([1, 0, 1, 0], [0, 0, 2, 2]),  # of two as near, the earlier
        ([1, 0, 0, 1], [0, 0, 3, 3]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_nearest_given_frame(given, expected):
    assert _nearest_given(torch.tensor([given], dtype=torch.bool)).tolist() == [expected]


def test_each_given_frame_is_projected_once():
    clip = _anchors(torch.tensor([[1, 0, 0], [0, 0, 0], [0, 1, 1]], dtype=torch.bool))
    assert clip.rows.tolist() == [0, 3, 7, 8]
    assert clip.rows[clip.choice].tolist() == [0, 0, 0, 3, 3, 3, 7, 7, 8]
    assert clip.exists.tolist() == [True] * 3 + [False] * 3 + [True] * 3


# ------------------------------------------------------------------ the branch


def test_branch_starts_as_a_copy_with_a_zero_output():
    adapter: Any = tiny_adapter("i2v-adapter", awake=False)
    blocks = spatial_blocks(adapter.base)
    assert len(adapter.branches) == len(blocks)  # beside every spatial self-attention, only there
    for name, block in blocks.items():
        branch = adapter.branches[name.replace(".", "-")]
        assert branch.to_q.weight.equal(block.attn1.to_q.weight)
        assert branch.to_q.weight is not block.attn1.to_q.weight
        assert not branch.to_out.weight.any() and not branch.to_out.bias.any()


def test_given_frames_alone_do_not_change_the_adapter_at_the_start():
    """At the start only the noise-free frame itself is new to the base."""
    base, batch = tiny_base("motion"), clips([[True, False, False]])
    shown = batch.replace(
        noisy=torch.where(batch.given[:, None, :, None, None], batch.clean, batch.noisy)
    )
    expected = plain(base, shown)
    assert batch.through(I2VAdapter(base)).equal(expected)


def branch_outputs(adapter: Any, batch: Any) -> list[torch.Tensor]:
    """What each branch adds, `[B·F, N, D]`."""
    seen: list[torch.Tensor] = []
    handles = [
        branch.register_forward_hook(lambda module, args, output: seen.append(output))
        for branch in adapter.branches.values()
    ]
    batch.through(adapter)
    for handle in handles:
        handle.remove()
    return seen


def test_branch_is_attention_to_the_clean_first_frame():
    """The first block's branch, written out with the frozen projections."""
    adapter: Any = tiny_adapter("i2v-adapter")
    adapter.begin("sampling")
    inputs: dict[str, torch.Tensor] = {}
    name, block = next(iter(spatial_blocks(adapter.base).items()))
    block.attn1.register_forward_pre_hook(lambda module, args: inputs.update(hidden=args[0]))
    branch = adapter.branches[name.replace(".", "-")]
    batch = clips([[True, False, False]])
    outputs = branch_outputs(adapter, batch)
    hidden = inputs["hidden"]
    query = branch.to_q(hidden)
    key, value = block.attn1.to_k(hidden[:1]), block.attn1.to_v(hidden[:1])
    assert block.attn1.heads == 1
    weights = torch.softmax(query @ key.transpose(1, 2) / query.shape[-1] ** 0.5, dim=-1)
    torch.testing.assert_close(outputs[0], branch.to_out(weights @ value))


def test_first_block_reads_the_clean_frame_and_no_other():
    """Its keys and values don't change with the noise of any frame, only with the given frame."""
    adapter: Any = tiny_adapter("i2v-adapter")
    adapter.begin("sampling")
    block = next(iter(spatial_blocks(adapter.base).values()))
    keys: list[torch.Tensor] = []
    block.attn1.to_k.register_forward_hook(lambda module, args, output: keys.append(output))
    batch = clips([[False, True, False]])
    for changed in (
        batch,
        batch.replace(noisy=-batch.noisy),
        batch.replace(clean=batch.clean.roll(1, 2)),
    ):
        changed.through(adapter)
    # Of each pass the self-attention's own keys come first, for three frames, then the branch's.
    own, branch, _, noise, _, other = keys
    assert own.shape[0] == 3 and branch.shape[0] == 1
    assert branch[0].equal(own[1])
    assert noise.equal(branch) and not other.equal(branch)


def test_clip_without_given_frames_adds_nothing():
    adapter: Any = tiny_adapter("i2v-adapter")
    batch = clips([[False, False, False], [False, True, False]])
    for output in branch_outputs(adapter, batch):
        assert not output[:3].any() and output[3:].any(dim=(1, 2)).all()
    adapter.begin("sampling")
    alone = clips([[False, False, False]])
    with torch.no_grad():
        assert branch_outputs(adapter, alone) == []


def test_too_many_frames_are_refused():
    adapter = I2VAdapter(tiny_base("motion", max_frames=2))
    with pytest.raises(ConfigError, match="knows 2 frames"):
        clips([[True, False, False]]).through(adapter)
