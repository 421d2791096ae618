"""STL-10's binaries and LSUN's databases from any pictures, and training on them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from lapgan.data import Images, open_images
from lapgan.recipe import check_recipe
from lapgan.training import RunConfig, train

pytest.importorskip("lmdb")

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def stand_ins():
    spec = importlib.util.spec_from_file_location("stand_ins", EXAMPLES / "stand_ins.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gradients(count, seed):
    """Smooth pictures of 96x96 in two classes, which WebP changes little."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, 96)
    pixels = random.uniform(60, 250, (count, 3, 1, 1)) * (ramp[:, None] + ramp) / 2
    return Images(pixels.astype(np.uint8), np.arange(count) % 2, ("dim", "light"), "made", "0")


def write(stand_ins, folder, train_images, test_images):
    (folder / "stl10_binary").mkdir()
    stand_ins.write_stl10(folder / "stl10_binary", train_images, test_images)
    stand_ins.write_lsun(folder / "lsun", train_images, test_images)


def tiny(sizes, **data):
    finest, coarsest = map(str, sizes)
    return check_recipe(
        {
            "name": "tiny",
            "data": {"normalisation": "standardised", **data},
            "pyramid": {"operator": "bilinear"},
            "training": {"batch": 4, "images": 8},
            "levels": {
                finest: {
                    "noise": {"kind": "plane"},
                    "generator": {"kind": "paper-lsun", "maps": [3, 4]},
                    "discriminator": {"kind": "paper-lsun", "maps": [3, 4]},
                },
                coarsest: {
                    "noise": {"kind": "plane", "planes": 6},
                    "generator": {"kind": "paper-lsun-coarsest", "maps": [3, 4]},
                    "discriminator": {"kind": "paper-lsun", "maps": [3, 4]},
                },
            },
        },
        "tiny",
    )


def check(folder, train_images, test_images, monkeypatch, tmp_path):
    """The readers give the pictures back, and levels are trained on them."""
    monkeypatch.setenv("LAPGAN_DATA", str(folder))
    np.testing.assert_array_equal(open_images("stl10:unlabeled").pixels, train_images.pixels)
    test = open_images("stl10", split="test")
    np.testing.assert_array_equal(test.pixels, test_images.pixels)
    assert test.class_names[: len(train_images.class_names)] == train_images.class_names
    np.testing.assert_array_equal(test.labels, test_images.labels)
    folds = [open_images(f"stl10:fold-{fold}") for fold in range(10)]
    assert sum(map(len, folds)) == len(open_images("stl10"))
    pictures = open_images("lsun:all")
    assert pictures.class_names == train_images.class_names
    assert np.bincount(pictures.labels).tolist() == np.bincount(train_images.labels).tolist()
    # WebP loses a little, and the order of the keys is another.
    means = [np.sort(p.mean(axis=(1, 2, 3))) for p in (pictures.pixels, train_images.pixels)]
    np.testing.assert_allclose(*means, atol=3)
    assert len(open_images("lsun:all", split="test")) == len(test_images)
    for source, sizes, data in (
        ("stl10:unlabeled", (96, 8), {}),
        ("lsun:all:16", (16, 4), {"classes": True}),
        ("stream:lsun:all:16", (16, 4), {"classes": True}),
    ):
        out = tmp_path / source.replace(":", "-")
        cascade = train(RunConfig(tiny(sizes, **data), out, source))
        assert cascade.sample(2).shape == (2, 3, sizes[0], sizes[0])
        assert cascade.class_names == (train_images.class_names if data else ())


def test_readers_and_training_take_the_stand_ins(stand_ins, tmp_path, monkeypatch):
    pictures = gradients(24, 0), gradients(6, 1)
    write(stand_ins, tmp_path, *pictures)
    check(tmp_path, *pictures, monkeypatch, tmp_path)


@pytest.mark.slow
@pytest.mark.data
def test_photographs_too(stand_ins, tmp_path, monkeypatch):
    def first(split):
        images = open_images("scenes96", split=split)
        chosen = np.arange(0, len(images), len(images) // 60)
        return Images(
            images.pixels[chosen], images.labels[chosen], images.class_names, "scenes", "0"
        )

    pictures = first("train"), first("test")
    write(stand_ins, tmp_path, *pictures)
    check(tmp_path, *pictures, monkeypatch, tmp_path)
