"""What a network is told, so that it need not find it: no masks, and matching once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rdtf.method.objective import ObjectiveConfig, build_objective
from rdtf.models.conditions import Conditions
from rdtf.models.layers import Attention
from rdtf.sampling.sampling import sample
from rdtf.training.batches import Batch, SampleInfo, map_tensors
from rdtf.training.config import TrainConfig
from rdtf.training.presets import build_scheduler
from rdtf.training.step import batch_errors

from .networks import Clip, random_clip, stacked, tiny_dfgn

OBJECTIVE = ObjectiveConfig()


def key_masks(network: nn.Module) -> list[Tensor | None]:
    """Grows by the key mask of every attention as it is asked."""
    masks: list[Tensor | None] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        masks.append(options["key_mask"] if "key_mask" in options else (*inputs, None, None)[2])

    for module in network.modules():
        if isinstance(module, Attention):
            module.register_forward_pre_hook(keep, with_kwargs=True)
    return masks


def batch_of(clip: Clip, num_frames: tuple[int, ...]) -> Batch:
    count = len(clip.clean)
    rows = tuple(range(count))
    padded = min(num_frames) < clip.valid.shape[1]
    return Batch(
        SampleInfo(("it2v",) * count, rows, rows, (0.5,) * count, num_frames),
        replace(clip.conditions, padded=padded), clip.noisy, clip.noisy[:, :2], clip.t,
    )  # fmt: skip


def test_training_on_a_gpu_masks_no_frames_where_all_exist():
    """The meta device, like a GPU, can't be asked whether a mask is full."""
    whole = random_clip([True, False, False])
    batches = {
        "whole": batch_of(stacked(whole, whole), (3, 3)),
        "padded": batch_of(stacked(whole, random_clip([True, False]).padded(1)), (3, 2)),
    }
    network = tiny_dfgn().train().to("meta")
    masks = key_masks(network)
    frames = {}
    for name, batch in batches.items():
        masks.clear()
        batch_errors(
            network,
            build_objective(OBJECTIVE),
            map_tensors(batch, lambda tensor: tensor.to("meta")),
        )
        # Captions are masked in either case: three tokens and the one that is always there.
        frames[name] = [mask for mask in masks if mask is not None and mask.shape[1] != 4]
    assert frames["whole"] == [] and len(frames["padded"]) > 0


def test_no_caption_needs_no_mask():
    network, clip = tiny_dfgn(), random_clip([True, False, False])
    masks = key_masks(network)
    for text in (clip.text, []):
        clip.replace(text=text, text_mask=clip.text_mask if text else []).through(network)
    assert len(masks) > 0 and all(mask is None for mask in masks)
    silent = [torch.zeros_like(mask) for mask in clip.text_mask]
    clip.replace(text_mask=silent).through(network)
    assert any(mask is not None for mask in masks)


class Operations(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def conditions(given: list[bool]) -> Conditions:
    return random_clip(given).conditions


def sampled(network: Any, told: Conditions, steps: int) -> Tensor:
    noise = torch.randn(told.clean.shape, generator=torch.Generator().manual_seed(1))
    return sample(
        network, build_objective(OBJECTIVE), build_scheduler(TrainConfig()), told, noise,
        num_inference_steps=steps, guidance_scale=2.0,
    )  # fmt: skip


def test_references_are_matched_once_however_many_steps():
    network, matched = tiny_dfgn(), []
    for steps in (1, 3):
        with Operations() as operations:
            sampled(network, conditions([True, False, False, True]), steps)
        matched.append(operations.counts["replication_pad2d"])  # of matching's local means only
    assert matched[0] == matched[1] > 0


def test_conditions_do_not_mix_what_two_networks_found():
    """The same conditions go through several networks in a comparison."""
    told, alone = conditions([True, False, True]), []
    networks = [tiny_dfgn(), tiny_dfgn(patch=4), tiny_dfgn(compose=False)]
    for network in networks:
        alone.append(sampled(network, conditions([True, False, True]), 2))
    for network, expected in zip(networks, alone, strict=True):
        assert torch.equal(sampled(network, told, 2), expected)


@pytest.mark.parametrize("motion", ["none", "alone"])
def test_prepared_or_not_the_same_comes_out(motion):
    network = tiny_dfgn(motion=motion)
    clip = random_clip([True, False, True, False])
    noisy = torch.cat([clip.noisy, clip.noisy[:, : network.motion_channels]], dim=1)
    told = clip.conditions
    with torch.no_grad():
        expected = network(noisy, clip.t, told)
        known = network.prepare(told)
        assert known.features is not None and known.padded is False
        assert torch.equal(network(noisy, clip.t, known), expected)
