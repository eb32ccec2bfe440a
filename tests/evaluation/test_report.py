from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdtf.errors import UserError
from rdtf.evaluation.baselines import BASELINES
from rdtf.evaluation.charts import Curve, Line
from rdtf.evaluation.report import write_report
from rdtf.evaluation.results import Cell, Example, Table, save_example_sheet

from .drawings import moving_ball

NASTY = """<script>alert("1")</script> & 'x' "y" <img src=a onerror=b>"""
URI = re.compile(r'(?:src|srcset)="(data:image/webp;base64,([^"#]+))[^"]*"')


class Structure(HTMLParser):
    """Tags with their attributes, and whether every element is closed in order."""

    VOID = frozenset({"meta", "img", "source"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"repeated attribute in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def example(task: str = "interpolation", prompt: str | None = "a ball") -> Example:
    truth = moving_ball(6, 32, attribution="A. Person", license="CC-BY-4.0")
    known = (0, 2, 4)
    results = {name: fill(truth, known) for name, fill in BASELINES.items()}
    scores = {"linear blend": {"psnr": 21.34, "line_distance": 1.26}}
    return Example(task, prompt, truth, known, results, scores)


def nasty_report(path: Path) -> str:
    clip = moving_ball(3, 32, attribution=NASTY, license=NASTY, source=NASTY)
    steps = list(range(5))
    write_report(
        path,
        title=NASTY,
        intro=NASTY,
        examples=[Example(NASTY, NASTY, clip, (0,), {NASTY: clip}, {})],
        curves=[
            Curve(NASTY, [Line(NASTY, steps, steps)] * 2, x_label=NASTY, y_label=NASTY, note=NASTY)
        ],
        tables=[Table(NASTY, [NASTY, NASTY, NASTY], [[NASTY, NASTY, Cell(NASTY, True)]], NASTY)],
        notes=[NASTY],
    )
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    random = np.random.default_rng(0)
    loss = np.exp(-np.arange(2000) / 500) + 0.1 * random.random(2000)
    loss[7] = np.nan
    table = Table(
        "Scores",
        ["task", "method", "PSNR (dB)"],
        [
            ["interpolation", "model", Cell("21.3 [20.1, 22.5]", True)],
            ["interpolation", "blend", "20"],
        ],
    )
    written = write_report(
        path,
        title="A model",
        intro="One.\n\nTwo.",
        examples=[example(), example("it2v", None)],
        curves=[Curve("Loss", [Line("all", range(2000), loss)], y_label="loss", log_y=True)],
        tables=[table],
        notes=["Seed 0"],
    )
    assert written == path
    return path.read_text("utf-8")


def test_the_page_is_well_formed_and_loads_nothing(page: str):
    structure = Structure(page)
    assert not structure.open
    assert "http://" not in page and "https://" not in page
    assert not structure.all("script") and not structure.all("link")
    assert all(tag["src"].startswith("data:image/webp;base64,") for tag in structure.all("img"))
    assert all(tag["href"].startswith("#") for tag in structure.all("a"))
    policy = next(t["content"] for t in structure.all("meta") if "http-equiv" in t)
    assert policy.startswith("default-src 'none'")


def test_every_clip_moves_and_has_its_film_strip(page: str):
    # Per example: truth and two rows, each an animation, a still for less motion, and a strip.
    pictures = [base64.b64decode(data) for _, data in URI.findall(page)]
    images = [Image.open(io.BytesIO(data)) for data in pictures]
    assert len(images) == 2 * 3 * 3
    assert sum(getattr(image, "n_frames", 1) == 6 for image in images) == 2 * 3
    assert sum(image.size == (6 * 32, 32) for image in images) == 2 * 3


def test_given_frames_are_marked(page: str):
    assert page.count(">given</b>") == 2 * 3
    assert page.count('<span class="given">') == 2 * 3 * 3
    alts = [tag["alt"] for tag in Structure(page).all("img")]
    assert "Film strip, linear blend: frames 0 to 5; given: 0, 2, 4" in alts
    assert "Animation, truth: a ball (6 frames)" in alts


def test_texts_scores_and_credits_are_there(page: str):
    for text in (
        "<p>One.</p><p>Two.</p>",
        "“a ball”",
        "no text",
        "Interpolation, every 2nd frame and the last given",
        "Image and text to clip, first frame given",
        "PSNR 21.3 dB",
        "lines 1.3% off",
        "A. Person · CC-BY-4.0",
        "<li>Seed 0</li>",
        '<td class="best"><strong>21.3 <span class="spread">[20.1, 22.5]</span></strong></td>',
        '<th scope="rowgroup" colspan="2" class="name group">interpolation</th>',
    ):
        assert text in page, text


def test_all_texts_are_escaped(tmp_path: Path):
    page = nasty_report(tmp_path / "nasty.html")
    structure = Structure(page)
    assert not structure.open
    assert not structure.all("script")
    assert all("onerror" not in attributes for _, attributes in structure.tags)
    assert page.count("&lt;script&gt;") >= 15


def test_an_empty_report_is_a_page(tmp_path: Path):
    path = write_report(tmp_path / "new" / "empty.html", title="Nothing yet")
    structure = Structure(path.read_text("utf-8"))
    assert not structure.open and not structure.all("section")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="file"):
        write_report(tmp_path / "file" / "report.html", title="x")


def test_contact_sheet_of_examples(tmp_path: Path):
    path = save_example_sheet([example(), example("it2v")], tmp_path / "sheet.png")
    with Image.open(path) as sheet:
        assert sheet.width >= 6 * 32 and sheet.height >= 6 * 32
