"""What each network reads, what it trains, and what its training costs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from rdtf.method.curriculum import Curriculum, CurriculumConfig
from rdtf.method.objective import ObjectiveConfig, build_objective
from rdtf.models.matching import match, warp
from rdtf.research.adapters.common import BASE_CLASSES
from rdtf.research.comparison.methods import (
    KNOWN,
    METHODS,
    VARIANTS,
    WARP_DECODER,
    Sizes,
    build_network,
    new_base,
    pretraining,
    reference_parameters,
)
from rdtf.research.comparison.networks import (
    FlopTable,
    SingleTask,
    clip_inputs,
    count_flops,
    flop_counter,
    linear_estimate_scale,
)
from rdtf.research.comparison.settings import BUDGETS

from .micro import BUDGET

CHANNELS, SIZE, WIDTH = 256, 4, 384
SIZES = Sizes(CHANNELS, SIZE, WIDTH)
NETWORKS = {
    "dfgn": METHODS["dfgn"],
    "dfgn-warp-decoder": METHODS["dfgn-warp-decoder"],
    "unet-from-scratch": METHODS["unet-from-scratch"],
    "pretrain-image": pretraining("image"),
    **{variant.name: variant for variant in VARIANTS[:2]},
}


def built(name: str, **changes):
    return build_network(NETWORKS[name], BUDGET, 0, SIZES, None)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Untrained U-Nets where the pre-trained ones are looked for."""
    folder = tmp_path_factory.mktemp("bases")
    for kind in BASE_CLASSES:
        new_base(kind, BUDGET, SIZES).save_pretrained(folder / kind / "unet")
    return folder


# -------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("name", BUDGETS)
def test_the_larger_networks_are_three_to_five_times_as_large(name):
    budget = BUDGETS[name]
    sizes = Sizes(4 * budget.patch**2, budget.canvas // budget.patch, WIDTH)
    own = reference_parameters(budget, sizes)
    with torch.device("meta"):
        for kind in BASE_CLASSES:
            count = sum(p.numel() for p in new_base(kind, budget, sizes).parameters())
            assert 3 <= count / own <= 5, (kind, count, own)


def test_full_budget_is_the_preset_nano():
    sizes = Sizes(64, 16, WIDTH)
    assert 5e6 < reference_parameters(BUDGETS["full"], sizes) < 6e6


@pytest.mark.parametrize("name", ["i2v-adapter", "simda", "customize-a-video"])
def test_adapters_train_a_small_part_and_leave_the_base(bases, name):
    network = build_network(METHODS[name], BUDGET, 0, SIZES, bases)
    own = sum(p.numel() for p in network.own_parameters().values())
    assert own < 0.1 * network.num_parameters
    for stage in network.stages:
        network.begin(stage)
        trained = network.trained_parameters()
        assert trained and set(trained) <= set(network.own_parameters())
        assert sum(p.requires_grad for p in network.parameters()) == len(trained)
    network.begin("sampling")
    assert not network.training and not any(m.training for m in network.network.modules())


def test_the_same_seed_gives_the_same_network(bases):
    for name in ("dfgn", "simda"):
        one, two, other = (
            build_network(METHODS[name], BUDGET, seed, SIZES, bases).own_parameters()
            for seed in (0, 0, 1)
        )
        assert all(one[key].equal(two[key]) for key in one)
        assert any(not one[key].equal(other[key]) for key in one)


# -------------------------------------------------------------------------------- FLOPs


def counted(network: torch.nn.Module, frames: int, tokens: int) -> tuple[int, int]:
    """Forward and both passes of two clips, counted by torch."""
    inputs = clip_inputs(2, CHANNELS, frames, SIZE, tokens, WIDTH)
    with sdpa_kernel(SDPBackend.MATH), flop_counter() as counter:
        loss = network(*inputs).sum()
        forward = counter.get_total_flops()
        loss.backward()
    return forward, counter.get_total_flops()


def table_of(network: torch.nn.Module) -> FlopTable:
    return count_flops(
        network, clips=2, latent_channels=CHANNELS, latent_size=SIZE, text_width=WIDTH
    )


@pytest.mark.parametrize(
    "name", ["dfgn", "dfgn-warp-decoder", "conv3d", "unet-from-scratch", "pretrain-image"]
)
def test_tables_hold_for_sizes_that_were_not_counted(name):
    network = built(name)
    table = table_of(network)
    forward, both = counted(network, 7, 9)
    assert 2 * table.forward_per_clip(7, 9) == forward and table.per_batch(7, 9) == both
    assert 2.4 < both / forward <= 3.0  # the input of the first layer needs no gradient
    assert all(p.grad is None for p in built(name).parameters())


@pytest.mark.parametrize("name", ["i2v-adapter", "simda", "customize-a-video"])
def test_tables_of_adapters_count_what_their_gradients_need(bases, name):
    """Frozen weights need no gradient, but the way down to the deepest adapter is paid for."""
    network = build_network(METHODS[name], BUDGET, 0, SIZES, bases)
    for stage in network.stages:
        network.begin(stage)
        table = table_of(network)
        forward, both = counted(network, 6, 3)
        assert table.per_batch(6, 3) == both
        assert 1.1 < both / forward < 2.4
    if name == "customize-a-video":  # the first stage has no time
        network.begin("appearance")
        assert table_of(network).forward_per_clip(6, 3) < table.forward_per_clip(6, 3)


def test_matching_and_warping_count_as_reading():
    """A warp of [1, 2, 6, 6] reads four values a result; torch's own counter sees nothing."""
    image, flow = torch.zeros(1, 2, 6, 6), torch.zeros(1, 2, 3, 3, requires_grad=True)
    with flop_counter() as counter:
        warped = warp(image, flow)
        resized, read = 8 * flow.numel() * 4, 8 * image.numel()
        assert counter.get_total_flops() == resized + read
        warped.sum().backward()
        assert counter.get_total_flops() == 2 * resized + 3 * read


def test_the_warp_decoder_pays_for_matching_every_frame():
    """Also in clips of which one frame is given, where a CPU can tell that there is none to do."""
    frames, side = 6, SIZE * BUDGET.patch
    pair = torch.zeros(frames, 2, 4, side, side)
    with flop_counter() as counter:
        match(pair, torch.tensor([[-1.0, 1.0]]).expand(frames, -1), SIZE * min(BUDGET.patch, 4))
    searched = counter.get_total_flops()
    inputs = clip_inputs(1, CHANNELS, frames, SIZE, 3, WIDTH)
    noisy, t, told = inputs
    spared = noisy, t, replace(told, given=torch.arange(frames)[None] < 1)  # a CPU may look at it
    with torch.no_grad(), flop_counter() as counter:
        built("dfgn-warp-decoder")(*inputs)
        counted_all = counter.get_total_flops()
        built("dfgn-warp-decoder")(*spared)
        less = counter.get_total_flops() - counted_all
    assert searched > 0 and counted_all - less >= searched


def test_a_table_survives_its_file():
    table = table_of(built("dfgn"))
    assert FlopTable(**json.loads(json.dumps(asdict(table)))) == table
    assert table.per_clip(4, 5) > table.per_clip(4, 3) > table.per_clip(3, 3)


# ------------------------------------------------------------------- without the dual mask


def test_without_the_dual_mask_only_the_first_frame_is_told():
    """Other given frames and the mask itself change nothing; the first frame's latents do."""
    network = built("sti")
    assert isinstance(network, SingleTask) and network.pad_to == BUDGET.max_frames
    for parameter in network.parameters():  # what starts at zero would hide a missing input
        torch.nn.init.normal_(parameter, std=0.05)
    noisy, t, told = clip_inputs(1, CHANNELS, 4, SIZE, 2, WIDTH)
    told.clean.copy_(torch.randn(told.clean.shape, generator=torch.Generator().manual_seed(0)))
    given = {
        "first": [True, False, False, False],
        "more": [True, False, True, True],
        "others": [False, True, False, True],
        "none": [False, False, False, False],
    }
    with torch.no_grad():
        out = {
            name: network(noisy, t, replace(told, given=torch.tensor([mask])))
            for name, mask in given.items()
        }
        told.clean[:, :, 0] = 0  # a given frame of zeros is no given frame: there is no mask
        zeroed = network(noisy, t, replace(told, given=torch.tensor([given["first"]])))
    assert out["first"].equal(out["more"]) and out["others"].equal(out["none"])
    assert not out["first"].allclose(out["none"])
    assert zeroed.equal(out["none"])


def test_the_linear_estimate_is_the_best_one():
    """Scaled noisy latents have the least error of all scalings, at any level."""
    objective = build_objective(ObjectiveConfig("flow", "x"))
    generator = torch.Generator().manual_seed(0)
    clean = 0.7 * torch.randn(1, 1, 1, 300, 300, generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    for t in (0.1, 0.5, 0.9):
        level = torch.tensor([t])
        noisy = objective.add_noise(clean, noise, level)
        scale = linear_estimate_scale(level)
        best = float((clean * noisy).sum() / noisy.square().sum())
        assert float(scale) == pytest.approx(best, abs=0.01)
    assert float(linear_estimate_scale(torch.tensor([1.0]))) == 0


# ------------------------------------------------------------------------------ ablation


def test_the_ablation_takes_the_steps_of_the_papers_tables():
    names = [variant.name for variant in VARIANTS]
    assert names == ["conv3d", "sti", "dual-mask", "linear", "dfgn"]
    settings = [variant.config(BUDGET, 0) for variant in VARIANTS]
    assert [c.model.temporal_layer for c in settings] == ["conv3d"] + ["sti"] * 4
    assert [v.dual_mask for v in VARIANTS] == [False, False] + [True] * 3
    assert [c.given_frame_weight for c in settings] == [1, 1, 0, 0, 0]
    modes = [c.curriculum.mode for c in settings[2:]]
    assert modes == ["none", "linear", "adaptive"]
    assert not any(c.model.compose for c in settings)
    assert METHODS[WARP_DECODER].config(BUDGET, 0).model.compose


def test_the_papers_linear_and_static_curricula_are_the_same():
    """So they are one row: two equal runs would tell nothing."""
    linear, static = (Curriculum(CurriculumConfig(mode=mode)) for mode in ("linear", "static"))
    for progress in (0, 0.2, 0.5, 0.7, 1):
        assert linear.task_weights(progress) == pytest.approx(static.task_weights(progress))
    assert "= the static one" in KNOWN["linear"].label
