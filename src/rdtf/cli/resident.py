"""`rdtf train-motion`, `rdtf train-drawing` and `rdtf join-parts`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

INTERRUPTED = 75


@dataclass
class _TrainOnBundle:
    """Options of both."""

    kind: ClassVar[Literal["motion", "drawing"]]

    bundle: Positional[tuple[Path, ...]]
    """Folder made by `rdtf data bundle`, or the folders of its parts."""
    out: Path
    """Run folder; if it holds a run, that goes on."""
    seconds: float | None = None
    """Training time that the schedule is planned for, over all calls."""
    steps: int | None = None
    """Length of the run in steps, instead of --seconds."""
    slice: float = math.inf
    """Seconds after which this call saves and ends; the same command goes on later."""
    parts: float | None = None
    """Also write the weights in half precision as parts of at most so many MB."""
    precision: Literal["fp32", "amp", "bf16"] | None = None
    """amp: autocast to bf16; bf16: a copy in bf16 (the default on a GPU)."""
    compile: bool = False
    """Compile the network, which takes minutes at the start."""
    batch_size: int | None = None
    """Clips or pictures per step."""
    channels: tuple[int, ...] | None = None
    """Width of each level, finest first."""
    learning_rate: float | None = None
    """Peak of the learning rate."""
    weight: Annotated[tuple[str, ...], arg(metavar="NAME=NUMBER")] = ()
    """How often each collection of stickers is drawn; default: by its number of clips."""
    grammar_share: float | None = None
    """Of motion batches: motions of the grammar over stills."""
    seed: int | None = None
    """Settles weights, draws and noise."""
    workers: int | None = None
    """Processes that draw batches."""
    store: Path | None = None
    """Where decoded frames are kept; default: beside the bundle."""
    device: str | None = None
    """Default: a GPU if there is one."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        from rdtf.cli.output import show
        from rdtf.training.bundled import BundledConfig, train_on_bundle, weights_of

        config = BundledConfig(
            kind=self.kind,
            seconds=self.seconds,
            steps=self.steps,
            batch_size=self.batch_size,
            channels=self.channels,
            learning_rate=self.learning_rate,
            weights=weights_of(self.weight) or None,
            grammar_share=self.grammar_share,
            seed=self.seed,
            workers=self.workers,
            precision=self.precision,
            compile=self.compile or None,
        )
        result = train_on_bundle(
            config,
            self.bundle,
            self.out,
            slice_seconds=self.slice,
            store=self.store,
            device=self.device,
            part_bytes=None if self.parts is None else int(self.parts * 1e6),
        )
        text = f"{result.reason} at step {result.step}; network in {result.component}"
        text = "\n".join([text, *(f"  {part}" for part in result.parts)])
        show({**vars(result), "parts": [str(part) for part in result.parts]}, self.json, text)
        return INTERRUPTED if result.reason == "interrupted" else 0


@dataclass
class TrainMotion(_TrainOnBundle):
    """Train the motion network on a bundle: how things move, from a still, words or given frames.

    The same command again goes on. On a rented GPU without this program's dependencies:
    PYTHONPATH=BUNDLE python -m rdtf.training motion BUNDLE --out RUN --seconds 1800

    Example: rdtf train-motion BUNDLE --out RUN --seconds 1800 --slice 560 --parts 60
    """

    kind: ClassVar[Literal["motion", "drawing"]] = "motion"


@dataclass
class TrainDrawing(_TrainOnBundle):
    """Train the drawing network on a bundle: stills from words.

    The same command again goes on. On a rented GPU without this program's dependencies:
    PYTHONPATH=BUNDLE python -m rdtf.training drawing BUNDLE --out RUN --seconds 1800

    Example: rdtf train-drawing BUNDLE --out RUN --seconds 1800 --slice 560 --parts 60
    """

    kind: ClassVar[Literal["motion", "drawing"]] = "drawing"


@dataclass
class JoinParts:
    """Put the parts of a network's weights together that a run wrote with --parts.

    The folder that it makes is what `MotionDFGN.from_pretrained` or `DFGN.from_pretrained` loads.

    Example: rdtf join-parts RUN/parts MOTION
    """

    paths: Positional[tuple[Path, ...]]
    """Folders or files with the parts and parts.json, and last the folder to make."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> None:
        from rdtf.cli.output import show
        from rdtf.errors import UserError
        from rdtf.training.bundled import join_parts

        if len(self.paths) < 2:
            raise UserError("name the parts and the folder to make")
        *sources, out = self.paths
        joined = join_parts(sources, out)
        show({"path": joined}, self.json, f"network in {joined}")
