"""Small images for each test, and a cache of its own."""

import io

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LAPGAN_CACHE", str(folder))
    return folder


@pytest.fixture
def pixels():
    """Makes uint8 (height, width, 3) pixels that differ from seed to seed."""

    def make(seed=0, height=6, width=8):
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)

    return make


@pytest.fixture
def encode():
    """Encodes pixels or a Pillow image."""

    def make(image, kind="PNG", **options):
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    return make


@pytest.fixture
def photos(tmp_path, pixels, encode):
    """A folder of eight images in two class folders."""
    for index in range(8):
        path = tmp_path / "photos" / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(pixels(index)))
    return tmp_path / "photos"
