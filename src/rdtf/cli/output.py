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
    """A `progress(done, total, what)` callback on stderr: a bar, or where that is no terminal, a
    line at every tenth of the way."""
    if not sys.stderr.isatty():
        told = -1

        def tell(done: int, total: int, what: str) -> None:
            nonlocal told
            if total > 0 and (tenth := 10 * done // total) > told:
                told = tenth
                note(f"{description} {what}: {done} of {total}".replace(" :", ":"))

        return tell
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


def progress_of(pipeline: Any) -> Any:
    """`pipeline` with its progress on stderr: a bar, or where that is no terminal, a few lines."""
    if not sys.stderr.isatty():
        pipeline.set_progress_bar_config(
            mininterval=_LINE_EVERY_S, bar_format=_LINE, delay=_LINE_EVERY_S
        )
    return pipeline


_LINE_EVERY_S = 5.0
_LINE = "sampling: step {n_fmt} of {total_fmt}, {elapsed}\n"


def draws(model: Path | None) -> bool:
    """Whether a saved pipeline can do without a given picture, read from its index; None = ours."""
    from rdtf.fileio import read_json

    index = (model or Path(__file__).parents[1] / "weights") / "model_index.json"
    if not index.is_file():
        return True  # a run: what its network learned is known when it is loaded
    parts = read_json(index, "pipeline")

    def has(part: str) -> bool:
        return bool((parts.get(part) or [None])[0])

    return has("drawer") or not has("motion")


def check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse an output that can't be written before any work is done."""
    from rdtf.errors import UserError
    from rdtf.fileio import ensure_folder

    if path.suffix.lower() not in suffixes:
        raise UserError(f"output {path} must end with one of {', '.join(suffixes)}")
    if path.is_dir():
        raise UserError(f"output {path} is a folder; name a file")
    ensure_folder(path.parent)
