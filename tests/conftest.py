"""Fixtures for all tests: a tiny recipe, tiny images, a browser, and a fork of the random state."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_recipe import TINY

from lapgan.cascade import Cascade, Level
from lapgan.data import Images
from lapgan.normalization import symmetric_normalization
from lapgan.recipe import Recipe, check_recipe

# Tiny nets gain nothing from threads that mostly wait for each other.
torch.set_num_threads(1)

CHROMIUM = os.environ.get("LAPGAN_CHROMIUM") or shutil.which("chromium")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAPGAN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _own_data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the real data from all tests that are not marked as using it."""
    if not request.node.get_closest_marker("data"):
        monkeypatch.delenv("LAPGAN_DATA", raising=False)


@pytest.fixture
def tiny() -> Recipe:
    return check_recipe(TINY, "tiny")


@pytest.fixture
def tiny_with_classes() -> Recipe:
    return check_recipe(TINY | {"data": {"classes": True}}, "tiny")


@pytest.fixture
def images() -> Images:
    """Forty images of 12x12: a colored gradient each, in two classes."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 1, 12)
    colors = random.uniform(0, 255, (40, 3, 1, 1))
    pixels = (colors * (ramp[:, None] + ramp[None, :]) / 2).astype(np.uint8)
    return Images(pixels, np.arange(40) % 2, ("dim", "bright"), "gradients", "f" * 8)


@pytest.fixture
def cascade(tiny: Recipe) -> Cascade:
    return _cascade(tiny, ())


@pytest.fixture
def cascade_with_classes(tiny_with_classes: Recipe) -> Cascade:
    return _cascade(tiny_with_classes, ("cat", "dog", "7"))


def _cascade(recipe: Recipe, class_names: tuple[str, ...]) -> Cascade:
    levels = [
        Level(level.size, level.noise, level.build_generator(len(class_names)))
        for level in recipe.levels
    ]
    return Cascade(recipe, levels, symmetric_normalization(recipe.sizes[0]), class_names)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, for tests with the mark `browser`."""
    if not CHROMIUM:
        pytest.fail("no chromium: install it, or name it in LAPGAN_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield launched
        launched.close()
