"""Task weights decided a few steps ahead, so that loaders may run ahead of the trainer.

A batch's tasks depend on the curriculum, which depends on the losses of the batches before it. If
every step waited for the last one's losses, nothing could be loaded in advance and a GPU would
idle. So the weights of step k are settled when step k − LEAD_STEPS is done, from what had been
observed by then: always by the same rule, however many workers load and however many ranks train.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from rdtf.method.curriculum import Curriculum

LEAD_STEPS = 8


class CurriculumLookahead:
    """The curriculum's percentiles for the next `LEAD_STEPS` steps of a run of `steps`.

    Where a run is planned for a time, how much of it had passed when they were settled, too.
    """

    def __init__(self, curriculum: Curriculum, steps: int) -> None:
        self._curriculum = curriculum
        self._steps = steps
        self._first_step = 0
        self._quantiles = deque([curriculum.quantile] * LEAD_STEPS, maxlen=LEAD_STEPS)
        self._time_shares = deque([0.0] * LEAD_STEPS, maxlen=LEAD_STEPS)

    def family_weights(self, step: int) -> dict[str, float]:
        """Weight of each family at `step`, one of the next `LEAD_STEPS`."""
        return self._curriculum.family_weights(*self._settled(step))

    def task_weights(self, step: int) -> dict[str, float]:
        """As `family_weights`, for each task."""
        return self._curriculum.task_weights(*self._settled(step))

    def _settled(self, step: int) -> tuple[float, float]:
        """Progress of the run at `step`, by its steps or its time, and the percentile."""
        place = step - self._first_step
        return max(step / self._steps, self._time_shares[place]), self._quantiles[place]

    def step_done(self, time_share: float = 0.0) -> None:
        """One step is behind: settle the weights of the step that came into sight."""
        self._quantiles.append(self._curriculum.quantile)
        self._time_shares.append(time_share)
        self._first_step += 1

    def state_dict(self) -> dict[str, Any]:
        return {
            "first_step": self._first_step,
            "quantiles": list(self._quantiles),
            "time_shares": list(self._time_shares),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._first_step = int(state["first_step"])
        self._quantiles = deque(state["quantiles"], maxlen=LEAD_STEPS)
        # Checkpoints of an older rdtf have none.
        shares = state.get("time_shares", [0.0] * LEAD_STEPS)
        self._time_shares = deque(shares, maxlen=LEAD_STEPS)
