"""Which device to compute on, in which precision, and what to do when its memory is full."""

from __future__ import annotations

import contextlib
import errno
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from rdtf.errors import UserError
from rdtf.fileio import size_text

if TYPE_CHECKING:
    from rdtf.training.config import TrainConfig


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


# --------------------------------------------------------------- out of memory


# How allocators say it that raise a plain RuntimeError: torch's for the CPU, CUDA's own, MPS, C++,
# and oneDNN, which names only what it could not make (a missing one is a "primitive descriptor").
_SAYINGS = re.compile(
    r"DefaultCPUAllocator|out of memory|not enough memory|Cannot allocate memory|bad_alloc"
    r"|_STATUS_ALLOC_FAILED|could not (create|execute) a (memory|primitive)(?! descriptor)",
    re.IGNORECASE,
)
_ASKED = re.compile(r"tried to allocate ([\d.]+) ?(\w+)", re.IGNORECASE)


@contextlib.contextmanager
def explain_out_of_memory(config: TrainConfig, step: int, device: torch.device) -> Iterator[None]:
    """Turn a failed allocation in the block into a `UserError` of one line; others pass.

    It says what to lower, what costs least first, and only what this run has not done yet.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory on {_device_text(device)} at step {step}{_wanted(error)}; change, in "
            f"this order: {', '.join(what_to_lower(config, device))}"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was short, on a GPU or on the host."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and bool(_SAYINGS.search(str(error)))


def what_to_lower(config: TrainConfig, device: torch.device) -> list[str]:
    """Settings that save memory, each with its present value; what costs least comes first."""
    engine = config.engine
    world_size = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    share = max(config.batch_size // world_size, 1)
    clips = min(engine.micro_batch_size or share, share)
    advice = []
    if clips > 1:
        advice.append(
            f"--engine.micro-batch-size {clips // 2} (now {clips}; the result stays the same)"
        )
    if not engine.gradient_checkpointing:
        advice.append("--engine.gradient-checkpointing (slower)")
    full = resolve_precision(engine.precision, device) == "fp32"
    if full and resolve_precision("auto", device) == "bf16":
        advice.append("--engine.precision bf16 (now fp32)")
    if (
        device.type != "cpu"
        and not engine.offload_ema
        and (engine.parallel == "ddp" or world_size == 1)
    ):
        advice.append("--engine.offload-ema")
    if world_size > 1 and engine.parallel == "ddp":
        advice.append("--engine.parallel fsdp (now ddp)")
    return [
        *advice,
        f"in another run --max-frames (now {config.max_frames}) or --canvas (now {config.canvas})",
    ]


def _wanted(error: Exception) -> str:
    """How much the allocation that failed was for; if the error does not tell, what it says."""
    asked = _ASKED.search(str(error))
    if not asked:
        return f" ({str(error).splitlines()[0][:80]})" if str(error) else ""
    number, unit = asked[1], asked[2]
    size = size_text(float(number)) if unit.lower() == "bytes" else f"{number} {unit}"
    return f", which asked for {size} more"


def _device_text(device: torch.device) -> str:
    if device.type != "cuda" or not torch.cuda.is_available():
        return str(device)
    properties = torch.cuda.get_device_properties(device)
    return f"{device} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)"
