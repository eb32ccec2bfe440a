"""Draw docs/images/verbs.webp: every verb that training draws over one synthetic character.

python docs/verbs.py                 write it
python docs/verbs.py --out FILE.png  elsewhere, or in another format
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image

from rdtf.fileio import write_bytes
from rdtf.stickers import Sticker, contact_sheet
from rdtf.stickers.canvas import letterbox
from rdtf.synthetic import VERBS, MotionDraw, animate
from rdtf.synthetic.characters import SyntheticStickers
from rdtf.synthetic.verbs import TRAINED

SHEET = Path(__file__).with_name("images") / "verbs.webp"
_SEED, _INDEX = 3, 0
_CAT, _CANVAS = 96, 128  # pixels
_FRAMES, _CELL, _COLUMNS = 8, 56, 2


def character() -> Sticker:
    """A still of a happy cat, small enough on its canvas to have room to move."""
    cat = SyntheticStickers(_SEED, canvas=_CAT)[_INDEX].select([-1])
    return cat.replace(frames=letterbox(cat.frames[0], _CANVAS, _CANVAS)[None])


def row(still: Sticker, name: str) -> Sticker:
    """One cycle of a verb, or all of a motion that goes one way."""
    verb = VERBS[name]
    steps = _FRAMES - 1 if verb.one_way else _FRAMES
    return animate(still, MotionDraw((name,)), _FRAMES, round(verb.period_ms / steps))


def sheet() -> Image.Image:
    """One row of 8 frames a verb, the rows in two columns."""
    still = character()
    names = list(TRAINED)
    per_column = -(-len(names) // _COLUMNS)
    columns = []
    for start in range(0, len(names), per_column):
        part = names[start : start + per_column]
        columns.append(contact_sheet([row(still, name) for name in part], part, cell=_CELL))
    size = (sum(column.width for column in columns), max(column.height for column in columns))
    picture = Image.new("RGB", size, (255, 255, 255))
    left = 0
    for column in columns:
        picture.paste(column, (left, 0))
        left += column.width
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the verbs of the motion grammar.")
    parser.add_argument("--out", type=Path, default=SHEET)
    out = parser.parse_args().out
    data = io.BytesIO()
    sheet().save(data, out.suffix[1:].upper(), quality=80, method=6)
    write_bytes(out, data.getvalue())
    print(f"{out}: {len(data.getvalue()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
