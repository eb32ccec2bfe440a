"""Peak memory of training, each network in a process of its own.

`python -m benchmarks memory --presets nano mini`
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.common import Table, refuse_emulation, say
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
from rdtf.training.progress import process_peak_bytes


@dataclass(frozen=True)
class Memory:
    """Peak memory of two training steps on latents 16×16×8."""

    presets: tuple[str, ...] = ("nano", "mini")
    """Sizes to compare at."""
    precision: str = "fp32"
    """fp32 or bf16 (autocast, where the hardware has it)."""
    batch: int = 2
    """Clips per step."""

    def run(self) -> Table:
        refuse_emulation(self.precision, default_device())
        rows: list[list[str]] = []
        values: dict[str, Any] = {}
        for name in self.presets:
            measured = {}
            for network in ("rdtf", "rdtf, checkpointed", "UNet3D"):
                say(f"memory of {network} at {name}")
                measured[network] = _in_a_child(name, network, self.batch, self.precision)
            ours = measured["rdtf"]["training_bytes"]
            theirs = measured["UNet3D"]["training_bytes"]
            for network, one in measured.items():
                share = one["training_bytes"] / theirs
                rows.append([
                    name, network, f"{one['parameters'] / 1e6:.2f} M",
                    f"{one['training_bytes'] / 1e6:.0f} MB", f"{one['peak_bytes'] / 1e6:.0f} MB",
                    f"{share:.2f}",
                ])  # fmt: skip
            values[name] = {"networks": measured, "ours_to_theirs": ours / theirs}
        return Table(
            f"Peak memory of training, latents 16×16×8, {self.batch} clips a step, "
            f"{self.precision}",
            ("preset", "network", "parameters", "training", "process", "of the U-Net's"),
            rows,
            values,
            ("Training: weights, gradients, moments, activations. Process: all of it.",),
        )


def _in_a_child(name: str, network: str, batch: int, precision: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", name, network, str(batch), precision]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _measure(name: str, network: str, batch: int, precision: str) -> dict[str, float]:
    """In this process: what building and three steps add to its peak."""
    device = default_device()
    latents = preset_latents(name, batch)
    with torch.device("meta"):
        size = count(our_denoiser(name, latents))
    if network == "UNet3D":
        their_unet(size, latents, 2)  # the search for its width costs memory too
    before = _peak(device)
    if network == "UNet3D":
        model: Any = their_unet(size, latents, 2).to(device)
        forward = their_pass(model, latents, device)
    else:
        model = our_denoiser(name, latents).to(device)
        if network != "rdtf":
            model.enable_gradient_checkpointing()
        forward = our_pass(model, latents, device)
    step = training_step(model.train(), forward, autocast(precision, device))
    for _ in range(2):  # in the second one, the optimizer has its moments
        step()
    peak = _peak(device)
    return {"parameters": count(model), "training_bytes": peak - before, "peak_bytes": peak}


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return process_peak_bytes()


if __name__ == "__main__":
    preset_name, which, clips, mode = sys.argv[1:]
    print(json.dumps(_measure(preset_name, which, int(clips), mode)))
