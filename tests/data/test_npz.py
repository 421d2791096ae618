import zipfile

import numpy as np
import pytest

from lapgan.data import open_images
from lapgan.errors import LapganError


@pytest.fixture
def write(tmp_path, pixels):
    """Writes an archive of four images and the given arrays."""

    def make(name="samples.npz", **arrays):
        images = np.stack([pixels(seed) for seed in range(4)])
        np.savez(tmp_path / name, **({"images": images} | arrays))
        return tmp_path / name

    return make


def test_pixels_labels_and_names(write, pixels):
    images = open_images(write(labels=np.array([1, 0, 1, 1]), class_names=np.array(["cat", "dog"])))
    assert images.labels.tolist() == [1, 0, 1, 1]
    assert images.class_names == ("cat", "dog")
    expected = np.stack([pixels(seed).transpose(2, 0, 1) for seed in range(4)])
    np.testing.assert_array_equal(images.pixels, expected)


def test_labels_and_names_may_be_missing(write):
    assert open_images(write()).labels is None
    assert open_images(write(labels=np.arange(4, dtype=np.uint8))).class_names == tuple("0123")
    assert open_images(write(class_names=np.array(["cat"]))).class_names == ()


def test_the_second_start_reads_only_the_hash(write, monkeypatch):
    path = write()
    first = open_images(path)
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda *_: pytest.fail("read again"))
    np.testing.assert_array_equal(open_images(path).pixels, first.pixels)


def test_the_split_is_told_by_the_name(write):
    assert len(open_images(write("test.npz"), split="test")) == 4
    with pytest.raises(LapganError, match=r"no split 'test'.*a file such as test\.npz"):
        open_images(write(), split="test")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((2, 4, 4, 3))}, r"images: expected uint8 \(N, H, W, 3\), .*float64"),
        ({"images": np.zeros((2, 3, 4, 4), np.uint8)}, r"images: .*found uint8 \(2, 3, 4, 4\)"),
        (
            {"labels": np.zeros(3, np.int64)},
            r"labels: expected integers or strings \(4,\), found int64 \(3,\)",
        ),
        ({"labels": np.zeros(4)}, "labels: expected integers .*float64"),
        ({"labels": np.array([0, -1, 0, 0])}, "1 of 4 images have no label"),
        ({"class_names": np.zeros(2)}, "class_names: expected strings"),
        ({"images": np.zeros((0, 4, 4, 3), np.uint8)}, "expected images, but there are none"),
        ({"class_names": np.array([{}])}, "cannot be read as a NumPy archive .*allow_pickle"),
    ],
)
def test_refuses_arrays_that_do_not_fit(write, arrays, message):
    with pytest.raises(LapganError, match=message):
        open_images(write(**arrays))


def test_an_archive_without_images_says_so(tmp_path):
    np.savez(tmp_path / "a.npz", pixels=np.zeros(3))
    with pytest.raises(LapganError, match="expected an array images"):
        open_images(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut off", b"\x93NUMPY\x01\x00"])
def test_a_broken_archive_is_named(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(LapganError, match=r"a\.npz: cannot be read as a NumPy archive"):
        open_images(tmp_path / "a.npz")


def test_an_archive_with_a_broken_header_is_named(tmp_path):
    header = b"{'descr': '|u1', 'shape': (1, 4, 4, 3"  # the parentheses are never closed
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", array)
    with pytest.raises(LapganError, match="cannot be read as a NumPy archive"):
        open_images(tmp_path / "a.npz")


def test_a_single_array_is_no_archive(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros((2, 4, 4, 3), np.uint8))
    with pytest.raises(LapganError, match="a single array without a name"):
        open_images(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("labels", "names"), [([30, 10, 30, -1], ("10", "30")), (["b", "a", "b", "b"], ("a", "b"))]
)
def test_labels_without_names_are_classes_by_their_values(write, labels, names):
    path = write(labels=np.array(labels))
    if -1 in labels:
        with pytest.raises(LapganError, match="1 of 4 images have no label"):
            open_images(path)
        path = write(labels=np.array([30, 10, 30, 30]))
    images = open_images(path)
    assert images.class_names == names
    assert images.labels.tolist() == [1, 0, 1, 1]
