"""The demo in a real browser: `pytest -m browser tests/demo` (Chromium, Playwright)."""

import base64
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from file_server import serving
from PIL import Image
from torch import Tensor

from lapgan.cascade import Cascade, Level, descend
from lapgan.compute import choose_compute
from lapgan.data import Images
from lapgan.demo import write_site
from lapgan.demo.neighbors import NeighborSearch, measure_distances
from lapgan.normalization import symmetric_normalization
from lapgan.pyramid import downsample
from lapgan.recipe import check_recipe

pytestmark = pytest.mark.browser

# Screenshots go here when set; docs/pictures/demo-*.png are made so.
PICTURES = os.environ.get("LAPGAN_PICTURES")
MODEL = "cifar10-cc-small"
FLOAT32 = choose_compute("cpu", "float32")
SIGMA = 0.2
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 780}, "is_mobile": True, "has_touch": True,
    "device_scale_factor": 2,
}  # fmt: skip
READY = "#output[aria-busy=false]"


@pytest.fixture(scope="module")
def site_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packaged model with classes and uniform noise, in float32, and 200 of 300 images."""
    folder = tmp_path_factory.mktemp("demo") / "site"
    cascade = Cascade.load(MODEL, FLOAT32)
    write_site(cascade, folder, MODEL, "float32", training_images(cascade), 200)
    return folder


def training_images(cascade: Cascade) -> Images:
    """Colored squares, and image 5 of the sheet of seed 4, mirrored, as image 297."""
    squares = np.random.default_rng(0).integers(0, 256, (300, 3, 4, 4), dtype=np.uint8)
    pixels = squares.repeat(8, axis=2).repeat(8, axis=3)
    labels = [i // 2 for i in range(20)]
    sample = expected_images(cascade, labels, sheet_keys(cascade, 4))[-1][5]
    pixels[297] = sample.transpose(2, 0, 1)[..., ::-1]
    return Images(pixels, np.arange(300) % 10, cascade.class_names, "squares", "f" * 8)


@pytest.fixture(scope="module")
def site(site_folder: Path) -> Iterator[str]:
    with serving(site_folder) as base:
        yield base


def noisy_cascade(**data: Any) -> Cascade:
    """Two levels with normal noise, one with conditioning noise, without classes."""
    fine = {
        "noise": {"kind": "mixed", "dimension": 6, "planes": 2},
        "conditioning_noise": {"sample": SIGMA},
        "generator": {"kind": "residual", "maps": [8], "groups": 4, "style": 8},
        "discriminator": {"kind": "residual", "maps": [8], "units": 8},
    }
    coarse = {
        "noise": {"kind": "vector", "dimension": 6, "distribution": "normal"},
        "generator": {"kind": "residual-coarsest", "maps": 8, "groups": 4, "style": 8},
        "discriminator": {"kind": "residual", "maps": [8, 8], "units": 8},
    }
    levels_of = {"12x8": fine, "6x4": coarse}
    recipe = check_recipe({"name": "noisy", "data": data, "levels": levels_of}, "noisy")
    torch.manual_seed(1)
    levels = [
        Level(level.size, level.noise, level.build_generator(0), sigma)
        for level, sigma in zip(recipe.levels, (SIGMA, None), strict=True)
    ]
    for level in levels:
        for parameter in level.generator.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return Cascade(recipe, levels, symmetric_normalization((12, 8)), compute=FLOAT32)


@contextmanager
def page_of(browser, address: str, **options: Any):
    """A page that is ready; problems are errors in its console."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    page.set_default_timeout(180_000)
    page.problems, page.fetched = [], []
    context.on("request", lambda request: page.fetched.append(request.url.rpartition("/")[2]))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda line: line.type == "error" and page.problems.append(line.text))
    page.goto(address)
    yield page
    context.close()


def wait(page) -> None:
    page.wait_for_selector(f"{READY} canvas")


def pixels_of(page, selector: str = "canvas[data-image]") -> np.ndarray:
    """The pixels of canvases on the page, (n, h, w, 3)."""
    script = """(all) => all.map((c) => {
      const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
      return [c.height, c.width, btoa(String.fromCharCode(...data))];
    })"""
    found = page.eval_on_selector_all(selector, script)
    return np.stack([
        np.frombuffer(base64.b64decode(text), np.uint8).reshape(h, w, 4)[..., :3].astype(int)
        for h, w, text in found
    ])  # fmt: skip


# ---- the page's noise, written a second time ----------------------------------------------------


def mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def fractions(key: tuple[int, ...], count: int) -> np.ndarray:
    first = np.array([0x9E3779B9], np.uint32)
    for number in key:
        first = mix(first ^ mix(np.array([(number + 0x85EBCA6B) % 2**32], np.uint32)))
    second = mix(first ^ np.uint32(0xC2B2AE35))
    return (mix(mix(np.arange(count, dtype=np.uint32) ^ first) ^ second) >> 8) / 2**24


def noise(
    distribution: str,
    shape: tuple[int, ...],
    key: tuple[int, ...],
    to: tuple[int, ...] | None = None,
    t: float = 0.0,
) -> torch.Tensor:
    count = int(np.prod(shape))
    if distribution == "uniform":
        place = fractions(key, count)
        if to is not None:
            way = fractions(to, count) - place
            place = (place + t * (way - np.floor(way + 0.5))) % 1
        values = 4 * np.abs(place - 0.5) - 1
    else:
        p = fractions(key, 2 * count)
        values = np.sqrt(-2 * np.log1p(-p[::2])) * np.cos(2 * np.pi * p[1::2])
    return torch.from_numpy(values.reshape(shape)).float()


Keys = list[tuple[int, int, int]]


def expected_images(
    cascade: Cascade, labels: list[int] | None, keys: list[Keys], to: Keys | None = None
) -> list[np.ndarray]:
    """The images of every level by PyTorch, coarsest first, (n, h, w, 3).

    `keys` has seed, image and variant per level and image; `to` those at the end of equal steps.
    """
    return [pixels_from(cascade, image) for image in draw_levels(cascade, labels, keys, to)]


def pixels_from(cascade: Cascade, images: Tensor) -> np.ndarray:
    pixels = cascade.normalization.denormalize(images)
    return pixels.permute(0, 2, 3, 1).numpy().astype(int)


def draw_levels(
    cascade: Cascade, labels: list[int] | None, keys: list[Keys], to: Keys | None = None
) -> list[Tensor]:
    """The same in the scale of the nets, (n, 3, h, w)."""
    levels, z, epsilon = cascade.levels[::-1], [], []
    for i, level in enumerate(levels):
        normal = level.noise.kind == "mixed" or level.noise.distribution == "normal"
        shape = tuple(level.noise.sample(1, level.size, torch.Generator()).shape[1:])
        kind, ends = "normal" if normal else "uniform", to or keys[i]
        z.append(torch.stack([
            noise(kind, shape, (*key, i, 0), (*end, i, 0), j / (len(ends) - 1))
            for j, (key, end) in enumerate(zip(keys[i], ends, strict=True))
        ]))  # fmt: skip
        e = None
        if level.sigma is not None:
            below = (3, *levels[i - 1].size)
            e = torch.stack([noise("normal", below, (*key, i, 1)) for key in keys[i]])
        epsilon.append(e)
    label = None if labels is None else torch.tensor(labels)
    with torch.no_grad():
        stages = descend(levels, cascade.operator, z, label, epsilon=epsilon)
    return [stage.image for stage in stages]


def sheet_keys(cascade: Cascade, seed: int, n: int = 20) -> list[Keys]:
    return [[(seed, i, 0) for i in range(n)]] * len(cascade.levels)


def test_the_noise_has_its_distribution_and_is_independent():
    x = noise("uniform", (40, 2000), (7, 0, 0, 0, 0)).double()
    z = noise("normal", (40, 2000), (7, 0, 0, 0, 1)).double()
    n = x.numel()
    for values, moments in ((x, (0, 1 / 3, 1 / 5)), (z, (0, 1, 3))):
        variances = (1 / 3, 4 / 45, 1 / 9 - 1 / 25) if values is x else (1, 2, 96)
        for power, expected, variance in zip((1, 2, 4), moments, variances, strict=True):
            assert abs((values**power).mean() - expected) < 4 * (variance / n) ** 0.5
    keys = [noise("normal", (5000,), (seed, image, 0, level, 0)).double()
            for seed in (0, 1) for image in (0, 1, 2) for level in (0, 1)]  # fmt: skip
    correlations = torch.corrcoef(torch.stack([*keys, keys[0].roll(1), keys[0].roll(64)]))
    correlations.fill_diagonal_(0)
    assert correlations.abs().max() < 4.5 / 5000**0.5


@pytest.mark.parametrize("seed", [0, 4])
def test_the_sheet_is_what_pytorch_draws_from_the_same_noise(browser, site: str, seed: int):
    with page_of(browser, f"{site}#seed={seed}") as page:
        wait(page)
        shown = pixels_of(page)
        cascade = Cascade.load(MODEL, FLOAT32)
        labels = [i // 2 for i in range(20)]
        expected = expected_images(cascade, labels, sheet_keys(cascade, seed))[-1]
        assert shown.std() > 30
        assert np.abs(shown - expected).max() <= 2
        assert "level-8.onnx" in page.fetched
        assert "classifier.onnx" not in page.fetched
        assert page.problems == []


def draw_candidates(cascade: Cascade, seed: int, n: int, best_of: int) -> tuple[np.ndarray, Tensor]:
    """The candidates of images of all classes, (best_of, n, h, w, 3), and their scores."""
    assert cascade.guide is not None
    names, labels = cascade.recipe.level_names[::-1], torch.arange(n)
    judged, images, scores = names.index(cascade.guide.section.level), [], []
    for j in range(best_of):
        keys = [(seed, i + n * j, 0) for i in range(n)]
        levels = draw_levels(cascade, labels.tolist(), [keys] * len(names))
        scores.append(cascade.guide.score(levels[judged], labels, FLOAT32))
        images.append(pixels_from(cascade, levels[-1]))
    return np.stack(images), torch.stack(scores)


def test_the_best_of_several_is_the_one_that_the_classifier_prefers(browser, site: str):
    cascade, n = Cascade.load(MODEL, FLOAT32), 10
    candidates, scores = draw_candidates(cascade, 3, n, 4)
    best, second = scores.topk(2, dim=0).values
    assert (best - second).min() > 1e-3  # rounding decides nothing
    chosen = scores.argmax(0).tolist()
    assert len(set(chosen)) > 2
    with page_of(browser, f"{site}#seed=3&count={n}&best=4") as page:
        wait(page)
        shown = pixels_of(page)
        expected = candidates[chosen, range(n)]
        assert np.abs(shown - expected).max() <= 2
        place = next(i for i, j in enumerate(chosen) if j)
        name = f"{cascade.class_names[place]}, image {place + n * chosen[place]} of seed 3"
        label = page.locator("#output canvas").nth(place).get_attribute("aria-label")
        assert label == name
        # The image that was chosen is the one that is seen to grow.
        page.locator("#output button").nth(place).click()
        page.wait_for_selector(f"{READY} .row:nth-child(4)")
        (grown,) = pixels_of(page, "canvas[data-part='image 32']")
        assert np.abs(grown - expected[place]).max() <= 2
        page.click("#tab-sheet")
        page.select_option("[name=best]", "1")
        page.wait_for_url(re.compile("count=10(?!.*best)"))
        wait(page)
        assert np.abs(pixels_of(page) - candidates[0]).max() <= 2
        assert page.fetched.count("classifier.onnx") == 1
        assert page.problems == []


def test_normal_and_conditioning_noise_too(browser, tmp_path: Path):
    cascade = noisy_cascade()
    write_site(cascade, tmp_path / "site", "noisy", "float32")
    with serving(tmp_path / "site") as base, page_of(browser, f"{base}#seed=2") as page:
        wait(page)
        shown = pixels_of(page)
        assert shown.shape == (20, 12, 8, 3)
        assert shown.std() > 10
        expected = expected_images(cascade, None, sheet_keys(cascade, 2))[-1]
        assert np.abs(shown - expected).max() <= 2
        assert not page.is_visible("[name=class]")
        assert not page.is_visible("[name=best]")
        assert page.locator("#tab-near").count() == 0
        assert not page.is_visible("#contains")
        assert page.problems == []


def test_a_growing_image_adds_residuals(browser, site: str):
    with page_of(browser, f"{site}#seed=4") as page:
        wait(page)
        page.locator("#output button").nth(5).click()
        page.wait_for_selector(f"{READY} .row:nth-child(4)")
        assert page.get_attribute("#tab-grow", "aria-selected") == "true"
        cascade = Cascade.load(MODEL, FLOAT32)
        stages = expected_images(cascade, [i // 2 for i in range(20)], sheet_keys(cascade, 4))
        names = cascade.recipe.level_names[::-1]
        for name, stage in zip(names, stages, strict=True):
            (image,) = pixels_of(page, f"canvas[data-part='image {name}']")
            assert np.abs(image - stage[5]).max() <= 2
        for name in names[1:]:
            low, high, image = (
                pixels_of(page, f"canvas[data-part='{part} {name}']")
                for part in ("enlarged", "residual", "image")
            )
            assert (image == np.clip(low + high - 128, 0, 255)).all()
        assert page.problems == []


def test_new_details_redraw_the_chosen_levels_and_no_others(browser, site: str):
    cascade = Cascade.load(MODEL, FLOAT32)

    def check(page, redrawn: str, first: int) -> None:
        keys = [
            [(6, 3, first + v if v and name == redrawn else 0) for v in range(9)]
            for name in cascade.recipe.level_names[::-1]
        ]
        wait(page)
        expected = expected_images(cascade, [1] * 9, keys)[-1]
        assert len({image.tobytes() for image in expected}) == 9
        assert np.abs(pixels_of(page) - expected).max() <= 2

    with page_of(browser, f"{site}#view=details&seed=6&image=3") as page:
        check(page, "32", 0)
        page.check("[name=redraw][value='16']")
        page.uncheck("[name=redraw][value='32']")
        check(page, "16", 0)
        page.get_by_role("button", name="Redraw").click()
        check(page, "16", 8)
        assert page.problems == []


def test_between_two_seeds_the_noise_goes_along_a_circle(browser, site: str):
    cascade = Cascade.load(MODEL, FLOAT32)
    with page_of(browser, f"{site}#view=between&seed=3&other=9&class=horse&image=2") as page:
        wait(page)
        steps = pixels_of(page)
        keys = [[(3, 2, 0)] * 9] * len(cascade.levels)
        expected = expected_images(cascade, [7] * 9, keys, [(9, 2, 0)] * 9)[-1]
        assert np.abs(steps - expected).max() <= 2
        last = expected_images(cascade, [7] * 9, [[(9, 2, 0)] * 9] * len(cascade.levels))[-1]
        assert np.abs(steps[-1] - last[0]).max() <= 2
        assert page.problems == []


def test_the_nearest_training_images_are_those_of_another_search(browser, site: str):
    with page_of(browser, f"{site}#seed=1") as page:
        wait(page)
        page.fill("[name=seed]", "4")
        page.keyboard.press("Tab")
        page.wait_for_url(re.compile("seed=4"))
        wait(page)
        page.locator("#output button").nth(5).press("Enter")
        page.wait_for_selector(f"{READY} .row:nth-child(4)")
        page.focus("#tab-grow")
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        page.wait_for_selector(f"{READY} figure:nth-child(6)")
        shown = pixels_of(page, "#output canvas")
        chosen = training_images(Cascade.load(MODEL, FLOAT32)).pixels[np.arange(200) * 300 // 200]
        sample = shown[:1].transpose(0, 3, 1, 2)
        cells = [
            np.floor(x.reshape(*x.shape[:2], 8, 4, 8, 4).mean((3, 5)) + 0.5)
            for x in (sample, sample[..., ::-1], chosen)
        ]
        each = [np.sqrt(((query - cells[2]) ** 2).mean((1, 2, 3))) for query in cells[:2]]
        distances = np.minimum(*each)
        nearest = np.argsort(distances, kind="stable")[:5]
        assert nearest[0] == 198
        assert distances[198] < 1 < distances[nearest[1]]
        names = page.eval_on_selector_all(
            "#output canvas", "(all) => all.map((one) => one.getAttribute('aria-label'))"
        )
        captions = page.locator("figcaption").all_inner_texts()
        for place, i in enumerate(nearest, 1):
            turned = each[1][i] < each[0][i]
            image = chosen[i].transpose(1, 2, 0)
            assert (shown[place] == (image[:, ::-1] if turned else image)).all()
            kind = Cascade.load(MODEL, FLOAT32).class_names[i * 300 // 200 % 10]
            mirrored = ", mirrored" if turned else ""
            assert captions[place] == f"{distances[i]:.1f} · {kind}{mirrored}"
            assert names[place] == (
                f"training image {i * 300 // 200}, {kind}{mirrored}, "
                f"distance {distances[i]:.1f} gray levels"
            )
        assert names[0].endswith("image 5 of seed 4")
        assert captions[1].endswith(", mirrored")
        status = page.inner_text("#status")
        assert status.startswith("Nearest of 200 training images: ")
        assert "200 of the 300 training images (squares)" in page.inner_text("#meaning")
        assert "contains 200 training images of squares" in page.inner_text("#contains")
        assert page.problems == []


def test_the_nearest_crop_of_a_training_image_is_shown(browser, tmp_path: Path):
    cascade = noisy_cascade(crop="corners")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, 14, 10), dtype=np.uint8)
    images = Images(pixels, None, (), "larger", "f" * 8)
    write_site(cascade, tmp_path / "site", "noisy", "float32", images)
    with serving(tmp_path / "site") as base, page_of(browser, f"{base}#view=near&image=3") as page:
        page.wait_for_selector(f"{READY} figure:nth-child(6)")
        shown = pixels_of(page, "#output canvas")
        index = NeighborSearch(images, (12, 8), 50, mirrored=False).build_index()
        sample = shown[:1].transpose(0, 3, 1, 2).astype(np.uint8)
        (distances,) = measure_distances(index, sample, mirrored=False)
        nearest = np.argsort(distances, kind="stable")[:5]
        captions = page.locator("figcaption").all_inner_texts()[1:]
        assert captions == [f"{distances[i]:.1f} · no. {i}" for i in nearest]
        crops = [(top, left) for top in (0, 2) for left in (0, 2)]
        for place, i in enumerate(nearest, 1):
            windows = [pixels[i, :, top : top + 12, left : left + 8] for top, left in crops]
            assert any((shown[place].transpose(2, 0, 1) == window).all() for window in windows)
        assert page.problems == []


def test_training_images_that_are_missing_are_reported(browser, site_folder: Path, tmp_path: Path):
    shutil.copytree(site_folder, tmp_path / "site")
    index = tmp_path / "site" / "neighbors" / "index.bin"
    index.write_bytes(index.read_bytes()[:-1])
    with serving(tmp_path / "site") as base, page_of(browser, f"{base}#view=near") as page:
        page.wait_for_selector("#status.wrong")
        assert "index.bin has 38399 bytes, expected 38400" in page.inner_text("#status")
        index.write_bytes(bytes(38400))
        for sheet in index.parent.glob("*.png"):
            sheet.unlink()
        page.get_by_role("button", name="New seed").click()
        page.wait_for_selector("text=.png could not be loaded")


def test_the_users_picture_is_reduced_and_refined(browser, site: str, tmp_path: Path):
    ramp = np.linspace(0, 255, 256).astype(np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(90)), axis=-1)
    Image.fromarray(picture).save(tmp_path / "mine.png")
    with page_of(browser, f"{site}#view=own") as page:
        page.wait_for_selector("text=Choose a picture.")
        page.set_input_files("[name=file]", tmp_path / "mine.png")
        page.wait_for_selector(f"{READY} canvas[data-image='7']")
        small = torch.from_numpy(picture.reshape(32, 8, 32, 8, 3).mean((1, 3))).permute(2, 0, 1)
        finest = small[None].float()
        for name in ("8", "4"):
            page.select_option("[name=from]", name)
            page.wait_for_selector(f"{READY} canvas[data-image='7']")
            (reduced,) = pixels_of(page, ".grid figure:first-child canvas")
            image = finest
            for size in (16, 8, 4)[: {"8": 2, "4": 3}[name]]:
                image = downsample(image, (size, size), "bilinear")
            assert np.abs(reduced - image[0].permute(1, 2, 0).numpy()).max() <= 2
        refined = pixels_of(page)
        assert len(refined) == 8
        assert (refined[0] != refined[1]).any()
        link = page.url
        (tmp_path / "text.png").write_text("no picture")
        page.set_input_files("[name=file]", tmp_path / "text.png")
        page.wait_for_selector("#status.wrong")
        assert "text.png is no picture" in page.inner_text("#status")
        assert page.problems == []
    with page_of(browser, link) as other:
        other.wait_for_selector(f"{READY} canvas[data-image='7']")
        assert (pixels_of(other) == refined).all()


def test_every_control_by_keyboard_and_the_link_reproduces_the_page(browser, site: str):
    with page_of(browser, site, permissions=["clipboard-read", "clipboard-write"]) as page:
        wait(page)
        page.focus("#tab-sheet")
        for view in ("grow", "details", "between", "near", "own", "sheet"):
            page.keyboard.press("ArrowRight")
            assert page.evaluate("document.activeElement.dataset.view") == view
            assert page.get_attribute(f"#tab-{view}", "aria-selected") == "true"
            assert page.locator("[role=tab][tabindex='0']").count() == 1
        wait(page)
        before = pixels_of(page)
        assert len(before) == 10  # without a GPU and a link
        page.get_by_role("button", name="New seed").press("Enter")
        page.wait_for_url(re.compile("#seed=1&count=10$"))
        wait(page)
        assert (pixels_of(page) != before).any()
        page.select_option("[name=class]", "ship")
        page.select_option("[name=count]", "20")
        page.fill("[name=seed]", "12")
        page.keyboard.press("Tab")
        page.wait_for_selector(f"{READY} button:nth-child(20)")
        assert page.locator("#output canvas").first.get_attribute("aria-label") == (
            "ship, image 0 of seed 12"
        )
        shown = pixels_of(page)
        page.get_by_role("button", name="Copy link").click()
        page.wait_for_selector("text=The link is copied")
        link = page.evaluate("navigator.clipboard.readText()")
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Download as PNG").click()
        assert waiting.value.suggested_filename == f"{MODEL}-sheet-12.png"
        sheet = np.array(Image.open(waiting.value.path()))
        assert (sheet[:128:4, :128:4, :3] == shown[0]).all()
        assert page.problems == []
    with page_of(browser, link) as other:
        other.wait_for_selector(f"{READY} button:nth-child(20)")
        assert (pixels_of(other) == shown).all()
        assert other.input_value("[name=seed]") == "12"


def test_what_the_browser_or_the_server_lacks_is_said(
    browser, site: str, site_folder: Path, tmp_path: Path
):
    with page_of(browser, site) as page:
        wait(page)
        text = page.inner_text("#runtime")
        assert "no WebGPU" in text
        assert "does not send the headers that threads need" in text
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(site)
    page.wait_for_selector("text=this browser has no DecompressionStream")
    context.close()
    shutil.copytree(site_folder, tmp_path / "site")
    (graph,) = (tmp_path / "site").rglob("level-8.onnx")
    graph.unlink()
    context = browser.new_context()
    page = context.new_page()
    with serving(tmp_path / "site") as incomplete:
        page.goto(incomplete)
        page.wait_for_selector("text=level-8.onnx could not be loaded (404)")
    static = resources.files("lapgan.demo") / "static" / "index.html"
    page.goto(f"file://{static}")
    assert "has to come from a web server" in page.inner_text("#message")
    context.close()


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_fits_and_has_no_serious_finding(browser, site: str, width: int, scheme: str):
    options = {**(PHONE if width == 390 else {}), "color_scheme": scheme}
    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
    coarse = base64.urlsafe_b64encode(bytes(range(0, 240, 5))).decode()
    with page_of(browser, site, **options) as page:
        wait(page)
        page.evaluate(axe)
        for view in ("sheet", "grow", "details", "between", "near", f"own&coarse={coarse}"):
            page.goto(f"{site}#view={view}&seed=4")
            page.wait_for_selector(f"[data-view={view.partition('&')[0]}][aria-selected=true]")
            wait(page)
            if view == "near":
                page.wait_for_selector(f"{READY} figure:nth-child(6)")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            found = page.evaluate("axe.run()")["violations"]
            serious = [v for v in found if v["impact"] in ("serious", "critical")]
            assert serious == [], [(v["id"], v["nodes"][0]["html"]) for v in serious]
            if PICTURES:
                name = f"demo-{view.partition('&')[0]}-{width}-{scheme}.png"
                page.screenshot(path=Path(PICTURES) / name, full_page=True)
        assert page.problems == []
