"""Write the table of platforms into docs/export.md, from the data file of the exports.

python docs/platforms.py            write it
python docs/platforms.py --check    status 1 if the page shows something else
"""

from __future__ import annotations

import sys
from pathlib import Path

from rdtf.stickers.export.check import HEADER, LETTERS, platform_rows
from rdtf.stickers.export.platforms import confidence_levels, dated, platforms

PAGE = Path(__file__).with_name("export.md")
_BEGIN, _END = "<!-- platforms: begin -->", "<!-- platforms: end -->"


def markdown_table() -> str:
    """The table, with a letter for how sure each limit is, and who says so."""
    rows = [HEADER, ["---"] * len(HEADER), *platform_rows()]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    levels = [f"**{letter}** {confidence_levels()[name]}" for name, letter in LETTERS.items()]
    lines += ["", f"As of {dated()}. How sure: {'; '.join(levels)}.", "", "Sources:", ""]
    return "\n".join([*lines, *_sources()])


def _sources() -> list[str]:
    """Each source once, with the platforms that rest on it."""
    users: dict[str, list[str]] = {}
    for platform in platforms().values():
        pack = platform.pack
        limits = [*platform.limits.values(), *platform.advice.values()]
        if pack is not None:
            limits += [*pack.limits.values(), *(i.max_bytes for i in pack.images.values())]
        for limit in limits:
            names = users.setdefault(limit.source, [])
            if platform.id not in names:
                names.append(platform.id)
    return [f"- {', '.join(names)}: {source}" for source, names in users.items()]


def main() -> int:
    text = PAGE.read_text("utf-8")
    before, rest = text.split(_BEGIN)
    _, after = rest.split(_END)
    renewed = f"{before}{_BEGIN}\n\n{markdown_table()}\n\n{_END}{after}"
    if "--check" in sys.argv:
        return int(renewed != text)
    PAGE.write_text(renewed, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
