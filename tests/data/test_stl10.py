import sys

import numpy as np
import pytest

from lapgan.data import find_source, open_images, prepare_images
from lapgan.errors import LapganError


def photos(count, seed=0):
    """Synthetic pictures, uint8 (count, 96, 96, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, 96, 96, 3), np.uint8)


def encode_image(picture):
    """One picture as in the official files: three planes, each column by column."""
    return b"".join(
        picture[:, column, channel].tobytes() for channel in range(3) for column in range(96)
    )


def write_split(folder, split, pictures, labels=None):
    binary = folder / "stl10_binary"
    binary.mkdir(parents=True, exist_ok=True)
    (binary / f"{split}_X.bin").write_bytes(b"".join(map(encode_image, pictures)))
    if labels is not None:
        (binary / f"{split}_y.bin").write_bytes(bytes(label + 1 for label in labels))


@pytest.fixture
def stl10(tmp_path):
    """The three splits in a folder of their own: 3, 2 and 4 pictures."""
    write_split(tmp_path / "stl", "train", photos(3), [9, 0, 3])
    write_split(tmp_path / "stl", "test", photos(2, seed=1), [1, 7])
    write_split(tmp_path / "stl", "unlabeled", photos(4, seed=2))
    return tmp_path / "stl"


def test_pixels_labels_and_names(stl10):
    images = open_images(stl10)
    assert images.name == "stl"
    np.testing.assert_array_equal(images.pixels, photos(3).transpose(0, 3, 1, 2))
    assert [images.class_names[label] for label in images.labels] == ["truck", "airplane", "cat"]


def test_a_byte_is_where_the_official_description_says(stl10):
    """Values come in column-major order, one channel at a time."""
    content = (stl10 / "stl10_binary" / "test_X.bin").read_bytes()
    row, column, channel, picture = 5, 70, 2, 1
    place = picture * 27_648 + channel * 9_216 + column * 96 + row
    assert open_images(stl10, split="test").pixels[picture, channel, row, column] == content[place]


def test_the_other_splits(stl10):
    assert open_images(stl10, split="test").labels.tolist() == [1, 7]
    unlabeled = open_images(stl10, split="unlabeled")
    assert unlabeled.labels is None
    np.testing.assert_array_equal(unlabeled.pixels, photos(4, seed=2).transpose(0, 3, 1, 2))


def test_the_files_of_one_split_are_enough(tmp_path):
    write_split(tmp_path, "test", photos(2), [0, 1])
    assert len(open_images(tmp_path, split="test")) == 2
    with pytest.raises(LapganError, match=r"(?s)train_X\.bin, .*train_y\.bin: no such .*download"):
        open_images(tmp_path)


def test_the_word_finds_the_files_below_the_data_folder(stl10, monkeypatch):
    monkeypatch.setenv("LAPGAN_DATA", str(stl10))
    assert open_images("stl10").name == "stl10"
    assert len(open_images("stl10", split="unlabeled")) == 4


def test_a_folder_of_that_name_below_the_data_folder_is_found_by_the_word(stl10, monkeypatch):
    stl10.rename(stl10.parent / "stl10")
    monkeypatch.setenv("LAPGAN_DATA", str(stl10.parent))
    assert len(open_images("stl10")) == 3


def test_without_files_the_error_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPGAN_DATA", str(tmp_path))
    with pytest.raises(LapganError, match=r"(?s)stl10_binary/test_X\.bin.*STL10.*LAPGAN_DATA"):
        open_images("stl10", split="test")


def test_unknown_splits_are_refused(stl10):
    with pytest.raises(LapganError, match=r"no split 'val'\. Choose train, test, unlabeled"):
        open_images(stl10, split="val")


def test_the_fingerprint_is_that_of_the_split_and_its_content(stl10, tmp_path):
    first = open_images(stl10).fingerprint
    assert open_images(stl10, split="test").fingerprint != first
    write_split(tmp_path / "copy", "train", photos(3), [9, 0, 3])
    assert open_images(tmp_path / "copy").fingerprint == first
    write_split(stl10, "train", photos(3), [9, 0, 4])
    assert open_images(stl10).fingerprint != first


def test_a_truncated_file_is_named(stl10):
    file = stl10 / "stl10_binary" / "unlabeled_X.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(LapganError, match=r"unlabeled_X\.bin: cannot be read as STL-10"):
        open_images(stl10, split="unlabeled")


def test_images_and_labels_must_be_as_many(stl10):
    write_split(stl10, "train", photos(3), [9, 0])
    with pytest.raises(LapganError, match="one label per image, found 2 for 3 images"):
        open_images(stl10)


def test_a_label_beyond_the_classes_is_refused(stl10):
    write_split(stl10, "train", photos(3), [9, 0, 10])
    with pytest.raises(LapganError, match=r"expected labels 0 to 9 .* found 0 to 10"):
        open_images(stl10)


def test_pictures_can_be_reduced(stl10, tmp_path):
    assert prepare_images(stl10, tmp_path / "small", (48, 48)) == 3
    assert open_images(tmp_path / "small").class_names == ("airplane", "cat", "truck")


def test_nothing_is_loaded_before_the_images_are_read(stl10, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)  # an import of it now fails
    source = find_source(str(stl10), "train")
    assert len(source) == 3
    with pytest.raises(ImportError):
        next(source.items())


def write_folds(folder, lines):
    (folder / "stl10_binary" / "fold_indices.txt").write_text("\n".join(lines) + "\n")


def test_a_fold_has_the_training_images_of_its_line(stl10):
    write_folds(stl10, ["0 1", "2 0", *["1"] * 8])
    fold = open_images(stl10, split="fold-1")
    np.testing.assert_array_equal(fold.pixels, photos(3)[[2, 0]].transpose(0, 3, 1, 2))
    assert fold.labels.tolist() == [3, 9]
    assert len(find_source(str(stl10), "fold-1")) == 2
    assert fold.fingerprint != open_images(stl10, split="fold-0").fingerprint


def test_what_follows_a_colon_is_trained_on(stl10):
    for name in ("unlabeled", "unlabelled"):
        images = open_images(f"{stl10}:{name}")
        np.testing.assert_array_equal(images.pixels, photos(4, seed=2).transpose(0, 3, 1, 2))
    assert open_images(f"{stl10}:unlabeled", split="test").labels.tolist() == [1, 7]
    with pytest.raises(LapganError, match=r"no split 'fold-10'\. Choose train, test"):
        open_images(f"{stl10}:fold-10")


def test_broken_folds_are_named(stl10):
    with pytest.raises(LapganError, match=r"fold_indices\.txt: no such file"):
        open_images(f"{stl10}:fold-0")
    write_folds(stl10, ["0 1", "a b"])
    with pytest.raises(LapganError, match=r"fold_indices\.txt: expected 10 lines of indices"):
        open_images(f"{stl10}:fold-0")
    write_folds(stl10, ["0 7"] * 10)
    with pytest.raises(LapganError, match=r"fold_indices\.txt: cannot be read as STL-10"):
        open_images(f"{stl10}:fold-0")


def test_the_classes_are_named_by_the_file_beside_the_images(stl10):
    (stl10 / "stl10_binary" / "class_names.txt").write_text("\n".join("abcdefghij") + "\n")
    assert open_images(stl10, split="test").class_names == tuple("abcdefghij")
