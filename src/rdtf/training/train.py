"""`rdtf train`: from a preset and a training set to a run directory with a finished model."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rdtf.fileio import atomic_folder, remove_leftovers
from rdtf.training.config import TrainConfig
from rdtf.training.device import default_device
from rdtf.training.distributed import Ranks, open_ranks
from rdtf.training.loader import PreparedStore, open_stores
from rdtf.training.logging import write_run_report
from rdtf.training.run import check_config, locked, pipeline_from_run, save_config
from rdtf.training.trainer import Hook, Trainer, TrainResult
from rdtf.training.validation import sample_hook, validation_hook, write_first_batch


def train(
    config: TrainConfig,
    data: Path | str,
    out: Path | str,
    *,
    max_seconds: float | None = None,
    stop_after: float | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train `config` on the prepared set `data` into the run directory `out`, or resume there.

    With `max_seconds` the schedule is planned for so much training time over all calls; with
    `stop_after` this call saves and stops after so many seconds (see `Trainer.train`).

    Under torchrun all its processes train together (see `rdtf.training.distributed`). When the run
    is finished or stopped, `out/pipeline` holds the averaged model, for
    `StickerPipeline.from_pretrained`.

    Raises:
        UserError: the data or run directory can't be used; nothing has been changed then. Or a loss
            was not finite, memory or disk are full: what was saved before is intact.
    """
    out, began = Path(out), time.monotonic()
    with open_ranks() as ranks:
        # No rank waits for another's caches at a barrier, which would give up after half an hour.
        dataset, train_store, val_store = open_stores(Path(data), config, ranks.device)
        with _claimed(out, ranks):
            check_config(out, config, dataset.fingerprint)
            trainer = Trainer(
                config,
                train_store,
                out,
                ranks=ranks,
                hooks=_hooks(config, val_store),
                quiet=quiet,
                fingerprint=dataset.fingerprint,
            )
            if ranks.is_main:
                # Only now: a config that can't be built must not claim the folder.
                save_config(out, config, dataset.fingerprint)
                if trainer.step == 0:
                    write_first_batch(trainer)
            if stop_after is not None:  # opening took its share
                stop_after = max(stop_after - (time.monotonic() - began), 0.0)
            result = trainer.train(max_seconds, stop_after)
            if ranks.is_main:
                write_run_report(out)
                _save_pipeline(trainer, out / "pipeline")
            ranks.wait()
    return result


@contextlib.contextmanager
def _claimed(out: Path, ranks: Ranks) -> Iterator[None]:
    """The main rank holds the run's lock for all."""
    if not ranks.is_main:
        yield
        return
    with locked(out):
        remove_leftovers(out)  # of processes that were killed
        yield


def _hooks(config: TrainConfig, store: PreparedStore | None) -> tuple[tuple[int, Hook], ...]:
    if store is None or not (store.num_frames > 1).any():
        return ()
    return (
        (config.engine.validate_every, validation_hook(store)),
        (config.engine.sample_every, sample_hook(store)),
    )


def _save_pipeline(trainer: Trainer, folder: Path) -> None:
    """The model with its averaged weights, whole or not at all."""
    if trainer.config.engine.parallel == "fsdp" and trainer.ranks.several:
        pipeline = pipeline_from_run(trainer.run)  # this rank alone holds only a shard
        with atomic_folder(folder) as temporary:
            pipeline.save_pretrained(str(temporary), safe_serialization=True)
        return
    trainer.model.eval()
    average = trainer.ema.swapped(trainer.model, trainer.ema_index)
    with average, atomic_folder(folder) as temporary:
        trainer.pipeline.save_pretrained(str(temporary), safe_serialization=True)
    trainer.model.train()


def measure_seconds_per_step(config: TrainConfig, data: Path | str, steps: int = 4) -> float:
    """Median time of a step of a throw-away model on real batches, after one to warm up."""
    _, store, _ = open_stores(Path(data), config)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, store, Path(folder), ranks=Ranks(device=default_device()))
        seconds = []
        for _ in range(steps + 1):
            started = time.monotonic()
            trainer.train_one_step().fetch()
            seconds.append(time.monotonic() - started)
        trainer.tracker.close()
    return float(np.median(seconds[1:]))


def plan_steps(seconds_per_step: float, seconds: float, minimum: int = 20) -> int:
    """How many steps fit into a time budget."""
    return max(int(seconds / max(seconds_per_step, 1e-6)), minimum)
