"""When a loss or gradient is no number: who it was, what to look at, and whether to go on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rdtf.errors import UserError
from rdtf.training.packing import Batch, unpack
from rdtf.training.parallel import gathered
from rdtf.training.repro import write_repro
from rdtf.training.step import StepResult

if TYPE_CHECKING:
    from rdtf.training.trainer import Trainer


class NonFiniteLossError(UserError):
    """The loss or gradient is no number; the weights were left as they were."""


def report_nonfinite(trainer: Trainer, result: StepResult) -> None:
    """Log a step that was skipped; stop the run if there were too many in a row.

    Stopping writes `RUN/nonfinite/step-N`: the batches and the weights that made it. All ranks
    must call.

    Raises:
        NonFiniteLossError: more than `engine.skip_nonfinite` in a row.
    """
    measured, step = result.fetch(), result.step
    names = [clip_name(trainer, clip) for clip in measured.culprits]
    trainer.tracker.log(step + 1, "nonfinite", {"loss": str(measured.loss), "clips": names})
    what = f"loss is {measured.loss:g}, gradient norm {measured.grad_norm:g} at step {step}"
    where = f"clips {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
    if measured.strikes <= trainer.config.engine.skip_nonfinite:
        if trainer.ranks.is_main:
            print(f"rdtf: {what} on {where}: step skipped", file=sys.stderr)
        return
    weights = gathered(trainer.model.state_dict(), trainer.ranks)
    folder = trainer.run / "nonfinite"
    if trainer.ranks.is_main:
        batches = _batches_of(trainer, result, measured.culprits)
        info = {"what": what, "clips": names, "losses": [str(x) for x in measured.losses]}
        folder = write_repro(trainer.run, step, batches, weights, info)
    raise NonFiniteLossError(
        f"{what} on {where}; the weights are as before, the batch is in {folder}; remove these "
        "clips, lower optimizer.learning_rate, or set engine.skip_nonfinite"
    )


def _batches_of(trainer: Trainer, result: StepResult, clips: list[int]) -> list[Batch]:
    """The micro-batches, of whichever rank, that hold one of `clips`: built again."""
    world_size = trainer.ranks.world_size
    packed = [
        batch
        for rank in range(world_size)
        for batch in trainer.batches.step_batches(
            result.step, result.task_weights, rank, world_size
        )
        if set(batch.clips) & set(clips)
    ]
    return [unpack(batch, trainer.store, trainer.device) for batch in packed]


def clip_name(trainer: Trainer, clip: int) -> str:
    """The clip's id in its training set, or its number."""
    name = getattr(trainer.store, "name", None)
    return f"{clip} ({name(clip)})" if callable(name) else str(clip)
