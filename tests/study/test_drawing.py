import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from serving import as_set, make_images, write_npz

from lapgan.data import open_images
from lapgan.errors import LapganError
from lapgan.study.drawing import draw_images
from lapgan.study.stimuli import encode_png


def write_parquet(path, images):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    cells = [{"bytes": encode_png(image), "path": None} for image in images]
    pq.write_table(pa.table({"img": cells, "label": list(range(len(images)))}), path)


def test_a_folder_gives_its_images_without_replacement(tmp_path):
    images = make_images(9)
    for number, image in enumerate(images):
        folder = tmp_path / f"class-{number % 2}"  # all of them, whatever the split
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert as_set(draw_images(str(tmp_path), 9, [0], "test")) == as_set(images)
    few = draw_images(str(tmp_path), 4, [0], "test")
    assert few.shape == (4, 6, 6, 3)
    assert len(as_set(few)) == 4
    np.testing.assert_array_equal(few, draw_images(str(tmp_path), 4, [0], "test"))


def test_npz_and_parquet_give_the_same_pixels(tmp_path):
    images = make_images(7)
    npz = write_npz(tmp_path / "x.npz", images)
    write_parquet(tmp_path / "x.parquet", images)
    parquet = draw_images(str(tmp_path / "x.parquet"), 7, [1], "test")
    np.testing.assert_array_equal(draw_images(npz, 7, [1], "test"), parquet)
    assert as_set(parquet) == as_set(images)


def test_a_run_is_sampled_by_the_packages_own_command(tmp_path, monkeypatch):
    run = tmp_path / "run"
    (run / "level-8").mkdir(parents=True)
    called = []

    def fake_run(command, **_options):
        called.append(command)
        np.savez(command[command.index("--out") + 1], images=make_images(5))
        return SimpleNamespace(returncode=0, stderr="", stdout="")

    monkeypatch.setattr(subprocess, "run", fake_run)
    assert as_set(draw_images(str(run), 5, [0], "test")) == as_set(make_images(5))
    command = called[0]
    assert command[:5] == [sys.executable, "-m", "lapgan", "sample", str(run)]
    assert command[command.index("--n") + 1] == "5"


def test_a_run_that_cannot_be_sampled_says_why(tmp_path, monkeypatch):
    (tmp_path / "level-8").mkdir()
    failed = SimpleNamespace(returncode=1, stderr="boom\nweights are missing", stdout="")
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_options: failed)
    with pytest.raises(LapganError, match="weights are missing"):
        draw_images(str(tmp_path), 1, [0], "test")


def test_a_named_source_comes_from_the_data_layer():
    images = open_images("dead-leaves:5", split="test").pixels.transpose(0, 2, 3, 1)
    assert as_set(draw_images("dead-leaves:5", 5, [0], "test")) == as_set(images)


def test_a_folder_of_parquet_files_is_found_below_the_data_folder(tmp_path, monkeypatch):
    images = make_images(5)
    (tmp_path / "cifar10").mkdir()
    write_parquet(tmp_path / "cifar10" / "test.parquet", images)
    write_parquet(tmp_path / "cifar10" / "train.parquet", make_images(6, seed=1))
    monkeypatch.setenv("LAPGAN_DATA", str(tmp_path))
    assert as_set(draw_images("cifar10", 5, [0], "test")) == as_set(images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: str(folder / "nowhere.png"), "no such file"),
        (
            lambda folder: write_npz(folder / "few.npz", make_images(2)),
            "2 images, expected at least",
        ),
        (
            lambda folder: write_npz(folder / "float.npz", np.zeros((9, 4, 4, 3))),
            "expected uint8",
        ),
    ],
)
def test_sources_that_cannot_be_used(tmp_path, make, message):
    with pytest.raises(LapganError, match=message):
        draw_images(make(tmp_path), 5, [0], "test")


def test_an_npz_is_never_unpickled(tmp_path):
    np.savez(tmp_path / "evil.npz", images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(LapganError, match="cannot be read as a NumPy archive"):
        draw_images(str(tmp_path / "evil.npz"), 1, [0], "test")


def test_a_broken_image_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    with pytest.raises(LapganError, match=r"broken\.png"):
        draw_images(str(tmp_path), 1, [0], "test")


def test_images_of_different_sizes_are_refused(tmp_path):
    for size in (4, 6):
        Image.fromarray(make_images(1, size)[0]).save(tmp_path / f"{size}.png")
    with pytest.raises(LapganError, match=r"6\.png: is 6x6.*most are 4x4"):
        draw_images(str(tmp_path), 2, [0], "test")


def test_folders_with_splits_give_the_split(tmp_path):
    images = {"train": make_images(3, seed=1), "test": make_images(3, seed=2)}
    for split, part in images.items():
        (tmp_path / split).mkdir()
        for number, image in enumerate(part):
            Image.fromarray(image).save(tmp_path / split / f"{number}.png")
    assert as_set(draw_images(str(tmp_path), 3, [0], "test")) == as_set(images["test"])
    assert as_set(draw_images(str(tmp_path), 3, [0], "train")) == as_set(images["train"])


def test_images_that_would_lose_something_are_refused(tmp_path):
    Image.new("CMYK", (6, 6)).save(tmp_path / "cmyk.jpg")
    with pytest.raises(LapganError, match=r"cmyk\.jpg: has CMYK colors"):
        draw_images(str(tmp_path), 1, [0], "test")


@pytest.mark.data
def test_cifar10_parquet(cifar10):
    assert draw_images(str(cifar10), 3, [0], "test").shape == (3, 32, 32, 3)


def test_hidden_files_are_passed_over_and_16_bit_images_refused(tmp_path):
    for number, image in enumerate(make_images(4)):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        (tmp_path / f"._{number}.png").write_bytes(b"no image")
    assert as_set(draw_images(str(tmp_path), 4, [0], "test")) == as_set(make_images(4))
    deep = np.arange(36, dtype=np.uint16).reshape(6, 6) * 1000
    Image.fromarray(deep).save(tmp_path / "deep.png")
    with pytest.raises(LapganError, match=r"deep\.png: has more than 8 bits"):
        draw_images(str(tmp_path), 4, [0], "test")


def test_a_packaged_model_is_sampled_by_its_name(monkeypatch):
    def fake_run(command, **_options):
        assert command[4] == "cifar10-cc"
        np.savez(command[command.index("--out") + 1], images=make_images(3))
        return SimpleNamespace(returncode=0, stderr="", stdout="")

    monkeypatch.setattr(subprocess, "run", fake_run)
    assert as_set(draw_images("cifar10-cc", 3, [0], "test")) == as_set(make_images(3))
