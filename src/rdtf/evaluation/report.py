"""One HTML file that shows how good a model is: clips that move, scores, training curves.

The file stands alone: pictures are data URIs, charts are inline SVG, there is no script, and a
content security policy forbids the page to load anything. Every text is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path

from rdtf.evaluation.cards import example_cards
from rdtf.evaluation.charts import Curve, line_chart
from rdtf.evaluation.examples import Example
from rdtf.evaluation.markup import element, text
from rdtf.evaluation.tables import Cell, Table, as_cell, is_name
from rdtf.fileio import write_text

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(
    path: Path | str,
    *,
    title: str,
    intro: str = "",
    examples: Sequence[Example] = (),
    curves: Sequence[Curve] = (),
    tables: Sequence[Table] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write the report to `path` (.html), whole or not at all; returns the path.

    Args:
        path: of the file; an existing one is replaced.
        title, intro: heading and first words; blank lines in `intro` part paragraphs.
        examples: shown by task, in the order in which their tasks first appear.
        curves: one chart each.
        tables: in this order, above the examples.
        notes: a list at the end: settings, caveats.
    """
    sections = {
        "Scores": "\n".join(_table(table) for table in tables),
        "Examples": example_cards(examples),
        "Training": _charts(curves),
        "Notes": _notes(notes),
    }
    shown = {name: content for name, content in sections.items() if content}
    header = element("header", element("h1", text(title)), _paragraphs(intro), _contents(shown))
    write_text(path, _page(title, [header, *map(_section, shown, shown.values())]))
    return Path(path)


def _page(title: str, body: Sequence[str]) -> str:
    style = resources.files("rdtf.evaluation").joinpath("assets/report.css").read_text("utf-8")
    head = [
        element("meta", charset="utf-8"),
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", text(title)),
        f"<style>\n{style}</style>",
    ]
    page = [element("head", "\n".join(head)), element("body", element("main", "\n".join(body)))]
    return "<!doctype html>\n" + element("html", "\n".join(page), lang="en") + "\n"


def _contents(sections: Mapping[str, str]) -> str:
    links = [element("a", name, href=f"#{name.lower()}") for name in sections]
    return element("nav", links, aria_label="Contents") if len(links) > 1 else ""


def _section(name: str, content: str) -> str:
    anchor = name.lower()
    return element("section", element("h2", name, id=anchor), content, aria_labelledby=anchor)


def _paragraphs(words: str) -> str:
    blocks = (block.strip() for block in words.split("\n\n"))
    return "".join(element("p", text(block)) for block in blocks if block)


def _charts(curves: Sequence[Curve]) -> str:
    return element("div", map(line_chart, curves), class_="charts") if curves else ""


def _notes(notes: Sequence[str]) -> str:
    return element("ul", (element("li", text(note)) for note in notes)) if notes else ""


# ------------------------------------------------------------------------ tables


def _table(table: Table) -> str:
    """The table; groups of rows get a heading of their own, which leaves width for the numbers."""
    groups = [
        (name, list(rows))
        for name, rows in groupby(table.rows, key=lambda row: as_cell(row[0]).text)
    ]
    grouped = any(len(rows) > 1 for _, rows in groups)
    first = 1 if grouped else 0
    heads = [
        element("th", text(head), scope="col", class_=_name_class(column))
        for column, head in enumerate(table.headers)
    ][first:]
    body = [
        element("tbody", _group_heading(name, len(heads)) if grouped else "", _rows(rows, first))
        for name, rows in groups
    ]
    caption, head = element("caption", text(table.title)), element("thead", element("tr", heads))
    # Focusable, so that a keyboard can scroll what does not fit a narrow screen.
    scroll = element(
        "div",
        element("table", caption, head, body),
        class_="scroll",
        tabindex=0,
        role="group",
        aria_label=table.title,
    )
    note = element("p", text(table.note), class_="note") if table.note else ""
    return element("div", scroll, note, class_="card")


def _group_heading(name: str, width: int) -> str:
    head = element("th", text(name), scope="rowgroup", colspan=width, class_="name group")
    return element("tr", head)


def _rows(rows: Sequence[Sequence[Cell | str]], first: int) -> list[str]:
    """Rows from column `first` on; that column names the row."""
    lines = []
    for row in rows:
        name = element("th", text(as_cell(row[first]).text), scope="row", class_="name")
        cells = [_cell(as_cell(cell), column) for column, cell in enumerate(row) if column > first]
        lines.append(element("tr", name, cells))
    return lines


def _cell(cell: Cell, column: int) -> str:
    """A cell; an interval in brackets is set smaller."""
    value, bracket, rest = cell.text.partition(" [")
    words = text(value)
    if bracket:
        words += " " + element("span", text(f"[{rest}"), class_="spread")
    if cell.best:
        return element("td", element("strong", words), class_="best")
    return element("td", words, class_=_name_class(column))


def _name_class(column: int) -> str | None:
    return "name" if is_name(column) else None
