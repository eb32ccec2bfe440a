"""A real browser: drop a sticker, pick given frames, generate, edit a frame, export; then a phone.

Screenshots go to the folder in RDTF_SCREENSHOTS, or beside the test's other files.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures_service import ENDLESS_LIMITS, moving_disc, running
from rdtf.stickers import Sticker, decode_sticker

pytestmark = pytest.mark.slow
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("gradio", reason="the extra studio is not installed")

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if _CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def served(make_core):
    core = make_core(ENDLESS_LIMITS)
    with running(core, page=True) as address:
        yield core, address


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("RDTF_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def visit(browser: Any, address: str, viewport: dict[str, int], **options: Any) -> Any:
    """A page that complains about every request to somewhere else and every script error."""
    page = browser.new_context(viewport=viewport, **options).new_page()
    page.set_default_timeout(120_000)
    page.complaints = []
    own = (address, "data:", "blob:")

    def on_request(request: Any) -> None:
        if not request.url.startswith(own):
            page.complaints.append(request.url)

    page.on("request", on_request)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(f"{address}/")
    page.wait_for_selector("#film-strip .frame")
    return page


def tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def drop(page: Any, path: Path) -> None:
    page.set_input_files("#drop input[type=file]", str(path))
    page.wait_for_selector("#film-strip .frame img")


def set_number(page: Any, label: str, value: int) -> None:
    field = page.get_by_label(f"number input for {label}")
    field.fill(str(value))
    field.press("Enter")


def test_the_main_job(browser, served, tmp_path, shots, pipeline):
    core, address = served
    clip = moving_disc(pipeline.canvas, 4)
    path = clip.save(tmp_path / "disc.webp")
    page = visit(browser, address, DESK)

    drop(page, path)
    page.wait_for_selector("#mask-words :text('2 of 4 frames given')")
    page.click("#film-strip .frame >> nth=3")
    page.wait_for_selector("#mask-words :text('3 of 4 frames given')")
    page.fill("#prompt textarea", "a ball rolling")
    page.screenshot(path=shots / "desk-given.png", full_page=True)
    page.click("#go")
    page.wait_for_selector("#variants .card >> nth=1")
    page.screenshot(path=shots / "desk-made.png", full_page=True)

    tab(page, "Edit")
    page.click("#edit-strip .frame >> nth=1")
    page.click("#regenerate")
    page.wait_for_selector("#edit-undo:visible")
    page.wait_for_function("!document.querySelector('#edit-notice .making')")
    page.click("#edit-strip .frame >> nth=0")
    page.click("#edit-duplicate")
    page.wait_for_selector("#edit-strip .frame >> nth=5")
    page.screenshot(path=shots / "desk-edit.png", full_page=True)

    tab(page, "Export")
    for platform in ("apng", "telegram", "line"):
        page.click(f"#exports [data-platform={platform}] button")
        page.wait_for_selector(f"#exports [data-platform={platform}]:is(.passed, .refused)")
    assert page.locator("#exports .passed").count() == 2
    assert page.locator("#exports [data-platform=line].refused").count() == 1
    page.screenshot(path=shots / "desk-export.png", full_page=True)
    with page.expect_download() as saving:
        page.click("#exports [data-platform=apng] a")
    saved = tmp_path / saving.value.suggested_filename
    saving.value.save_as(saved)
    made = Sticker.load(saved)
    assert made.num_frames == 6  # 1 and 2 twice: what was made anew stays selected
    (session,) = core_sessions(core)
    np.testing.assert_array_equal(made.frames, session.editor.current().frames)
    np.testing.assert_array_equal(made.frames[[0, 1, 4, 5]], clip.frames[[0, 0, 2, 3]])

    tab(page, "Pack")
    page.click("#pack-add")
    page.wait_for_selector("#pack-cards .card")
    page.screenshot(path=shots / "desk-pack.png", full_page=True)
    tab(page, "History")
    page.wait_for_selector("#history-cards .card >> nth=1")
    page.screenshot(path=shots / "desk-history.png", full_page=True)
    page.reload()
    page.wait_for_selector("#variants .card")  # what was made is still there
    assert page.locator("#film-strip [aria-pressed=true]").count() == 3
    assert page.complaints == []


def core_sessions(core: Any) -> list[Any]:
    """Sessions in which something was made."""
    import gc

    from rdtf.studio.session import Session

    found = [o for o in gc.get_objects() if isinstance(o, Session)]
    return [s for s in found if s.store is core.store and s.last_job is not None]


def test_cancel_and_going_away_free_the_slot(browser, served):
    core, address = served
    page = visit(browser, address, DESK)
    page.fill("#prompt textarea", "a ball")
    set_number(page, "Steps", 90_000)
    page.click("#go")
    page.wait_for_selector("#progress .checker")  # a preview
    page.click("#stop")
    page.wait_for_selector("#progress :text('Cancelled')")
    page.click("#go")
    page.wait_for_selector("#progress .checker")
    (job,) = [job for job in core.queue._jobs.values() if not job.is_finished]
    page.close()
    core.queue.wait(job, timeout_s=60)
    assert job.state == "cancelled"


def test_the_keyboard_reaches_and_presses_frames(browser, served, tmp_path, pipeline):
    _, address = served
    page = visit(browser, address, DESK)
    drop(page, moving_disc(pipeline.canvas, 4).save(tmp_path / "disc.webp"))
    frames = page.locator("#film-strip .frame")
    frames.nth(0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.wait_for_selector("#mask-words :text('3 of 4 frames given')")
    focused = page.evaluate("document.activeElement.dataset.key")
    assert focused == "give-1"  # though the strip was drawn anew
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.key") == "give-2"
    page.keyboard.press("Enter")
    page.wait_for_selector("#mask-words :text('2 of 4 frames given')")


def test_drawing(browser, served, shots):
    _, address = served
    page = visit(browser, address, DESK)
    tab(page, "Draw")
    page.wait_for_selector("#canvas canvas")
    page.get_by_role("button", name="Brush").first.click()
    box = page.locator("#canvas canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 40, y - 20)
    page.mouse.down()
    page.mouse.move(x + 40, y + 30, steps=12)
    page.mouse.up()
    page.screenshot(path=shots / "desk-draw.png", full_page=True)
    page.click("#use-drawing")
    page.wait_for_selector("#film-strip .frame img")
    url = page.locator("#film-strip .frame img").first.get_attribute("src")
    alpha = decode_sticker(base64.b64decode(url.partition(",")[2])).frames[..., 3]
    assert 0 < (alpha > 0).mean() < 0.5  # a stroke, and nothing around it


def test_a_phone(browser, served, tmp_path, shots, pipeline):
    _, address = served
    page = visit(browser, address, PHONE, has_touch=True, is_mobile=True)
    drop(page, moving_disc(pipeline.canvas, 4).save(tmp_path / "disc.webp"))
    page.tap("#film-strip .frame >> nth=3")
    page.wait_for_selector("#mask-words :text('3 of 4 frames given')")
    page.fill("#prompt textarea", "a ball")
    page.tap("#go")
    page.wait_for_selector("#variants .card >> nth=1")
    page.screenshot(path=shots / "phone-make.png", full_page=True)
    for name in ("Edit", "Export", "Pack", "History"):
        tab(page, name)
        page.screenshot(path=shots / f"phone-{name.lower()}.png", full_page=True)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{name} is {width} pixels wide"
    assert page.complaints == []
