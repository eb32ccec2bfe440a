"""Sampling throughput: one denoising step of the DFGN against a U-Net of equal size.

`python -m benchmarks sampling --presets nano mini`
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.common import Table, ratio_text, refuse_emulation, say, side_by_side
from benchmarks.rivals import (
    count,
    our_denoiser,
    our_pass,
    preset_latents,
    their_pass,
    their_unet,
)
from rdtf.training.device import autocast, default_device


@dataclass(frozen=True)
class Sampling:
    """One forward pass without gradients on latents 16×16×8, in turns; medians count."""

    presets: tuple[str, ...] = ("nano", "mini")
    """Sizes to compare at."""
    precision: str = "fp32"
    """fp32 or bf16 (autocast, where the hardware has it)."""
    batch: int = 1
    """Clips at once."""
    runs: int = 5
    """Rounds that count, after one to warm up."""
    num_inference_steps: int = 4
    """How many denoising steps a clip is reckoned to take, without guidance."""

    def run(self) -> Table:
        device = default_device()
        refuse_emulation(self.precision, device)
        rows, values = [], {}
        for name in self.presets:
            say(f"sampling with {name}")
            latents = preset_latents(name, self.batch)
            ours = our_denoiser(name, latents).to(device).eval()
            unet = their_unet(count(ours), latents, 2).to(device).eval()
            passes: dict[str, Any] = {
                "rdtf": our_pass(ours, latents, device),
                "UNet3D": their_pass(unet, latents, device),
            }
            with torch.no_grad(), autocast(self.precision, device):
                seconds = side_by_side(passes, self.runs, device)
            ratio, text = ratio_text(seconds["rdtf"], seconds["UNet3D"])
            for label in passes:
                median = statistics.median(seconds[label])
                clips = self.batch / (median * self.num_inference_steps)
                rows.append([
                    name, label, f"{1e3 * median:.0f}", f"{clips:.2f}",
                    "" if label == "rdtf" else text,
                ])  # fmt: skip
            values[name] = {"seconds": seconds, "ours_is_faster_by": ratio}
        return Table(
            f"Sampling, latents 16×16×8, {self.batch} clip(s) at once, {self.precision}",
            ("preset", "network", "ms/step", f"clips/s at {self.num_inference_steps} steps",
             "rdtf is faster by"),
            rows,
            values,
        )  # fmt: skip
