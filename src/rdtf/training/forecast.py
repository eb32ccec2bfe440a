"""What a run costs before it starts: parameters, FLOPs, one measured step (`--dry-run`)."""

from __future__ import annotations

import dataclasses
import functools
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
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
from rdtf.training.config import TrainConfig, to_dict
from rdtf.training.device import autocast, default_device, device_name, resolve_precision
from rdtf.training.ema import EMA
from rdtf.training.memory import is_out_of_memory, what_to_lower
from rdtf.training.optimizers import Optimizer
from rdtf.training.parallel import compile_blocks
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
    "composer.": "frame composer",
}
_CPU_FLOPS_LIMIT = 500e9  # of a clip; more would take a CPU minutes

# Dense peaks of data sheets in TFLOP/s: float32, TF32, bf16 with float32 sums. Cards without bf16
# units compute it as float32. More special names come first.
_PEAKS: tuple[tuple[str, tuple[float, float, float]], ...] = (
    (r"\bB200\b", (75.0, 1100.0, 2250.0)),
    (r"\bH100 NVL\b", (60.0, 417.5, 835.5)),
    (r"\bH100 PCIe\b", (51.2, 378.0, 756.5)),
    (r"\bG?H[12]00\b", (66.9, 494.7, 989.4)),
    (r"\bA100\b", (19.5, 156.0, 312.0)),
    (r"\bA10G\b", (35.0, 35.0, 70.0)),
    (r"\bA10\b", (31.2, 62.5, 125.0)),
    (r"\bL40S\b", (91.6, 183.0, 362.0)),
    (r"\bL4\b", (30.3, 60.0, 121.0)),
    (r"\bRTX 5090\b", (104.8, 104.8, 209.5)),
    (r"\bRTX 4090\b", (82.6, 82.6, 165.2)),
    (r"\bRTX 3090 Ti\b", (40.0, 40.0, 80.0)),
    (r"\bRTX 3090\b", (35.6, 35.6, 71.0)),
    (r"\bV100\b", (15.7, 15.7, 15.7)),
    (r"\bT4\b", (8.1, 8.1, 8.1)),
)


# ------------------------------------------------------------------------ model and inputs


def meta_denoiser(config: TrainConfig) -> DFGN:
    """The denoiser on the meta device: its shape without its memory.

    Where the paper preset's public encoders are not named yet, the paper's widths stand in.
    """
    return _denoiser(config, "meta")


def _denoiser(config: TrainConfig, device: torch.device | str) -> DFGN:
    channels, down = PAPER_LATENT_CHANNELS, 8
    if config.representation.kind == "pixels" or config.representation.path:
        representation = as_representation(build_autoencoder(config))
        channels, down = representation.latent_channels, representation.downsampling
    widths = PAPER_TEXT_WIDTHS
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


# ------------------------------------------------------------------------ FLOPs


def forward_flops(config: TrainConfig, frames: int, batch: int = 1) -> int:
    """Floating-point operations of one forward pass over `batch` clips of `frames` frames.

    Multiplications and additions of convolutions, matrix products and attention, captions at full
    length. The first call for a config takes a second or two; layers work per clip, per frame or on
    pairs of frames, so three counts give all lengths.
    """
    fixed = TrainConfig()  # settings without influence on the model, so that cached counts are hit
    shape = dataclasses.replace(
        config, seed=0, steps=1, batch_size=1, data=fixed.data, curriculum=fixed.curriculum,
        optimizer=fixed.optimizer, engine=fixed.engine,
    )  # fmt: skip
    one, two, three = _flops_of_three_lengths(shape)
    bend = (one - 2 * two + three) // 2
    slope = two - one - 3 * bend
    return batch * (one - slope - bend + slope * frames + bend * frames**2)


def training_flops(config: TrainConfig, frames: int, batch: int = 1) -> int:
    """The forward pass and twice as much for the backward pass, without recomputation."""
    return 3 * forward_flops(config, frames, batch)


@functools.lru_cache(maxsize=16)
def _flops_of_three_lengths(config: TrainConfig) -> tuple[int, int, int]:
    model = meta_denoiser(config)

    def count(frames: int) -> int:
        counter = FlopCounterMode(display=False)
        # Fused attention has no operations that the counter knows on every device; this form has.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            model(*_inputs(model, config, frames, 1, "meta"))
        return counter.get_total_flops()

    return count(1), count(2), count(3)


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Dense FLOP/s of a GPU by its data sheet; None for a CPU or a GPU that is not in the table.

    Args:
        precision: "bf16" or "fp32"; fp32 means TF32 where torch was told to use it.
    """
    if device.type != "cuda":
        return None
    if precision == "fp32" and torch.get_float32_matmul_precision() != "highest":
        precision = "tf32"
    return datasheet_peak(torch.cuda.get_device_name(device), precision)


def datasheet_peak(name: str, precision: str) -> float | None:
    """Dense FLOP/s of a GPU by the name that its driver gives; None if it is not in the table."""
    for pattern, peaks in _PEAKS:
        if re.search(pattern, name):
            return peaks[("fp32", "tf32", "bf16").index(precision)] * 1e12
    return None


# ------------------------------------------------------------------------ one step


@dataclass(frozen=True)
class MeasuredStep:
    """One optimizer step on one device.

    clips: how many one forward pass took; seconds: of a step over a whole batch of the longest
    clips, without data loading; memory_bytes: peak of tensors on a GPU, of the process on a CPU.
    """

    device: str
    clips: int
    seconds: float
    memory_bytes: int


def measure_step(config: TrainConfig, device: torch.device) -> MeasuredStep:
    """Run forward and backward pass, optimizer and averages on random clips.

    A GPU takes a whole micro-batch, a CPU one clip. torch's random state is left as it was.
    """
    clips = config.engine.micro_batch_size or config.batch_size
    clips = 1 if device.type == "cpu" else min(clips, config.batch_size)
    precision = resolve_precision(config.engine.precision, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        model = _denoiser(config, device).train()
        inputs = _inputs(model, config, config.max_frames, clips, device)
    if config.engine.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    compile_blocks(model, config.engine.compile, device)
    optimizer = Optimizer(model, config.optimizer)
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
    return MeasuredStep(device_name(device), clips, seconds, memory_in_use(device))


def _seconds(run: Any, device: torch.device) -> float:
    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    synchronize()
    started = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - started


def _try_step(config: TrainConfig, device: torch.device) -> tuple[MeasuredStep | None, str]:
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
        data: a training set; with it the time is that of its clips, else that of the longest.
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
    known = None if data is None else _clip_statistics(data, config)
    seconds = None if step is None else step.seconds * (known["mean_flops"] / flops if known else 1)
    values = {
        "config": to_dict(config),
        "parameters": parameters,
        "parameters_by_part": dict(parts.most_common()),
        "training_flops_per_clip": flops,
        "training_flops_per_step": flops * config.batch_size,
        "frames": config.max_frames,
        "precision": resolve_precision(config.engine.precision, device),
        "state_bytes": 4 * parameters * (4 + len(config.optimizer.ema_decays)),
        "measured": None if step is None else dataclasses.asdict(step),
        "problem": problem,
        "steps": config.steps,
        "samples": config.steps * config.batch_size,
        "data": known,
        "seconds_per_step": seconds,
        "seconds": None if seconds is None else seconds * config.steps,
    }
    return {**values, "text": _text(config, values)}


def _parameters_by_part(config: TrainConfig) -> Counter[str]:
    parts: Counter[str] = Counter()
    for name, parameter in meta_denoiser(config).named_parameters():
        part = next((title for key, title in _PARTS.items() if key in name), "the rest")
        parts[part] += parameter.numel()
    return parts


def _clip_statistics(data: Path, config: TrainConfig) -> dict[str, float]:
    """Clips and stills of the training split, and the training FLOPs of a mean sample."""
    from rdtf.data.dataset import PreparedDataset

    lengths = Counter(
        min(clip.num_frames, config.max_frames) for clip in PreparedDataset(data).clips("train")
    )
    stills = lengths.pop(1, 0)
    moving = sum(lengths.values())
    still_share = config.data.still_share if stills and moving else float(stills > 0)
    total = sum(training_flops(config, frames) * n for frames, n in lengths.items())
    mean = still_share * training_flops(config, 1) + (1 - still_share) * total / max(moving, 1)
    return {"clips": stills + moving, "stills": stills, "mean_flops": mean}


def _text(config: TrainConfig, values: Mapping[str, Any]) -> str:
    copies = len(config.optimizer.ema_decays)
    parts = values["parameters_by_part"]
    sections = {
        "Settings (change any: --set name=value)": _aligned(dict(_settings(to_dict(config)))),
        f"Parameters: {_millions(values['parameters'])}": _aligned(
            {part: _millions(count) for part, count in parts.items()}
        ),
        f"Compute, clips of {config.max_frames} frames": _aligned({
            "FLOPs per clip": f"{values['training_flops_per_clip'] / 1e9:,.1f} GFLOP",
            "FLOPs per step": f"{values['training_flops_per_step'] / 1e9:,.1f} GFLOP",
        }),
        f"Memory, {values['precision']}": _aligned({
            "weights, gradients, optimizer, "
            f"{copies} average{'s' * (copies > 1)}": size_text(values["state_bytes"]),
            **_measured_memory(values),
        }),
        "Schedule": _schedule(config, values),
    }  # fmt: skip
    return "\n\n".join(
        "\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in sections.items()
    )


def _measured_memory(values: Mapping[str, Any]) -> dict[str, str]:
    step = values["measured"]
    if step is None:
        return {"one step": values["problem"]}
    clips = f"{step['clips']} clip{'s' * (step['clips'] > 1)} at a time"
    return {f"peak of one step, {clips} (measured)": size_text(step["memory_bytes"])}


def _schedule(config: TrainConfig, values: Mapping[str, Any]) -> list[str]:
    data, seconds, step = values["data"], values["seconds_per_step"], values["measured"]
    rows = {
        "steps": f"{config.steps:,}",
        "samples": f"{values['samples']:,} ({config.batch_size} a step)",
    }
    if data is not None:
        passes = values["samples"] / max(data["clips"], 1)
        rows["data"] = f"{data['clips']:,} clips, {data['stills']:,} stills; {passes:.3g} passes"
    if step is None:
        return _aligned({**rows, "time": values["problem"]})
    rows["time per step"] = f"{seconds:.2g} s" if seconds < 10 else eta_text(seconds)
    rows["time in all"] = eta_text(values["seconds"])
    lengths = f"all clips {config.max_frames} frames long" if data is None else "lengths as in data"
    note = f"Measured on {step['device']}; {lengths}; without data loading and validation."
    return [*_aligned(rows), note]


def _settings(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Every setting with its dotted name, as `--set` takes it."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _settings(value, f"{prefix}{name}.")
        elif isinstance(value, (tuple, list)):
            found.append((prefix + name, ",".join(map(str, value))))
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found.append((prefix + name, text))
    return found


def _aligned(rows: Mapping[str, str]) -> list[str]:
    width = max(map(len, rows))
    return [f"{name:<{width}}  {value}" for name, value in rows.items()]


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M"
