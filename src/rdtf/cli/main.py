"""The `rdtf` program: reads the command line, runs one command, maps errors to exit statuses.

Status 0: done. 2: the user's mistake, told in one line. 1: our mistake, with a traceback.
75: stopped by a signal after saving; the same command goes on.
"""

from __future__ import annotations

import difflib
import os
import sys
from dataclasses import make_dataclass
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
    train_commands,
)
from rdtf.errors import UserError

_COMMANDS: dict[str, Any] = {
    "quickstart": Quickstart,
    "data": {
        "synth": Synth,
        "animate": Animate,
        "prepare": Prepare,
        "inspect": Inspect,
        "bundle": Bundle,
    },
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
_FOR_GROUPS = {"data": _DATA_HELP, "train": (Train.__doc__ or "")}


def _chosen(arguments: list[str]) -> tuple[list[str], Any]:
    """The words that name a command, and the command; a group of them if they name none yet."""
    words, known = [], _COMMANDS
    for word in arguments:
        if not isinstance(known, dict) or word not in known:
            break
        words.append(word)
        known = train_commands(arguments) if words == ["train"] else known[word]
    return words, known


def _choice(commands: dict[str, Any]) -> Any:
    """The commands of a group as a union for tyro, by name and what they do."""
    options = []
    for name, command in commands.items():
        description = _DATA_HELP if isinstance(command, dict) else _first_line(command)
        option: Any = make_dataclass("Unchosen", [])
        options.append(Annotated[option, tyro.conf.subcommand(name, description=description)])
    return Union[tuple(options)]  # noqa: UP007 (built at run time)


def _first_line(command: type) -> str:
    return (command.__doc__ or "").strip().splitlines()[0]


_DESCRIPTION = """\
Train a compact video diffusion model from scratch on animated stickers, and use it.

Start with: rdtf quickstart. The version: rdtf --version"""


def _unknown(arguments: list[str]) -> str | None:
    """What to say of a mistyped command; None if it is one of ours, or an option."""
    known: Any = _COMMANDS
    for word in arguments[:2]:
        if word.startswith("-"):
            return None
        if word not in known:
            close = difflib.get_close_matches(word, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; choose {', '.join(known)}"
            return f"there is no command {word!r}{hint}"
        known = train_commands([]) if word == "train" else known[word]
        if not isinstance(known, dict):
            return None
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
    # The settings of `train` keep the names of their sections, and both forms of their flags.
    plain = () if arguments[:1] == ["train"] else (
        tyro.conf.OmitArgPrefixes,
        tyro.conf.FlagCreatePairsOff,
    )  # fmt: skip
    try:
        words, chosen = _chosen(arguments)
        group = isinstance(chosen, dict)
        command: Any = tyro.cli(
            _choice(chosen) if group else chosen,
            prog=" ".join(["rdtf", *words]),  # what errors name, with --help
            args=arguments[len(words) :],
            description=(_DESCRIPTION if not words else _FOR_GROUPS[words[0]]) if group else None,
            config=(tyro.conf.OmitSubcommandPrefixes, *plain),
        )
        sys.exit(command.run() or 0)
    except UserError as error:
        print(f"rdtf: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("rdtf: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever read, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
