import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lapgan.cli import app
from lapgan.data import open_images, prepare_images
from lapgan.data.decode import InvalidImageError
from lapgan.data.prepare import fit_image
from lapgan.errors import LapganError


@pytest.fixture
def snaps(tmp_path):
    """Photographs of three sizes, one of them on its side by EXIF."""
    folder = tmp_path / "snaps"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate([(40, 30), (30, 50), (36, 36)]):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 1 else 1
        Image.fromarray(pixels).save(folder / f"{number}.png", exif=exif)
    return folder


def test_makes_pictures_of_one_size_that_training_takes(snaps, tmp_path):
    assert prepare_images(snaps, tmp_path / "out", (16, 16)) == 3
    assert open_images(tmp_path / "out").pixels.shape == (3, 3, 16, 16)


def test_classes_stay(photos, tmp_path):
    prepare_images(photos, tmp_path / "out", (2, 2))
    images = open_images(tmp_path / "out")
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [0] * 4 + [1] * 4


def test_takes_the_first_pictures_only(snaps, tmp_path):
    assert prepare_images(snaps, tmp_path / "out", (16, 16), count=2) == 2
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_splits_are_prepared_into_splits(photos, tmp_path):
    (tmp_path / "data").mkdir()
    photos.rename(tmp_path / "data" / "test")
    out = tmp_path / "out"
    arguments = ["prepare", str(tmp_path / "data"), "--size", "2", "--split", "test"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(out / "test")])
    assert "wrote 8 pictures" in result.output
    assert len(open_images(out, split="test")) == 8
    with pytest.raises(LapganError, match="expected a folder train"):
        open_images(out)


def test_cuts_the_middle_and_never_stretches():
    # Black bars left and right of a 4x4 square, which alone is kept.
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = 200
    assert (fit_image(pixels, (4, 4)) == 200).all()


def test_refuses_to_enlarge():
    with pytest.raises(InvalidImageError, match=r"is 8x4 pixels .* smaller than 6x6"):
        fit_image(np.zeros((4, 8, 3), np.uint8), (6, 6))


def test_names_pictures_that_are_too_small_and_leaves_nothing(snaps, tmp_path):
    with pytest.raises(LapganError, match=r"0\.png: is 40x30 pixels .* smaller than 35x35"):
        prepare_images(snaps, tmp_path / "out", (35, 35))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["snaps"]


def test_can_leave_bad_pictures_out(snaps, tmp_path, caplog):
    assert prepare_images(snaps, tmp_path / "out", (35, 35), on_invalid="skip") == 1
    assert "2 images cannot be used" in caplog.text


def test_never_writes_over_a_folder(snaps, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(LapganError, match="already exists"):
        prepare_images(snaps, tmp_path / "out", (16, 16))


def test_all_pictures_that_cannot_be_used_are_named_at_once(snaps, tmp_path):
    # 0.png and 1.png are too small, 2.png ends early, which its header does not tell.
    whole = (snaps / "2.png").read_bytes()
    (snaps / "2.png").write_bytes(whole[: len(whole) // 2])
    for name in ("a.png", "b.png", "c.png"):
        (snaps / name).write_text("no image")
    with pytest.raises(LapganError) as raised:
        prepare_images(snaps, tmp_path / "out", (31, 31))
    _, *lines, _ = str(raised.value).splitlines()
    assert [line.split(":")[0].split("/")[-1].strip() for line in lines] == [
        "0.png", "1.png", "2.png", "a.png", "b.png", "c.png",
    ]  # fmt: skip
    assert "smaller than 31x31" in lines[0]
    assert "cannot be read" in lines[2]
    assert not (tmp_path / "out").exists()


def test_a_size_that_no_picture_has_is_the_size_to_change(snaps, tmp_path):
    with pytest.raises(LapganError, match="largest --size that any of them allows is 36"):
        prepare_images(snaps, tmp_path / "out", (99, 99))


def test_held_out_pictures_are_other_pictures(photos, tmp_path):
    arguments = ["prepare", str(photos), "--size", "4x6", "--hold-out", "3"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert "wrote 8 pictures, 3 of them in test" in result.output
    parts = [open_images(tmp_path / "out", split=split) for split in ("train", "test")]
    assert [part.pixels.shape for part in parts] == [(5, 3, 4, 6), (3, 3, 4, 6)]
    together = np.concatenate([part.pixels for part in parts])
    prepare_images(photos, tmp_path / "whole", (4, 6))
    whole = open_images(tmp_path / "whole").pixels
    assert {pixels.tobytes() for pixels in together} == {pixels.tobytes() for pixels in whole}


def test_something_must_be_left_to_train_on(photos, tmp_path):
    with pytest.raises(LapganError, match="--hold-out 8: there are 8 images"):
        prepare_images(photos, tmp_path / "out", (2, 2), hold_out=8)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["1", "4x", "4x6x8", "big"])
def test_a_wrong_size_is_explained(photos, tmp_path, size):
    arguments = ["prepare", str(photos), "--size", size, "--out", str(tmp_path / "out")]
    assert "HEIGHTxWIDTH" in str(CliRunner().invoke(app, arguments).exception)
