"""`rdtf train`: from a preset and a training set to a run directory with a finished model."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from rdtf.errors import ConfigError
from rdtf.fileio import atomic_folder, check_own_folder, remove_leftovers
from rdtf.method.objective import build_objective
from rdtf.randomness import Purpose, stream
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.training.batches import BatchBuilder, ClipStore
from rdtf.training.config import TrainConfig, to_dict
from rdtf.training.device import settle_kernels
from rdtf.training.distributed import Ranks, compile_blocks, open_ranks, parallelize
from rdtf.training.loader import PreparedStore, open_stores
from rdtf.training.logging import check_trackers
from rdtf.training.presets import build_models, build_scheduler, load_warm_start
from rdtf.training.progress import check_times
from rdtf.training.run import CONFIG_FILE, check_config, locked, pipeline_from_run, save_config
from rdtf.training.step import Denoising
from rdtf.training.trainer import Hook, Trainer, TrainResult
from rdtf.training.validation import (
    sample_hook,
    validation_hook,
    write_first_batch,
    write_run_report,
)

# What a run may have left whose config was not written, or is lost.
_OPENED_FIRST = ("checkpoints", "metrics.jsonl", "samples", "tensorboard", "trackers.json", "wandb")


class DenoiserTraining(Denoising):
    """The denoiser of a config, from scratch or a warm start, within its pipeline.

    Args:
        store: training clips as their cache holds them.
        fingerprint: of the training set; saved with every checkpoint.
    """

    network: Any

    def __init__(
        self, config: TrainConfig, store: ClipStore, ranks: Ranks, fingerprint: str = ""
    ) -> None:
        engine = config.engine
        if engine.offload_ema and engine.parallel == "fsdp" and ranks.several:
            raise ConfigError("engine.offload_ema needs whole averages; use --engine.parallel ddp")
        check_trackers(engine.track)
        settle_kernels(engine.deterministic)
        torch.manual_seed(int(stream(config.seed, Purpose.INIT).integers(2**31)))
        model, autoencoder, text_encoders = build_models(config)
        if config.start_from:
            load_warm_start(model, config.start_from)
        model.train()
        if engine.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        pipeline = StickerPipeline(model, autoencoder, text_encoders, build_scheduler(config))
        self.pipeline = pipeline.to(ranks.device)
        self.pipeline.set_progress_bar_config(disable=True)  # the trainer has its own
        compile_blocks(model, engine.compile, ranks.device)
        batches = BatchBuilder(store, config, build_objective(config.objective))
        batches.deal(0, ranks.rank, ranks.world_size)  # refused now, not later
        super().__init__(model, batches, config, ranks)
        self.forward = parallelize(model, ranks, engine.parallel)
        self.fingerprint = fingerprint

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "config": to_dict(self.config), "data": self.fingerprint}


def denoiser_trainer(
    config: TrainConfig,
    store: ClipStore,
    run: Path | None,
    *,
    ranks: Ranks | None = None,
    hooks: Sequence[tuple[int, Hook]] = (),
    quiet: bool = False,
    fingerprint: str = "",
) -> Trainer:
    """A `Trainer` of the denoiser of `config` on the clips of `store`."""
    ranks = ranks or Ranks()
    trainable = DenoiserTraining(config, store, ranks, fingerprint)
    return Trainer(trainable, run, ranks=ranks, hooks=hooks, quiet=quiet)


def train(
    config: TrainConfig,
    data: Path | str,
    out: Path | str,
    *,
    max_seconds: float | None = None,
    stop_after: float | None = None,
    began: float | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train `config` on the prepared set `data` into the run directory `out`, or resume there.

    With `max_seconds` the schedule is planned for so much time over all calls, all that a call does
    included; with `stop_after` this call saves and stops after so many seconds, counted from
    `began` (see `Trainer.train`).

    Under torchrun all its processes train together (see `rdtf.training.distributed`). When the run
    is finished or stopped, `out/pipeline` holds the averaged model, for
    `StickerPipeline.from_pretrained`.

    Raises:
        UserError: the data or run directory can't be used; nothing has been changed then. Or a loss
            was not finite, memory or disk are full: what was saved before is intact.
    """
    out, began = Path(out), time.monotonic() if began is None else began
    check_times(max_seconds, stop_after)
    check_own_folder(out, CONFIG_FILE, _OPENED_FIRST)
    with open_ranks() as ranks:
        # No rank waits for another's caches at a barrier, which would give up after half an hour.
        dataset, train_store, val_store = open_stores(Path(data), config, ranks.device)
        with _claimed(out, ranks):
            check_config(out, config, dataset.fingerprint)
            trainer = denoiser_trainer(
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
            result = trainer.train(max_seconds, stop_after, began=began)
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
    if trainer.engine.parallel == "fsdp" and trainer.ranks.several:
        pipeline = pipeline_from_run(folder.parent)  # this rank alone holds only a shard
        with atomic_folder(folder) as temporary:
            pipeline.save_pretrained(str(temporary), safe_serialization=True)
        return
    trainer.model.eval()
    average = trainer.ema.swapped(trainer.model, trainer.ema_index)
    with average, atomic_folder(folder) as temporary:
        trainer.trainable.pipeline.save_pretrained(str(temporary), safe_serialization=True)
    trainer.model.train()
