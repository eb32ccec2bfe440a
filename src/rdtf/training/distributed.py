"""The processes of a run, and one model on several of them: whole copies (DDP) or shards (FSDP2).

`torchrun --nproc-per-node 4 -m rdtf.cli.main train …` starts one process per device and tells each
its place by the usual environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT); that
works over several machines too. Without it there is one process, and nothing here communicates.

A sharded tensor is gathered before it is written and cut again after it was read, so checkpoints
know nothing of ranks: what four ranks saved, one or eight go on from.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from rdtf.models.dfgn import DFGN, Stage
from rdtf.training.device import default_device


@dataclass(frozen=True)
class Ranks:
    """This process's place and its device."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this is the one rank that writes files and speaks."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.world_size > 1

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds on any rank: the same answer on all."""
        if not self.several:
            return flag
        value = torch.tensor([int(flag)])
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return bool(value)

    def max(self, value: float) -> float:
        """The largest of all ranks' values: the same answer on all."""
        if not self.several:
            return value
        values = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return float(values)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over ranks, in place, on the device where `values` is; the host does not wait."""
        if self.several:
            dist.all_reduce(values)
        return values

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all ranks, rank by rank: CPU `[n, ...]` → `[world_size · n, ...]`."""
        if not self.several:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.world_size)]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    def wait(self) -> None:
        """Until every rank is here."""
        if self.several:
            dist.barrier()


@contextlib.contextmanager
def open_ranks(device: torch.device | None = None) -> Iterator[Ranks]:
    """Join the processes that torchrun started, or be alone.

    Tensors on GPUs travel by NCCL, what the hosts tell each other by gloo. Inside another
    `open_ranks` it gives the same ranks again.
    """
    device = device or default_device()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks(device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


# ----------------------------------------------------------- the model on them


# With and without gradients, padded frames, padded captions; and one of everything for sizes of 1.
_GRAPHS_PER_STAGE = 16


def parallelize(model: DFGN, ranks: Ranks, kind: str) -> nn.Module:
    """What to call for a training pass. Under "fsdp" the model's own parameters become shards."""
    if not ranks.several:
        return model
    if kind == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(ranks.device.type, (ranks.world_size,))
        for stage in model.modules():
            if isinstance(stage, Stage):
                fully_shard(stage, mesh=mesh)
        # Resharded at once: averages are swapped in between passes, in the shards.
        fully_shard(model, mesh=mesh, reshard_after_forward=True)
        return model
    return DistributedDataParallel(
        model,
        device_ids=[ranks.device.index] if ranks.device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )


def compile_blocks(
    model: nn.Module, choice: str, device: torch.device, backend: str | Callable[..., Any] = ""
) -> None:
    """Compile each stage of the denoiser by itself ("on", or "auto" on a GPU).

    They share one graph per width, so this takes seconds where the whole network takes minutes;
    sizes stay symbolic because clips and captions differ in length.

    Args:
        backend: torch's default if empty.
    """
    if choice == "off" or (choice == "auto" and device.type != "cuda"):
        return
    stages = [stage for stage in model.modules() if isinstance(stage, Stage)]
    _make_room_for_graphs(len(stages) * _GRAPHS_PER_STAGE)
    for stage in stages:
        stage.compile(dynamic=True, backend=backend or "inductor")


def _make_room_for_graphs(count: int) -> None:
    """All stages run the same code, whose graphs count against one limit; beyond, torch silently
    runs the rest uncompiled."""
    import torch._dynamo

    limits: Any = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, count)
    limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, count)


@contextlib.contextmanager
def last_of_step(model: nn.Module, is_last: bool) -> Iterator[None]:
    """Gradients cross between ranks in the last backward pass of a step only."""
    if isinstance(model, DistributedDataParallel) and not is_last:
        with model.no_sync():
            yield
        return
    if hasattr(model, "set_requires_gradient_sync"):
        model.set_requires_gradient_sync(is_last)  # type: ignore[operator]
    yield


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale all gradients to at most `max_norm` together; returns their norm before, a scalar.

    The host does not wait for it.
    """
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


# ------------------------------------------------------------------- sharded tensors


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this rank holds; shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """Whole tensors on the host of the main rank; empty on the others. All ranks must call."""
    whole = {}
    for name, tensor in tensors.items():
        full = tensor.detach()
        full = full.full_tensor() if isinstance(full, DTensor) else full
        if ranks.is_main:
            whole[name] = full.cpu()
    return whole


def shard_like(whole: Tensor, like: Tensor) -> Tensor:
    """`whole` as `like` is: on its device, and cut into the same shards."""
    if not isinstance(like, DTensor):
        return whole.to(like.device)
    whole = whole.to(like.device_mesh.device_type)
    return distribute_tensor(whole, like.device_mesh, like.placements)
