"""The documentation: names that exist, links that lead somewhere, and the site built from it."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module, resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from file_server import serving

import lapgan
from lapgan.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    plain = (re.sub(r"[^\w -]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page: Path):
    for link in LINK.findall(text_of(page)):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = page if not parts.path else page.parent / unquote(parts.path)
        assert target.exists(), link
        if parts.fragment:
            assert parts.fragment in anchors_of(target), link


def test_every_page_is_in_the_index_and_on_the_site():
    index, site = (DOCS / "index.md").read_text(), (ROOT / "mkdocs.yml").read_text()
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).as_posix()
        assert f": {name}\n" in site, name
        assert name == "index.md" or f"]({name})" in index, name


def test_every_name_on_the_page_of_the_method_exists():
    names = re.findall(r"`(lapgan(?:\.\w+)+)`", (DOCS / "method.md").read_text())
    assert len(names) > 30
    for name in names:
        module, _, last = name.rpartition(".")
        if last in ("chain", "sample"):
            module, _, owner = module.rpartition(".")
            function = getattr(getattr(import_module(module), owner), last)
        else:
            function = getattr(import_module(module), last)
        assert inspect.getdoc(function), name


def test_every_equation_of_the_paper_is_on_the_page_of_the_method():
    text = (DOCS / "method.md").read_text()
    assert {int(n) for n in re.findall(r"equation (\d)", text)} == {1, 2, 3, 4, 5}


def test_the_reference_has_every_public_name():
    headings = re.findall(r"heading: lapgan\.(\w+)", (DOCS / "api.md").read_text())
    assert sorted(headings) == sorted(lapgan.__all__)


def test_the_commands_that_print_json_are_listed():
    commands = {
        command.callback.__name__
        for command in app.registered_commands
        if "json" in inspect.signature(command.callback).parameters
    }
    section = (DOCS / "command-line.md").read_text().split("## For programs")[1].split("##")[0]
    assert commands == set(re.findall(r"`(\w+)`", section.split(" take ")[0]))


class _Page(HTMLParser):
    """What a page of the site links to and loads, and the places that it can be linked at."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.ids: set[str] = set()
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.add(values["href"])
        elif tag in ("img", "script", "link", "iframe"):
            self.loads |= {values[key] for key in ("src", "href") if values.get(key)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.slow
def test_the_site_is_built_strictly_and_every_link_within_it_resolves(site: Path):
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in _html(site)}
    assert len(pages) > len(PAGES)
    for path, page in pages.items():
        for link in page.links | page.loads:
            parts = urlsplit(link)
            if parts.scheme or not (parts.path or parts.fragment):
                continue
            # The page of what was not found is served from any place, so its links begin with /.
            start = site if parts.path.startswith("/") else path.parent
            target = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path.name}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids | {""}, f"{path.name}: {link}"


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path):
    for path in _html(site):
        for link in _Page(path.read_text(encoding="utf-8")).loads:
            assert urlsplit(link).scheme in ("", "data"), f"{path.name}: {link}"


def _html(site: Path) -> Iterator[Path]:
    # The study's report is a page of its own, made by another program.
    return (path for path in site.rglob("*.html") if "study-demo" not in path.parts)


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    with serving(site) as address:
        yield address


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_of_the_site_fit_and_have_no_serious_finding(browser: Any, address: str, width: int):
    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    found = {}
    for name in ("", "tutorial/", "pretrained/", "method/", "api/"):
        page.goto(f"{address}/{name}", wait_until="load")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        page.evaluate(axe)
        for each in page.evaluate("axe.run()")["violations"]:
            if each["impact"] in ("serious", "critical"):
                found[name, each["id"]] = [node["target"] for node in each["nodes"]][:3]
    page.context.close()
    assert found == {}
