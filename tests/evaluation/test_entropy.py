import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lapgan import cli
from lapgan.data import Images, open_images
from lapgan.errors import LapganError
from lapgan.evaluation.metrics.entropy import density, levels
from lapgan.evaluation.metrics.entropy.levels import (
    EntropyConfig,
    byte_pyramid,
    measure_entropy,
    recipe_noise_bits,
)
from lapgan.evaluation.metrics.entropy.views import write_entropy_plot
from lapgan.noise import PlaneNoise, VectorNoise
from lapgan.pyramid import OPERATORS, Operator
from lapgan.recipe import Recipe, read_recipe

SETTINGS = EntropyConfig(((12, 12), (6, 6), (3, 3)), minutes=0.0, n=20)


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(density, "ROWS", 300)


@pytest.fixture
def other(images: Images) -> Images:
    return dataclasses.replace(images, name="others", fingerprint="e" * 8)


@pytest.mark.parametrize("operator", OPERATORS)
def test_levels_are_rounded_from_the_next_finer_one(operator: Operator):
    fine = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 9, 8), np.uint8))
    pyramid = byte_pyramid(fine, [(9, 8), (4, 4), (1, 2)], operator)
    assert [level.dtype for level in pyramid] == [torch.uint8] * 3
    assert torch.equal(pyramid[0], fine)
    assert torch.equal(pyramid[2], byte_pyramid(pyramid[1], [(4, 4), (1, 2)], operator)[1])


def test_halves_are_rounded_up():
    fine = torch.tensor([[0, 1], [0, 1]], dtype=torch.uint8).expand(1, 3, 2, 2)
    assert byte_pyramid(fine, [(2, 2), (1, 1)], "block-mean")[1].flatten().tolist() == [1, 1, 1]


def test_the_chain_adds_up(images: Images, other: Images):
    report = measure_entropy(images, other, SETTINGS)
    sizes = [(level.size, level.given) for level in report.levels]
    assert sizes == [((12, 12), (6, 6)), ((6, 6), (3, 3)), ((3, 3), None)]
    bits = [min(level.learned, level.standard) for level in report.levels]
    total = (144 * bits[0] + 36 * bits[1] + 9 * bits[2]) / 144
    assert report.total == pytest.approx(total)
    assert report.levels[0].bits_per_dimension == pytest.approx(bits[0] / 3)
    assert [level.minutes for level in report.levels] == [0, 0, 0]
    assert {level.n for level in report.levels} == {20}


def test_noise_has_24_bits_a_number():
    assert PlaneNoise(planes=2).entropy((5, 7)) == 24 * 2 * 35
    assert VectorNoise(dimension=100).entropy((8, 8)) == 2400
    assert recipe_noise_bits(read_recipe("paper-cifar10")) == (24, 24, 37.5)
    z = PlaneNoise().sample(100, (50, 50), torch.Generator().manual_seed(0))
    assert torch.equal((z.double() + 1) * 2**23 % 1, torch.zeros_like(z, dtype=torch.float64))


def test_unused_noise_is_what_the_bound_leaves(tiny: Recipe, images: Images, other: Images):
    settings = EntropyConfig(((12, 12),), minutes=0.0, n=20, noise_bits=(48.0,))
    level = measure_entropy(images, other, settings).levels[0]
    assert level.unused == pytest.approx(1 - level.bits / 48)


def test_an_interrupted_report_goes_on(
    images: Images, other: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "report.json"
    train, measured = levels.train_density, []

    def interrupted(*args, **kwargs):
        measured.append(args[0].size)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    monkeypatch.setattr(levels, "train_density", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure_entropy(images, other, SETTINGS, out)
    done = json.loads(out.read_text())["levels"]
    report = measure_entropy(images, other, SETTINGS, out)
    assert measured == [(3, 3), (6, 6), (12, 12), (12, 12)]
    assert json.loads(out.read_text())["levels"][1:] == done
    assert measure_entropy(images, other, SETTINGS, out) == report
    assert len(measured) == 4


def test_a_report_of_other_settings_is_left_alone(images: Images, other: Images, tmp_path: Path):
    out = tmp_path / "report.json"
    measure_entropy(images, other, SETTINGS, out)
    before = out.read_bytes()
    with pytest.raises(LapganError, match="other images or settings"):
        measure_entropy(images, other, dataclasses.replace(SETTINGS, seed=1), out)
    assert out.read_bytes() == before
    out.write_text("[]")
    with pytest.raises(LapganError, match="not an entropy report"):
        measure_entropy(images, other, SETTINGS, out)


@pytest.mark.parametrize(
    ("sizes", "crop", "message"),
    [
        (((10, 10), (5, 5)), False, "images are 12x12, but the finest level is 10x10"),
        (((14, 14), (5, 5)), True, "too small to crop to 14x14"),
        (((12, 12), (12, 12)), False, "stands twice"),
        ((), False, "no sizes"),
    ],
)
def test_bad_sizes_are_named(images: Images, sizes, crop: bool, message: str):
    with pytest.raises(LapganError, match=message):
        measure_entropy(images, images, EntropyConfig(sizes, crop=crop))


def test_too_few_images_are_named(images: Images):
    assert images.labels is not None
    few = dataclasses.replace(images, pixels=images.pixels[:9], labels=images.labels[:9])
    with pytest.raises(LapganError, match="gradients: 9 images are too few"):
        measure_entropy(few, images, SETTINGS)


def test_crops_are_the_corners(images: Images):
    settings = dataclasses.replace(SETTINGS, sizes=((10, 10), (5, 5)), crop=True)
    cut = levels._draw_images(images, 40, settings).numpy()
    for corner, window in enumerate(
        (np.s_[:10, :10], np.s_[:10, 2:], np.s_[2:, :10], np.s_[2:, 2:])
    ):
        np.testing.assert_array_equal(cut[corner::4], images.pixels[corner::4][:, :, *window])


def _run(*words: str):
    return CliRunner().invoke(cli.app, ["entropy", "dead-leaves:40", "-n", "4", *words])


def test_the_command_prints_a_table_and_writes_report_and_plot(tmp_path: Path):
    out, plot = tmp_path / "report.json", tmp_path / "plot.svg"
    result = _run("--recipe", "dead-leaves", "--minutes", "0", f"--out={out}", f"--plot={plot}")
    assert result.exit_code == 0, result.output
    assert "unused" in result.output
    report = json.loads(out.read_text())
    assert report["levels"][-1]["given"] is None
    assert report["versions"]["torch"] == torch.__version__
    assert plot.read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "either --recipe NAME or --sizes"),
        (["--recipe", "dead-leaves", "--sizes", "8"], "either --recipe NAME or --sizes"),
        (["--sizes", "32,x"], "levels.x"),
        (["--sizes", "32", "--operator", "blur"], "--operator blur"),
    ],
)
def test_the_command_refuses_what_it_cannot_use(words: list[str], message: str):
    error = _run(*words).exception
    assert isinstance(error, LapganError)
    assert message in str(error)


def test_plots_say_what_they_need(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    report = measure_entropy(images, images, dataclasses.replace(SETTINGS, sizes=((12, 12),)))
    with pytest.raises(LapganError, match=r"plot is an \.svg"):
        write_entropy_plot(report, tmp_path / "plot.txt")
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(LapganError, match=r"\.\[eval\]"):
        write_entropy_plot(report, tmp_path / "plot.svg")


@pytest.mark.data
def test_the_learned_bound_beats_the_coders_on_cifar10(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(density, "ROWS", 10_000)
    train, test = (open_images("cifar10", split=split) for split in ("train", "test"))
    settings = EntropyConfig(((32, 32), (16, 16)), minutes=0.15, n=50)
    finest, coarsest = measure_entropy(train, test, settings).levels
    assert 6 < finest.learned < finest.standard
    # A bit more than 3 bits a value is what the best published densities need without a condition.
    assert finest.bits_per_dimension < 3.4
    assert coarsest.bits < 24
