"""All that a run is at one step, to a checkpoint and back: whatever the number of ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rdtf.training.checkpoint import (
    MEASURE,
    Retention,
    load_latest,
    load_weights,
    mark_best,
    save_checkpoint,
)
from rdtf.training.config import to_dict
from rdtf.training.parallel import gathered, local, shard_like

if TYPE_CHECKING:
    from rdtf.training.trainer import Trainer


def save_run_state(trainer: Trainer) -> None:
    """Gather what is sharded, then let the main rank write. All ranks must call."""
    ranks, engine = trainer.ranks, trainer.config.engine
    tensors = {
        "model": gathered(trainer.model.state_dict(), ranks),
        "optimizer": trainer.optimizer.state_tensors(ranks),
    }
    for index, averages in enumerate(trainer.ema.state_tensors(ranks)):
        tensors[f"ema-{index}"] = averages
    state = {
        "curriculum": trainer.curriculum.state_dict(),
        "foresight": trainer.foresight.state_dict(),
        "pending": trainer.pending.state_dict() if trainer.pending is not None else None,
        "strikes": int(trainer.gate.strikes),
        "ema_updates": trainer.ema.num_updates,
        "ema_index": trainer.ema_index,
        "best_loss": trainer.best_loss if math.isfinite(trainer.best_loss) else None,
        "best_measure": MEASURE,
        "seconds": trainer.seconds,
        "max_seconds": trainer.max_seconds,
        "config": to_dict(trainer.config),
        "data": trainer.fingerprint,
    }
    if ranks.is_main:
        retention = Retention(
            last=engine.keep_checkpoints, every=engine.keep_every, keep_best=engine.keep_best
        )
        save_checkpoint(trainer.run, trainer.step, tensors, state, retention)
        if trainer.is_best:
            mark_best(trainer.run, trainer.step, trainer.best_loss)
    ranks.wait()


def load_run_state(trainer: Trainer) -> None:
    """Go on from the newest intact checkpoint, if there is one."""
    from rdtf.training.step import StepResult

    checkpoint = load_latest(trainer.run)
    if checkpoint is None:
        return
    state = checkpoint.state
    _load_model(trainer, checkpoint.load("model"))
    averages = [checkpoint.load(f"ema-{index}") for index in range(len(trainer.ema.decays))]
    trainer.ema.load_state_tensors(averages, state["ema_updates"])
    trainer.optimizer.load_state_tensors(checkpoint.load("optimizer"))
    trainer.curriculum.load_state_dict(state["curriculum"])
    trainer.foresight.load_state_dict(state["foresight"])
    if state["pending"] is not None:
        trainer.pending = StepResult.from_state(state["pending"])
    trainer.gate.strikes.fill_(state["strikes"])
    trainer.ema_index = int(state["ema_index"])
    best = state["best_loss"] if state.get("best_measure") == MEASURE else None
    trainer.best_loss = math.inf if best is None else float(best)
    trainer.seconds, trainer.max_seconds = float(state["seconds"]), state.get("max_seconds")
    trainer.step = trainer.saved_step = checkpoint.step


def _load_model(trainer: Trainer, weights: Mapping[str, Tensor]) -> None:
    where = f"checkpoint of {trainer.run}"
    if all(local(parameter) is parameter for parameter in trainer.model.parameters()):
        load_weights(trainer.model, weights, where)
        return
    own: dict[str, Any] = trainer.model.state_dict()
    for name, value in own.items():
        local(value).copy_(local(shard_like(weights[name], value)))
