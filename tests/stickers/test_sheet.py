from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdtf.stickers import StickerError, contact_sheet, write_sheet

from .samples import clip


def test_rows_of_different_kinds_and_lengths():
    opaque = np.full((10, 20, 3), 77, np.uint8)
    sheet = contact_sheet([clip(4, size=32), [opaque]], cell=32)
    assert sheet.mode == "RGB"
    assert sheet.size == (4 * 36 + 4, 2 * 36 + 4)
    pixels = np.asarray(sheet)
    assert pixels[40 + 16, 4 + 16].tolist() == [77, 77, 77]
    assert (pixels[40:72, 40:72] == 255).all()  # the second row is shorter
    assert pixels[4, 4].tolist() == [255, 255, 255]
    assert pixels[4, 4 + 8].tolist() == [224, 224, 224]  # the checkerboard shows through


def test_labels_stand_on_the_left():
    plain, labelled = (
        np.asarray(contact_sheet([clip(2, size=64)] * 2, labels))
        for labels in (None, ["a cat", "a very long label that is wrapped more than once, surely"])
    )
    margin = labelled.shape[1] - plain.shape[1]
    assert margin > 40
    np.testing.assert_array_equal(labelled[:, margin:], plain)
    for row in (labelled[4:68, :margin], labelled[72:136, :margin]):
        assert (row < 128).any()


def test_one_sticker_alone_is_one_row(tmp_path: Path):
    path = write_sheet(clip(3), tmp_path / "new" / "sheet.png")
    assert Image.open(path).size == (3 * 20 + 4, 24)


def test_what_can_not_be_drawn():
    with pytest.raises(StickerError, match="at least one frame"):
        contact_sheet([])
    with pytest.raises(StickerError, match="1 labels"):
        contact_sheet([clip(), clip()], ["one"])
    with pytest.raises(StickerError, match="uint8"):
        contact_sheet([[np.zeros((4, 4, 4))]])
