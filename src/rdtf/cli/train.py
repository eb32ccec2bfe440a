"""`rdtf train` and `rdtf train-autoencoder`."""

from __future__ import annotations

import math
import os
import time
from argparse import ArgumentParser
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

if TYPE_CHECKING:
    from rdtf.training.config import TrainConfig

INTERRUPTED = 75


def _how_to_go_on(reason: str, step: int) -> str:
    if reason != "finished":
        return "; the same command goes on"
    return "" if step else "; its time was over before the first step, give it more"


@dataclass(kw_only=True)
class Train:
    """Train a model from scratch. The same command again resumes, bit for bit.

    Time: --max-seconds is what the run gets in all, over all calls, start-up and validation
    included, and its schedule is planned for it; --stop-after is what this call gets. A run of half
    an hour in slices of ten minutes is the same command three times, with --max-seconds 1800
    --stop-after 600.

    Ends with status 0 when the steps are done or the time is up, and with 75 after SIGINT or
    SIGTERM; everything is saved in each case. What is short of memory needs a smaller
    `--engine.micro-batch-size`: the result is the same.

    Example: rdtf train nano --data DATA --out RUN --max-seconds 1800

    Your own stickers, from the model that ships:
    rdtf train nano --start-from shipped --data DATA --out RUN --steps 500

    Several GPUs: torchrun --nproc-per-node 4 -m rdtf.cli.main train mini --data DATA --out RUN
    (add `--engine.parallel fsdp` where a model does not fit). The same config is the same run on
    any number of them, and a run may change it when it resumes.
    """

    data: Path | None = None
    """Training set made by `rdtf data prepare` or `rdtf data synth`."""
    out: Path | None = None
    """Run directory; made, or resumed if it is there."""
    max_seconds: float | None = None
    """Time of the whole run, over all calls: warm-up, decay and curriculum end with it, or with
    the steps if those are done before. A run keeps it until another is given; inf: none."""
    stop_after: float | None = None
    """Seconds after which this call saves and stops; the same command goes on later."""
    dry_run: FlagCreatePairsOff[bool] = False
    """Print the config, parameters by part, FLOPs, memory and time of one measured step; leave."""
    json: FlagCreatePairsOff[bool] = False
    """Print the result as JSON."""
    if TYPE_CHECKING:
        config: TrainConfig  # a field of the classes that `train_commands` makes

    def run(self) -> int:
        began = time.monotonic()
        from rdtf.cli.output import show
        from rdtf.data.dataset import check_dataset
        from rdtf.errors import ConfigError

        config = self.config
        if self.dry_run:
            from rdtf.training.cost import describe_run

            values = describe_run(config, self.data)
            show(values, self.json, values["text"])
            return 0
        if self.data is None or self.out is None:
            missing = "--data" if self.data is None else "--out"
            raise ConfigError(f"rdtf train needs {missing}; only --dry-run goes without")
        check_dataset(self.data)  # a wrong folder is told before torch is loaded
        from rdtf.training.train import train

        result = train(
            config,
            self.data,
            self.out,
            max_seconds=self.max_seconds,
            stop_after=self.stop_after,
            began=began,
        )
        text = (
            f"{result.reason} at step {result.step} of {result.planned_steps} "
            f"after {result.seconds:.0f} s{_how_to_go_on(result.reason, result.step)}; "
            f"model in {self.out / 'pipeline'}, curves in {self.out / 'report.html'}"
        )
        if os.environ.get("RANK", "0") == "0":  # under torchrun one rank speaks for all
            show({**vars(result), "run": self.out}, self.json, text)
        return INTERRUPTED if result.reason == "interrupted" else 0


@dataclass
class TrainAutoencoder:
    """Train an RGBA autoencoder (8× down) from scratch on a training set's frames.

    Use it with: rdtf train mini --representation.kind rgba-autoencoder --representation.path OUT
    """

    data: Path
    """Training set."""
    out: Path
    """Folder for the autoencoder; the same command again goes on from it."""
    canvas: int = 128
    """Side in pixels that it is trained at."""
    steps: int = 20_000
    """Optimizer steps."""
    max_seconds: float | None = None
    """Training time of the whole run, over all calls, instead of --steps."""
    stop_after: float | None = None
    """Seconds after which this call saves and stops; the same command goes on later."""
    batch_size: int = 8
    """Frames per step."""
    latent_channels: int = 8
    """Channels of the latents."""
    seed: int = 0
    """Settles weights and order."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        began = time.monotonic()
        from rdtf.cli.output import show
        from rdtf.data.dataset import check_dataset

        check_dataset(self.data)  # before torch is loaded
        from rdtf.training.autoencoder import AutoencoderConfig, train_autoencoder

        config = AutoencoderConfig(
            canvas=self.canvas,
            steps=self.steps,
            batch_size=self.batch_size,
            latent_channels=self.latent_channels,
            seed=self.seed,
        )
        result = train_autoencoder(
            config,
            self.data,
            self.out,
            max_seconds=self.max_seconds,
            stop_after=self.stop_after,
            began=began,
        )
        text = (
            f"{result.reason} at step {result.step}{_how_to_go_on(result.reason, result.step)}: "
            f"held-out PSNR on white {result.psnr_db:.1f} dB, mean alpha error "
            f"{result.alpha_error:.2f}/255; autoencoder in {self.out}"
        )
        show({**vars(result), "out": self.out}, self.json, text)
        return INTERRUPTED if result.reason == "interrupted" else 0


def train_commands(arguments: list[str]) -> dict[str, type[Train]]:
    """`Train` with the settings of each preset; `--start-from` decides their defaults too."""
    from rdtf.training.config import TrainConfig
    from rdtf.training.presets import PRESETS, SUMMARIES, warm_start_config

    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--start-from", "--start_from")
    source = parser.parse_known_args(arguments)[0].start_from
    commands = {}
    for name, config in PRESETS.items():
        if source and name in arguments:
            config = warm_start_config(config, source)
        settings = ("config", Annotated[TrainConfig, arg(name="")], field(default=config))
        command = make_dataclass("Train", [settings], bases=(Train,), kw_only=True)
        command.__doc__ = f"{SUMMARIES[name]}\n\n{Train.__doc__}"
        commands[name] = command
    return commands


@dataclass
class TrainNetwork:
    """Train one network of the model that ships on a bundle.

    motion: how things move, from a still, words or given frames. prediction: how a movement goes
    on. recurrence: which given frame comes back. drawing: stills from words. The same command again
    goes on. On a rented GPU without this program's dependencies:
    PYTHONPATH=BUNDLE python -m rdtf.training KIND BUNDLE --out RUN …

    Example: rdtf train-network motion BUNDLE --out RUN --seconds 1800 --slice 560 --parts 60
    """

    kind: Positional[Literal["motion", "prediction", "recurrence", "drawing"]]
    """What to train."""
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
        from rdtf.training.bundled import train_from_options

        result = train_from_options(self.kind, self)
        text = f"{result.reason} at step {result.step}{_how_to_go_on(result.reason, result.step)}"
        text += f"; network in {result.component}"
        text = "\n".join([text, *(f"  {part}" for part in result.parts)])
        show({**vars(result), "parts": [str(part) for part in result.parts]}, self.json, text)
        return INTERRUPTED if result.reason == "interrupted" else 0


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
        from rdtf.training.parts import join_parts

        if len(self.paths) < 2:
            raise UserError("name the parts and the folder to make")
        *sources, out = self.paths
        joined = join_parts(sources, out)
        show({"path": joined}, self.json, f"network in {joined}")


@dataclass
class Quickstart:
    """Make synthetic stickers, train `nano` from scratch on them, use it, and write a report.

    Needs no download and no GPU. Everything lands in one folder; run it again to go on.
    """

    out: Path = Path("out/quickstart")
    """Folder for the stickers, the run and report.html."""
    minutes: float = 7.0
    """About how long to take in all, on this machine."""
    stickers: int | None = None
    """How many synthetic stickers; default: what suits the time."""
    seed: int = 0
    """Settles everything."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        from rdtf.cli.output import note, show
        from rdtf.quickstart import quickstart

        result = quickstart(
            self.out, minutes=self.minutes, num_stickers=self.stickers, seed=self.seed, say=note
        )
        show(result, self.json, f"report: {result['report']}")
        return 0
