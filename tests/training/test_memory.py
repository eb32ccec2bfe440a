"""When memory is short, the run says on what, when, and what to change."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from fixtures_runs import tiny_arguments, tiny_config
from rdtf.errors import UserError
from rdtf.training.device import explain_out_of_memory, is_out_of_memory, what_to_lower

CPU = torch.device("cpu")
CUDA_TEXT = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 7.8 GiB"


def explained(error: BaseException, **settings: object) -> str:
    """What the user is told when `error` comes up in a step."""
    with (
        pytest.raises(UserError) as caught,
        explain_out_of_memory(tiny_config(**settings), 41, CPU),
    ):
        raise error
    assert "\n" not in str(caught.value) and caught.value.__cause__ is error
    return str(caught.value)


# ------------------------------------------------------------------------------ errors


def test_a_gpu_is_full():
    told = explained(torch.OutOfMemoryError(CUDA_TEXT), batch_size=16)
    assert told.startswith("out of memory on cpu at step 41, which asked for 2.50 GiB more; ")
    assert "--engine.micro-batch-size 8 (now 16; the result stays the same)" in told


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.9 GB)"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not execute a primitive"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:40],
)
def test_all_the_ways_of_saying_it(error):
    assert is_out_of_memory(error)
    assert "out of memory on cpu at step 41" in explained(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        RuntimeError("could not create a primitive descriptor for a matmul primitive"),
        ValueError("out of memory"),
        OSError(errno.ENOSPC, "No space left on device"),
        UserError("loss is nan"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_pass(error):
    with (
        pytest.raises(type(error)) as caught,
        explain_out_of_memory(tiny_config(), 0, CPU),
    ):
        raise error
    assert caught.value is error


# ------------------------------------------------------------------------------ advice


def names(advice: list[str]) -> list[str]:
    """The options, without their values."""
    return [re.split(r" (?:\d|fsdp|\()", text)[0] for text in advice]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"batch_size": 8}, ["--engine.micro-batch-size", "--engine.gradient-checkpointing"]),
        ({"batch_size": 8, "micro_batch_size": 1}, ["--engine.gradient-checkpointing"]),
        ({"batch_size": 1}, ["--engine.gradient-checkpointing"]),
        ({"batch_size": 2, "gradient_checkpointing": True}, ["--engine.micro-batch-size"]),
        ({"batch_size": 1, "gradient_checkpointing": True}, []),
    ],
)
def test_only_what_has_not_been_done(settings, expected):
    advice = what_to_lower(tiny_config(precision="bf16", **settings), CPU)
    assert names(advice) == [*expected, "in another run --max-frames"]
    assert advice[-1] == "in another run --max-frames (now 4) or --canvas (now 32)"


@pytest.mark.parametrize(
    ("micro_batch_size", "expected"), [(0, " 6 (now 12;"), (5, " 2 (now 5;"), (99, " 6 (now 12;")]
)
def test_half_of_what_it_is_now(micro_batch_size, expected):
    config = tiny_config(batch_size=12, micro_batch_size=micro_batch_size)
    assert f"--engine.micro-batch-size{expected}" in what_to_lower(config, CPU)[0]


@pytest.fixture
def two_ranks() -> Iterator[None]:
    """A process group of two whose other rank needs no process: nothing is sent."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


def test_on_several_gpus_in_order(two_ranks):
    gpu = torch.device("cuda", 0)
    config = tiny_config(batch_size=8, precision="bf16")
    advice = what_to_lower(config, gpu)
    assert names(advice) == [
        "--engine.micro-batch-size",
        "--engine.gradient-checkpointing",
        "--engine.offload-ema",
        "--engine.parallel",
        "in another run --max-frames",
    ]
    assert " 2 (now 4;" in advice[0]  # a rank's share is half of the batch
    sharded = what_to_lower(tiny_config(batch_size=8, precision="bf16", parallel="fsdp"), gpu)
    assert names(sharded) == [
        "--engine.micro-batch-size",
        "--engine.gradient-checkpointing",
        "in another run --max-frames",
    ]


# -------------------------------------------------------------------- memory that is short

_LIMIT = """
import os, resource, sys
def leave(megabytes):
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20,) * 2)
"""

# One process for all limits: the trainer is built once, and each step is made in a child of it.
_STEPS = (
    _LIMIT
    + """
import tempfile
from pathlib import Path
from fixtures_runs import tiny_config
from rdtf.errors import UserError
from rdtf.training.train import denoiser_trainer
from training.stores import MemoryStore

store = MemoryStore([4] * 96)
trainer = denoiser_trainer(tiny_config(batch_size=96), store, Path(tempfile.mkdtemp()), quiet=True)
for megabytes in (40, 80, 120, 160, 240):
    if os.fork() == 0:
        leave(megabytes)
        try:
            trainer.train_one_step()
            print("made", flush=True)
        except UserError as error:
            print(error, flush=True)
        os._exit(0)
    os.wait()
"""
)

_PROGRAM = (
    _LIMIT
    + """
import rdtf.training.train
from rdtf.cli.main import main

leave(400)
main(sys.argv[1:])
"""
)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/statm").is_file(), reason="needs Linux's /proc"
)


@needs_proc
def test_a_step_that_finds_no_memory_wherever_it_is():
    ran = run_python(_STEPS)
    told = ran.stdout.splitlines()
    assert len(told) == 5, ran.stderr
    for line in told:
        assert line.startswith("out of memory on cpu at step 0"), line
        assert "--engine.micro-batch-size 48 (now 96; the result stays the same)" in line


@needs_proc
def test_the_program_says_it_in_one_line(training_set, tmp_path):
    ran = run_python(
        _PROGRAM,
        *("train", "nano", "--data", str(training_set), "--out", str(tmp_path / "run")),
        *tiny_arguments(batch_size=160, track="none"),
    )
    assert ran.returncode == 2, ran.stderr
    (line,) = ran.stderr.splitlines()
    assert line.startswith("rdtf: out of memory on cpu at step 0")
    assert "--engine.micro-batch-size 80 (now 160; the result stays the same)" in line
