"""What a training run costs: operations, memory and time, most of it without running anything.

A model whose tensors have shapes but no contents goes through the real forward and backward pass,
and its operations and bytes are counted. So the numbers follow every setting of a config.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import time
import warnings
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from rdtf.models.dfgn import DFGN, Stage
from rdtf.models.representation import as_representation
from rdtf.models.text import TextEncoders
from rdtf.training.config import TrainConfig
from rdtf.training.device import autocast
from rdtf.training.optimizers import flat_views
from rdtf.training.presets import (
    PAPER_LATENT_CHANNELS,
    PAPER_TEXT_WIDTHS,
    build_autoencoder,
    build_denoiser,
)

_FLOAT32 = 4  # bytes

# ------------------------------------------------------------------------ the model


def meta_denoiser(config: TrainConfig) -> DFGN:
    """The denoiser on the meta device: its shape without its memory.

    Where the paper preset's public encoders are not named yet, the paper's widths stand in.
    """
    return _denoiser(config, "meta")


def _denoiser(config: TrainConfig, device: torch.device | str) -> DFGN:
    sizes = _sizes(config)
    with torch.device(device):
        return build_denoiser(config, **sizes)


def _sizes(config: TrainConfig) -> dict[str, Any]:
    """What the denoiser must know about latents and text states."""
    if config.representation.kind == "pixels" or config.representation.path:
        representation = as_representation(build_autoencoder(config))
        channels, down = representation.latent_channels, representation.downsampling
    else:
        channels, down = PAPER_LATENT_CHANNELS, 8
    widths = PAPER_TEXT_WIDTHS
    if all(config.text.encoders):
        widths = TextEncoders(config.text.encoders, config.text.max_tokens).widths
    return {"latent_channels": channels, "downsampling": down, "text_widths": widths}


def _inputs(
    model: DFGN, config: TrainConfig, frames: int, batch: int, device: torch.device | str
) -> dict[str, Any]:
    """Arguments of the denoiser for clips of `frames` frames, the first one given."""
    sizes = model.config_
    shape = (batch, model.state_channels, frames, sizes.latent_size, sizes.latent_size)
    tokens = (batch, config.text.max_tokens)
    with torch.device(device):
        return {
            "noisy": torch.randn(shape),
            "level": torch.rand(batch),
            "clean": torch.randn(shape),
            "given": torch.arange(frames).expand(batch, -1) < 1,
            "valid": torch.ones(batch, frames, dtype=torch.bool),
            "text": [torch.randn(*tokens, width) for width in sizes.text_widths],
            "text_mask": [torch.ones(tokens, dtype=torch.bool) for _ in sizes.text_widths],
        }


# ------------------------------------------------------------------------ operations


def forward_flops(config: TrainConfig, frames: int, batch: int = 1) -> int:
    """Floating-point operations of one forward pass over `batch` clips of `frames` frames.

    Multiplications and additions of convolutions, matrix products and attention count, and nothing
    else, as is usual. Captions count at their full length. The first call for a config takes a
    second or two, later ones nothing: layers work per clip, per frame or on pairs of frames, so
    three counts settle all lengths.
    """
    one, two, three = _flops_of_three_lengths(_shape_only(config))
    bend = (one - 2 * two + three) // 2
    slope = two - one - 3 * bend
    return batch * (one - slope - bend + slope * frames + bend * frames**2)


def training_flops(config: TrainConfig, frames: int, batch: int = 1) -> int:
    """The forward pass and twice as much for the backward pass: what MFU is about."""
    return 3 * forward_flops(config, frames, batch)


def hardware_flops(config: TrainConfig, frames: int, batch: int = 1) -> int:
    """`training_flops` and, with gradient checkpointing, one more forward pass."""
    passes = 4 if config.engine.gradient_checkpointing else 3
    return passes * forward_flops(config, frames, batch)


def mfu(flops: float, seconds: float, peak: float) -> float:
    """Model FLOPs utilisation, 0 to 1: what the model needed over what the device could do."""
    return flops / (seconds * peak) if seconds > 0 and peak > 0 else 0.0


@functools.lru_cache(maxsize=16)
def _flops_of_three_lengths(config: TrainConfig) -> tuple[int, int, int]:
    model = meta_denoiser(config)
    return _count(model, config, 1), _count(model, config, 2), _count(model, config, 3)


def _shape_only(config: TrainConfig) -> TrainConfig:
    """`config` with fixed values for what does not shape the model, so that caches meet."""
    fixed = TrainConfig()
    return dataclasses.replace(
        config,
        seed=0,
        steps=1,
        batch_size=1,
        data=fixed.data,
        curriculum=fixed.curriculum,
        optimizer=fixed.optimizer,
        engine=fixed.engine,
    )


def _count(model: DFGN, config: TrainConfig, frames: int) -> int:
    counter = FlopCounterMode(display=False)
    # Fused attention has no operations that the counter knows on every device; this form has.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(**_inputs(model, config, frames, 1, "meta"))
    return counter.get_total_flops()


# ------------------------------------------------------------------------ memory


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one device while it trains.

    weights: float32. gradients: float32, in DDP's buckets on several ranks. optimizer: AdamW's
    two moments, or Muon's one. averages: one copy per decay, unless they stay on the host.
    gathered: whole blocks that FSDP holds for a moment. activations: the most that lives at once in
    a forward and backward pass beside all that, without compiled blocks.
    """

    weights: int
    gradients: int
    optimizer: int
    averages: int
    gathered: int
    activations: int

    @property
    def total(self) -> int:
        """Everything together; the device's own context (about half a GB) comes on top."""
        return sum(dataclasses.astuple(self))

    @property
    def state(self) -> int:
        """What does not depend on clips: all but the activations."""
        return self.total - self.activations


def micro_batch_size(config: TrainConfig, world_size: int = 1) -> int:
    """Clips of the largest forward pass on a rank."""
    share = math.ceil(config.batch_size / world_size)
    return min(config.engine.micro_batch_size or share, share)


def memory_estimate(
    config: TrainConfig,
    micro_batch: int,
    frames: int,
    world_size: int = 1,
    precision: str = "fp32",
) -> MemoryEstimate:
    """Memory of one rank that trains on `micro_batch` clips of `frames` frames at a time.

    Args:
        precision: "fp32" or "bf16" (as `resolve_precision` gives).
    """
    return dataclasses.replace(
        state_memory(config, world_size),
        activations=activation_bytes(config, micro_batch, frames, precision),
    )


def state_memory(config: TrainConfig, world_size: int = 1) -> MemoryEstimate:
    """`memory_estimate` without activations: quick."""
    model = meta_denoiser(config)
    sharded = config.engine.parallel == "fsdp" and world_size > 1
    ranks = world_size if sharded else 1
    parameters = _numel(model.parameters())
    muon = 0
    if config.optimizer.name == "muon":
        muon = _numel(flat_views(dict(model.named_parameters())).values())
    copies = 0 if config.engine.offload_ema else len(config.optimizer.ema_decays)
    return MemoryEstimate(
        weights=_FLOAT32 * parameters // ranks,
        gradients=_FLOAT32 * parameters // ranks,
        optimizer=_FLOAT32 * (2 * parameters - muon) // ranks,
        averages=_FLOAT32 * parameters * copies // ranks,
        gathered=_FLOAT32 * _gathered_numel(model) if sharded else 0,
        activations=0,
    )


def _numel(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _gathered_numel(model: DFGN) -> int:
    """Parameters outside of blocks, and the two largest blocks: one at work, one on its way."""
    blocks = sorted(_numel(m.parameters()) for m in model.modules() if isinstance(m, Stage))
    return _numel(model.parameters()) - sum(blocks) + sum(blocks[-2:])


def activation_bytes(config: TrainConfig, micro_batch: int, frames: int, precision: str) -> int:
    """The most bytes that a forward and a backward pass hold at once, beside weights and gradients.

    Counted over tensors without contents on a pretended CPU; what recomputing with gradient
    checkpointing holds is in it, and in bf16 the copies of the weights.
    """
    checkpointing = config.engine.gradient_checkpointing
    return _activation_bytes(_shape_only(config), micro_batch, frames, precision, checkpointing)


@functools.lru_cache(maxsize=64)
def _activation_bytes(
    config: TrainConfig, micro_batch: int, frames: int, precision: str, checkpointing: bool
) -> int:
    sizes = _sizes(config)
    device = torch.device("cpu")
    with FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with device:
            model = build_denoiser(config, **sizes).train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        inputs = _inputs(model, config, frames, micro_batch, device)
        # As in every micro-batch but the first: gradients are there and are added to.
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        gradients = [parameter.grad for parameter in model.parameters()]
        with _LiveBytes([*model.parameters(), *model.buffers(), *gradients]) as live:
            live.add(inputs)
            with autocast(precision, device):
                loss = model(**inputs).float().square().sum()
            loss.backward()
    return live.peak


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make, as long as they live."""

    def __init__(self, ignored: Iterable[Any]) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._bytes: dict[int, int] = {}
        for storage in _storages(ignored):
            self._bytes[storage._cdata] = 0

    def add(self, values: Any) -> None:
        for storage in _storages(values):
            key = storage._cdata
            if key not in self._bytes:
                self._bytes[key] = storage.nbytes()
                self._now += self._bytes[key]
                weakref.finalize(storage, self._drop, key)
        self.peak = max(self.peak, self._now)

    def _drop(self, key: int) -> None:
        self._now -= self._bytes.pop(key)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        self.add(out)
        return out


def _storages(values: Any) -> list[Any]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


# ------------------------------------------------------------------------ speed

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
_PRECISIONS = ("fp32", "tf32", "bf16")


def peak_flops(device: torch.device, precision: str) -> float:
    """Dense FLOP/s that the device can reach: from its data sheet, or else measured once.

    Args:
        precision: "bf16", "tf32" or "fp32"; fp32 means TF32 where torch was told to use it.
    """
    if device.type == "cuda":
        if precision == "fp32" and torch.get_float32_matmul_precision() != "highest":
            precision = "tf32"
        peak = datasheet_peak(torch.cuda.get_device_name(device), precision)
        if peak is not None:
            return peak
    return _measured_peak(str(device), precision)


def datasheet_peak(name: str, precision: str) -> float | None:
    """Dense FLOP/s of a GPU by the name that its driver gives; None if it is not in the table."""
    for pattern, peaks in _PEAKS:
        if re.search(pattern, name):
            return peaks[_PRECISIONS.index(precision)] * 1e12
    return None


@functools.lru_cache(maxsize=8)
def _measured_peak(device: str, precision: str, budget_seconds: float = 0.3) -> float:
    """The best of several matrix products."""
    side = 4096 if device.startswith("cuda") else 1024
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left = torch.ones(side, side, dtype=dtype, device=device)

    def product() -> None:
        torch.mm(left, left)
        _synchronize(left.device)

    fastest, started = _seconds(product), time.perf_counter()
    while time.perf_counter() - started + fastest < budget_seconds:
        fastest = min(fastest, _seconds(product))
    return 2 * side**3 / fastest


def _seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class StepTime:
    """Expected seconds of an optimizer step over clips of one length, and where they come from."""

    seconds: float
    measured: bool
    how: str


# Shares of the peak that training usually reaches; small models reach less.
GPU_UTILISATION = 0.3
_CPU_UTILISATION = 0.4


def seconds_per_step_estimate(
    config: TrainConfig,
    device: torch.device,
    precision: str,
    *,
    world_size: int = 1,
    frames: int | None = None,
    limit_seconds: float = 8.0,
) -> StepTime:
    """Time of a step over clips of `frames` frames (default: the longest), data loading apart.

    Measured with two passes of the real denoiser where that fits into `limit_seconds` and into
    memory: over one clip on a CPU, over a whole micro-batch on a GPU, which one clip does not fill.
    Else FLOPs over a usual share of the peak.
    """
    frames = frames or config.max_frames
    per_rank = math.ceil(config.batch_size / world_size)
    batch = micro_batch_size(config, world_size) if device.type == "cuda" else 1
    peak = peak_flops(device, precision)
    share = _CPU_UTILISATION if device.type == "cpu" else GPU_UTILISATION
    clip_seconds = hardware_flops(config, frames) / (peak * share)
    if 2 * batch * clip_seconds < limit_seconds and _has_room(config, batch, frames, device):
        seconds = _measure(config, device, precision, frames, batch)
        clips = "one clip" if batch == 1 else f"{batch} clips"
        how = f"measured: forward and backward pass of {clips} on this {_kind(device)}"
        return StepTime(seconds / batch * per_rank, True, how)
    how = f"reckoned: {share:.0%} of {peak / 1e12:.3g} TFLOP/s of this {_kind(device)}"
    return StepTime(clip_seconds * per_rank, False, how)


def _kind(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def _has_room(config: TrainConfig, batch: int, frames: int, device: torch.device) -> bool:
    """Whether a GPU has memory for the passes; a CPU measures so little that it always has."""
    if device.type != "cuda":
        return True
    needed = state_memory(config).weights * 2 + activation_bytes(config, batch, frames, "fp32")
    return needed < 0.8 * torch.cuda.mem_get_info(device)[0]


def _measure(
    config: TrainConfig, device: torch.device, precision: str, frames: int, batch: int
) -> float:
    """Seconds of the faster of two forward and backward passes."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        model = _denoiser(config, device).train()
        if config.engine.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        inputs = _inputs(model, config, frames, batch, device)

    def both_passes() -> None:
        with autocast(precision, device):
            loss = model(**inputs).float().square().sum()
        loss.backward()
        _synchronize(device)

    return min(_seconds(both_passes), _seconds(both_passes))
