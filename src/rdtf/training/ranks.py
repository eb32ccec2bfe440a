"""The processes of a run: who this one is, and what all of them must agree on.

`torchrun --nproc-per-node 4 -m rdtf.cli.main train …` starts one process per device and tells each
its place by the usual environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT); that
works over several machines too. Without it there is one process, and nothing here communicates.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

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
