import hashlib
import pickle
import shutil
import tarfile
import urllib.request
from urllib.error import URLError

import numpy as np
import pytest
from file_server import serving
from torchvision.datasets import CIFAR10

from lapgan.data import open_images
from lapgan.data.sources import cifar10
from lapgan.errors import LapganError


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A small archive in the official form, whose checksums torchvision is told to expect."""
    batches = tmp_path / "batches" / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    for index, name in enumerate(names):
        data = np.random.default_rng(index).integers(0, 256, (2, 3072), np.uint8)
        (batches / name).write_bytes(pickle.dumps({"data": data, "labels": [index, 9]}))
    classes = list(cifar10.Cifar10.class_names)
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": classes}))
    packed = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(batches, "cifar-10-batches-py")
    sums = [[name, md5(batches / name)] for name in names]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5(batches / "batches.meta")})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(packed))
    monkeypatch.setattr(cifar10, "_COUNTS", {"train": 10, "test": 2})
    shutil.move(batches, tmp_path / "unpacked" / "cifar-10-batches-py")
    return packed


@pytest.fixture
def host(tmp_path):
    """Serves the test's folder on this machine."""
    with serving(tmp_path) as address:
        yield address


def check(images):
    assert images.labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert images.class_names[3] == "cat"
    first = np.random.default_rng(0).integers(0, 256, (2, 3072), np.uint8)
    np.testing.assert_array_equal(images.pixels[:2], first.reshape(2, 3, 32, 32))


def test_reads_the_unpacked_archive(archive, tmp_path):
    check(open_images(tmp_path / "unpacked"))
    assert open_images(tmp_path / "unpacked", split="test").labels.tolist() == [5, 9]


def test_reads_the_packed_archive_and_writes_nothing_beside_it(archive, tmp_path):
    folder = tmp_path / "packed"
    folder.mkdir()
    archive.rename(folder / archive.name)
    check(open_images(folder))
    assert [path.name for path in folder.iterdir()] == [archive.name]


def test_the_word_finds_the_archive_below_the_data_folder(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("LAPGAN_DATA", str(tmp_path / "unpacked"))
    check(open_images("cifar10"))


def test_a_batch_with_another_checksum_is_never_unpickled(archive, tmp_path, monkeypatch):
    batch = tmp_path / "unpacked" / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1] + b"!")
    monkeypatch.setattr("pickle.load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(LapganError, match=r"cifar-10-batches-py: a file is missing .* MD5 differs"):
        open_images(tmp_path / "unpacked")


def test_an_edit_is_noticed_after_the_first_start(archive, tmp_path):
    check(open_images(tmp_path / "unpacked"))
    (tmp_path / "unpacked" / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"other")
    with pytest.raises(LapganError, match="MD5 differs"):
        open_images(tmp_path / "unpacked")


def test_a_tampered_archive_is_refused(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"not the official archive")
    with pytest.raises(LapganError, match=r"is not the official archive \(expected MD5 c58f30"):
        open_images(tmp_path)


def test_unknown_splits_are_refused(archive, tmp_path):
    with pytest.raises(LapganError, match=r"no split 'val'\. Choose train or test"):
        open_images(tmp_path / "unpacked", split="val")


def test_an_unreachable_host_says_how_to_give_a_local_path(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setenv("LAPGAN_DATA", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(LapganError, match=r"(?s)cs.toronto.edu.*no route.*give that folder's path"):
        open_images("cifar10")
    assert list(tmp_path.iterdir()) == []


def test_a_download_with_the_wrong_checksum_is_not_kept(host, tmp_path, monkeypatch):
    (tmp_path / "page").write_text("Log in to this network")
    monkeypatch.setenv("LAPGAN_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(CIFAR10, "url", f"{host}/page")
    with pytest.raises(LapganError, match="cannot be downloaded"):
        open_images("cifar10")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_download_is_checked_kept_and_opened(host, archive, tmp_path, monkeypatch):
    monkeypatch.setenv("LAPGAN_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(CIFAR10, "url", f"{host}/{archive.name}")
    check(open_images("cifar10"))
    assert [path.name for path in (tmp_path / "data").iterdir()] == [archive.name]
