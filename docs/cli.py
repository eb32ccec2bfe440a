"""Write docs/cli.md: what every command's `--help` says, as tables.

python docs/cli.py            write it
python docs/cli.py --check    status 1 if it is not what `--help` says now
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).with_name("cli.md")
_INTRO = """\
# Command line

<!-- Written by docs/cli.py from the program's own --help; edit the docstrings in src/rdtf/cli. -->

One program, `rdtf`. Results go to stdout (one JSON object with `--json`), progress and mistakes to
stderr. Exit status: 0 done; 2 your input (one line: what, where, what to do); 1 our mistake, with a
traceback; 75 stopped by a signal after saving, the same command goes on.
"""


@dataclass(frozen=True)
class Option:
    """One row of a command's help: `-o PATH, --out PATH`, what it does, its default."""

    name: str
    text: str
    default: str

    @property
    def spellings(self) -> list[str]:
        """`-o` and `--out`; nothing for what has no name."""
        return re.findall(r"(?<!\S)--?[a-z][a-z0-9.-]*", self.name)


@dataclass(frozen=True)
class Help:
    """What `rdtf COMMAND --help` says."""

    command: str
    paragraphs: list[str]
    options: list[Option]
    subcommands: list[str]


def read_help(command: tuple[str, ...] = ()) -> Help:
    """Run `rdtf COMMAND --help` in this process and take it apart."""
    lines = _run([*command, "--help"]).splitlines()
    description, rows, box, start = [], [], "", 0
    for line in lines[1:]:
        if line.startswith("╭"):
            box, start = line, len(rows)
        elif line.startswith("│ ──"):  # what was above tells of the box
            del rows[start:]
        elif line.startswith("│") and "subcommands" not in box:
            rows.append((line[2:].rstrip("│ "), "positional" in box))
        elif not line.startswith("╰"):
            description.append(line.strip())
    choices = re.search(r"\{([a-z,-]+)\}", lines[0])
    subcommands = choices.group(1).split(",") if choices and "STR" not in lines[0] else []
    text = "\n".join(description).strip()
    return Help(
        " ".join(("rdtf", *command)), re.split(r"\n{2,}", text), _options(rows), subcommands
    )


def _run(arguments: list[str]) -> str:
    from rdtf.cli.main import main

    columns = os.environ.get("COLUMNS")
    printed = io.TextIOWrapper(io.BytesIO(), "utf-8")  # with an encoding, boxes have borders
    os.environ["COLUMNS"] = "120"  # wider, and boxes stand side by side
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main(arguments)
    finally:
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns
    printed.seek(0)
    return re.sub(r"\x1b\[[0-9;]*m", "", printed.read())


def _options(rows: list[tuple[str, bool]]) -> list[Option]:
    """Rows of the boxes: a name, some space and a text, which may go on in the next rows."""
    joined: list[list[str]] = []
    for row, is_positional in rows:
        if row.startswith("-") or (is_positional and not row.startswith(" ")):
            joined.append(re.split(r" {2,}", row, maxsplit=1))
        elif joined:
            joined[-1][1:] = [" ".join([*joined[-1][1:], row.strip()])]
    options = []
    for name, *rest in joined:
        text = " ".join(rest)
        found = re.search(r" ?\((default: ?(.*)|required)\)$", text)
        default = (found.group(2) or "") if found and found.group(2) is not None else ""
        if found:
            text = text[: found.start()]
            default = "required" if found.group(1) == "required" else default
        default = "" if default in ("None", "False", "''") else default
        options.append(Option(name.replace("{None}|", ""), text, default))
    return [option for option in options if "--help" not in option.name]


def all_helps(command: tuple[str, ...] = ()) -> Iterator[Help]:
    """The help of the program, then of every command, in the program's order."""
    help_ = read_help(command)
    yield help_
    if command == ("train",):
        help_.subcommands[1:] = []  # all presets have the same options
    for name in help_.subcommands:
        yield from all_helps((*command, name))


def page() -> str:
    """The whole of docs/cli.md."""
    helps = list(all_helps())
    commands = [help_ for help_ in helps if help_.options or not help_.subcommands]
    index = [f"- [`{h.command}`](#{_anchor(h.command)}): {h.paragraphs[0]}" for h in commands]
    return "\n".join([_INTRO, *index, "", *(_section(help_) for help_ in commands)])


def _section(help_: Help) -> str:
    lines = [f"## `{help_.command}`", ""]
    for paragraph in help_.paragraphs:
        example = re.match(r"(?:[A-Z][\w ]*: )?((?:rdtf|torchrun) .*)$", paragraph.split("\n")[0])
        if example:
            lines += ["```sh", example.group(1), "```", ""]
            paragraph = " ".join(paragraph.split("\n")[1:])
        if paragraph:
            lines += [" ".join(paragraph.split("\n")).replace("*", "\\*"), ""]
    lines += ["| option | what | default |", "|---|---|---|"]
    for option in help_.options:
        name = re.sub(r"\[+(\w+) [\w .\[\]]*\]+", r"[\1 …]", option.name)
        lines.append(f"| `{_cell(name)}` | {_cell(option.text)} | {_cell(_code(option.default))} |")
    return "\n".join([*lines, ""])


def _code(text: str) -> str:
    return f"`{text}`" if text and text != "required" else text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _anchor(command: str) -> str:
    return command.replace(" ", "-")


def main() -> None:
    text = page()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text("utf-8") == text else "docs/cli.md is old: run docs/cli.py")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
