"""What a run measures between two log lines, and where it goes: a JSON line, and trackers."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import math
import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rdtf.errors import ConfigError
from rdtf.fileio import read_json, write_json, write_text
from rdtf.method.tasks import FAMILY
from rdtf.training.progress import memory_in_use
from rdtf.training.step import Measured, StepResult

if TYPE_CHECKING:
    from rdtf.training.trainer import Trainer

PROJECT = "rdtf"


class _Backend(Protocol):
    """One tracker beside the JSON lines."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def log_image(self, step: int, name: str, path: Path) -> None: ...

    def close(self) -> None: ...


class Tracker:
    """Appends rows to `RUN/metrics.jsonl`, and passes their numbers on.

    Args:
        run: run directory; its name is the run's name. None: nothing is written.
        resume_step: step of the checkpoint that the run goes on from, None from the start. Rows
            beyond it are dropped: they will come again.
        names: "auto" (TensorBoard where it is installed), "none", or a list with commas of
            tensorboard, trackio and wandb. The latter two go by their own settings (WANDB_MODE,
            TRACKIO_DIR, …) and go on with the run of before.
        config: a dataclass, shown beside the run.
        enabled: False on all ranks but one: nothing is written.

    Raises:
        ConfigError: an unknown tracker, or one that is not installed or can't start.
    """

    def __init__(
        self,
        run: Path | None,
        resume_step: int | None,
        names: str = "auto",
        config: Any = None,
        enabled: bool = True,
    ) -> None:
        self._file: Any = None
        self._backends: dict[str, _Backend] = {}
        wanted = check_trackers(names)
        if not enabled or run is None:
            return
        rows = read_metrics(run)
        settings = asdict(config) if config is not None else {}
        start = _Start(run, resume_step, max((row["step"] for row in rows), default=-1), settings)
        for name in wanted:
            backend = _open_backend(name, start, may_fail=names == "auto")
            if backend is not None:
                self._backends[name] = backend
        last = -1 if resume_step is None else resume_step
        kept = [row for row in rows if row["step"] <= last]
        path = run / "metrics.jsonl"
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """One row: `step`, `kind` ("train", "validation"), and the values."""
        if self._file is None:
            return
        self._file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        self._file.flush()
        numbers = {f"{kind}/{name}": value for name, value in _scalars(values)}
        for name, backend in list(self._backends.items()):
            with self._apart(name):
                backend.log(step, numbers)

    def log_image(self, step: int, name: str, path: Path) -> None:
        """Pass a picture file on; the JSON lines hold none."""
        for tracker, backend in list(self._backends.items()):
            with self._apart(tracker):
                backend.log_image(step, name, path)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        for name, backend in list(self._backends.items()):
            with self._apart(name):
                backend.close()
        self._file, self._backends = None, {}

    @contextlib.contextmanager
    def _apart(self, name: str) -> Iterator[None]:
        """A tracker that fails is given up with a word on stderr; training goes on."""
        try:
            yield
        except Exception as error:
            self._backends.pop(name, None)
            print(f"tracker {name} failed and gets nothing from now on: {error}", file=sys.stderr)


def check_trackers(names: str) -> list[str]:
    """The trackers that `names` asks for; a `ConfigError` names one that can't be had."""
    if names == "auto":
        return ["tensorboard"] if _is_installed("tensorboard") else []
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if wanted in ([], ["none"]):
        return []
    for name in wanted:
        if name not in _BACKENDS:
            raise ConfigError(
                f"tracker {name!r} is unknown; choose from auto, none, {', '.join(_BACKENDS)}"
            )
        if not _is_installed(name):
            raise ConfigError(
                f"tracker {name} is not installed; install it with: pip install {name}"
            )
    return list(dict.fromkeys(wanted))


def read_metrics(run: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Rows of a run's `metrics.jsonl`; a torn last line (power cut) is dropped."""
    path = run / "metrics.jsonl"
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return [row for row in rows if kind is None or row["kind"] == kind]


def _scalars(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """All finite numbers, those of nested mappings with their path as name."""
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and math.isfinite(value):
            found.append((prefix + name, float(value)))
    return found


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


# ------------------------------------------------------------------------ trackers


@dataclass(frozen=True)
class _Start:
    """What a tracker begins with; `logged` is the last step that earlier processes have logged."""

    run: Path
    resume_step: int | None
    logged: int
    config: dict[str, Any]

    @property
    def name(self) -> str:
        return self.run.resolve().name


def _open_backend(name: str, start: _Start, may_fail: bool) -> _Backend | None:
    try:
        return _BACKENDS[name](start)
    except Exception as error:
        if may_fail:
            print(f"tracker {name} can't start and is left out: {error}", file=sys.stderr)
            return None
        raise ConfigError(f"tracker {name} can't start: {error}; or --engine.track none") from (
            error
        )


class _TensorBoard:
    """Event files in `RUN/tensorboard`."""

    def __init__(self, start: _Start) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        # What an earlier process wrote beyond the checkpoint is hidden: it will come again.
        first = 0 if start.resume_step is None else start.resume_step + 1
        self._writer = SummaryWriter(str(start.run / "tensorboard"), purge_step=first)
        if start.resume_step is None:
            text = json.dumps(start.config, indent=2)
            self._writer.add_text("config", f"```json\n{text}\n```")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def log_image(self, step: int, name: str, path: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class _Service:
    """Weights & Biases or trackio, by their own settings (WANDB_MODE, TRACKIO_DIR, …).

    They can't take a row back, and a resumed run makes some steps again, with the same values: what
    an earlier process has sent is not sent twice. `RUN/trackers.json` remembers the run's id there
    and how far it got.
    """

    def __init__(self, name: str, start: _Start) -> None:
        library: Any = importlib.import_module(name)
        path = start.run / "trackers.json"
        known = read_json(path, "trackers") if path.is_file() else {}
        before = known.get(name) if start.resume_step is not None else None
        run_id: str = before["id"] if before else secrets.token_hex(4)
        self._sent: int = max(before["sent"], start.logged) if before else -1
        write_json(path, {**known, name: {"id": run_id, "sent": self._sent}})
        own: dict[str, Any] = {"id": run_id, "resume": "allow", "dir": str(start.run)}
        if name == "trackio":  # knows runs by name
            own = {"resume": "allow" if before else "never", "embed": False}
        self._image: Any = getattr(library, "Image", None)
        self._finish = library.finish  # unlike a trackio run's own, not repeated when Python ends
        with contextlib.redirect_stdout(sys.stderr):  # trackio prints, and stdout is for results
            self._run = library.init(project=PROJECT, name=start.name, config=start.config, **own)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        if step > self._sent:
            self._run.log(dict(values), step=step)

    def log_image(self, step: int, name: str, path: Path) -> None:
        if self._image is not None:
            self.log(step, {name: self._image(str(path))})

    def close(self) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self._finish()


_BACKENDS: dict[str, Callable[[_Start], _Backend]] = {
    "tensorboard": _TensorBoard,
    "trackio": functools.partial(_Service, "trackio"),
    "wandb": functools.partial(_Service, "wandb"),
}


# ------------------------------------------------------------------------ while it runs


class Meter:
    """Counts steps and padding between two log lines."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.loss = float("nan")
        self._restart()

    def _restart(self) -> None:
        self._started, self._steps = time.monotonic(), 0
        self._slots = self._padded = 0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens in the block is no training: its time does not count."""
        started = time.monotonic()
        yield
        self._started += time.monotonic() - started

    def saw(self, batches: Sequence[Any]) -> None:
        """Count one step of this rank."""
        self._steps += 1
        for batch in batches:
            known = getattr(batch, "conditions", None)
            if known is not None:
                self._slots += known.valid.numel()
                self._padded += known.valid.numel() - sum(batch.info.num_frames)

    def describe(self, result: StepResult) -> dict[str, Any]:
        """The row to log, and a new interval. All ranks must call; the host waits for the step."""
        trainer = self._trainer
        measured = result.fetch()
        self.loss = measured.loss
        seconds = max(time.monotonic() - self._started, 1e-9)
        left = seconds / max(self._steps, 1) * (trainer.planned_steps - trainer.step)
        count = trainer.trainable.batch_size
        values = {
            "loss": measured.loss,
            **_by_task(measured),
            "grad_norm": measured.grad_norm,
            "learning_rate": trainer.optimizer.learning_rate,
            **trainer.trainable.log_values(trainer.step),
            "progress": trainer.progress,
            "clips": trainer.step * count,
            "clips_per_second": self._steps * count / seconds,
            "padding_share": self._padded / max(self._slots, 1),
            "memory_bytes": memory_in_use(trainer.device),
            "eta_seconds": left,
            "seconds": trainer.seconds,
        }
        self._restart()
        return values


def _by_task(measured: Measured) -> dict[str, dict[str, float]]:
    tasks, families = defaultdict(list), defaultdict(list)
    for task, loss in zip(measured.tasks, measured.losses, strict=True):
        tasks[task].append(loss)
        if task in FAMILY:
            families[FAMILY[task]].append(loss)
    return {
        "loss_by_family": {family: float(np.mean(x)) for family, x in families.items()},
        "loss_by_task": {task: float(np.mean(x)) for task, x in tasks.items()},
    }
