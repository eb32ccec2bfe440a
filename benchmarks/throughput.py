"""Training throughput of the DFGN against a U-Net of equal size: clips per second, side by side.

`python -m benchmarks throughput --presets nano mini --precisions fp32 bf16 --layers 2 1 --runs 9`
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import Table, has_bf16, ratio_text, say, side_by_side
from benchmarks.rivals import (
    count,
    our_denoiser,
    our_pass,
    preset_latents,
    their_pass,
    their_unet,
    training_step,
)
from rdtf.training.device import autocast, default_device
from rdtf.training.distributed import compile_blocks


@dataclass(frozen=True)
class Throughput:
    """Forward, backward and fused AdamW on latents 16×16×8, in turns; medians count."""

    presets: tuple[str, ...] = ("nano", "mini")
    """Sizes to compare at."""
    precisions: tuple[str, ...] = ("fp32", "bf16")
    """fp32, bf16 (autocast); bf16 is left out where the hardware would emulate it."""
    batch: int = 2
    """Clips per step."""
    runs: int = 3
    """Rounds that count, after one to warm up."""
    layers: tuple[int, ...] = (2,)
    """U-Nets to compare with: layers per level (diffusers' default is 2)."""
    compile: bool = False
    """Compile our blocks (minutes on a CPU)."""

    def run(self) -> Table:
        rows: list[list[str]] = []
        values: dict[str, Any] = {}
        device = default_device()
        measured = [p for p in self.precisions if p != "bf16" or has_bf16(device)]
        left_out = () if len(measured) == len(self.precisions) else (
            "bf16 is left out: this processor would emulate it.",
        )  # fmt: skip
        for name in self.presets:
            for precision in measured:
                say(f"training {name} in {precision}")
                values[f"{name} {precision}"] = self._compare(name, precision, rows)
        return Table(
            f"Training throughput, latents 16×16×8, {self.batch} clips a step, "
            f"median of {self.runs} rounds",
            ("preset", "precision", "network", "parameters", "GFLOP/clip", "ms/step", "clips/s",
             "rdtf is faster by"),
            rows,
            values,
            ("GFLOP of one forward pass. Range over the rounds in brackets.", *left_out),
        )  # fmt: skip

    def _compare(self, name: str, precision: str, rows: list[list[str]]) -> dict[str, Any]:
        device = default_device()
        latents = preset_latents(name, self.batch)
        torch.manual_seed(0)
        ours = our_denoiser(name, latents).to(device)
        networks: dict[str, Any] = {"rdtf": (ours, our_pass(ours, latents, device))}
        for layers in self.layers:
            unet = their_unet(count(ours), latents, layers).to(device)
            label = f"UNet3D, {layers} a level"
            networks[label] = (unet, their_pass(unet, latents, device))
        if self.compile:
            compile_blocks(ours, "on", device)
        flops = {label: _flops(forward) / self.batch for label, (_, forward) in networks.items()}
        steps = {
            label: training_step(model, forward, autocast(precision, device))
            for label, (model, forward) in networks.items()
        }
        seconds = side_by_side(steps, self.runs, device)
        values = {}
        for label, (model, _) in networks.items():
            median = statistics.median(seconds[label])
            ratio, text = ratio_text(seconds["rdtf"], seconds[label])
            values[label] = {
                "parameters": count(model),
                "gflop_per_clip": flops[label] / 1e9,
                "seconds": seconds[label],
                "clips_per_second": self.batch / median,
                "ours_is_faster_by": ratio,
            }
            rows.append([
                name, precision, label, f"{count(model) / 1e6:.2f} M", f"{flops[label] / 1e9:.1f}",
                f"{1e3 * median:.0f}", f"{self.batch / median:.2f}",
                "" if label == "rdtf" else text,
            ])  # fmt: skip
        return values


def _flops(forward: Any) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        forward()
    return float(counter.get_total_flops())
