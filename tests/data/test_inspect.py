from __future__ import annotations

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdtf.data.dataset import PreparedDataset
from rdtf.data.inspect import (
    _near_duplicates,
    _read,
    _source_picture,
    inspect_dataset,
    write_page,
)
from rdtf.data.prepare import prepare
from rdtf.data.shards import SKIPPED_FILE
from rdtf.errors import DataError

from .stickers import moving_square, save_webp, soft_disc, write_rows


@pytest.fixture(scope="module")
def page(dataset, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "set.html"
    return write_page(dataset, inspect_dataset(dataset), path).read_text("utf-8")


def pictures(page: str) -> list[Image.Image]:
    """Every picture of a page, decoded."""
    found = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def section(page: str, name: str) -> str:
    return page[page.index(f'id="{name}"') :].partition("</section>")[0]


def test_report_counts_what_is_there(dataset):
    report = inspect_dataset(dataset)
    assert report.num_clips == 5
    assert report.sources == {"pack/moving": 3, "pack/still": 2}
    assert report.licenses == {"unknown": 4, "CC0-1.0": 1}
    assert report.without_caption == 0
    frames, length, motion, size = report.histograms
    shown = dict(zip(frames.labels, frames.counts, strict=True))
    assert {label: count for label, count in shown.items() if count} == {
        "1": 2, "4": 1, "6": 1, "8": 1,
    }  # fmt: skip
    # 320, 600 and 1000 ms
    assert dict(zip(length.labels, length.counts, strict=True)) == {"0.2": 1, "0.5": 1, "1": 1}
    assert sum(motion.counts) == 3 and sum(size.counts) == 5
    assert report.words["square"] == 2 and "a" not in report.words
    kinds = {group.kind: group.count for group in report.skipped}
    assert kinds["unreadable"] == kinds["duplicate"] == kinds["empty"] == 1


def test_report_is_json_and_text(dataset):
    report = inspect_dataset(dataset)
    assert json.loads(json.dumps(report.to_dict()))["canvas"] == 32
    for expected in ("train", "val", "CC0-1.0", "duplicate", "line is not JSON"):
        assert expected in report.text()


def test_the_page_stands_alone(page):
    """No script, nothing loaded, every picture is one, every link leads somewhere."""
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attrs)))

    Reader().feed(page)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags}
    assert all(str(a["src"]).startswith("data:image/webp") for tag, a in tags if tag == "img")
    names = {a["id"] for _, a in tags if "id" in a}
    links = [str(a["href"]) for tag, a in tags if tag == "a"]
    assert len(links) == 7 and {link.removeprefix("#") for link in links} == names
    assert all(min(picture.size) == 64 for picture in pictures(page))


def test_the_page_shows_what_the_report_counts(page):
    for expected in ("its pixels equal those of", "line is not JSON", "unreadable", "empty"):
        assert expected in section(page, "preparing").replace("&#39;", "'")
    assert "square" in section(page, "words")
    assert "CC0-1.0" in section(page, "licences") and "pack/still" in section(page, "licences")
    assert re.findall(r"background:(#[0-9a-f]{6})", section(page, "colours"))
    sheets = section(page, "concepts")
    assert len(pictures(sheets)) == 5
    assert max(picture.width for picture in pictures(sheets)) == 8 * 64


def test_copies_left_out_are_shown_beside_what_was_kept(page, sticker_folder, dataset):
    shown = section(page, "duplicates")
    assert "1 left out" in shown and "pack/still/disc.webp" in shown
    kept, copy = pictures(shown)
    visible = [np.asarray(picture.convert("RGBA"), float)[..., 3] for picture in (kept, copy)]
    assert np.abs(visible[0] - visible[1]).mean() < 1


def test_the_same_seed_gives_the_same_page(dataset, tmp_path):
    report = inspect_dataset(dataset)
    first = write_page(dataset, report, tmp_path / "first.html").read_text("utf-8")
    again = write_page(dataset, report, tmp_path / "again.html").read_text("utf-8")
    other = write_page(dataset, report, tmp_path / "other.html", seed=1).read_text("utf-8")
    assert first == again and len(other) > 1000


def test_clips_that_look_alike_and_were_kept_are_shown(dataset):
    looks = [_read(dataset, index) for index in range(4)]
    assert _near_duplicates(dataset, looks) == []
    looks[3] = replace(looks[3], fingerprint=looks[1].fingerprint)
    ((first, second),) = _near_duplicates(dataset, looks)
    names = [dataset.clip(index).captions[0] for index in (1, 3)]
    assert [first["name"], second["name"]] == names


def test_what_a_set_says_is_escaped_and_missing_files_are_names(tmp_path):
    pack = tmp_path / "pack"
    save_webp(pack / "first.webp", moving_square(4, 64), 80)
    save_webp(pack / "again.webp", moving_square(4, 64), 80)
    write_rows(pack / "captions.jsonl", [{"file": "again.webp", "captions": ["<b>bold</b>"]}])
    prepare(pack, tmp_path / "set", canvas=64, workers=0)
    shutil.rmtree(pack)
    dataset = PreparedDataset(tmp_path / "set")
    path = write_page(dataset, inspect_dataset(dataset), tmp_path / "set.html")
    page = path.read_text("utf-8")
    assert "pack/first.webp" in section(page, "duplicates")
    assert len(pictures(section(page, "duplicates"))) == 1
    assert "<b>bold" not in page and "&lt;b&gt;bold&lt;/b&gt;" in page


def test_stages_are_shown_where_the_set_has_them(dataset, tmp_path):
    copied = Path(shutil.copytree(dataset.path, tmp_path / "set"))
    head = json.loads((copied / "dataset.json").read_text())
    dropped = {"unreadable": 1, "near duplicate": 2}
    head["stages"] = [{"stage": "decode", "in": 1234, "out": 1231, "dropped": dropped}]
    (copied / "dataset.json").write_text(json.dumps(head))
    changed = PreparedDataset(copied)
    report = inspect_dataset(changed)
    assert "decode: 1,234 in, 1,231 out (1 unreadable, 2 near duplicate)" in report.text()
    page = write_page(changed, report, tmp_path / "set.html").read_text("utf-8")
    assert "1,231" in section(page, "preparing") and "2 near duplicate" in page


def test_a_damaged_list_of_what_was_left_out_is_named(dataset, tmp_path):
    copied = Path(shutil.copytree(dataset.path, tmp_path / "set"))
    (copied / SKIPPED_FILE).write_text('{"kind": "empty"}\n')
    with pytest.raises(DataError, match=r"skipped.jsonl is damaged"):
        inspect_dataset(PreparedDataset(copied))


def test_files_outside_of_the_inputs_are_never_shown(tmp_path):
    pack = tmp_path / "pack"
    save_webp(pack / "in.webp", soft_disc())
    save_webp(tmp_path / "out.webp", soft_disc())
    assert _source_picture("pack/in.webp", [pack]) is not None
    for name in ("pack/../out.webp", "out.webp", "/out.webp", "", "pack/gone.webp"):
        assert _source_picture(name, [pack]) is None
