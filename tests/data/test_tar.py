"""Tar shards: read, counted, written by `lapgan prepare --shards`, and the same to webdataset."""

import io
import json
import tarfile

import numpy as np
import pytest

from lapgan.data import open_images, write_shards
from lapgan.data.decode import fit_image
from lapgan.errors import LapganError


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def tars(tmp_path, pixels, encode):
    """Five images of two classes in two shards, with other files between them."""
    first = [
        ("a/0.json", b"{}"),
        *[("a/0.png", encode(pixels(0))), ("a/0.cls", b"1")],
        *[("a/1.cls", b"0\n"), ("a/1.jpg.txt", b"no image"), ("a/1.png", encode(pixels(1)))],
        ("readme.txt", b"no image at all"),
        *[("b/0.PNG", encode(pixels(2))), ("b/0.cls", b"1")],
    ]
    second = [(f"{i}.{kind}", encode(pixels(i)) if kind == "png" else b"0")
              for i in (3, 4) for kind in ("png", "cls")]  # fmt: skip
    write_tar(tmp_path / "shards" / "part-000.tar", first)
    write_tar(tmp_path / "shards" / "part-001.tar", second)
    return tmp_path / "shards"


def test_images_and_classes_of_shards(tars, pixels):
    images = open_images(tars)
    expected = np.stack([pixels(i).transpose(2, 0, 1) for i in range(5)])
    np.testing.assert_array_equal(images.pixels, expected)
    assert images.labels.tolist() == [1, 0, 1, 0, 0]
    assert images.class_names == ("0", "1")


def test_a_file_or_a_pattern_names_shards(tars):
    assert len(open_images(tars / "part-001.tar")) == 2
    for pattern in ("part-*.tar", "part-{000..001}.tar", "part-{000..007}.tar"):
        assert len(open_images(f"{tars}/{pattern}")) == 5
    assert len(open_images(f"{tars}/part-{{001..009}}.tar")) == 2


def test_shards_are_told_apart_by_the_split_in_their_names(tars):
    (tars / "part-000.tar").rename(tars / "train-0.tar")
    (tars / "part-001.tar").rename(tars / "test-0.tar")
    assert [len(open_images(tars, split=split)) for split in ("train", "test")] == [3, 2]


def test_images_with_and_without_classes_are_refused(tars, encode, pixels):
    write_tar(tars / "part-002.tar", [("9.png", encode(pixels(9)))])
    with pytest.raises(LapganError, match=r"some images have no \.cls file"):
        open_images(tars)


def test_a_truncated_shard_is_named(tars):
    path = tars / "part-001.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(LapganError, match=r"1 shard cannot be used:\n  .*part-001\.tar"):
        open_images(tars)


def test_shards_have_every_picture_once_mixed_and_cut_to_size(tmp_path, photos, encode):
    assert write_shards(photos, tmp_path / "out", (4, 4), images_per_shard=3) == 8
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "shards.json", "train-000000.tar", "train-000001.tar", "train-000002.tar"
    ]  # fmt: skip
    images, source = open_images(tmp_path / "out"), open_images(photos)
    assert images.class_names == source.class_names == ("cat", "dog")
    assert images.labels.tolist() != source.labels.tolist()

    def list_all(pixels, labels):
        return sorted((p.tobytes(), int(n)) for p, n in zip(pixels, labels, strict=True))

    small = [fit_image(p.transpose(1, 2, 0), (4, 4)).transpose(2, 0, 1) for p in source.pixels]
    assert list_all(images.pixels, images.labels) == list_all(small, source.labels)


def test_the_same_pictures_give_the_same_bytes_and_the_folder_is_whole_or_not_there(
    tmp_path, photos
):
    for name in ("one", "two"):
        write_shards(photos, tmp_path / name, (4, 4), images_per_shard=5, hold_out=2)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["shards.json", "test-000000.tar", "train-000000.tar", "train-000001.tar"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    sizes = [len(open_images(tmp_path / "one", split=split)) for split in ("train", "test")]
    assert sizes == [6, 2]
    with pytest.raises(LapganError, match="already exists"):
        write_shards(photos, tmp_path / "one", (4, 4))
    (photos / "cat" / "0.png").write_bytes(b"broken")
    with pytest.raises(LapganError, match=r"0\.png"):
        write_shards(photos, tmp_path / "three", (4, 4))
    assert not (tmp_path / "three").exists()
    assert write_shards(photos, tmp_path / "three", (4, 4), on_invalid="skip") == 7


# webdataset leaves its files open.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_our_shards_and_we_read_its_own(tmp_path, photos, pixels):
    wds = pytest.importorskip("webdataset")
    write_shards(photos, tmp_path / "out", (6, 8), images_per_shard=8)
    samples = wds.WebDataset(
        str(tmp_path / "out" / "train-000000.tar"), shardshuffle=False
    ).decode("rgb8").to_tuple("png", "cls")  # fmt: skip
    theirs = list(samples)
    ours = open_images(tmp_path / "out")
    assert [int(label) for _, label in theirs] == ours.labels.tolist()
    for (picture, _), mine in zip(theirs, ours.pixels, strict=True):
        np.testing.assert_array_equal(np.asarray(picture), mine.transpose(1, 2, 0))
    with wds.TarWriter(str(tmp_path / "theirs.tar")) as sink:
        for index in range(3):
            sink.write({"__key__": f"k{index}", "png": pixels(index), "cls": index})
    images = open_images(tmp_path / "theirs.tar")
    assert images.labels.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(images.pixels[2], pixels(2).transpose(2, 0, 1))


def test_a_broken_index_is_named(tmp_path, photos):
    write_shards(photos, tmp_path / "out", (4, 4))
    index = tmp_path / "out" / "shards.json"
    content = json.loads(index.read_text())
    for broken in ("[]", json.dumps(content | {"shards": {"train-000000.tar": {"images": "x"}}})):
        index.write_text(broken)
        with pytest.raises(LapganError, match=r"shards\.json: expected the index"):
            open_images(tmp_path / "out")
