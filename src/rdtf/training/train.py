"""`rdtf train`: from a preset and a training set to a run directory with a finished model."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from rdtf.fileio import atomic_folder, ensure_folder
from rdtf.training.config import TrainConfig
from rdtf.training.curves import write_run_report
from rdtf.training.run import check_config, locked, save_config
from rdtf.training.store import open_stores
from rdtf.training.trainer import Trainer, TrainResult
from rdtf.training.validation import sample_hook, validation_hook, write_first_batch


def train(
    config: TrainConfig,
    data: Path | str,
    out: Path | str,
    *,
    max_seconds: float | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train `config` on the prepared set `data` into the run directory `out`, or resume there.

    When the run is finished or stopped, `out/pipeline` holds the averaged model as
    `StickerPipeline.from_pretrained` reads it.

    Raises:
        UserError: the data or run directory can't be used; nothing has been changed then.
    """
    out = Path(out)
    dataset, train_store, val_store = open_stores(Path(data), config)
    ensure_folder(out, "run folder")
    with locked(out):
        check_config(out, config, dataset.fingerprint)
        hooks = ()
        if val_store is not None and (val_store.num_frames > 1).any():
            hooks = (
                (config.validate_every, validation_hook(val_store)),
                (config.sample_every, sample_hook(val_store)),
            )
        trainer = Trainer(config, train_store, out, hooks=hooks, quiet=quiet)
        # Only now: a config that can't be built must not claim the folder.
        save_config(out, config, dataset.fingerprint)
        if trainer.step == 0:
            write_first_batch(trainer)
        result = trainer.train(max_seconds)
        write_run_report(out)
        save_pipeline(trainer, out / "pipeline")
    return result


def save_pipeline(trainer: Trainer, folder: Path) -> None:
    """The model with its averaged weights, whole or not at all."""
    trainer.model.eval()
    with trainer.ema.swapped(trainer.model), atomic_folder(folder) as temporary:
        trainer.pipeline.save_pretrained(str(temporary), safe_serialization=True)
    trainer.model.train()


def measure_seconds_per_step(config: TrainConfig, data: Path | str, steps: int = 4) -> float:
    """Median time of a step of a throw-away model on real batches, after one to warm up."""
    _, store, _ = open_stores(Path(data), config)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, store, Path(folder), quiet=True)
        seconds = []
        for _ in range(steps + 1):
            started = time.monotonic()
            trainer.train_one_step()
            trainer.step += 1
            seconds.append(time.monotonic() - started)
        trainer.tracker.close()
    return float(np.median(seconds[1:]))


def plan_steps(seconds_per_step: float, seconds: float, minimum: int = 20) -> int:
    """How many steps fit into a time budget."""
    return max(int(seconds / max(seconds_per_step, 1e-6)), minimum)
