"""The training images that the page searches: distances against other ways to compute them."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from lapgan.cli import app
from lapgan.data import Images
from lapgan.demo import site
from lapgan.demo.neighbors import NeighborSearch, measure_distances, reduce_images
from lapgan.errors import LapganError
from lapgan.recipe import Recipe


def draw_pixels(n: int, h: int, w: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, h, w), dtype=np.uint8)


def as_images(pixels: NDArray[np.uint8]) -> Images:
    labels = np.arange(len(pixels)) % 2
    return Images(pixels, labels, ("cat", "dog"), "pets", "f" * 8)


def enlarge(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels.repeat(2, axis=2).repeat(2, axis=3)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("crops", [1, 4])
def test_distances_are_those_of_all_pixels_where_cells_have_one_color(mirrored: bool, crops: int):
    # Pixels in pairs, so that reducing 16x16 to 8x8 loses nothing, in each crop of 20x20 too.
    side = 8 if crops == 1 else 10
    images = as_images(enlarge(draw_pixels(60, side, side)))
    search = NeighborSearch(images, (16, 16), 60, mirrored)
    queries = enlarge(draw_pixels(7, 8, 8, seed=1))
    queries[0] = images.pixels[33][:, -16:, -16:][..., ::-1]
    variants = [
        images.pixels[:, :, top : top + 16, left : left + 16]
        for top in sorted({0, 2 * side - 16})
        for left in sorted({0, 2 * side - 16})
    ]
    assert len(variants) == crops
    if mirrored:
        variants += [crop[..., ::-1] for crop in variants]
    differences = queries[:, None, None].astype(float) - np.stack(variants, axis=1)[None]
    expected = np.sqrt((differences**2).mean((3, 4, 5))).min(axis=2)
    found = measure_distances(search.build_index(), queries, mirrored)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (found.argmin(1) == expected.argmin(1)).all()
    assert (found[0, 33] == 0) == mirrored


@pytest.mark.parametrize("size", [(12, 28), (5, 8), (32, 32)])
def test_reduced_pixels_are_the_rounded_means_of_cells_that_cover_the_image(size: tuple[int, int]):
    pixels = draw_pixels(3, *size)
    reduced = reduce_images(pixels)
    rows, columns = min(size[0], 8), min(size[1], 8)
    assert reduced.shape == (3, 3, rows, columns)
    covered = np.zeros(size, int)
    for i in range(rows):
        for j in range(columns):
            y = slice(i * size[0] // rows, (i + 1) * size[0] // rows)
            x = slice(j * size[1] // columns, (j + 1) * size[1] // columns)
            covered[y, x] += 1
            mean = pixels[:, :, y, x].mean((2, 3))
            assert (reduced[:, :, i, j] == np.floor(mean + 0.5)).all()
    assert (covered == 1).all()


def test_the_folder_has_evenly_spaced_images_and_says_how_near_they_are(tmp_path: Path):
    pixels = draw_pixels(1000, 12, 10)
    pixels[999] = pixels[0][..., ::-1]
    written = NeighborSearch(as_images(pixels), (12, 10), 334, True).write(tmp_path / "near")
    chosen = np.arange(334) * 1000 // 334
    assert (written["images"], written["total"]) == (334, 1000)
    assert written["labels"] == (chosen % 2).tolist()
    sheets = [np.array(Image.open(tmp_path / "near" / f"{i}.png")) for i in range(2)]
    assert written["per_sheet"] == len(sheets[0]) // 12 == 273
    shown = np.concatenate(sheets).reshape(334, 12, 10, 3).transpose(0, 3, 1, 2)
    assert (shown == pixels[chosen]).all()
    index = np.frombuffer((tmp_path / "near" / "index.bin").read_bytes(), np.uint8)
    assert index.size == written["bytes"]
    assert (index.reshape(334, 3, 8, 8) == reduce_images(pixels[chosen])).all()
    # Every image against every other, mirrored or not, in another way.
    x = reduce_images(pixels[chosen]).astype(float)
    turned = reduce_images(pixels[chosen][..., ::-1]).astype(float)
    between = [np.sqrt(((other[:, None] - x[None]) ** 2).mean((2, 3, 4))) for other in (x, turned)]
    np.fill_diagonal(nearest := np.minimum(*between), np.inf)
    assert written["median"] == pytest.approx(np.median(nearest.min(1)))
    assert written["near"] == pytest.approx(np.quantile(nearest.min(1), 0.01))


def test_images_that_the_model_was_not_trained_on_are_refused(tiny: Recipe):
    with pytest.raises(LapganError, match=r"pets: images are 14x14, but the recipe's .* 12x12"):
        NeighborSearch.of_recipe(tiny, as_images(draw_pixels(9, 14, 14)), 5)
    with pytest.raises(LapganError, match="pets: 1 training image, expected at least 2"):
        NeighborSearch.of_recipe(tiny, as_images(draw_pixels(1, 12, 12)), 5)


def test_a_number_of_images_without_data_is_refused():
    result = CliRunner().invoke(app, ["demo", "cifar10-cc-small", "--neighbor-images", "9"])
    assert isinstance(result.exception, LapganError)
    assert "--neighbor-images: give --neighbors DATA too" in str(result.exception)


def test_the_command_says_that_images_become_part_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def write_no_graphs(cascade: object, folder: Path, *args: object, **options: object) -> object:
        folder.mkdir()
        return {"graphs": []}

    monkeypatch.setattr(site, "export_onnx", write_no_graphs)
    options = ["--static", str(tmp_path / "page"), "--neighbors", "dead-leaves:40"]
    command = ["demo", "cifar10-cc-small", *options, "--neighbor-images", "30"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    said = " ".join(result.output.split())
    assert "30 of 40 training images of dead-leaves become part of the page" in said
    manifest = json.loads((tmp_path / "page" / "model" / "manifest.json").read_text())
    assert manifest["neighbors"]["mirrored"]
    assert (tmp_path / "page" / "neighbors" / "index.bin").stat().st_size == 30 * 192
    assert (tmp_path / "page" / "neighbors" / "0.png").is_file()
    CliRunner().invoke(app, ["demo", "cifar10-cc-small", "--static", str(tmp_path / "without")])
    manifest = json.loads((tmp_path / "without" / "model" / "manifest.json").read_text())
    assert manifest["neighbors"] is None
    assert not (tmp_path / "without" / "neighbors").exists()
