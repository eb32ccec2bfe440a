"""What a run costs, before it starts: `rdtf train --dry-run`."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rdtf.fileio import size_text
from rdtf.models.conditions import Conditions
from rdtf.models.dfgn import DFGN
from rdtf.models.representation import as_representation
from rdtf.models.text import TextEncoders
from rdtf.training.config import TrainConfig, settings, to_dict
from rdtf.training.device import (
    autocast,
    default_device,
    device_name,
    is_out_of_memory,
    resolve_precision,
    what_to_lower,
)
from rdtf.training.distributed import compile_blocks
from rdtf.training.optimizer import EMA, Optimizer
from rdtf.training.presets import (
    PAPER_LATENT_CHANNELS,
    PAPER_TEXT_WIDTHS,
    build_autoencoder,
    build_denoiser,
)
from rdtf.training.progress import eta_text, memory_in_use

_PARTS = {
    ".residual.": "residual blocks",
    ".temporal.": "spatio-temporal interaction",
    ".transformer.": "spatial and text attention",
    "composer.": "warp decoder",
}
_CPU_FLOPS_LIMIT = 500e9  # of a clip; more would take a CPU minutes


# ------------------------------------------------------------------------ FLOPs


def training_flops(config: TrainConfig, frames: int, batch: int = 1) -> int:
    """Floating-point operations of a training step on `batch` clips of `frames` frames.

    Multiplications and additions of convolutions, matrix products and attention, captions at full
    length; the backward pass counts twice the forward pass, without recomputation.
    """
    model, counter = build_for_costs(config), FlopCounterMode(display=False)
    # Fused attention has no operations that the counter knows on every device; this form has.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(*_inputs(model, config, frames, 1, "meta"))
    return 3 * batch * counter.get_total_flops()


def build_for_costs(config: TrainConfig, device: torch.device | str = "meta") -> DFGN:
    """The denoiser; where the paper's encoders are not named yet, the paper's widths stand in."""
    channels, down, widths = PAPER_LATENT_CHANNELS, 8, PAPER_TEXT_WIDTHS
    if config.representation.kind == "pixels" or config.representation.path:
        representation = as_representation(build_autoencoder(config))
        channels, down = representation.latent_channels, representation.downsampling
    if all(config.text.encoders):
        widths = TextEncoders(config.text.encoders, config.text.max_tokens).widths
    with torch.device(device):
        return build_denoiser(
            config, latent_channels=channels, downsampling=down, text_widths=widths
        )


def _inputs(
    model: DFGN, config: TrainConfig, frames: int, batch: int, device: torch.device | str
) -> tuple[Tensor, Tensor, Conditions]:
    """Arguments of the denoiser for clips of `frames` frames, the first one given."""
    sizes = model.config_
    shape = (batch, model.state_channels, frames, sizes.latent_size, sizes.latent_size)
    tokens = (batch, config.text.max_tokens)
    with torch.device(device):
        conditions = Conditions(
            clean=torch.randn(shape),
            given=torch.arange(frames).expand(batch, -1) < 1,
            valid=torch.ones(batch, frames, dtype=torch.bool),
            text=[torch.randn(*tokens, width) for width in sizes.text_widths],
            text_mask=[torch.ones(tokens, dtype=torch.bool) for _ in sizes.text_widths],
        )
        return torch.randn(shape), torch.rand(batch), conditions


# ------------------------------------------------------------------------ one step


def measure_step(config: TrainConfig, device: torch.device) -> dict[str, Any]:
    """Run forward and backward pass, optimizer and averages on random clips.

    A GPU takes a whole micro-batch, a CPU one clip. torch's random state is left as it was.

    Returns:
        device; clips: how many one forward pass took; seconds: of a step over a whole batch of the
        longest clips, without data loading; memory_bytes: peak of tensors on a GPU, of the process
        on a CPU.
    """
    clips = config.engine.micro_batch_size or config.batch_size
    clips = 1 if device.type == "cpu" else min(clips, config.batch_size)
    precision = resolve_precision(config.engine.precision, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        model = build_for_costs(config, device).train()
        inputs = _inputs(model, config, config.max_frames, clips, device)
    if config.engine.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    compile_blocks(model, config.engine.compile, device)
    optimizer = Optimizer(dict(model.named_parameters()), config.optimizer)
    averages = EMA(model, config.optimizer.ema_decays, on_host=config.engine.offload_ema)

    def both_passes() -> None:
        with autocast(precision, device):
            loss = model(*inputs).float().square().mean()
        loss.backward()

    def update() -> None:
        optimizer.step(torch.zeros((), device=device))
        optimizer.zero_grad()
        averages.update(model)

    both_passes()
    update()
    passes = config.batch_size / clips
    seconds = _seconds(both_passes, device) * passes + _seconds(update, device)
    return {
        "device": device_name(device),
        "clips": clips,
        "seconds": seconds,
        "memory_bytes": memory_in_use(device),
    }


def _seconds(run: Callable[[], None], device: torch.device) -> float:
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - started


def _try_step(config: TrainConfig, device: torch.device) -> tuple[dict[str, Any] | None, str]:
    """The measured step, or None and why it could not be measured."""
    if device.type == "cpu" and training_flops(config, config.max_frames) > _CPU_FLOPS_LIMIT:
        return None, "not measured: too large for this CPU; repeat it on the GPU that will train"
    try:
        return measure_step(config, device), ""
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        advice = ", ".join(what_to_lower(config, device))
        return None, f"out of memory on {device_name(device)}; change, in this order: {advice}"


# ------------------------------------------------------------------------ description


def describe_run(
    config: TrainConfig, data: Path | None = None, device: torch.device | None = None
) -> dict[str, Any]:
    """Size, cost and time of a run that is not started.

    Args:
        data: a training set, to tell how often it is passed.
        device: what to train on; default: the GPU if there is one.

    Returns:
        Values for JSON, sizes in bytes and times in seconds (None where nothing was measured);
        `text` says the same for people.
    """
    device = device or default_device()
    parts = _parameters_by_part(config)
    parameters = sum(parts.values())
    flops = training_flops(config, config.max_frames)
    step, problem = _try_step(config, device)
    values = {
        "config": to_dict(config),
        "parameters": parameters,
        "parameters_by_part": dict(parts.most_common()),
        "training_flops_per_clip": flops,
        "training_flops_per_step": flops * config.batch_size,
        "precision": resolve_precision(config.engine.precision, device),
        "state_bytes": 4 * parameters * (4 + len(config.optimizer.ema_decays)),
        "measured": step,
        "problem": problem,
        "steps": config.steps,
        "samples": config.steps * config.batch_size,
        "data": None if data is None else _clip_counts(data),
        "seconds_per_step": None if step is None else step["seconds"],
        "seconds": None if step is None else step["seconds"] * config.steps,
    }
    return {**values, "text": _text(config, values)}


def _parameters_by_part(config: TrainConfig) -> Counter[str]:
    parts: Counter[str] = Counter()
    for name, parameter in build_for_costs(config).named_parameters():
        part = next((title for key, title in _PARTS.items() if key in name), "the rest")
        parts[part] += parameter.numel()
    return parts


def _clip_counts(data: Path) -> dict[str, int]:
    """Clips and stills of the training split."""
    from rdtf.data.dataset import PreparedDataset

    lengths = PreparedDataset(data).clips("train").num_frames
    return {"clips": len(lengths), "stills": int((lengths == 1).sum())}


def _text(config: TrainConfig, values: Mapping[str, Any]) -> str:
    data, seconds, step = values["data"], values["seconds_per_step"], values["measured"]
    samples, frames = values["samples"], config.max_frames
    memory = {"weights, gradients, optimizer, averages": size_text(values["state_bytes"])}
    schedule = {
        "steps": f"{config.steps:,}",
        "samples": f"{samples:,} ({config.batch_size} a step)",
    }
    if data is not None:
        passes = f"{samples / max(data['clips'], 1):.3g} passes"
        schedule["data"] = f"{data['clips']:,} clips, {data['stills']:,} stills; {passes}"
    if step is None:
        memory["one step"] = schedule["time"] = values["problem"]
    else:
        clips = f"{step['clips']} clip{'s' * (step['clips'] > 1)} at a time"
        memory[f"peak of one step, {clips} (measured)"] = size_text(step["memory_bytes"])
        schedule["time per step"] = f"{seconds:.2g} s" if seconds < 10 else eta_text(seconds)
        schedule["time in all"] = eta_text(values["seconds"])
        schedule["measured on"] = (
            f"{step['device']}; all clips {frames} frames long; no data loading, no validation"
        )
    sections = {
        "Settings": _options(config),
        f"Parameters: {values['parameters'] / 1e6:.1f} M": {
            part: f"{count / 1e6:.1f} M" for part, count in values["parameters_by_part"].items()
        },
        f"Compute, clips of {frames} frames": {
            "FLOPs per clip": f"{values['training_flops_per_clip'] / 1e9:,.1f} GFLOP",
            "FLOPs per step": f"{values['training_flops_per_step'] / 1e9:,.1f} GFLOP",
        },
        f"Memory, {values['precision']}": memory,
        "Schedule": schedule,
    }
    return "\n\n".join("\n".join([title, *_aligned(rows)]) for title, rows in sections.items())


def _options(config: TrainConfig) -> dict[str, str]:
    """Every setting as `rdtf train` takes it."""
    rows = {}
    for name, _, value in settings(config):
        section, dot, option = name.replace("_", "-").rpartition(".")
        if isinstance(value, bool):
            rows[f"--{section}{dot}{'' if value else 'no-'}{option}"] = ""
        elif name != "preset":
            words = map(str, value if isinstance(value, tuple) else [value])
            rows[f"--{section}{dot}{option}"] = shlex.join(words)
    return rows


def _aligned(rows: Mapping[str, str]) -> list[str]:
    width = max(map(len, rows))
    return [f"  {name:<{width}}  {value}" for name, value in rows.items()]
