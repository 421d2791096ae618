"""Raters in a real browser: the study served, and its pages driven."""

import os
from contextlib import contextmanager
from pathlib import Path

from serving import free_port, serving, write_images

from lapgan.study.design import Design
from lapgan.study.stimuli import freeze, load_study
from lapgan.study.store import Store

# Screenshots go here when set. docs/pictures/study is made so:
#   LAPGAN_PICTURES=docs/pictures/study python -m pytest -m browser tests/study/test_browser.py \
#       tests/study/test_accessibility.py -k "every_page or german or paused or reload_crash or
#       only_after_the_image or lost_connection"
PICTURES = os.environ.get("LAPGAN_PICTURES")

# Made by the package, so that pictures of the pages show nobody's photographs.
REAL = "dead-leaves:100"


@contextmanager
def study_of(tmp_path, *options, **changes):
    """A served study; yields (study folder, base URL, server process)."""
    fakes = {name: str(write_images(tmp_path, 80, seed, 32)) for seed, name in ((2, "a"), (3, "b"))}
    design = Design.model_validate({"images_per_source": 40, **changes})
    folder = tmp_path / "study"
    freeze(folder, design, REAL, fakes)
    with serving(folder, free_port(), *options) as (process, base):
        yield folder, base, process


@contextmanager
def page_of(browser, **options):
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: line.type == "error" and problems.append(line.text))
    page.problems = problems
    yield page
    context.close()


def picture(page, name):
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


def begin(page, base):
    page.goto(base)
    page.get_by_role("button", name="I agree, begin").click()
    page.wait_for_selector("[data-go]")


# Present exactly while an answer would count.
OPEN = "button[data-side=left]:enabled"


def answer_until(page, stop):
    """Answers by keyboard until `stop` trials are done or the sitting ends; returns how many."""
    keys, count = ("ArrowLeft", "ArrowRight", "f", "j"), 0
    while count < stop:
        page.wait_for_selector(f"{OPEN}, [data-go], h1", timeout=30_000)
        if page.query_selector("[data-go]"):
            heading = page.inner_text("h1")
            page.keyboard.press("Enter")
            change = "(old) => document.querySelector('h1')?.innerText !== old"
            page.wait_for_function(change, arg=heading)
        elif page.query_selector(OPEN):
            done = page.inner_text("#count")
            page.keyboard.press(keys[count % 4])
            change = "(old) => document.getElementById('count').textContent !== old"
            page.wait_for_function(change, arg=done)
            count += 1
        else:
            return count
    return count


def rows_of(folder):
    store = Store(load_study(folder))
    rows = store.rows()
    store.close()
    return rows


QUICK = {"durations_ms": [50], "fixation_ms": 50, "practice_trials": 0, "catch_trials": 0}
