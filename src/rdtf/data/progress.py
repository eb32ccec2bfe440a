"""Progress of long jobs, on stderr and only where somebody watches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")


def track(
    items: Iterable[Item], description: str, total: int, *, show: bool | None = None
) -> Iterator[Item]:
    """Yield `items` and draw a bar. `show` None: if stderr is a terminal."""
    console = Console(stderr=True)
    visible = console.is_terminal if show is None else show
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not visible) as progress:
        yield from progress.track(items, total=total, description=description)
