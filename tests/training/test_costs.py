from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fixtures_runs import tiny_config
from rdtf.models.motion import MOTION_CHANNELS
from rdtf.training.config import TrainConfig, from_dict, override, to_dict
from rdtf.training.costs import (
    activation_bytes,
    datasheet_peak,
    forward_flops,
    hardware_flops,
    memory_estimate,
    meta_denoiser,
    mfu,
    micro_batch_size,
    peak_flops,
    seconds_per_step_estimate,
    state_memory,
    training_flops,
)
from rdtf.training.ema import EMA
from rdtf.training.optimizers import Optimizer
from rdtf.training.presets import build_models, preset

CPU = torch.device("cpu")


def inputs(config: TrainConfig, frames: int, batch: int = 1) -> dict[str, object]:
    """Random clips with captions of full length, as the denoiser takes them."""
    side = config.canvas // config.representation.patch
    channels = 4 * config.representation.patch**2
    motion = MOTION_CHANNELS if config.model.compose and config.model.motion != "none" else 0
    return {
        "noisy": torch.randn(batch, channels + motion, frames, side, side),
        "level": torch.rand(batch),
        "clean": torch.randn(batch, channels, frames, side, side),
        "given": torch.zeros(batch, frames, dtype=torch.bool),  # all frames are to be made
        "valid": torch.ones(batch, frames, dtype=torch.bool),
        "text": [torch.randn(batch, config.text.max_tokens, 384)],
        "text_mask": [torch.ones(batch, config.text.max_tokens, dtype=torch.bool)],
    }


# ------------------------------------------------------------------------ operations


@pytest.mark.parametrize("settings", [{}, {"model__temporal_layer": "conv3d"}])
@pytest.mark.parametrize("frames", [1, 4, 7])
def test_flops_are_those_of_the_real_model(settings, frames):
    config = tiny_config(**settings)
    model = build_models(config)[0]
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**inputs(config, frames))
    assert forward_flops(config, frames) == counter.get_total_flops()


def test_backward_is_twice_the_forward():
    config = tiny_config()
    model = build_models(config)[0]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**inputs(config, 4)).square().sum().backward()
    assert training_flops(config, 4) == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_attention_over_all_frames_is_counted():
    """It alone grows with the square of the frames: two products of tokens × tokens × width."""
    config = tiny_config()
    one, two, three = (forward_flops(config, frames) for frames in (1, 2, 3))
    grids = [8 // 2, 4 // 2]  # two levels of the latents, pooled
    stages = [1 + 1, 1 + 1 + 2]  # way down and up, and the middle
    width = config.model.sti_heads * config.model.sti_head_dim
    products = sum(n * 2 * 2 * side**4 * width for n, side in zip(stages, grids, strict=True))
    assert one - 2 * two + three == 2 * products


def test_flops_of_a_batch_and_with_recomputing():
    config = tiny_config()
    assert forward_flops(config, 4, batch=6) == 6 * forward_flops(config, 4)
    assert training_flops(config, 4) == hardware_flops(config, 4) == 3 * forward_flops(config, 4)
    recomputing = tiny_config(engine__gradient_checkpointing=True)
    assert training_flops(recomputing, 4) == training_flops(config, 4)
    assert hardware_flops(recomputing, 4) == 4 * forward_flops(config, 4)


def test_a_config_read_from_a_file_has_costs_too():
    config = tiny_config()
    read = from_dict(TrainConfig, json.loads(json.dumps(to_dict(config))))
    assert forward_flops(read, 3) == forward_flops(config, 3)


def test_mfu():
    assert mfu(3e12, seconds=2, peak=1e13) == pytest.approx(0.15)
    assert mfu(3e12, seconds=0, peak=1e13) == 0


# ------------------------------------------------------------------------ memory

MEASURE = """
import sys, torch
sys.path[:0] = {paths!r}
from test_costs import CONFIG, inputs
from rdtf.training.presets import build_models

def memory(field):  # getrusage's maximum would be that of the parent if it is larger
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines[field].split()[0]) * 1024

model = build_models(CONFIG)[0].train()
for checkpointing in (True, False):  # the peak of a process never falls
    switch = "enable" if checkpointing else "disable"
    getattr(model, switch + "_gradient_checkpointing")()
    model(**inputs(CONFIG, 2)).square().sum().backward()
    before = memory("VmRSS")
    model(**inputs(CONFIG, 8, batch=2)).square().sum().backward()
    print(memory("VmHWM") - before)
"""
CONFIG = tiny_config(canvas=128, max_frames=8)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measured with /proc")
def test_activations_are_what_a_process_really_takes():
    """Peak of a process's memory, whose allocator gives back at once what is freed."""
    here = Path(__file__).parent
    paths = [str(here), str(here.parent)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    output = subprocess.run(
        [sys.executable, "-c", MEASURE.format(paths=paths)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    recomputed, stored = map(int, output.split())
    assert activation_bytes(CONFIG, 2, 8, "fp32") == pytest.approx(stored, rel=0.25)
    lean = override(CONFIG, {"engine.gradient_checkpointing": True})
    assert activation_bytes(lean, 2, 8, "fp32") == pytest.approx(recomputed, rel=0.25)


def test_activations_hold_what_autograd_saves():
    config = tiny_config()
    model = build_models(config)[0]
    saved: dict[int, int] = {}
    weights = {value.untyped_storage().data_ptr() for value in model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = model(**inputs(config, 4, batch=3))
    assert out.requires_grad
    # The peak is somewhat more: it comes at the start of the backward pass.
    assert 1 < activation_bytes(config, 3, 4, "fp32") / sum(saved.values()) < 1.4


def test_what_lowers_activations():
    config = tiny_config()
    whole = activation_bytes(config, 8, 4, "fp32")
    assert activation_bytes(config, 4, 4, "fp32") == pytest.approx(whole / 2, rel=0.05)
    assert activation_bytes(config, 8, 4, "bf16") < 0.9 * whole
    lean = tiny_config(engine__gradient_checkpointing=True)
    assert activation_bytes(lean, 8, 4, "fp32") < 0.65 * whole


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_state_is_what_optimizer_and_averages_hold(name):
    if name == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    config = tiny_config(optimizer__name=name, optimizer__ema_decays=(0.9, 0.99))
    model = build_models(config)[0]
    optimizer = Optimizer(model, config.optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(torch.zeros(()))
    held = sum(tensor.nbytes for tensor in _state(optimizer))
    ema = EMA(model, config.optimizer.ema_decays)
    averages = sum(value.nbytes for copies in ema._averages for value in copies.values())

    estimate = state_memory(config)
    assert estimate.weights == estimate.gradients == _weights(model)
    assert estimate.optimizer == pytest.approx(held, rel=0.01)  # and a counter per parameter
    assert estimate.averages == averages == 2 * estimate.weights
    assert (estimate.optimizer < 1.8 * estimate.weights) == (name == "muon")
    assert estimate.activations == estimate.gathered == 0


def _weights(model: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def _state(optimizer: Optimizer) -> list[torch.Tensor]:
    parts = [part for part in (optimizer._adamw, optimizer._muon) if part is not None]
    slots = [slot for part in parts for slot in part.state.values()]
    return [value for slot in slots for value in slot.values() if isinstance(value, torch.Tensor)]


def test_memory_adds_up_and_is_shared_by_ranks():
    config = tiny_config(engine__parallel="fsdp")
    alone = memory_estimate(config, 2, 4)
    assert alone.total == alone.state + alone.activations
    assert alone.state == alone.weights + alone.gradients + alone.optimizer + alone.averages
    four = memory_estimate(config, 2, 4, world_size=4)
    assert four.weights == alone.weights // 4 and four.optimizer == alone.optimizer // 4
    assert four.averages == alone.averages // 4 and four.gradients == alone.gradients // 4
    assert four.activations == alone.activations
    assert 0 < four.gathered < alone.weights
    copies = memory_estimate(tiny_config(), 2, 4, world_size=4)
    assert copies.weights == alone.weights and copies.gathered == 0
    assert copies.gradients == alone.gradients  # they live in DDP's buckets


def test_averages_on_the_host_cost_the_device_nothing():
    assert state_memory(tiny_config(engine__offload_ema=True)).averages == 0


@pytest.mark.parametrize(
    "batch, micro, ranks, expected",
    [(8, 0, 1, 8), (8, 2, 1, 2), (8, 0, 2, 4), (8, 6, 2, 4), (6, 4, 1, 4)],
)
def test_micro_batch_size(batch, micro, ranks, expected):
    config = tiny_config(batch_size=batch, engine__micro_batch_size=micro)
    assert micro_batch_size(config, ranks) == expected


def test_the_paper_model_has_an_estimate_without_memory_for_it():
    config = preset("paper")
    parameters = sum(p.numel() for p in meta_denoiser(config).parameters())
    memory = state_memory(config)
    assert memory.weights == 4 * parameters and memory.total > 14e9


# ------------------------------------------------------------------------ speed


@pytest.mark.parametrize(
    "name, bf16_teraflops",
    [
        ("NVIDIA H200", 989.4),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10G", 70),
        ("NVIDIA A10", 125),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA B200", 2250),
        ("NVIDIA GeForce RTX 3090", 71),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 5090", 209.5),
        ("Tesla V100-SXM2-16GB", 15.7),
        ("Tesla T4", 8.1),
    ],
)
def test_datasheets(name, bf16_teraflops):
    fp32, tf32, bf16 = peaks = [datasheet_peak(name, kind) for kind in ("fp32", "tf32", "bf16")]
    assert bf16 == bf16_teraflops * 1e12
    assert fp32 and tf32 and peaks == sorted(peaks, key=lambda peak: peak or 0)


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 4070", "NVIDIA A1000", "Radeon", "L40"])
def test_an_unknown_gpu_has_no_datasheet(name):
    assert datasheet_peak(name, "bf16") is None


def test_the_peak_of_a_cpu_is_measured_once():
    peak = peak_flops(CPU, "fp32")
    assert 1e8 < peak < 1e14
    assert peak_flops(CPU, "fp32") == peak


def test_time_is_measured_where_that_is_cheap():
    config = tiny_config(batch_size=4)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    estimate = seconds_per_step_estimate(config, CPU, "fp32")
    assert torch.equal(torch.rand(3), expected)  # nobody's random numbers were used up
    assert estimate.measured and "measured" in estimate.how and "CPU" in estimate.how
    assert 0 < estimate.seconds < math.inf


def test_time_is_reckoned_where_measuring_would_take_long():
    config = tiny_config(batch_size=4)
    estimate = seconds_per_step_estimate(config, CPU, "fp32", limit_seconds=0)
    assert not estimate.measured and "reckoned: 40% of" in estimate.how
    flops = hardware_flops(config, config.max_frames, 4)
    assert estimate.seconds == pytest.approx(flops / (0.4 * peak_flops(CPU, "fp32")))
    shared = seconds_per_step_estimate(config, CPU, "fp32", world_size=2, limit_seconds=0)
    assert shared.seconds == pytest.approx(estimate.seconds / 2)
