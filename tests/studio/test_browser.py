"""A real browser: drop a sticker, pick given frames, generate, edit a frame, export; then a phone.

Screenshots go to the folder in RDTF_SCREENSHOTS, or beside the test's other files.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures_service import ENDLESS_LIMITS, moving_disc, running, still
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
    core = make_core(replace(ENDLESS_LIMITS, reload_seconds=3.0))
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
    page.set_default_timeout(20_000)
    page.complaints = []
    own = (address, "data:", "blob:")

    def on_request(request: Any) -> None:
        if not request.url.startswith(own):
            page.complaints.append(request.url)

    page.on("request", on_request)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(f"{address}/")
    page.wait_for_selector("#frame-strip .frame")
    return page


def tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def drop(page: Any, path: Path) -> None:
    page.set_input_files("#drop input[type=file]", str(path))
    page.wait_for_selector("#frame-strip .frame img")


def set_number(page: Any, label: str, value: int) -> None:
    field = page.get_by_label(f"number input for {label}")
    field.fill(str(value))
    field.press("Enter")


def beside(page: Any, notice: str, button: str) -> str:
    """The text of a notice that can be seen, no further from its button than 160 pixels."""
    page.wait_for_selector(f"{notice} .said")  # waits until it is visible
    said, pressed = (
        page.locator(name).first.bounding_box() for name in (f"{notice} .said", button)
    )
    assert said["height"] > 10
    gap = max(
        said["y"] - pressed["y"] - pressed["height"], pressed["y"] - said["y"] - said["height"]
    )
    assert gap <= 160, f"{notice} is {gap} pixels from {button}"
    return page.locator(f"{notice} .said").first.inner_text()


#: Least ratio of the luminances of text and what lies behind it, as WCAG 2 defines both.
_CONTRAST = """element => {
  const rgba = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => rgba(color).slice(0, 3).reduce((sum, value, i) => {
    const c = value / 255;
    const linear = c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    return sum + [0.2126, 0.7152, 0.0722][i] * linear;
  }, 0);
  let behind = element;
  const fill = () => getComputedStyle(behind).backgroundColor;
  while ((rgba(fill())[3] ?? 1) === 0) behind = behind.parentElement;
  const pair = [getComputedStyle(element).color, fill()].map(luminance);
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_either_scheme(browser, served, shots, scheme):
    _, address = served
    page = visit(browser, address, DESK, color_scheme=scheme)
    for selector in ("h2.head", "h2.head small", "#strip-summary .hint", "#task button", "#go"):
        ratio = page.locator(selector).first.evaluate(_CONTRAST)
        assert ratio >= 4.5, f"{selector} in {scheme}: {ratio:.1f}"
    assert page.locator("#go").evaluate("e => getComputedStyle(e).color") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_notices_are_seen_beside_the_button(browser, served, shots, viewport, scheme):
    """Errors of every tab, with nothing given and no sticker open."""
    _, address = served
    page = visit(browser, address, viewport, color_scheme=scheme)
    page.click("#go")
    assert "nothing to start from" in beside(page, "#progress", "#go")
    page.click("#stop")
    page.wait_for_selector("#progress :text('Nothing is being made')")
    page.click("#task button:has-text('Smooth ×2')")
    page.wait_for_selector("#frame-strip :text('starts from a clip')")
    page.click("#go")
    page.wait_for_selector("#progress :text('needs a clip')")
    page.screenshot(path=shots / f"notice-{viewport['width']}-{scheme}.png", full_page=True)
    tab(page, "Edit")
    page.click("#regenerate")
    assert "no sticker yet" in beside(page, "#edit-notice", "#regenerate")
    page.click("#keep")
    assert "no sticker yet" in beside(page, "#stage-notice", "#keep")
    page.click("#use-edited")
    assert "no sticker yet" in beside(page, "#stage-notice", "#use-edited")
    tab(page, "Export")
    page.click("#exports [data-platform=signal] button")
    page.wait_for_selector("#exports [data-platform=signal].refused :text('no sticker yet')")
    page.click("#export-all")
    page.wait_for_selector("#exports > * .notice")
    tab(page, "Pack")
    page.click("#pack-add")
    assert "no sticker yet" in beside(page, "#pack-add-notice", "#pack-add")
    page.click("#pack-build")
    assert "pack is empty" in beside(page, "#pack-result", "#pack-build")
    assert page.complaints == []


def test_the_main_job(browser, served, tmp_path, shots, pipeline):
    _, address = served
    clip = moving_disc(pipeline.canvas, 4)
    path = clip.save(tmp_path / "disc.webp")
    page = visit(browser, address, DESK)

    drop(page, path)
    assert "all of them are kept" in beside(page, "#start-notice", "#drop")
    page.wait_for_selector("#strip-summary :text('4 of 7 frames kept')")
    page.click("#task button:has-text('Fix frames')")
    page.click("#frame-strip .frame >> nth=1")
    page.wait_for_selector("#strip-summary :text('3 of 4 frames kept')")
    page.fill("#prompt textarea", "a ball rolling")
    page.click("#go")
    page.wait_for_selector("#variants .card >> nth=1")
    page.screenshot(path=shots / "desk-made.png", full_page=True)
    with page.expect_download() as saving:
        page.click("#variants a >> nth=1")
    assert saving.value.suggested_filename == "a-ball-rolling-2.webp"

    tab(page, "Edit")
    page.click("#edit-strip .frame >> nth=1")
    before = page.locator("#edit-strip").inner_html()
    page.click("#regenerate")
    page.wait_for_function(
        "before => document.querySelector('#edit-strip').innerHTML !== before", arg=before
    )
    page.locator("#stage [data-scrub]").fill("2")
    page.check("#stage [data-onion]")
    assert page.locator("#stage .onion").is_visible()
    assert page.locator("#stage .one").is_visible()
    assert not page.locator("#stage .playing").is_visible()
    page.click("#edit-all")
    page.wait_for_selector("#edit-strip [aria-pressed=true] >> nth=3")
    page.click("#edit-duplicate")
    page.wait_for_selector("#edit-strip .frame >> nth=7")
    page.screenshot(path=shots / "desk-edit.png", full_page=True)

    tab(page, "Export")
    for platform in ("apng", "line"):
        page.click(f"#exports [data-platform={platform}] button")
        page.wait_for_selector(f"#exports [data-platform={platform}]:is(.passed, .refused)")
    assert page.locator("#exports .passed").count() == 1
    assert page.locator("#exports [data-platform=line].refused").count() == 1
    page.wait_for_function("document.querySelector('#exports img.file').naturalWidth > 0")
    page.screenshot(path=shots / "desk-export.png", full_page=True)
    with page.expect_download() as saving:
        page.click("#exports [data-platform=apng] a")
    saved = tmp_path / saving.value.suggested_filename
    saving.value.save_as(saved)
    made = Sticker.load(saved)
    assert made.num_frames == 8
    np.testing.assert_array_equal(made.frames[[0, 4, 6]], clip.frames[[0, 2, 3]])

    tab(page, "Pack")
    page.click("#pack-add")
    page.wait_for_selector("#pack-cards .card")
    tab(page, "History")
    page.wait_for_selector("#history-cards .card >> nth=1")
    page.screenshot(path=shots / "desk-history.png", full_page=True)
    assert page.complaints == []


_SEEDS = "`${document.querySelector('#variants').innerText.match(/seed \\d+/g)}`"


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_the_tasks(browser, served, tmp_path, shots, pipeline, viewport, scheme, by):
    """Animate a still; then make a clip smoother, extend it, and make a frame of it again."""
    core, address = served
    page = visit(browser, address, viewport, color_scheme=scheme)
    still_path = still(pipeline.canvas, 1).save(tmp_path / "still.png")
    clip_path = moving_disc(pipeline.canvas, 4).save(tmp_path / "disc.webp")
    page.click("button:has-text('Size, seed, steps')")
    set_number(page, "Steps", 1)

    def do(selector: str) -> None:
        if by == "mouse":
            page.click(selector)
        else:
            page.locator(selector).first.focus()
            page.keyboard.press("Enter")

    tasks = [("Animate", 8), ("Smooth ×2", 7), ("Smooth ×3", 10), ("Extend", 8), ("Fix frames", 4)]
    for number, (task, num_frames) in enumerate(tasks):
        if number < 2:
            drop(page, clip_path if number else still_path)
            page.wait_for_selector("#strip-summary :text('kept')")
        do(f"#task button:has-text('{task}')")
        page.wait_for_selector(f"#task [aria-pressed=true]:has-text('{task}')")
        if task == "Fix frames":
            page.wait_for_selector("#strip-summary :text('none to generate yet')")
            do("#frame-strip .frame >> nth=1")
        page.wait_for_selector(f"#strip-summary :text('of {num_frames} frames kept')")
        before = page.evaluate(_SEEDS)
        do("#go")
        page.wait_for_function(f"before => {_SEEDS} !== before", arg=before)
        job = list(core.queue._jobs.values())[-1]
        assert [result.num_frames for result in job.results] == [num_frames] * 2
        page.screenshot(path=shots / f"{task}-{viewport['width']}-{scheme}.png", full_page=True)
    assert page.complaints == []


def test_a_reload_keeps_what_is_on_the_desk_and_tabs_are_apart(browser, served, tmp_path, pipeline):
    _, address = served
    page = visit(browser, address, DESK)
    drop(page, moving_disc(pipeline.canvas, 4).save(tmp_path / "disc.webp"))
    page.click("#task button:has-text('Fix frames')")
    page.click("#frame-strip .frame >> nth=1")
    page.wait_for_selector("#strip-summary :text('3 of 4 frames kept')")
    page.fill("#prompt textarea", "a ball")
    page.click("button:has-text('Size, seed, steps')")
    set_number(page, "Steps", 90_000)
    page.click("#go")
    page.wait_for_selector("#progress .making .hint:has-text('Step')")
    page.reload()
    page.wait_for_selector("#progress .making .hint:has-text('Step')")  # it is still being made
    assert page.input_value("#prompt textarea") == "a ball"
    assert page.locator("#task [aria-pressed=true]").inner_text() == "Fix frames"
    page.wait_for_selector("#strip-summary :text('3 of 4 frames kept')")
    other = page.context.new_page()
    other.goto(f"{address}/")
    other.wait_for_selector("#strip-summary :text('8 frames')")
    assert other.input_value("#prompt textarea") == ""
    assert other.locator("#frame-strip img").count() == 0
    page.click("#stop")
    page.wait_for_selector("#progress :text('Cancelled')")


def test_two_files_and_a_number_that_is_too_large(browser, served, tmp_path, pipeline):
    _, address = served
    page = visit(browser, address, DESK)
    paths = [still(pipeline.canvas, seed).save(tmp_path / f"{seed}.png") for seed in (1, 2)]
    page.set_input_files("#drop input[type=file]", [str(path) for path in paths])
    page.wait_for_selector("#strip-summary :text('2 of 8 frames kept')")
    assert page.locator("#frame-strip img").count() == 2
    assert page.locator("#loop input").is_checked()
    field = page.get_by_label("number input for Frames", exact=True)
    field.fill("999")
    field.press("Enter")
    page.wait_for_function("document.querySelector('#length input[type=number]').value !== '999'")
    assert page.locator("#frame-strip .frame").count() == int(field.input_value())


def test_cancel_and_going_away_free_the_slot(browser, served):
    core, address = served
    page = visit(browser, address, DESK)
    page.fill("#prompt textarea", "a ball")
    page.click("button:has-text('Size, seed, steps')")
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
    page.locator("#task [aria-pressed=true]").focus()
    for _ in range(3):  # Smooth ×3, Extend, Fix frames
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.wait_for_selector("#strip-summary :text('none to generate yet')")
    page.locator("#frame-strip .frame").nth(0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.wait_for_selector("#strip-summary :text('3 of 4 frames kept')")
    focused = page.evaluate("document.activeElement.dataset.key")
    assert focused == "give-1"  # though the strip was drawn again
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.key") == "give-2"
    page.keyboard.press("Enter")
    page.wait_for_selector("#strip-summary :text('2 of 4 frames kept')")


def test_drawing(browser, served, shots):
    _, address = served
    page = visit(browser, address, DESK)
    tab(page, "Draw")
    page.wait_for_selector("#canvas canvas")
    box = page.locator("#canvas canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 40, y - 20)
    page.mouse.down()
    page.mouse.move(x + 40, y + 30, steps=12)
    page.mouse.up()
    page.screenshot(path=shots / "desk-draw.png", full_page=True)
    page.click("#use-drawing")
    page.wait_for_selector("#frame-strip .frame img")
    url = page.locator("#frame-strip .frame img").first.get_attribute("src")
    alpha = decode_sticker(base64.b64decode(url.partition(",")[2])).frames[..., 3]
    assert 0 < (alpha > 0).mean() < 0.5  # a stroke, and nothing around it


def test_a_phone(browser, served, tmp_path, shots, pipeline):
    _, address = served
    page = visit(browser, address, PHONE, has_touch=True, is_mobile=True)
    drop(page, moving_disc(pipeline.canvas, 4).save(tmp_path / "disc.webp"))
    page.tap("#task button:has-text('Fix frames')")
    page.tap("#frame-strip .frame >> nth=3")
    page.wait_for_selector("#strip-summary :text('3 of 4 frames kept')")
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
