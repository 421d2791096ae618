import os
import time
from pathlib import Path

import numpy as np
import pytest

from lapgan.data import default_cache, describe_sources, open_images
from lapgan.errors import LapganError


def test_a_missing_path_lists_what_would_do(tmp_path):
    with pytest.raises(LapganError) as error:
        open_images(tmp_path / "gone")
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'gone'}: there is no such file or folder")
    assert describe_sources() in message
    for form in ("dead-leaves", "cifar10", "hub:OWNER/NAME", ".parquet", ".npz", "LAPGAN_DATA"):
        assert form in message


def test_an_empty_source_is_not_the_working_folder(photos, monkeypatch):
    monkeypatch.chdir(photos)
    with pytest.raises(LapganError, match="source of images is empty"):
        open_images("")


def test_a_file_that_no_source_reads_is_refused(photos):
    with pytest.raises(LapganError, match=r"0\.png: this file is not a source of images"):
        open_images(photos / "cat" / "0.png")


def test_a_pattern_that_fits_nothing_is_named(tmp_path):
    with pytest.raises(LapganError, match="no files that can be used match"):
        open_images(f"{tmp_path}/*.parquet")


def test_an_unknown_choice_for_bad_images_is_refused(photos):
    with pytest.raises(ValueError, match="on_invalid: expected 'stop' or 'skip', got 'ignore'"):
        open_images(photos, on_invalid="ignore")


def test_relative_paths_are_found_below_the_data_folder(photos, monkeypatch):
    monkeypatch.setenv("LAPGAN_DATA", str(photos.parent))
    assert len(open_images("photos")) == 8
    assert len(open_images("photos/cat")) == 4


def test_the_working_folder_comes_first(photos, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    (photos / "dog").rename(tmp_path / "work" / "photos")
    monkeypatch.setenv("LAPGAN_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path / "work")
    assert open_images("photos").class_names == ()


def test_a_folder_called_cifar10_below_the_data_folder_wins(photos, monkeypatch):
    photos.rename(photos.parent / "cifar10")
    monkeypatch.setenv("LAPGAN_DATA", str(photos.parent))
    assert open_images("cifar10").class_names == ("cat", "dog")


def test_the_default_cache_is_the_users(monkeypatch):
    monkeypatch.delenv("LAPGAN_CACHE")
    assert default_cache().parts[-2:] == ("lapgan", "images")


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("real")


@pytest.mark.data
def test_cifar10_parquet_is_whole_and_opens_fast(cache_folder):
    assert (Path(os.environ["LAPGAN_DATA"]) / "cifar10" / "train.parquet").is_file()
    images = open_images("cifar10", cache=cache_folder)
    assert images.pixels.shape == (50_000, 3, 32, 32)
    assert images.class_names[0] == "airplane"
    assert np.bincount(images.labels).tolist() == [5_000] * 10
    mean = images.pixels.mean(axis=(0, 2, 3)) / 255
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=1e-4)
    started = time.perf_counter()
    open_images("cifar10", cache=cache_folder)
    assert time.perf_counter() - started < 2


@pytest.mark.data
def test_scenes_have_two_splits_and_patterns_work(cache_folder):
    test = open_images("scenes96", split="test", cache=cache_folder)
    assert test.pixels.shape == (1_500, 3, 96, 96)
    assert test.class_names == ("buildings", "forest", "glacier", "mountain", "sea", "street")
    assert (
        open_images("scenes96/te*.parquet", split="test", cache=cache_folder).pixels.shape
        == test.pixels.shape
    )
