"""Which device to compute on, and in which precision."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path
from typing import Any

import torch

from rdtf.errors import ConfigError


def default_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """What computes, for people who read numbers: the GPU, or the processor and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    units = torch.backends.cpu.get_cpu_capability()
    return f"{processor_name()}, {units}, {torch.get_num_threads()} threads"


def processor_name() -> str:
    """The processor's model, as the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` → bf16 where the hardware multiplies it natively, else fp32.

    A CPU without AVX512-BF16 or AMX emulates bf16, several times slower than fp32.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise ConfigError(f"precision {precision!r} is unknown; choose auto, bf16 or fp32")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = [
        getattr(torch.cpu, name)
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        if hasattr(torch.cpu, name)
    ]
    return "bf16" if any(check() for check in native) else "fp32"


def settle_kernels(deterministic: bool) -> None:
    """Choose between kernels that repeat, where torch has them, and those that are fastest.

    On a CPU all repeat bit for bit in any case. On a GPU `deterministic` takes cuDNN's and torch's
    deterministic kernels and no TF32; but the backward passes of attention and of `grid_sample`
    add in any order whatever is chosen, so that training there repeats nearly, not exactly.

    Never cuDNN's benchmark: clips differ in length, and it would try all algorithms again for each
    number of frames that comes along.
    """
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = not deterministic


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Mixed precision for the forward pass; weights and optimizer stay float32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
