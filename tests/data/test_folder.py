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
    with pytest.raises(LapganError, match=r"split 'val', found test, train"):
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


def copy_to(photos, *names):
    """Makes a folder with copies of the eight photos' first four, loose in each named folder."""
    for name in names:
        shutil.copytree(photos / "cat", photos.parent / "set" / name)
    return photos.parent / "set"


def test_a_class_that_may_be_a_split_is_refused_with_both_readings(photos):
    vehicles = copy_to(photos, "bus", "plane", "train")
    with pytest.raises(LapganError, match=r"train may be a split or a class beside bus, plane"):
        open_images(vehicles)
    # The way out that the message names.
    shutil.copytree(vehicles, photos.parent / "new" / "train")
    assert open_images(photos.parent / "new").class_names == ("bus", "plane", "train")


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "Test"), ("training", "testing"), ("TRAIN", "valid")]
)
def test_splits_may_be_written_otherwise(photos, train, test):
    for split in (train, test):
        shutil.copytree(photos, photos.parent / "set" / split)
    (photos.parent / "set" / test / "cat" / "0.png").unlink()
    images = open_images(photos.parent / "set")
    assert (len(images), images.class_names) == (8, ("cat", "dog"))
    other = "validation" if test == "valid" else "test"
    assert len(open_images(photos.parent / "set", split=other)) == 7


def test_two_folders_of_one_split_are_refused(photos):
    with pytest.raises(LapganError, match="train and training are the same split"):
        open_images(copy_to(photos, "train", "training"))


def test_refuses_loose_images_beside_splits(photos):
    folder = copy_to(photos, "train", "test")
    shutil.copy(photos / "dog" / "1.png", folder / "more.png")
    with pytest.raises(LapganError, match=r"1 images such as more\.png lie beside the folder test"):
        open_images(folder)


def test_a_link_to_a_parent_adds_no_images(photos):
    (photos / "cat" / "up").symlink_to("..")
    assert open_images(photos).labels.tolist() == [0] * 4 + [1] * 4


def test_linked_class_folders_are_followed(photos, tmp_path):
    (tmp_path / "links").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "links" / name).symlink_to(photos / name)
    assert open_images(tmp_path / "links").labels.tolist() == [0] * 4 + [1] * 4
