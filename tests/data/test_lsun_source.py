"""LSUN's layout, written with lmdb and read by ours and by torchvision's."""

import builtins
import multiprocessing
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from lapgan.data import find_source, open_images, prepare_images
from lapgan.data.sources import lsun as module
from lapgan.errors import LapganError

lmdb = pytest.importorskip("lmdb")


def write_database(folder, contents):
    folder.mkdir(parents=True)
    with (
        lmdb.open(str(folder), map_size=2**24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, content in contents:
            transaction.put(key, content)


@pytest.fixture
def lsun(tmp_path, pixels, encode):
    """Bedrooms and towers: photographs of 10x14, the keys not in the order of writing."""
    for number, (name, count) in enumerate([("bedroom", 5), ("tower", 3)]):
        for split, seed in (("train", 100 * number), ("val", 100 * number + 50)):
            contents = [
                (b"%040x" % (7 * i % 11), encode(pixels(seed + i, 10, 14), "WEBP", lossless=True))
                for i in range(count if split == "train" else 2)
            ]
            write_database(tmp_path / "lsun" / f"{name}_{split}_lmdb", contents)
    return tmp_path / "lsun"


# torchvision leaves its pickle open.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_images_come_in_the_order_of_torchvisions_reader(lsun, monkeypatch, tmp_path):
    from torchvision.datasets import LSUN

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # torchvision leaves a pickle where it is called
    reader = LSUN(str(lsun), classes=["bedroom_train", "tower_train"])
    official = [reader[index] for index in range(len(reader))]
    for database in reader.dbs:
        database.env.close()
    images = open_images(lsun)
    assert images.class_names == ("bedroom", "tower")
    assert images.labels.tolist() == [label for _, label in official] == [0] * 5 + [1] * 3
    for ours, (theirs, _) in zip(images.pixels, official, strict=True):
        np.testing.assert_array_equal(ours.transpose(1, 2, 0), np.asarray(theirs))


def test_nothing_is_written_beside_the_data_or_where_one_works(lsun, monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = {(path, path.stat().st_mtime_ns) for path in lsun.rglob("*")}
    open_images(f"{lsun}:bedroom")
    assert {(path, path.stat().st_mtime_ns) for path in lsun.rglob("*")} == before
    assert not any((tmp_path / "here").iterdir())


def test_photographs_are_cropped_and_reduced_to_the_size_in_the_name(lsun, pixels):
    images = open_images(f"{lsun}:bedroom:8")
    assert images.pixels.shape == (5, 3, 8, 8)
    assert images.class_names == ()
    # Key order: i -> 7 i mod 11, so the first photograph is that of i = 0.
    picture = Image.fromarray(pixels(0, 10, 14))
    expected = np.asarray(picture.resize((8, 8), Image.Resampling.LANCZOS, box=(2, 0, 12, 10)))
    np.testing.assert_array_equal(images.pixels[0].transpose(1, 2, 0), expected)


def test_one_class_or_several_and_the_held_out_images(lsun):
    assert len(open_images(f"{lsun}:tower:8x10")) == 3
    assert open_images(f"{lsun}:tower,bedroom").class_names == ("tower", "bedroom")
    for split in ("test", "val"):
        assert open_images(f"{lsun}:all", split=split).labels.tolist() == [0, 0, 1, 1]
    assert len(open_images(lsun / "tower_train_lmdb")) == 3
    assert len(open_images(lsun / "tower_train_lmdb", split="test")) == 2


def test_a_single_database_of_any_name_is_train(lsun):
    (lsun / "tower_train_lmdb").rename(lsun / "mine_lmdb")
    assert len(open_images(f"{lsun / 'mine_lmdb'}:8")) == 3
    with pytest.raises(LapganError, match="no split 'test'; a single database is train"):
        open_images(lsun / "mine_lmdb", split="test")


def test_the_word_finds_the_folder_below_the_data(lsun, monkeypatch):
    monkeypatch.setenv("LAPGAN_DATA", str(lsun.parent))
    assert len(open_images("lsun:bedroom:8")) == 5
    monkeypatch.setenv("LAPGAN_DATA", str(lsun / "nothing"))
    with pytest.raises(LapganError, match=r"(?s)bedroom_train_lmdb, found no class.*fyu/lsun"):
        open_images("lsun:bedroom:8")


def test_unknown_classes_and_splits_are_refused(lsun):
    with pytest.raises(LapganError, match="kitchen_train_lmdb, found bedroom, tower there"):
        open_images(f"{lsun}:bedroom,kitchen:8")
    with pytest.raises(LapganError, match=r"no split 'fold-1'\. Choose train, val, test"):
        open_images(lsun, split="fold-1")


def test_a_database_with_many_images_is_read_in_parts(tmp_path, pixels, encode, monkeypatch):
    monkeypatch.setattr(module, "_READ_AT_ONCE", 4)
    for count in (4, 9):  # a full last part, and one with a rest
        folder = tmp_path / f"{count}_lmdb"
        write_database(folder, [(b"%04d" % i, encode(pixels(i))) for i in range(count)])
        images = open_images(folder)
        expected = np.stack([pixels(i).transpose(2, 0, 1) for i in range(count)])
        np.testing.assert_array_equal(images.pixels, expected)


def test_two_readers_in_one_process_do_not_disturb_each_other(lsun):
    source = find_source(f"{lsun}:bedroom", "train")
    pairs = list(zip(source.items(), find_source(str(lsun), "train").items(), strict=False))
    assert len(pairs) == 5
    assert all(a.content == b.content for a, b in pairs)


@pytest.mark.slow
def test_a_source_is_read_by_processes_that_were_forked_while_it_was_open(lsun):
    source = find_source(str(lsun), "train")
    items = source.items()
    next(items)
    context = multiprocessing.get_context("forkserver")
    with context.Pool(2) as pool:
        assert pool.map(_count, [source, source]) == [8, 8]
    assert len(list(items)) == 7
    assert pickle.loads(pickle.dumps(source)) == source


def _count(source):
    assert os.getpid() != os.getppid()
    return len(list(source.items()))


def test_broken_images_and_databases_are_named(lsun, encode, pixels):
    write_database(lsun / "broken_train_lmdb", [(b"good", encode(pixels())), (b"bad", b"nothing")])
    with pytest.raises(LapganError, match=r"broken_train_lmdb: bad: is not a PNG"):
        open_images(f"{lsun}:broken:4")
    images = open_images(f"{lsun}:broken:4", on_invalid="skip")
    assert images.pixels.shape == (1, 3, 4, 4)
    data = lsun / "tower_train_lmdb" / "data.mdb"
    data.write_bytes(b"x" * 8192)
    with pytest.raises(LapganError, match="tower_train_lmdb: cannot be read as LMDB"):
        open_images(f"{lsun}:tower:4")


def test_photographs_smaller_than_the_size_are_named(lsun):
    with pytest.raises(LapganError, match=r"is 14x10 pixels .* smaller than 12x12"):
        open_images(f"{lsun}:tower:12")


def test_photographs_can_be_prepared(lsun, tmp_path):
    assert prepare_images(f"{lsun}:all", tmp_path / "small", (6, 8)) == 8
    assert open_images(tmp_path / "small").class_names == ("bedroom", "tower")


def test_without_lmdb_the_error_names_the_extra(lsun, monkeypatch):
    def refuse(name, *arguments, **keywords):
        if name == "lmdb":
            raise ModuleNotFoundError("No module named 'lmdb'", name="lmdb")
        return real(name, *arguments, **keywords)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(LapganError, match=r"needs the package lmdb.*\[lmdb\]"):
        open_images(f"{lsun}:bedroom:8")
