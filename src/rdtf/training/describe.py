"""What a run would be, before it is: settings, size, memory, time (`rdtf train … --dry-run`)."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rdtf.training.config import TrainConfig, override, to_dict
from rdtf.training.costs import (
    GPU_UTILISATION,
    MemoryEstimate,
    StepTime,
    activation_bytes,
    datasheet_peak,
    hardware_flops,
    memory_estimate,
    meta_denoiser,
    micro_batch_size,
    seconds_per_step_estimate,
    state_memory,
    training_flops,
)
from rdtf.training.device import default_device, resolve_precision
from rdtf.training.progress import bytes_text, eta_text

__all__ = ["describe_run", "meta_denoiser"]

_PARTS = {
    ".residual.": "residual blocks",
    ".temporal.": "spatio-temporal interaction",
    ".transformer.": "spatial and text attention",
    "composer.": "frame composer",
}
# What a card of 8 GB has left beside its context and a desktop, in bytes.
_SMALL_CARD = 7e9
# For people who plan on a CPU. However small the model, its kernels must be started one by one.
_GPUS = ("RTX 4090", "A100", "H100")
_SHORTEST_PASS_SECONDS = 0.03


@dataclass(frozen=True)
class _Data:
    """What a training set adds: how many clips, and how long they are for the model."""

    clips: int
    stills: int
    mean_flops: float


@dataclass(frozen=True)
class _Lean:
    """Settings with which a small card is enough, and the bytes that it takes then, at most."""

    settings: dict[str, Any]
    total: int


def describe_run(
    config: TrainConfig,
    data: Path | None = None,
    device: torch.device | None = None,
    world_size: int = 1,
) -> dict[str, Any]:
    """Size, cost and time of a run that is not started.

    Args:
        data: a training set; with it the time is that of its clips, else that of the longest.
        device: what to train on; default: the GPU if there is one.
        world_size: ranks that share each step.

    Returns:
        Values for JSON, sizes in bytes and times in seconds; `text` says the same for people.
    """
    device = device or default_device()
    precision = resolve_precision(config.engine.precision, device)
    micro_batch = micro_batch_size(config, world_size)
    parts = _parameters_by_part(config)
    flops = training_flops(config, config.max_frames)
    memory = memory_estimate(config, micro_batch, config.max_frames, world_size, precision)
    lean = None if memory.total <= _SMALL_CARD else _lean(config, world_size, precision)
    time = seconds_per_step_estimate(config, device, precision, world_size=world_size)
    known = None if data is None else _look_at(data, config)
    step_seconds = time.seconds * (1.0 if known is None else known.mean_flops / flops)
    values = {
        "config": to_dict(config),
        "parameters": sum(parts.values()),
        "parameters_by_part": dict(parts.most_common()),
        "training_flops_per_clip": flops,
        "hardware_flops_per_clip": hardware_flops(config, config.max_frames),
        "frames": config.max_frames,
        "precision": precision,
        "world_size": world_size,
        "micro_batch_size": micro_batch,
        "memory_bytes": _memory_values(memory),
        "lean": None if lean is None else dataclasses.asdict(lean),
        "steps": config.steps,
        "samples": config.steps * config.batch_size,
        "data": None if known is None else dataclasses.asdict(known),
        "seconds_per_step": step_seconds,
        "seconds": step_seconds * config.steps,
        "time_is_measured": time.measured,
        "time_source": time.how,
        "gpu_seconds": (
            _gpu_seconds(config, step_seconds / time.seconds) if device.type == "cpu" else {}
        ),
    }
    return {**values, "text": _text(config, values, memory, lean, time, known)}


def _parameters_by_part(config: TrainConfig) -> Counter[str]:
    parts: Counter[str] = Counter()
    for name, parameter in meta_denoiser(config).named_parameters():
        part = next((title for key, title in _PARTS.items() if key in name), "the rest")
        parts[part] += parameter.numel()
    return parts


def _lean(config: TrainConfig, world_size: int, precision: str) -> _Lean | None:
    """The largest micro-batch that a small card holds with every other saving; None if none."""
    settings: dict[str, Any] = {"engine.gradient_checkpointing": True}
    if config.engine.parallel == "ddp" or world_size == 1:
        settings["engine.offload_ema"] = True
    lean = override(config, settings)
    room = _SMALL_CARD - state_memory(lean, world_size).total
    if room <= 0:
        return None
    per_clip = activation_bytes(lean, 1, config.max_frames, precision)
    if per_clip > room:
        return None
    # Activations grow a little slower than the number of clips.
    clips = min(2 ** int(math.log2(room / per_clip)), micro_batch_size(config, world_size))
    total = state_memory(lean, world_size).total + clips * per_clip
    return _Lean({"engine.micro_batch_size": clips, **settings}, total)


def _memory_values(memory: MemoryEstimate) -> dict[str, int]:
    return {**dataclasses.asdict(memory), "total": memory.total}


def _look_at(data: Path, config: TrainConfig) -> _Data:
    """Clips of the training split, and the FLOPs of a mean sample."""
    from rdtf.data.dataset import PreparedDataset

    lengths = Counter(
        min(clip.num_frames, config.max_frames) for clip in PreparedDataset(data).clips("train")
    )
    stills = lengths.pop(1, 0)
    moving = sum(lengths.values())
    still_share = config.data.still_share if stills and moving else float(stills > 0)
    costs = {frames: training_flops(config, frames) for frames in lengths}
    moving_flops = sum(costs[frames] * n for frames, n in lengths.items()) / max(moving, 1)
    mean = still_share * training_flops(config, 1) + (1 - still_share) * moving_flops
    return _Data(clips=stills + moving, stills=stills, mean_flops=mean)


def _gpu_seconds(config: TrainConfig, length: float) -> dict[str, float]:
    """How long one GPU would take; `length` is that of the data's clips against the longest."""
    passes = math.ceil(config.batch_size / micro_batch_size(config))
    flops = hardware_flops(config, config.max_frames, config.batch_size) * length
    seconds = {}
    for name in _GPUS:
        peak = datasheet_peak(name, "bf16")
        assert peak is not None
        step = max(flops / (peak * GPU_UTILISATION), passes * _SHORTEST_PASS_SECONDS)
        seconds[name] = step * config.steps
    return seconds


# ------------------------------------------------------------------------ for people


def _text(
    config: TrainConfig,
    values: Mapping[str, Any],
    memory: MemoryEstimate,
    lean: _Lean | None,
    time: StepTime,
    data: _Data | None,
) -> str:
    sections = {
        "Settings (change any: --set name=value)": _settings(config),
        f"Parameters: {_millions(values['parameters'])}": _table(
            {part: _millions(count) for part, count in values["parameters_by_part"].items()}
        ),
        f"Compute per clip of {config.max_frames} frames": _compute(values),
        _memory_title(values, memory): [
            *_table(_memory_rows(memory)),
            _small_card(memory, lean),
        ],
        "Schedule": _schedule(config, values, time, data),
    }
    return "\n\n".join(
        "\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in sections.items()
    )


def _settings(config: TrainConfig) -> list[str]:
    """Every setting as `--set` takes it."""
    rows = dict(_dotted(to_dict(config)))
    width = max(map(len, rows))
    return [f"{name:<{width}}  {value}" for name, value in rows.items()]


def _dotted(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _dotted(value, f"{prefix}{name}.")
        elif isinstance(value, (tuple, list)):
            found.append((prefix + name, ",".join(map(str, value))))
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found.append((prefix + name, text))
    return found


def _table(rows: Mapping[str, str]) -> list[str]:
    """Names to the left, values to the right."""
    left, right = max(map(len, rows)), max(map(len, rows.values()))
    return [f"{name:<{left}}  {value:>{right}}" for name, value in rows.items()]


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M"


def _compute(values: Mapping[str, Any]) -> list[str]:
    model, device = values["training_flops_per_clip"], values["hardware_flops_per_clip"]
    rows = {"forward and backward": f"{model / 1e9:,.1f} GFLOP"}
    if device > model:
        rows["with recomputing (gradient checkpointing)"] = f"{device / 1e9:,.1f} GFLOP"
    return _table(rows)


def _memory_title(values: Mapping[str, Any], memory: MemoryEstimate) -> str:
    clips = values["micro_batch_size"]
    ranks = f" and each of {values['world_size']} ranks" if values["world_size"] > 1 else ""
    return (
        f"Memory for {clips} clip{'s' if clips > 1 else ''} at a time{ranks}, "
        f"{values['precision']}: {bytes_text(memory.total)}"
    )


def _memory_rows(memory: MemoryEstimate) -> dict[str, str]:
    titles = {
        "weights": "weights",
        "gradients": "gradients",
        "optimizer": "optimizer",
        "averages": "averages (EMA)",
        "gathered": "gathered blocks (FSDP)",
        "activations": "activations",
    }
    sizes = dataclasses.asdict(memory)
    return {title: bytes_text(sizes[name]) for name, title in titles.items() if sizes[name]}


def _small_card(memory: MemoryEstimate, lean: _Lean | None) -> str:
    """Whether an 8 GB card is enough, and what to lower for it."""
    if memory.total <= _SMALL_CARD:
        return "A card of 8 GB is enough."
    if lean is None:
        return (
            "Too much for a card of 8 GB, whatever is lowered: take a larger one, or several with "
            "engine.parallel=fsdp."
        )
    settings = " ".join(f"{name}={str(value).lower()}" for name, value in lean.settings.items())
    return f"For a card of 8 GB: {bytes_text(lean.total)} with --set {settings}"


def _schedule(
    config: TrainConfig, values: Mapping[str, Any], time: StepTime, data: _Data | None
) -> list[str]:
    rows = {
        "steps": f"{config.steps:,}",
        "samples": f"{values['samples']:,} ({config.batch_size} a step)",
    }
    lengths = f"every clip taken as {config.max_frames} frames long"
    if data is not None:
        passes = values["samples"] / max(data.clips, 1)
        rows["data"] = f"{data.clips:,} clips, {data.stills:,} of them stills; {passes:.3g} passes"
        lengths = "clips as long as in the data"
    seconds = values["seconds_per_step"]
    rows["time per step"] = f"{seconds:.2g} s" if seconds < 10 else eta_text(seconds)
    rows["time in all"] = eta_text(values["seconds"])
    for name, gpu_seconds in values["gpu_seconds"].items():
        rows[f"on {name}"] = eta_text(gpu_seconds)
    width = max(map(len, rows))
    lines = [f"{name:<{width}}  {value}" for name, value in rows.items()]
    lines.append(f"Time {time.how}; {lengths}; without data loading and validation.")
    if values["gpu_seconds"]:
        lines.append(
            f"On a GPU: {GPU_UTILISATION:.0%} of its bf16 peak, if memory allows, and at least "
            f"{_SHORTEST_PASS_SECONDS * 1000:.0f} ms per pass."
        )
    return lines
