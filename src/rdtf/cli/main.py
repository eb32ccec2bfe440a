"""The `rdtf` program: reads the command line, runs one command, maps errors to exit statuses.

Status 0: done. 2: the user's mistake, told in one line. 1: our mistake, with a traceback.
75: stopped by a signal after saving; the same command goes on.
"""

from __future__ import annotations

import difflib
import sys
from importlib.metadata import version
from typing import Annotated, Any, Union

import tyro

from rdtf.cli.data import Animate, Bundle, Inspect, Prepare, Synth
from rdtf.cli.evaluate import Compare, Evaluate
from rdtf.cli.export import ExportCommand
from rdtf.cli.sample import Fill, Generate, Interpolate, Predict
from rdtf.cli.studio import StudioCommand
from rdtf.cli.train import (
    JoinParts,
    Quickstart,
    Train,
    TrainAutoencoder,
    TrainNetwork,
)
from rdtf.errors import UserError

_DATA_COMMANDS = {
    "synth": Synth,
    "animate": Animate,
    "prepare": Prepare,
    "inspect": Inspect,
    "bundle": Bundle,
}
_COMMANDS = {
    "quickstart": Quickstart,
    "data": _DATA_COMMANDS,
    "train": Train,
    "train-autoencoder": TrainAutoencoder,
    "train-network": TrainNetwork,
    "join-parts": JoinParts,
    "generate": Generate,
    "interpolate": Interpolate,
    "predict": Predict,
    "fill": Fill,
    "export": ExportCommand,
    "studio": StudioCommand,
    "evaluate": Evaluate,
    "compare": Compare,
}
_DATA_HELP = "Make, prepare and look at training sets: synth, animate, prepare, inspect, bundle."


def _choice(commands: dict[str, Any], chosen: list[str]) -> Any:
    """The commands as a union for tyro. A list shows their first lines, their own help all."""
    options = []
    for name, command in commands.items():
        if isinstance(command, dict):
            option, help_line = _choice(command, chosen[1:]), _DATA_HELP
        else:
            option, help_line = command, None if chosen[:1] == [name] else _first_line(command)
        options.append(Annotated[option, tyro.conf.subcommand(name, description=help_line)])
    return Union[tuple(options)]  # noqa: UP007 (built at run time)


def _first_line(command: type) -> str:
    return (command.__doc__ or "").strip().splitlines()[0]


_DESCRIPTION = """\
Train a compact video diffusion model from scratch on animated stickers, and use it.

Start with: rdtf quickstart. The version: rdtf --version"""


def _unknown(arguments: list[str]) -> str | None:
    """What to say of a mistyped command; None if it is one of ours, or an option."""
    known = _COMMANDS
    for word in arguments[:2]:
        if word.startswith("-"):
            return None
        if word not in known:
            close = difflib.get_close_matches(word, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; choose {', '.join(known)}"
            return f"there is no command {word!r}{hint}"
        if not isinstance(known[word], dict):
            return None
        known = known[word]
    return None


def main(arguments: list[str] | None = None) -> None:
    """Entry point; always leaves by `SystemExit` with one of the statuses above."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(f"rdtf {version('rdtf')}")
        sys.exit(0)
    if problem := _unknown(arguments):
        print(f"rdtf: {problem}", file=sys.stderr)
        sys.exit(2)
    command: Any = tyro.cli(
        _choice(_COMMANDS, arguments),
        prog="rdtf",
        args=arguments,
        description=_DESCRIPTION,
        config=(
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.OmitArgPrefixes,
            tyro.conf.FlagCreatePairsOff,
        ),
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
