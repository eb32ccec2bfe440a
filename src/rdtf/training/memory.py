"""Out of memory: which device, at which step, and what to lower, instead of a page of traceback."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator

import torch
import torch.distributed as dist

from rdtf.errors import UserError
from rdtf.fileio import size_text
from rdtf.training.config import TrainConfig
from rdtf.training.device import resolve_precision

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
            f"engine.micro_batch_size={clips // 2} (now {clips}; the result stays the same)"
        )
    if not engine.gradient_checkpointing:
        advice.append("engine.gradient_checkpointing=true (now false; slower)")
    full = resolve_precision(engine.precision, device) == "fp32"
    if full and resolve_precision("auto", device) == "bf16":
        advice.append("engine.precision=bf16 (now fp32)")
    if (
        device.type != "cpu"
        and not engine.offload_ema
        and (engine.parallel == "ddp" or world_size == 1)
    ):
        advice.append("engine.offload_ema=true (now false)")
    if world_size > 1 and engine.parallel == "ddp":
        advice.append("engine.parallel=fsdp (now ddp)")
    return [
        *advice,
        f"in another run max_frames (now {config.max_frames}) or canvas (now {config.canvas})",
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
