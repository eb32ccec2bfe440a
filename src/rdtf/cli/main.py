"""The `rdtf` program: reads the command line, runs one command, maps errors to exit statuses.

Status 0: done. 2: the user's mistake, told in one line. 1: our mistake, with a traceback.
75: stopped by a signal after saving; the same command goes on.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import tyro

from rdtf.cli.data import Inspect, Prepare, Synth
from rdtf.cli.evaluate import Evaluate
from rdtf.cli.quickstart import Quickstart
from rdtf.cli.sample import Fill, Generate, Interpolate, Predict
from rdtf.cli.train import Train, TrainAutoencoder
from rdtf.errors import UserError

_named = tyro.conf.subcommand

_DataCommand = Annotated[
    Annotated[Synth, _named("synth")]
    | Annotated[Prepare, _named("prepare")]
    | Annotated[Inspect, _named("inspect")],
    _named("data", description="Make, prepare and look at training sets."),
]

Command = (
    Annotated[Quickstart, _named("quickstart")]
    | _DataCommand
    | Annotated[Train, _named("train")]
    | Annotated[TrainAutoencoder, _named("train-autoencoder")]
    | Annotated[Generate, _named("generate")]
    | Annotated[Interpolate, _named("interpolate")]
    | Annotated[Predict, _named("predict")]
    | Annotated[Fill, _named("fill")]
    | Annotated[Evaluate, _named("evaluate")]
)

_DESCRIPTION = """\
Train a compact video diffusion model from scratch on animated stickers, and use it.

Start with: rdtf quickstart"""


def main(arguments: list[str] | None = None) -> None:
    """Entry point; always leaves by `SystemExit` with one of the statuses above."""
    command: Any = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="rdtf",
        args=arguments,
        description=_DESCRIPTION,
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
    )
    try:
        sys.exit(command.run() or 0)
    except UserError as error:
        print(f"rdtf: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("rdtf: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
