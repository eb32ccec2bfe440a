"""What distributed, recomputing, compiled and mixed-precision training rely on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rdtf.models.dfgn import DFGN
from rdtf.training.batches import map_tensors
from rdtf.training.distributed import compile_blocks

from .networks import Clip, random_clip, stacked, tiny_dfgn

VARIANTS: dict[str, dict[str, Any]] = {
    "composed": {},
    "refined": {"patch": 4, "refine_widths": (8,)},
    "like the paper": {
        "compose": False,
        "prediction": "eps",
        "extra_up_stage": True,
        "layers_per_level": 2,
    },
    "conv3d": {"temporal_layer": "conv3d"},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def backward(network: DFGN, clip: Clip) -> dict[str, Tensor]:
    """Gradients of the squared output on the frames that exist."""
    network.zero_grad()
    exists = clip.valid[:, None, :, None, None]
    out = clip.run(network)
    torch.where(exists, out, 0.0).float().square().mean().backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def blocks(network: DFGN) -> list[nn.Module]:
    """What is recomputed, compiled or sharded one by one."""
    stages = [*network.down, *network.middle, *network.up]
    return [*stages, network.composer] if network.config["compose"] else stages


def batches() -> dict[str, Clip]:
    """Batches of one kind only, as they occur in training."""
    nothing = random_clip([False] * 3)
    silent = nothing.replace(text_mask=[torch.zeros_like(mask) for mask in nothing.text_mask])
    single = random_clip([False])
    return {
        "text to video": stacked(nothing, nothing),
        "nothing given, no text": stacked(silent, silent),
        "single images": stacked(single, single),
        "all given but one, no text": random_clip([True, True, False]).replace(
            text_mask=silent.text_mask
        ),
        "padded": stacked(random_clip([True, False, False]), single.padded(2)),
    }


@every_variant
@pytest.mark.parametrize("kind", batches())
def test_every_parameter_takes_part_in_every_batch(variant, kind):
    """Ranks wait for each other's gradients. A mask, not a missing tensor, says no text."""
    network = tiny_dfgn(**VARIANTS[variant]).train()
    found = backward(network, batches()[kind])
    assert [name for name, _ in network.named_parameters() if name not in found] == []
    assert all(gradient.isfinite().all() for gradient in found.values())


@every_variant
def test_no_value_is_read_on_the_host(variant):
    """The meta device has no values: whatever would wait for a GPU fails on it."""
    network = tiny_dfgn(**VARIANTS[variant]).train().to("meta")
    clip = batches()["padded"]
    out = map_tensors(clip, lambda tensor: tensor.to("meta")).run(network)
    assert out.shape == clip.noisy.shape
    out.square().mean().backward()


# ------------------------------------------------------------------ recomputing


@every_variant
def test_checkpointing_gives_the_same_gradients(variant):
    network = tiny_dfgn(**VARIANTS[variant]).train()
    clip = random_clip([True, False, False]).padded(1)
    expected = backward(network, clip)
    network.enable_gradient_checkpointing()
    actual = backward(network, clip)
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, msg=name)


@every_variant
def test_checkpointing_recomputes_every_block(variant):
    network = tiny_dfgn(**VARIANTS[variant]).train()
    calls: Counter[int] = Counter()
    for index, block in enumerate(blocks(network)):
        block.register_forward_pre_hook(lambda *_, index=index: calls.update([index]))
    for times, enable in ((1, False), (2, True)):
        calls.clear()
        if enable:
            network.enable_gradient_checkpointing()
        backward(network, random_clip([True, False, False]))
        assert calls == dict.fromkeys(range(len(blocks(network))), times)


def kept_bytes(network: DFGN, clip: Clip) -> int:
    """Memory that the forward pass keeps for the backward pass, parameters apart."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        clip.run(network)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@every_variant
def test_checkpointing_keeps_less(variant):
    network = tiny_dfgn(**VARIANTS[variant]).train()
    clip = random_clip([True, False, False, False], size=(8, 8))
    plain = kept_bytes(network, clip)
    network.enable_gradient_checkpointing()
    assert kept_bytes(network, clip) < 0.3 * plain


# ------------------------------------------------------------------ mixed precision


@every_variant
@pytest.mark.filterwarnings("error")
def test_bf16_is_close_and_warns_of_nothing(variant):
    network, clip = tiny_dfgn(**VARIANTS[variant]), random_clip([True, False, False])
    expected = clip.through(network)
    with torch.autocast("cpu", torch.bfloat16):
        actual = clip.through(network).float()
    error = (actual - expected).square().mean() / expected.square().mean()
    assert error.sqrt() < 0.2


# ------------------------------------------------------------------ compiling


def compiled(network: DFGN, chosen: slice = slice(None), **options: Any) -> DFGN:
    """With blocks compiled by themselves; the shapes of a stage are its own, hence static."""
    for block in blocks(network)[chosen]:
        block.compile(dynamic=False, fullgraph=True, **options)
    return network


def agree(plain: DFGN, other: DFGN, clip: Clip) -> None:
    exists = clip.valid[:, None, :, None, None]
    expected, actual = clip.through(plain), clip.through(other)
    torch.testing.assert_close(actual * exists, expected * exists, rtol=1e-4, atol=1e-4)
    for (name, expected), actual in zip(
        backward(plain, clip).items(), backward(other, clip).values(), strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-5, msg=name)


@pytest.fixture
def fresh_compiler() -> Any:
    """Stages share their code: each width, length and padding counts against one limit."""
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=64):
        yield
    torch._dynamo.reset()


# One level: tracing a stage takes a second, compiling it much longer.
SHALLOW: dict[str, Any] = {"channels": (16,), "attention_levels": (0,)}


@pytest.mark.usefixtures("fresh_compiler")
def test_every_block_is_one_graph():
    """Nothing in a block makes the tracer give up: no value of a tensor decides what is run."""
    plain = tiny_dfgn(**SHALLOW).train()
    other = compiled(tiny_dfgn(**SHALLOW).train(), backend="eager")
    whole = random_clip([True, False, False])
    for clip in (whole, whole.padded(1)):
        agree(plain, other, clip)


def test_no_block_silently_runs_uncompiled():
    """With torch's own limit a stage of another width, or training after sampling, would be."""
    torch._dynamo.reset()
    network, clip = tiny_dfgn(**SHALLOW).train(), random_clip([True, False, False])
    tight = torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True)
    with tight:
        compile_blocks(network, "on", torch.device("cpu"), backend="eager")
        clip.through(network)
        clip.run(network).mean().backward()
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@every_variant
def test_compiled_blocks_compute_the_same(variant):
    """With the compiler that training uses; the last block and what follows, as it is slow."""
    changes = {**VARIANTS[variant], **SHALLOW, "layers_per_level": 1}
    plain = tiny_dfgn(**changes).train()
    other = compiled(tiny_dfgn(**changes).train(), slice(-2, None))
    whole = random_clip([True, False, False])
    for clip in (whole, whole.padded(1)):
        agree(plain, other, clip)
