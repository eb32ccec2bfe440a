from __future__ import annotations

import io
import json

import pytest
from PIL import Image
from rich.console import Console

from rdtf.data.inspect import inspect_dataset, write_clip_sheet
from rdtf.errors import DataError


def test_report_counts_what_is_there(dataset):
    report = inspect_dataset(dataset.path, verify=True)
    assert sum(split["num_clips"] for split in report.splits.values()) == 5
    assert report.sources == {"pack/moving": 3, "pack/still": 2}
    assert report.licenses == {"unknown": 4, "CC0-1.0": 1}
    assert report.frame_counts == {1: 2, 4: 1, 6: 1, 8: 1}
    assert report.clip_ms == {"p0": 320, "p10": 376, "p50": 600, "p90": 920, "p100": 1000}
    assert report.without_caption == 0
    assert {
        group.kind: group.count for group in report.skipped if group.kind != "caption line"
    } == {
        "unreadable": 1,
        "duplicate": 1,
        "empty": 1,
    }


def test_report_is_json_and_text(dataset):
    report = inspect_dataset(dataset.path)
    assert json.loads(json.dumps(report.to_dict()))["canvas"] == 32
    console = Console(width=100, file=io.StringIO())
    console.print(report.tables())
    text = console.file.getvalue()  # pyright: ignore
    for expected in ("train", "val", "CC0-1.0", "duplicate", "line is not JSON"):
        assert expected in text


def test_sheet_shows_clips_of_both_splits(dataset, tmp_path):
    path = write_clip_sheet(dataset, tmp_path / "sheet.png", clips_per_split=3, cell=32)
    again = write_clip_sheet(dataset, tmp_path / "again.png", clips_per_split=3, cell=32)
    with Image.open(path) as sheet:
        assert sheet.format == "PNG" and sheet.width >= 32 * 8
    assert path.read_bytes() == again.read_bytes()


def test_missing_set_is_named(tmp_path):
    with pytest.raises(DataError, match="holds no training set"):
        inspect_dataset(tmp_path)
