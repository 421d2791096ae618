import shutil

import numpy as np
import pytest

from lapgan.data import open_images
from lapgan.errors import LapganError


def test_class_folders_give_labels_and_names(photos, pixels):
    images = open_images(photos)
    assert images.name == "photos"
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [0] * 4 + [1] * 4
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    expected = np.stack([pixels(seed).transpose(2, 0, 1) for seed in order])
    np.testing.assert_array_equal(images.pixels, expected)


def test_loose_images_have_no_labels(photos):
    images = open_images(photos / "dog")
    assert len(images) == 4
    assert images.labels is None
    assert images.class_names == ()


def test_deeper_folders_belong_to_their_class(photos):
    (photos / "cat" / "old").mkdir()
    (photos / "cat" / "0.png").rename(photos / "cat" / "old" / "0.png")
    assert open_images(photos).labels.tolist() == [0] * 4 + [1] * 4


def test_hidden_and_other_files_are_passed_over(photos):
    (photos / ".hidden").mkdir()
    (photos / ".hidden" / "x.png").write_text("no image")
    (photos / "cat" / "._0.png").write_text("no image")
    (photos / "README.txt").write_text("about the photos")
    assert len(open_images(photos)) == 8


def test_split_folders(photos):
    for split in ("train", "test"):
        shutil.copytree(photos, photos.parent / "pets" / split)
    (photos.parent / "pets/test/cat/0.png").unlink()
    assert len(open_images(photos.parent / "pets")) == 8
    assert len(open_images(photos.parent / "pets", split="test")) == 7
    with pytest.raises(LapganError, match=r"split 'val', found train, test"):
        open_images(photos.parent / "pets", split="val")


def test_a_folder_without_splits_has_no_test_images(photos):
    with pytest.raises(LapganError, match="there is no split 'test'"):
        open_images(photos, split="test")


def test_refuses_loose_images_beside_class_folders(photos):
    (photos / "cat" / "0.png").rename(photos / "0.png")
    with pytest.raises(LapganError, match=r"1 images such as 0.png lie beside .* cat"):
        open_images(photos)


def test_refuses_a_class_without_images(photos):
    (photos / "emu").mkdir()
    with pytest.raises(LapganError, match="emu: expected images"):
        open_images(photos)


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(LapganError, match="found no files"):
        open_images(tmp_path)


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    for name in ("a.csv", "b.csv", "notes"):
        (tmp_path / name).write_text("no image")
    with pytest.raises(LapganError, match=r"found 2 x .csv, 1 x no suffix"):
        open_images(tmp_path)
