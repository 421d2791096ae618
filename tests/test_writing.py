from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lapgan.cascade import Cascade
from lapgan.cascade.blocks import BLOCK
from lapgan.data import open_images
from lapgan.errors import LapganError
from lapgan.writing import read_coarse_image, write_chain, write_images, write_overview


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_sheet_folder_and_archive_hold_the_very_same_images(cascade: Cascade, tmp_path: Path):
    n = BLOCK + 2
    images = cascade.sample(n, seed=3).permute(0, 2, 3, 1).numpy()
    for out in (tmp_path / "a.npz", tmp_path / "folder", tmp_path / "sheet.png"):
        write_images(cascade, out, n, seed=3)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert archive.files == ["images"]
        assert (archive["images"] == images).all()
    files = sorted((tmp_path / "folder").iterdir())
    assert (np.stack([pixels(file) for file in files]) == images).all()
    assert (pixels(tmp_path / "sheet.png")[:12, :12] == images[0]).all()


def test_labels_go_with_the_images(cascade_with_classes: Cascade, tmp_path: Path):
    cascade = cascade_with_classes
    labels = cascade.labels(5)
    write_images(cascade, tmp_path / "a.npz", 5, labels=labels)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert archive["labels"].tolist() == [0, 0, 1, 1, 2]
    write_images(cascade, tmp_path / "folder", 5, labels=labels)
    names = sorted(str(p.relative_to(tmp_path / "folder")) for p in tmp_path.rglob("*.png"))
    assert names == [
        *("7/000004.png", "cat/000000.png", "cat/000001.png"),
        *("dog/000002.png", "dog/000003.png"),
    ]


def test_a_class_name_cannot_lead_out_of_the_folder(cascade_with_classes: Cascade, tmp_path: Path):
    cascade = cascade_with_classes
    cascade.class_names = ("../../etc", "/root", "..")
    write_images(cascade, tmp_path / "a" / "b", 3, labels=cascade.labels(3))
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    assert set(names) == {
        *("a/b/%2E.%2F..%2Fetc/000000.png", "a/b/%2E%2E/000002.png", "a/b/%2Froot/000001.png"),
    }


def test_a_chain_shows_every_level_beside_its_residual(cascade: Cascade, tmp_path: Path):
    write_chain(cascade, tmp_path / "chain.png", 3, zoom=2)
    # Coarse image, residual and fine image in a row; three rows; gaps of two pixels.
    assert pixels(tmp_path / "chain.png").shape == (2 * (3 * 12 + 4), 2 * (3 * 12 + 4), 3)
    assert (pixels(tmp_path / "chain.png")[::2, ::2][:12, 28:40]
            == cascade.sample(1)[0].permute(1, 2, 0).numpy()).all()  # fmt: skip


def test_an_overview_has_a_row_per_class_and_its_name(
    cascade_with_classes: Cascade, tmp_path: Path
):
    write_overview(cascade_with_classes, tmp_path / "overview.png")
    picture = pixels(tmp_path / "overview.png")
    images = cascade_with_classes.sample(24).permute(0, 2, 3, 1).numpy()
    side, gap = 60, 2  # 12x12, enlarged five times
    assert picture.shape[0] == 3 * (side + gap) - gap
    text = picture.shape[1] - (8 * (side + gap) - gap)
    rows = picture[:: side + gap, text :: side + gap]
    assert (rows == images[:, 0, 0].reshape(3, 8, 3)).all()
    names = np.split(picture[: 3 * side, :text], 3)
    assert all((name < 128).any() for name in names)
    assert not (names[0] == names[1]).all()


def test_an_overview_without_classes_is_a_sheet(cascade: Cascade, tmp_path: Path):
    write_overview(cascade, tmp_path / "overview.png")
    assert pixels(tmp_path / "overview.png").shape == (8 * 62 - 2, 8 * 62 - 2, 3)


def test_a_given_image_is_refined(cascade: Cascade, tmp_path: Path):
    coarse = torch.randint(0, 256, (6, 8, 3), dtype=torch.uint8)
    Image.fromarray(coarse.numpy()).save(tmp_path / "coarse.png")
    image = read_coarse_image(tmp_path / "coarse.png")
    assert torch.equal(image, coarse.permute(2, 0, 1))
    start = image.expand(3, -1, -1, -1)
    write_images(cascade, tmp_path / "a.npz", 3, seed=1, start=start)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        written = torch.from_numpy(archive["images"]).permute(0, 3, 1, 2)
    assert torch.equal(written, cascade.sample(3, seed=1, start=start))
    write_chain(cascade, tmp_path / "c.png", 2, seed=1, start=start[:2])
    assert pixels(tmp_path / "c.png").shape == (2 * 12 + 2, 3 * 12 + 4, 3)


def test_what_cannot_be_written_or_read_is_named(cascade: Cascade, tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "text.png").write_text("no image")
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for out, message in (
        ("a.gif", r"a\.gif: expected a \.png or \.npz file, or a folder"),
        ("full", "already exists; name a new or empty folder"),
    ):
        with pytest.raises(LapganError, match=message):
            write_images(cascade, tmp_path / out, 1)
    with pytest.raises(LapganError, match=r"name a \.png file"):
        write_chain(cascade, tmp_path / "a.npz", 1)
    for name, message in (
        ("text.png", "is not a PNG"),
        ("none.png", r"cannot be read \(No such file"),
        ("deep.png", "has more than 8 bits per channel"),
    ):
        with pytest.raises(LapganError, match=f"--from .*{name}: {message}"):
            read_coarse_image(tmp_path / name)


def test_a_given_image_is_turned_as_training_turns_it(tmp_path: Path):
    upright = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # show it a quarter turn clockwise
    Image.fromarray(np.rot90(upright)).save(tmp_path / "turned.png", exif=exif)
    assert (read_coarse_image(tmp_path / "turned.png").permute(1, 2, 0).numpy() == upright).all()


def test_classes_called_like_splits_or_like_each_other_stay_classes(
    cascade_with_classes: Cascade, tmp_path: Path
):
    cascade = cascade_with_classes
    cascade.class_names = ("c+", "c/", "train")
    write_images(cascade, tmp_path / "out", 6, labels=cascade.labels(6))
    images = open_images(tmp_path / "out")
    assert images.class_names == ("c%2F", "c+", "train_")
    assert np.bincount(images.labels).tolist() == [2, 2, 2]


@pytest.mark.parametrize("name", ["v1.0", "samples.d", "folder"])
def test_folders_may_have_dots_in_their_names(cascade: Cascade, tmp_path: Path, name: str):
    if name == "samples.d":
        (tmp_path / name).mkdir()
    write_images(cascade, tmp_path / name, 2)
    assert len(list((tmp_path / name).iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_suffixes_may_be_in_capitals(cascade: Cascade, tmp_path: Path):
    write_images(cascade, tmp_path / "S.PNG", 1)
    assert (pixels(tmp_path / "S.PNG") == cascade.sample(1)[0].permute(1, 2, 0).numpy()).all()


def test_a_sheet_that_no_memory_holds_is_refused_before_it_is_made(
    cascade: Cascade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Cascade, "stream", None)
    with pytest.raises(LapganError, match=r"6,000 pictures of 12x12, enlarged 16 .* 221 megapix"):
        write_images(cascade, tmp_path / "a.png", 6000, zoom=16)
    (tmp_path / "file").touch()
    with pytest.raises(LapganError, match=r"cannot be written \(Not a directory\)"):
        write_images(cascade, tmp_path / "file" / "a.npz", 1)


def test_an_interrupted_folder_leaves_nothing(
    cascade: Cascade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    images = cascade.sample(1)

    def stream(*_: object) -> Iterator[torch.Tensor]:
        yield images
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Cascade, "stream", stream)
        with pytest.raises(KeyboardInterrupt):
            write_images(cascade, tmp_path / "out", 2)
    assert list(tmp_path.iterdir()) == []
    write_images(cascade, tmp_path / "out", 2)
