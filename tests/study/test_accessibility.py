"""axe-core on every page that people see: `pytest -m browser tests/study/test_accessibility.py`."""

import json

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from driving import OPEN, QUICK, answer_until, begin, page_of, picture, study_of

from lapgan.study.report import write_report
from lapgan.study.simulate import Observers, simulate_into
from lapgan.study.stimuli import STIMULI, load_study
from lapgan.study.store import Store

pytestmark = pytest.mark.browser

RECRUITED = {
    "parameters": ["PROLIFIC_PID"],
    "completion_code": "C1A2B3C4",
    "completion_url": "http://127.0.0.1:9/complete?cc=C1A2B3C4&pid={PROLIFIC_PID}",
}


def check(page, name):
    """No finding of any weight; `axe.run` also reads what is far down the page."""
    page.wait_for_load_state("load")
    picture(page, name)
    found = Axe().run(page).response["violations"]
    summary = [(item["id"], item["impact"], item["nodes"][0]["html"]) for item in found]
    assert summary == [], (name, json.dumps(summary, indent=1))


@pytest.mark.parametrize("colors", ["none", "active"], ids=["usual", "forced-colors"])
def test_no_page_has_a_finding(browser, tmp_path, colors):
    short = {**QUICK, "trials": 4, "blocks": 2, "practice_trials": 1, "recruiting": RECRUITED}
    with (
        study_of(tmp_path, **short) as (folder, base, _),
        page_of(browser, forced_colors=colors) as page,
    ):
        for path in ("/", "/declined", "/nothing", "/admin/"):
            page.goto(base + path)
            check(page, f"axe-{colors}{path.replace('/', '-')}")
        page.fill("#secret", "open-sesame")
        page.get_by_role("button", name="Open").click()
        page.wait_for_selector("table")
        check(page, f"axe-{colors}-admin")
        begin(page, f"{base}/?PROLIFIC_PID=5f1")
        check(page, f"axe-{colors}-instructions")
        page.locator("[data-go]").click()
        page.wait_for_selector(OPEN)
        check(page, f"axe-{colors}-trial")
        answer_until(page, 1)
        page.wait_for_selector("text=The main part")
        check(page, f"axe-{colors}-main")
        answer_until(page, 2)
        page.wait_for_selector("text=Take a break")
        check(page, f"axe-{colors}-break")
        page.reload()
        page.wait_for_selector("text=Welcome back")
        check(page, f"axe-{colors}-back")
        answer_until(page, 2)
        page.wait_for_selector("text=Thank you!")
        check(page, f"axe-{colors}-thanks")
        assert page.inner_text(".note") == "Your completion code is C1A2B3C4."
        target = page.get_attribute("[data-return]", "href")
        assert target == "http://127.0.0.1:9/complete?cc=C1A2B3C4&pid=5f1"
        # Without a click the page goes there by itself.
        with page.expect_request(target, timeout=20_000):
            pass
        simulated = Store(load_study(folder))
        (rater,) = simulated.progress()
        assert rater["details"]["PROLIFIC_PID"] == "5f1"
        assert rater["details"]["screen.window_width"] == "1280"
        simulated.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_has_no_finding(browser, make_study, tmp_path, width):
    study = make_study(trials=40, images_per_source=40)
    store, stimuli = Store(study), study.folder / STIMULI
    simulate_into(store, Observers({"gan": 2.0}), 4, np.random.default_rng(0))
    write_report(study.manifest, store.rows(), tmp_path, 20, stimuli=stimuli)
    store.close()
    with page_of(browser, viewport={"width": width, "height": 800}) as page:
        page.goto((tmp_path / "report.html").as_uri())
        check(page, f"axe-report-{width}")


def test_a_german_sitting(browser, tmp_path):
    short = {**QUICK, "trials": 4, "blocks": 2, "practice_trials": 1}
    with (
        study_of(tmp_path, **short, language="de") as (_, base, _process),
        page_of(browser, viewport={"width": 390, "height": 780}) as page,
    ):
        page.goto(base)
        check(page, "german-consent")
        page.get_by_role("button", name="Einverstanden").click()
        page.wait_for_selector("text=So funktioniert es")
        picture(page, "german-instructions")
        page.locator("[data-go]").click()
        page.wait_for_selector(OPEN)
        assert page.inner_text(".question") == "Echt oder künstlich?"
        assert page.inner_text("[data-answer=fake]").strip("←→ \n").lower() == "künstlich"
        picture(page, "german-trial")
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector(".question.right, .question.wrong")
        assert "das war" in page.inner_text(".question")
        picture(page, "german-feedback")
        page.wait_for_selector("text=Der Hauptteil")
        answer_until(page, 2)
        page.wait_for_selector("text=Zeit für eine Pause")
        picture(page, "german-break")
        assert "Abschnitt 2 von 2" in page.inner_text("main")
        answer_until(page, 2)
        page.wait_for_selector("text=Vielen Dank!")
        picture(page, "german-thanks")
        assert page.problems == []
