"""How fast batches come from the caches, against how fast a model eats them.

`python -m benchmarks loading --preset nano --workers 0 1 2`
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import Table, say
from rdtf.data.prepare import prepare
from rdtf.method.curriculum import Curriculum
from rdtf.synthetic.characters import SyntheticStickers
from rdtf.training.config import TrainConfig
from rdtf.training.device import default_device
from rdtf.training.distributed import Ranks
from rdtf.training.loader import CurriculumLookahead, PreparedStore, load_ahead, open_stores
from rdtf.training.presets import preset
from rdtf.training.train import denoiser_trainer


@dataclass(frozen=True)
class Loading:
    """Clips per second that the loader gives and that training takes, and what is padding."""

    preset: str = "nano"
    """Which preset's canvas, batch and model."""
    data: Path | None = None
    """A prepared training set; synthetic stickers if none is named."""
    workers: tuple[int, ...] = (0, 2)
    """Numbers of loader processes to try."""
    steps: int = 60
    """Steps to load for each number of workers."""
    train_steps: int = 3
    """Steps to train; the median counts."""
    stickers: int = 100
    """Synthetic stickers to make where no data is named."""

    def run(self) -> Table:
        config = preset(self.preset)
        with tempfile.TemporaryDirectory() as folder:
            data = self.data or _synthetic(Path(folder), config, self.stickers)
            store = open_stores(data, config)[1]
            say("training some steps")
            eaten, padding = self._eaten(config, store)
            rows = []
            for workers in self.workers:
                say(f"loading with {workers} workers")
                loaded = self._loaded(config, store, workers)
                rows.append((workers, loaded, loaded / eaten))
        return Table(
            f"Loading, {self.preset}: training takes {eaten:.1f} clips/s; "
            f"{100 * padding:.1f} % of its slots are padding",
            ("workers", "clips/s", "× what training takes"),
            [(str(w), f"{loaded:.0f}", f"{ratio:.0f}") for w, loaded, ratio in rows],
            {
                "preset": self.preset,
                "training_clips_per_second": eaten,
                "padding_share": padding,
                "loading": [
                    {"workers": w, "clips_per_second": loaded, "ratio": ratio}
                    for w, loaded, ratio in rows
                ],
            },
        )

    def _eaten(self, config: TrainConfig, store: PreparedStore) -> tuple[float, float]:
        """Clips per second of training (batches ready), and the share of padding over all steps."""
        trainer = denoiser_trainer(config, store, None, ranks=Ranks(device=default_device()))
        batches = trainer.trainable.batches
        slots = frames = 0
        for step in range(self.steps):
            for positions in batches.deal(step):
                lengths = [batches.length(p) for p in positions]
                slots, frames = slots + max(lengths) * len(lengths), frames + sum(lengths)
        seconds = []
        for _ in range(self.train_steps + 1):
            weights = trainer.trainable.lookahead.task_weights(trainer.step)
            packed = batches.step_batches(trainer.step, weights)
            started = time.perf_counter()
            trainer.train_one_step(packed).fetch()
            seconds.append(time.perf_counter() - started)
        return config.batch_size / statistics.median(seconds[1:]), 1 - frames / slots

    def _loaded(self, config: TrainConfig, store: PreparedStore, workers: int) -> float:
        from rdtf.method.objective import build_objective
        from rdtf.training.batches import BatchBuilder

        foresight = CurriculumLookahead(Curriculum(config.curriculum), config.steps)
        builder = BatchBuilder(store, config, build_objective(config.objective))
        requests = ((step, foresight.task_weights(step)) for step in range(self.steps))
        loader = load_ahead(
            lambda request: builder.step_batches(*request), requests, num_workers=workers
        )
        next(loader)  # starts the workers
        foresight.step_done()
        started = time.perf_counter()
        for _ in loader:
            foresight.step_done()
        return config.batch_size * (self.steps - 1) / (time.perf_counter() - started)


def _synthetic(folder: Path, config: TrainConfig, count: int) -> Path:
    say(f"making {count} synthetic stickers")
    stickers = SyntheticStickers(seed=0, count=count, max_frames=config.max_frames)
    out = folder / "set"
    prepare(stickers, out, canvas=config.canvas, max_frames=config.max_frames, val_fraction=0)
    return out
