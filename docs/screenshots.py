"""Screenshots of the studio for docs/studio.md, made with the model that ships.

python docs/screenshots.py      # writes docs/images/studio-*.png; needs playwright and chromium
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fixtures_service import running
from rdtf.app.core import Core
from rdtf.app.errors import Limits
from rdtf.app.runner import PipelineRunner

_IMAGES = Path(__file__).parent / "images"
_VIEWS = {"make": (1280, 900), "phone": (390, 844)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        core = Core.build(PipelineRunner(None), Path(folder) / "work", Limits())
        core.start()
        core.runner.pipeline(120)
        still = _first_picture(Path(folder))
        with running(core, page=True) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for name, (width, height) in _VIEWS.items():
                page = browser.new_page(viewport={"width": width, "height": height})
                _make(page, address, still)
                page.screenshot(path=_IMAGES / f"studio-{name}.png", full_page=True)
                page.get_by_role("tab", name="Edit", exact=True).click()
                page.wait_for_selector("#edit-strip .frame")
                if name == "make":
                    page.screenshot(path=_IMAGES / "studio-edit.png", full_page=True)
            browser.close()
        core.close()


def _first_picture(folder: Path) -> Path:
    """A synthetic sticker's first frame."""
    from rdtf.synthetic.characters import SyntheticStickers

    sticker = next(iter(SyntheticStickers(seed=3, count=1, max_frames=8)))
    return sticker.select([0]).fit_canvas(256).save(folder / "still.png")


def _make(page: Any, address: str, still: Path) -> None:
    page.goto(f"{address}/")
    page.wait_for_selector("#frame-strip .frame")
    page.set_input_files("#drop input[type=file]", str(still))
    page.wait_for_selector("#frame-strip img")
    page.fill("#prompt textarea", "jumping")
    page.click("#go")
    page.wait_for_selector("#variants .card", timeout=120_000)
    page.wait_for_timeout(500)


if __name__ == "__main__":
    main()
