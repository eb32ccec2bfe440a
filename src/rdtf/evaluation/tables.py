"""Tables that read the same on a terminal, in Markdown and in a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A text, and whether it is the best of its column."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A titled table. Cells may be plain texts.

    The first two columns are names (task, method) and the others numbers. Neighbouring rows with
    the same first cell are a group, which a report draws as one.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.headers):
                raise ValueError(f"row of {len(row)} cells under {len(self.headers)} headers")

    def text(self) -> str:
        """Aligned plain text; the best of a column is marked with a star."""
        lines = [list(self.headers), *self._texts()]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.headers))]
        aligned = [
            "  ".join(_align(text, widths[column], column) for column, text in enumerate(line))
            for line in lines
        ]
        return "\n".join([self.title, "", *(line.rstrip() for line in aligned)])

    def _texts(self) -> list[list[str]]:
        return [
            [f"{cell.text}*" if cell.best else cell.text for cell in map(as_cell, row)]
            for row in self.rows
        ]


def as_cell(cell: Cell | str) -> Cell:
    return cell if isinstance(cell, Cell) else Cell(cell)


def is_name(column: int) -> bool:
    """Whether a column holds names, which are aligned left, and not numbers."""
    return column < 2


def _align(text: str, width: int, column: int) -> str:
    return text.ljust(width) if is_name(column) else text.rjust(width)
