from __future__ import annotations

import json
from pathlib import Path

import pytest

from rdtf.data.dataset import PreparedDataset
from rdtf.data.prepare import prepare

from .stickers import lottie, moving_square, save_gif, save_webp, soft_disc, write_rows


@pytest.fixture(scope="session")
def sticker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five stickers of three formats, and five things that can't be used."""
    folder = tmp_path_factory.mktemp("inputs") / "pack"
    save_gif(folder / "moving" / "red_square.gif", moving_square(6))
    save_webp(folder / "moving" / "green_square.webp", moving_square(4, 48, (20, 200, 60)), 80)
    (folder / "moving" / "slide.json").write_text(json.dumps(lottie()))
    save_webp(folder / "still" / "disc.webp", soft_disc())
    save_webp(folder / "still" / "wide.webp", soft_disc(64)[:, 16:48])
    save_webp(folder / "still" / "disc_copy.webp", soft_disc())
    save_webp(folder / "still" / "nothing.webp", soft_disc() * 0)
    (folder / "still" / "broken.webp").write_bytes(b"RIFF, but not for long")
    (folder / "README.md").write_text("no sticker, and no reason to complain")
    square = {"file": "moving/red_square.gif", "captions": ["red square", "a square moves"]}
    write_rows(
        folder / "captions.jsonl",
        [
            square | {"concept": "square", "license": "CC0-1.0", "emotion": "calm"},
            {"file_name": "still/disc.webp", "text": "blue disc", "concept": "disc"},
            {"file": "still/missing.webp", "caption": "gone"},
            "{ not JSON",
        ],
    )
    return folder


@pytest.fixture(scope="session")
def dataset(sticker_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """`sticker_folder` prepared at 32 pixels; for tests that change nothing in it."""
    out = tmp_path_factory.mktemp("prepared") / "set"
    prepare(sticker_folder, out, canvas=32, max_frames=8, val_fraction=0.4, workers=0)
    return PreparedDataset(out)
