"""What `test_distributed.py` starts with torchrun: several runs, one after another, on two ranks.

Usage: two_ranks.py DATA FOLDER. FOLDER/alone holds the same run, made on one rank.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fixtures_runs import tiny_config
from rdtf.errors import ConfigError
from rdtf.training.config import TrainConfig
from rdtf.training.distributed import Ranks, open_ranks
from rdtf.training.loader import open_stores
from rdtf.training.train import denoiser_trainer, train
from rdtf.training.trainer import Trainer

STEPS, HALF = 4, 2
CONFIG = {
    "steps": STEPS,
    "batch_size": 4,
    "save_every": 1,
    "keep_checkpoints": 0,
    "validate_every": STEPS,
    "curriculum__mode": "adaptive",
}


def main(data: Path, folder: Path) -> None:
    with open_ranks() as ranks:
        assert ranks.world_size == 2
        check_ranks(ranks)
        config = tiny_config(**CONFIG)
        fsdp = tiny_config(**CONFIG, parallel="fsdp", gradient_checkpointing=True)

        train_on_a_set_without_caches(tiny_config(steps=1), data, folder, ranks)
        train(config, data, folder / "ddp", quiet=True)
        cut = dataclasses.replace(config, engine=dataclasses.replace(config.engine, num_workers=1))
        interrupt_and_resume(cut, data, folder / "ddp-resumed", ranks)
        train(tiny_config(**CONFIG, micro_batch_size=1), data, folder / "ddp-micro", quiet=True)

        train(fsdp, data, folder / "fsdp", quiet=True)
        interrupt_and_resume(fsdp, data, folder / "fsdp-resumed", ranks)
        go_on_from_half_way(fsdp, data, folder / "alone", folder / "fsdp-from-one", ranks)

        refuse(tiny_config(batch_size=3), data, folder, ranks, "can't be shared by 2 ranks")


def check_ranks(ranks: Ranks) -> None:
    assert ranks.any(ranks.rank == 1) and not ranks.any(False)
    assert ranks.sum(torch.tensor([1.0 + ranks.rank])).item() == 3
    gathered = ranks.gather(torch.full((2, 1), float(ranks.rank)))
    assert gathered.flatten().tolist() == [0, 0, 1, 1]


def train_on_a_set_without_caches(
    config: TrainConfig, data: Path, folder: Path, ranks: Ranks
) -> None:
    """Whoever comes first builds them: the main rank comes when they are there, and none waits."""
    fresh = folder / "without-caches"
    if ranks.is_main:
        shutil.copytree(data, fresh, ignore=shutil.ignore_patterns("cache"))
    ranks.wait()
    deadline = time.monotonic() + 120
    while ranks.is_main and not list(fresh.glob("cache/pixels-*/meta.json")):
        assert time.monotonic() < deadline, "the other rank waits for this one"
        time.sleep(0.05)
    assert train(config, fresh, folder / "fresh", quiet=True).step == 1


def interrupt_and_resume(config: TrainConfig, data: Path, run: Path, ranks: Ranks) -> None:
    """A signal that reaches one rank only stops both, at the same step."""

    def stop(trainer: Trainer) -> None:
        if trainer.step == HALF and ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    store = open_stores(data, config)[1]
    result = denoiser_trainer(
        config, store, run, ranks=ranks, hooks=((1, stop),), quiet=True
    ).train()
    assert (result.step, result.reason) == (HALF, "interrupted"), result
    assert train(config, data, run, quiet=True).reason == "finished"


def go_on_from_half_way(
    config: TrainConfig, data: Path, source: Path, run: Path, ranks: Ranks
) -> None:
    if ranks.is_main:
        shutil.copytree(source, run)
        for step in range(HALF + 1, STEPS + 1):
            shutil.rmtree(run / "checkpoints" / f"step-{step:08d}")
    ranks.wait()
    assert train(config, data, run, quiet=True).step == STEPS


def refuse(config: TrainConfig, data: Path, folder: Path, ranks: Ranks, message: str) -> None:
    store = open_stores(data, config)[1]
    try:
        denoiser_trainer(config, store, folder / "refused", ranks=ranks, quiet=True)
    except ConfigError as error:
        assert message in str(error), error
    else:
        raise AssertionError(f"not refused: {message}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
