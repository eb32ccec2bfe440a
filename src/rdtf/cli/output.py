"""What commands print: text for people, or one JSON object for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def show(values: Mapping[str, Any], as_json: bool, text: str) -> None:
    """One line of JSON with `--json`, else `text`."""
    print(json.dumps(values, default=str) if as_json else text)


def note(message: str) -> None:
    """A line on stderr, apart from the result."""
    print(message, file=sys.stderr)


def progress_bar(description: str) -> Any:
    """A `progress(done, total, what)` callback drawn on stderr; silent if that is no terminal."""
    if not sys.stderr.isatty():
        return lambda done, total, what: None
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task(description, total=None)
    bar.start()

    def update(done: int, total: int, what: str) -> None:
        bar.update(task, completed=done, total=total, description=f"{description} {what}")
        if done >= total:
            bar.stop()

    return update


def quiet_beside_terminals(pipeline: Any) -> Any:
    """`pipeline`, with a progress bar only if stderr is a terminal."""
    pipeline.set_progress_bar_config(disable=not sys.stderr.isatty())
    return pipeline


def check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse an output that can't be written before any work is done."""
    from rdtf.errors import UserError
    from rdtf.fileio import ensure_folder

    if path.suffix.lower() not in suffixes:
        raise UserError(f"output {path} must end with one of {', '.join(suffixes)}")
    if path.is_dir():
        raise UserError(f"output {path} is a folder; name a file")
    ensure_folder(path.parent)
