"""What each network reads, what it trains, and what its training costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rdtf.method.curriculum import Curriculum, CurriculumConfig
from rdtf.method.objective import ObjectiveConfig, build_objective
from rdtf.research.adapters.common import BASE_CLASSES
from rdtf.research.comparison.methods import (
    _BUDGETS,
    METHODS,
    Sizes,
    _new_base,
    _reference_parameters,
    build_network,
    plan_jobs,
    pretraining,
)
from rdtf.research.comparison.networks import (
    FlopTable,
    SingleTask,
    _clip_inputs,
    _linear_estimate_scale,
    count_flops,
)

from .micro import BUDGET

CHANNELS, SIZE, WIDTH = 256, 4, 384
SIZES = Sizes(CHANNELS, SIZE, WIDTH)
NETWORKS = {
    "dfgn": METHODS["dfgn"],
    "unet-from-scratch": METHODS["unet-from-scratch"],
    "pretrain-image": pretraining("image"),
    "sti": METHODS["sti"],
    "conv3d": METHODS["conv3d"],
}


def built(name: str, **changes):
    return build_network(NETWORKS[name], BUDGET, 0, SIZES)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Untrained U-Nets where the pre-trained ones are looked for."""
    folder = tmp_path_factory.mktemp("bases")
    for kind in BASE_CLASSES:
        _new_base(kind, BUDGET, SIZES).save_pretrained(folder / kind / "unet")
    return folder


# -------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("name", _BUDGETS)
def test_the_larger_networks_are_three_to_five_times_as_large(name):
    budget = _BUDGETS[name]
    sizes = Sizes(4 * budget.patch**2, budget.canvas // budget.patch, WIDTH)
    own = _reference_parameters(budget, sizes)
    with torch.device("meta"):
        for kind in BASE_CLASSES:
            count = sum(p.numel() for p in _new_base(kind, budget, sizes).parameters())
            assert 3 <= count / own <= 5, (kind, count, own)


def test_full_budget_is_the_preset_nano():
    sizes = Sizes(64, 16, WIDTH)
    assert 5e6 < _reference_parameters(_BUDGETS["full"], sizes) < 6e6


@pytest.mark.parametrize("name", ["i2v-adapter", "simda", "customize-a-video"])
def test_adapters_train_a_small_part_and_leave_the_base(bases, name):
    network = build_network(METHODS[name], BUDGET, 0, SIZES, bases / METHODS[name].base)
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
            build_network(METHODS[name], BUDGET, seed, SIZES, bases / "image").own_parameters()
            for seed in (0, 0, 1)
        )
        assert all(one[key].equal(two[key]) for key in one)
        assert any(not one[key].equal(other[key]) for key in one)


# -------------------------------------------------------------------------------- FLOPs


def counted(network: torch.nn.Module, frames: int, tokens: int) -> tuple[int, int]:
    """Forward and both passes of two clips, counted by torch."""
    inputs = _clip_inputs(2, CHANNELS, frames, SIZE, tokens, WIDTH)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = network(*inputs).sum()
        forward = counter.get_total_flops()
        loss.backward()
    return forward, counter.get_total_flops()


def table_of(network: torch.nn.Module) -> FlopTable:
    return count_flops(
        network, clips=2, latent_channels=CHANNELS, latent_size=SIZE, text_width=WIDTH
    )


@pytest.mark.parametrize("name", ["dfgn", "conv3d", "unet-from-scratch", "pretrain-image"])
def test_tables_hold_for_sizes_that_were_not_counted(name):
    network = built(name)
    table = table_of(network)
    forward, both = counted(network, 7, 9)
    assert table.per_batch(7, 9) == both
    assert 2.4 < both / forward <= 3.0  # the input of the first layer needs no gradient
    assert all(p.grad is None for p in built(name).parameters())


@pytest.mark.parametrize("name", ["i2v-adapter", "simda", "customize-a-video"])
def test_tables_of_adapters_count_what_their_gradients_need(bases, name):
    """Frozen weights need no gradient, but the way down to the deepest adapter is paid for."""
    network = build_network(METHODS[name], BUDGET, 0, SIZES, bases / METHODS[name].base)
    for stage in network.stages:
        network.begin(stage)
        table = table_of(network)
        forward, both = counted(network, 6, 3)
        assert table.per_batch(6, 3) == both
        assert 1.1 < both / forward < 2.4
    if name == "customize-a-video":  # the first stage has no time
        network.begin("appearance")
        assert table_of(network).per_batch(6, 3) < table.per_batch(6, 3)


# ------------------------------------------------------------------- without the dual mask


def test_without_the_dual_mask_only_the_first_frame_is_told():
    """Other given frames and the mask itself change nothing; the first frame's latents do."""
    network = built("sti")
    assert isinstance(network, SingleTask) and network.pad_to == BUDGET.max_frames
    for parameter in network.parameters():  # what starts at zero would hide a missing input
        torch.nn.init.normal_(parameter, std=0.05)
    noisy, t, told = _clip_inputs(1, CHANNELS, 4, SIZE, 2, WIDTH)
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
        scale = _linear_estimate_scale(level)
        best = float((clean * noisy).sum() / noisy.square().sum())
        assert float(scale) == pytest.approx(best, abs=0.01)
    assert float(_linear_estimate_scale(torch.tensor([1.0]))) == 0


# ------------------------------------------------------------------------------ ablation


def test_the_rows_of_the_dfgn_take_the_steps_of_the_papers_tables():
    rows = [METHODS[name] for name in ("conv3d", "sti", "dual-mask", "linear", "dfgn")]
    settings = [row.config(BUDGET, 0) for row in rows]
    assert [c.model.temporal_layer for c in settings] == ["conv3d"] + ["sti"] * 4
    assert [row.dual_mask for row in rows] == [False, False] + [True] * 3
    assert [c.given_frame_weight for c in settings] == [1, 1, 0, 0, 0]
    assert [c.curriculum.mode for c in settings[2:]] == ["none", "linear", "adaptive"]
    assert not any(c.model.compose for c in settings)
    # What a curriculum trains on depends on where it ends: these have a run for each point.
    assert [name for name, method in METHODS.items() if method.has_horizon] == ["dfgn", "linear"]


def test_the_papers_linear_and_static_curricula_are_the_same():
    """So they are one row: two equal runs would tell nothing."""
    linear, static = (Curriculum(CurriculumConfig(mode=mode)) for mode in ("linear", "static"))
    for progress in (0, 0.2, 0.5, 0.7, 1):
        assert linear.task_weights(progress) == pytest.approx(static.task_weights(progress))
    assert "= static" in METHODS["linear"].label


def test_jobs_come_equally_far():
    """All methods reach a point before any goes on; poorer bases come first."""
    jobs = plan_jobs(replace(BUDGET, pretrain_clips=(6, 60)), (), 2)
    assert len(jobs) == len({(job.name, job.point) for job in jobs}) == 3 * 2 * (10 + 4)
    points = [(job.base_clips == 60, job.point) for job in jobs]
    assert points == sorted(points)
    assert {job.row for job in jobs if job.base_clips} >= {"simda@6", "simda@60"}
