"""Sheets of what the model that ships makes of words: `python docs/words.py [MODEL]`.

docs/images/words-alone.webp: sentences, no image; docs/images/words-still.webp: one still and
different words. Nothing is chosen by hand: seed 0 throughout, default steps and guidance.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from rdtf import StickerPipeline
from rdtf.stickers import Sticker
from rdtf.synthetic.characters import SyntheticStickers

IMAGES = Path(__file__).with_name("images")
SENTENCES = (
    "a pink cat jumping",
    "a blue dog waving",
    "a green frog dancing",
    "an orange fox spinning",
    "a purple octopus floating",
    "a yellow duck shrinking",
    "smiling face shaking its head",
    "red heart beating like a heart",
    "pizza growing",
    "rocket flying away",
    "birthday cake wobbling like jelly",
    "skeleton warrior, attacking, pixel art",
)
WORDS = (
    "waving",
    "dancing",
    "crying",
    "laughing",
    "fainting",
    "an angry cat",
    "says no",
    "sneezing",
    "bounces three times",
    "comes in from the left",
    "exploding",
    "jumps, then spins slowly",
)
_CELL, _MARGIN = 88, 230
_PAPER, _INK = (226, 234, 244), (32, 32, 32)


def sheet(rows: list[tuple[str, Sticker]]) -> Image.Image:
    """Frames side by side, one row for each clip, its words at the left."""
    longest = max(clip.num_frames for _, clip in rows)
    page = Image.new("RGB", (_MARGIN + longest * _CELL, len(rows) * _CELL), _PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for line, (words, clip) in enumerate(rows):
        draw.text((8, line * _CELL + _CELL // 2 - 8), words, _INK, font)
        for column, frame in enumerate(clip.fit_canvas(_CELL - 4).frames):
            picture = Image.fromarray(np.ascontiguousarray(frame))
            page.paste(picture, (_MARGIN + column * _CELL + 2, line * _CELL + 2), picture)
    return page


def main(model: str | None = None) -> None:
    pipe = StickerPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    alone = [(words, pipe(words, generator=seeded())) for words in SENTENCES]
    sheet(alone).save(IMAGES / "words-alone.webp", quality=80, method=6)
    still = SyntheticStickers(seed=5, count=60, canvas=pipe.canvas)[7].select([0])
    moved = [(words, pipe(words, image=still, generator=seeded())) for words in WORDS]
    sheet(moved).save(IMAGES / "words-still.webp", quality=80, method=6)


if __name__ == "__main__":
    main(*sys.argv[1:2])
