import sys

import pytest

from lapgan.data import NoSplitError, open_images
from lapgan.errors import LapganError


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(LapganError, match=r"pip install -e '\.\[data\]'"):
        open_images("hub:owner/name")


def test_reads_what_the_library_fetched(tmp_path, pixels, encode, monkeypatch):
    """The library opens a local folder as it opens a data set on the Hub."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "downloads")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    rows = {
        "image": [{"bytes": encode(pixels(seed)), "path": None} for seed in range(3)],
        "label": [1, 0, 1],
    }
    dataset = datasets.Dataset.from_dict(rows, features=features)
    dataset.to_parquet(tmp_path / "set" / "train-00000-of-00001.parquet")
    images = open_images(f"hub:{tmp_path / 'set'}")
    assert images.labels.tolist() == [1, 0, 1]
    assert images.class_names == ("cat", "dog")
    assert (images.pixels[2] == pixels(2).transpose(2, 0, 1)).all()
    assert open_images(f"hub:{tmp_path / 'set'}").fingerprint == images.fingerprint
    with pytest.raises(NoSplitError, match="Unknown split"):
        open_images(f"hub:{tmp_path / 'set'}", split="test")


def test_an_unreachable_hub_is_named(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def unreachable(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(LapganError, match=r"hub:owner/name: .*no route to host.*local copy"):
        open_images("hub:owner/name")
