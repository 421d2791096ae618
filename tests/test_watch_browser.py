"""The page on a run in a real browser: `pytest -m browser tests/test_watch_browser.py`."""

import os
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from watching import add_record, add_sheet, make_run, watching

from lapgan.recipe import Recipe
from lapgan.run_folder import RunFolder

pytestmark = pytest.mark.browser

# Screenshots go here when set.
PICTURES = os.environ.get("LAPGAN_PICTURES")


@pytest.fixture
def folder(tiny: Recipe, tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run", tiny)


def open_page(browser: Any, address: str, **options: Any) -> Any:
    page = browser.new_context(**options).new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda line: line.type == "error" and page.problems.append(line.text))
    page.goto(address)
    page.wait_for_selector("#part-6x8 svg")
    return page


def wait_until(page: Any, condition: str) -> None:
    # A function: the page's policy forbids the evaluation of text.
    page.wait_for_function(f"() => {condition}", timeout=20_000)


def test_the_page_follows_the_run_and_keeps_what_is_in_use(browser: Any, folder: RunFolder):
    part = folder.part("6x8")
    with watching(folder.path) as address:
        page = open_page(browser, address)
        assert page.title() == "run: interrupted"
        assert page.inner_text("#part-12 p").startswith("not begun")
        assert "<b>gradients</b>" in page.inner_text("#facts")  # as text, not as markup
        loss = page.get_by_role("img", name="Loss, against images seen")
        assert loss.get_attribute("aria-label").endswith("Last: D 0.6, G 0.8.")
        slider = page.get_by_role("slider")
        slider.focus()
        page.keyboard.press("ArrowLeft")
        assert "0000005k.png" in page.get_attribute(".sheet img", "src")
        page.click("summary")
        assert page.locator("tbody tr").count() == 10

        add_record(part, 20_000)
        add_sheet(part, 20_000)
        wait_until(
            page, "document.querySelector('#part-6x8 p').innerText.startsWith('finished, 100%')"
        )
        assert page.locator("tbody tr").count() == 11  # still open
        # The sheet that was chosen stays, the new one can be chosen.
        wait_until(page, "document.querySelector('input').max === '2'")
        assert "0000005k.png" in page.get_attribute(".sheet img", "src")
        page.get_by_role("slider").focus()
        page.keyboard.press("End")
        shown = page.locator(".sheet img")
        assert "0000020k.png" in shown.get_attribute("src")
        wait_until(page, "document.querySelector('.sheet img').naturalWidth > 0")
        assert "after 20 thousand images" in shown.get_attribute("alt")
        assert page.problems == []
        page.context.close()


def test_the_page_can_be_paused_and_says_when_its_server_is_gone(browser: Any, folder: RunFolder):
    with watching(folder.path) as address:
        page = open_page(browser, address)
        pause = page.get_by_role("button", name="Pause updates")
        pause.press("Enter")
        add_record(folder.part("6x8"), 20_000)
        page.wait_for_timeout(6000)
        assert "10 thousand images" in page.inner_text("#part-6x8 p")
        assert pause.get_attribute("aria-pressed") == "true"
    pause.press("Enter")
    wait_until(page, "document.getElementById('state').innerText.startsWith('no conn')")
    assert page.locator("svg").count() > 3  # what was shown stays
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_and_is_accessible(browser: Any, folder: RunFolder, width: int, scheme: str):
    with watching(folder.path) as address:
        size = {"width": width, "height": 900}
        page = open_page(browser, address, viewport=size, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if PICTURES:
            page.screenshot(path=Path(PICTURES) / f"watch-{scheme}-{width}.png", full_page=True)
        axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
        page.evaluate(axe)
        found = page.evaluate("axe.run()")["violations"]
        assert [(each["id"], each["impact"]) for each in found] == []
        assert page.problems == []
        page.context.close()
