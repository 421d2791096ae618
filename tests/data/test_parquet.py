import json

import numpy as np
import pytest

from lapgan.data import open_images, prepare_images
from lapgan.errors import LapganError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture
def write(tmp_path, pixels, encode):
    """Writes a parquet file of images with the given labels."""

    def make(name, labels, *, image="img", label="label", names=None, first=0, extra=None):
        rows = [
            {"bytes": encode(pixels(first + index)), "path": f"{index}.png"}
            for index in range(len(labels))
        ]
        columns = {image: pa.array(rows, IMAGE), label: pa.array(labels, pa.int64())}
        table = pa.table(columns | (extra or {}))
        if names:
            features = {label: {"names": names, "_type": "ClassLabel"}}
            meta = json.dumps({"info": {"features": features}})
            table = table.replace_schema_metadata({"huggingface": meta})
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, tmp_path / name, row_group_size=3)
        return tmp_path / name

    return make


def test_pixels_labels_and_names(write, pixels):
    images = open_images(write("train.parquet", [1, 0, 1, 1], names=["cat", "dog"]))
    assert images.labels.tolist() == [1, 0, 1, 1]
    assert images.class_names == ("cat", "dog")
    expected = np.stack([pixels(seed).transpose(2, 0, 1) for seed in range(4)])
    np.testing.assert_array_equal(images.pixels, expected)


@pytest.mark.parametrize("label", ["label", "labels", "fine_label"])
def test_without_names_classes_are_called_by_number(write, label):
    images = open_images(write("train.parquet", [0, 2], image="image", label=label))
    assert images.class_names == ("0", "2")
    assert images.labels.tolist() == [0, 1]


def test_a_class_label_of_another_name_is_found(write):
    images = open_images(write("train.parquet", [1, 0], label="animal", names=["cat", "dog"]))
    assert images.class_names == ("cat", "dog")


def test_other_integer_columns_are_no_labels(write):
    assert open_images(write("train.parquet", [3, 4], label="width")).labels is None


def test_broken_metadata_loses_the_names_only(write, tmp_path):
    table = pq.read_table(write("train.parquet", [0, 1]))
    meta = {"huggingface": '{"info": {"features": ["label"]}}'}
    pq.write_table(table.replace_schema_metadata(meta), tmp_path / "train.parquet")
    assert open_images(tmp_path / "train.parquet").class_names == ("0", "1")


@pytest.mark.parametrize("labels", [[-1, -1], [None, None]])
def test_a_split_without_labels(write, labels):
    images = open_images(write("train.parquet", labels, names=["cat"]))
    assert images.labels is None
    assert images.class_names == ()


def test_refuses_labels_for_some_images_only(write):
    with pytest.raises(LapganError, match="1 of 3 images have no label"):
        open_images(write("train.parquet", [0, None, 1]))


def test_refuses_labels_beyond_the_classes(write):
    with pytest.raises(LapganError, match=r"expected labels 0 to 1 .*found 0 to 2"):
        open_images(write("train.parquet", [0, 2], names=["cat", "dog"]))


def test_shards_are_read_in_order(write, tmp_path):
    write("data/train-00001-of-00002.parquet", [2, 2], first=2)
    write("data/train-00000-of-00002.parquet", [0, 1])
    write("data/test-00000-of-00001.parquet", [0], first=9)
    assert open_images(tmp_path).labels.tolist() == [0, 1, 2, 2]
    assert open_images(tmp_path, split="test").labels.tolist() == [0]
    assert len(open_images(f"{tmp_path}/data/train-*.parquet")) == 4


def test_split_folders(write, tmp_path):
    write("train/0000.parquet", [0, 1])
    write("test/0000.parquet", [0])
    assert len(open_images(tmp_path)) == 2
    assert len(open_images(tmp_path, split="test")) == 1


def test_a_file_name_tells_more_than_its_folder(write, tmp_path):
    write("test/train.parquet", [0, 1])
    with pytest.raises(LapganError, match="no split 'test'; found train"):
        open_images(tmp_path / "test" / "train.parquet", split="test")


def test_files_named_after_no_split_are_train(write, tmp_path):
    write("a.parquet", [0])
    write("b.parquet", [1], first=1)
    assert len(open_images(tmp_path)) == 2
    with pytest.raises(LapganError, match="no file is named after a split"):
        open_images(tmp_path, split="test")


def test_a_missing_split_names_those_there_are(write, tmp_path):
    write("test.parquet", [0])
    write("val.parquet", [1])
    with pytest.raises(LapganError, match=r"no split 'train'; found test, val"):
        open_images(tmp_path)


def test_a_single_file_is_used_whatever_its_name(write):
    assert len(open_images(write("test.parquet", [0, 1]))) == 2


def test_refuses_files_that_differ_in_their_classes(write, tmp_path):
    write("train-0.parquet", [0], names=["cat"])
    write("train-1.parquet", [0], names=["dog"])
    with pytest.raises(LapganError, match=r"train-1.parquet: expected .*'cat'.*found .*'dog'"):
        open_images(tmp_path)


def test_refuses_wrong_columns_and_lists_them(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(LapganError, match=r"one image column.*found text: string, label: int64"):
        open_images(tmp_path / "train.parquet")


def test_several_image_columns_need_a_known_name(write, tmp_path):
    extra = {"mask": pa.array([{"bytes": b"", "path": ""}], IMAGE)}
    assert len(open_images(write("train.parquet", [0], extra=extra))) == 1
    with pytest.raises(LapganError, match="named image or img if there are several"):
        open_images(write("train.parquet", [0], image="photo", extra=extra))


def test_refuses_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "train.parquet").write_text("hello")
    with pytest.raises(LapganError, match=r"train\.parquet: cannot be read as parquet"):
        open_images(tmp_path / "train.parquet")


def test_refuses_a_file_with_a_broken_page(write):
    path = write("train.parquet", [0, 1, 2, 3])
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    with pytest.raises(LapganError, match=r"train\.parquet: cannot be read as parquet"):
        open_images(path)


def test_a_bad_row_is_named(tmp_path, pixels, encode):
    good = {"bytes": encode(pixels()), "path": "good.png"}
    rows = [good, {"bytes": b"hello", "path": "bad.png"}, None, good]
    pq.write_table(pa.table({"img": pa.array(rows, IMAGE)}), tmp_path / "train.parquet")
    with pytest.raises(LapganError, match=r"(?s)row 1 \(bad.png\): is not.*row 2: is empty"):
        open_images(tmp_path)
    assert len(open_images(tmp_path, on_invalid="skip")) == 2


def test_no_rows_is_an_error(write):
    with pytest.raises(LapganError, match="expected images, but there are none"):
        open_images(write("train.parquet", []))


def test_a_missing_library_names_the_extra(write, monkeypatch):
    path = write("train.parquet", [0])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(LapganError, match=r"pip install -e '\.\[data\]'"):
        open_images(path)


def test_files_of_a_split_beside_files_of_none_are_refused(write, tmp_path):
    write("express-train.parquet", [0])
    write("bus.parquet", [1], first=1)
    with pytest.raises(LapganError, match=r"express-train\.parquet is named after the split 'tra"):
        open_images(tmp_path)


def test_splits_in_file_names_may_be_written_otherwise(write, tmp_path):
    write("Train-0.parquet", [0, 1])
    write("VALID-0.parquet", [0])
    assert len(open_images(tmp_path)) == 2
    assert len(open_images(tmp_path, split="validation")) == 1


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (pa.array(["dog", "cat", "dog"]), ("cat", "dog")),
        (pa.array(["dog", "cat", "dog"]).dictionary_encode(), ("cat", "dog")),
        (pa.array([True, False, True]), ("False", "True")),
        (pa.array([1_700_000_002, 1_700_000_001, 1_700_000_002]), ("1700000001", "1700000002")),
    ],
)
def test_labels_of_any_type_that_tells_classes(write, labels, names):
    path = write("train.parquet", [0, 0, 0], label="other", extra={"label": labels})
    images = open_images(path)
    assert images.class_names == names
    assert images.labels.tolist() == [1, 0, 1]


def test_a_label_column_of_another_type_gives_no_classes_and_a_warning(write, caplog):
    extra = {"label": pa.array([0.5, 1.0])}
    images = open_images(write("train.parquet", [0, 1], label="other", extra=extra))
    assert images.labels is None
    assert "the column label holds double; classes are integers, strings or boo" in caplog.text


def test_another_label_column_is_named_after_the_file(write):
    path = write("birds.parquet", [0, 1], extra={"species": pa.array(["wren", "owl"])})
    assert open_images(path).class_names == ("0", "1")
    images = open_images(f"{path}:species")
    assert images.class_names == ("owl", "wren")
    assert images.labels.tolist() == [1, 0]
    with pytest.raises(LapganError, match=r"a column genus of .*found .*species: string"):
        open_images(f"{path}:genus")


def test_numbers_of_images_are_no_classes(write, caplog, monkeypatch):
    monkeypatch.setattr("lapgan.data.sources.parquet._MAX_CLASSES", 3)
    assert open_images(write("train.parquet", [9, 8, 7])).class_names == ("7", "8", "9")
    assert open_images(write("ids.parquet", [9, 8, 7, 6])).labels is None
    assert "the column label holds 4 different values, more than the 3" in caplog.text


def test_a_path_in_place_of_an_image_says_so(tmp_path):
    rows = pa.array([{"bytes": None, "path": "/abs/ok1.png"}], IMAGE)
    pq.write_table(pa.table({"img": rows}), tmp_path / "train.parquet")
    with pytest.raises(LapganError, match=r"a path, /abs/ok1\.png, and no bytes; embed them"):
        open_images(tmp_path)


@pytest.mark.parametrize("names", [["c+", "c#", "c"], None, ["car", "plane", "train"]])
def test_prepared_classes_stay_apart(write, names, tmp_path):
    prepare_images(write("set.parquet", [0, 1, 2], names=names), tmp_path / "out", (2, 2))
    images = open_images(tmp_path / "out")
    assert len(images.class_names) == 3
    assert sorted(images.labels.tolist()) == [0, 1, 2]
    expected = {"car": ("car", "plane", "train_"), "0": ("0", "1", "2"), "c+": ("c", "c#", "c+")}
    assert images.class_names == expected[names[0] if names else "0"]


def test_preparing_refuses_labels_for_some_images_only(write, tmp_path):
    path = write("set.parquet", [0, None, 1], names=["cat", "dog"])
    with pytest.raises(LapganError, match="1 of 3 images have no label"):
        prepare_images(path, tmp_path / "out", (2, 2))


def test_two_label_columns_of_one_file_are_not_mistaken_for_each_other(write):
    path = write("set.parquet", [0, 1, 1], extra={"coarse": pa.array([1, 0, 0])})
    assert open_images(path).labels.tolist() == [0, 1, 1]
    assert open_images(f"{path}:coarse").labels.tolist() == [1, 0, 0]
