"""Clips to look at: the truth beside what each method made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rdtf.evaluation.tasks import TASK_LABELS
from rdtf.stickers import Sticker, write_sheet


@dataclass(frozen=True)
class Example:
    """One clip of one task.

    Attributes:
        task: a name from `EVALUATION_TASKS`, or any other.
        prompt: the text that the model was given, or None.
        truth: the whole true clip.
        known: indices of the frames that were given.
        results: method → its clip, same frames and canvas as the truth.
        scores: method → scores as from `score_hidden`, if they are to be shown.
    """

    task: str
    prompt: str | None
    truth: Sticker
    known: Sequence[int]
    results: Mapping[str, Sticker]
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def task_label(self) -> str:
        return TASK_LABELS.get(self.task, self.task)

    def clips(self) -> dict[str, Sticker]:
        """Row label → clip: the truth first, then the results."""
        return {"truth": self.truth, **self.results}


def save_example_sheet(examples: Sequence[Example], path: Path | str) -> Path:
    """Write one picture: for each example a row of frames for the truth and for each method."""
    rows, labels = [], []
    for example in examples:
        for label, clip in example.clips().items():
            rows.append(clip)
            labels.append(f"{example.task}: {label}")
    return write_sheet(rows, path, labels)
