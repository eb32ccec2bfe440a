from __future__ import annotations

from fixtures_runs import pipeline, tiny_run, training_set

__all__ = ["pipeline", "tiny_run", "training_set"]
