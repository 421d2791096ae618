"""Streams: each image once per epoch, the same wherever a run continues, broken shards named."""

import io
import logging
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_recipe import TINY

from lapgan.data import ShardOrder, open_images, open_stream, write_shards
from lapgan.data.streams import stream as stream_module
from lapgan.errors import LapganError
from lapgan.recipe import check_recipe
from lapgan.streaming import StreamedBatches
from lapgan.training import RunConfig, train
from lapgan.training.opening import open_training_images, training_normalization, training_set
from lapgan.training.run import plan

COUNT = 50


def picture(number):
    """A picture of 12x12 with its number in every pixel, and some texture."""
    pixels = np.full((12, 12, 3), number, np.uint8)
    pixels[..., 1] = np.arange(12)[:, None] * 20
    return pixels


@pytest.fixture
def folder(tmp_path):
    """Pictures 0 to 49 in two class folders: even and odd."""
    for number in range(COUNT):
        path = tmp_path / "pictures" / ("even", "odd")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def shards(tmp_path, folder):
    write_shards(folder, tmp_path / "shards", (12, 12), images_per_shard=7)
    return tmp_path / "shards"


def batches(shards, buffer=16, **options):
    on_invalid = options.pop("on_invalid", "stop")
    rank, ranks = options.pop("rank", 0), options.pop("ranks", 1)
    stream = open_stream(f"stream:{shards}", on_invalid=on_invalid)
    order = ShardOrder(stream.counts, options.pop("seed", 3), buffer, rank, ranks)
    return StreamedBatches(stream, options.pop("size", (12, 12)), order, **options)


def numbers(batch):
    """The numbers of the pictures in a minibatch."""
    return batch[0][:, 0, 0, 0].tolist()


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_an_epoch_reads_every_image_once_over_all_ranks(ranks):
    random = np.random.default_rng(ranks)
    for _ in range(20):
        counts = tuple(random.integers(0, 9, random.integers(1, 12)).tolist())
        if sum(counts) < ranks:
            continue
        buffer, seen = int(random.integers(1, 12)), []
        for rank in range(ranks):
            order = ShardOrder(counts, 0, buffer, rank, ranks)
            key = (2, 0)
            while key[0] == 2:
                pieces = order.pieces(*key)
                assert sum(stop - start for _, start, stop in pieces) <= buffer
                seen += [(shard, i) for shard, start, stop in pieces for i in range(start, stop)]
                key = order.following(*key)
            assert key == (3, 0)
        assert len(seen) == len(set(seen)) == sum(counts) // ranks * ranks
        assert all(0 <= index < counts[shard] for shard, index in seen)


def test_a_stream_needs_an_image_per_process():
    with pytest.raises(LapganError, match="a stream of 3 images for 4 processes"):
        ShardOrder((1, 2), 0, ranks=4)


@pytest.mark.parametrize("buffer", [1, 16, 1000])
def test_an_epoch_of_minibatches_has_every_image_once_in_an_order_of_its_own(shards, buffer):
    data = batches(shards, buffer)
    assert data.epoch == COUNT
    epochs = [
        [n for start in range(e, e + COUNT, 10) for n in numbers(data.at(start, 10))]
        for e in (0, COUNT)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(COUNT))
    assert epochs[0] != epochs[1]
    assert epochs[0] != list(range(COUNT))


def test_labels_and_pixels_stay_together(shards):
    data = batches(shards)
    pixels, labels = data.at(0, COUNT)
    assert data.class_names == ("even", "odd")
    for image, label in zip(pixels, labels, strict=True):
        number = int(image[0, 0, 0])
        assert label == number % 2
        np.testing.assert_array_equal(image.permute(1, 2, 0), picture(number))


def test_examples_do_not_depend_on_where_reading_begins_or_on_the_size_of_requests(shards):
    whole, labels = batches(shards, flip=True).at(0, 120)
    for start, count in ((0, 7), (15, 4), (37, 30), (99, 21), (60, 1)):
        pixels, some = batches(shards).at(start, count)
        # Mirroring is drawn per minibatch; the number of a picture stands in all of its pixels.
        assert numbers((pixels, some)) == whole[start : start + count, 0, 0, 0].tolist()
        assert torch.equal(some, labels[start : start + count])


def test_ranks_share_each_minibatch_and_each_epoch(shards):
    parts = [batches(shards, 8, rank=rank, ranks=3) for rank in range(3)]
    assert {part.epoch for part in parts} == {48}
    seen = [
        [n for start in range(0, 48, 12) for n in numbers(part.at(start, 12))] for part in parts
    ]
    assert [len(own) for own in seen] == [16, 16, 16]
    assert len({number for own in seen for number in own}) == 48
    with pytest.raises(ValueError, match="multiples of 3"):
        parts[0].at(0, 10)


def test_an_epoch_of_crops_has_all_four_corners(shards):
    data = batches(shards, 16, size=(10, 10), corners=True)
    assert data.epoch == 4 * COUNT
    pixels, _ = data.at(0, data.epoch)
    # The second color tells the row, so top and bottom crops differ; left and right do not.
    crops = [(int(image[0, 0, 0]), int(image[1, 0, 0])) for image in pixels]
    assert sorted(crops) == sorted((n, row) for n in range(COUNT) for row in (0, 0, 40, 40))


def test_few_windows_are_held_and_a_sheet_does_not_disturb_them(shards, monkeypatch):
    reads = []
    read = stream_module.ImageStream.read

    def count(self, pieces):
        reads.append(pieces)
        return read(self, pieces)

    monkeypatch.setattr(stream_module.ImageStream, "read", count)
    data = batches(shards, 5)
    for start in range(0, 50, 5):
        data.at(start, 5)
        assert len(data._windows.futures) <= 2
        if start:
            before = dict(data._windows.futures)
            data.at(0, 4)
            assert start == 5 or data._windows.futures == before
    data._windows.executor.shutdown()
    assert len(reads) <= 10 + 1 + 9  # an epoch, the window ahead, and one per sheet


@pytest.mark.slow
def test_processes_read_the_same_as_a_thread(shards):
    threaded, parallel = batches(shards, 8), batches(shards, 8, workers=2)
    for start in range(0, 60, 20):
        assert torch.equal(threaded.at(start, 20)[0], parallel.at(start, 20)[0])
    assert any("stream" in thread.name for thread in threading.enumerate())


def test_a_shard_of_another_size_is_named_and_left_out_only_when_asked(shards, caplog):
    path = shards / "train-000002.tar"
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(LapganError, match=r"train-000002\.tar: expected .* bytes, found"):
        open_stream(f"stream:{shards}")
    with caplog.at_level(logging.WARNING, "lapgan.data"):
        data = batches(shards, on_invalid="skip")
    assert "train-000002.tar" in caplog.text
    assert data.epoch == COUNT - 7
    assert len(set(numbers(data.at(0, COUNT - 7)))) == COUNT - 7


def test_content_that_is_damaged_later_is_named_and_left_out_only_when_asked(shards, caplog):
    path = shards / "train-000001.tar"
    content = bytearray(path.read_bytes())
    content[512 + 20 : 512 + 60] = bytes(40)  # within the first PNG file
    content[-6000:-5000] = b"x" * 1000  # a header further on
    path.write_bytes(content)
    with pytest.raises(LapganError, match=r"train-000001\.tar.*--skip-invalid"):
        batches(shards).at(0, COUNT)
    with caplog.at_level(logging.WARNING, "lapgan.data"):
        seen = numbers(batches(shards, on_invalid="skip").at(0, COUNT))
    assert "train-000001.tar" in caplog.text
    assert len(seen) == COUNT
    assert COUNT - 7 <= len(set(seen)) < COUNT


def test_a_shard_that_vanishes_is_named(shards):
    data = batches(shards)
    (shards / "train-000003.tar").unlink()
    with pytest.raises(LapganError, match=r"train-000003\.tar: cannot be read as a tar file"):
        data.at(0, COUNT)
    with pytest.raises(LapganError, match=r"train-000003\.tar: expected .* found no such file"):
        open_stream(f"stream:{shards}")


def encode(number):
    file = io.BytesIO()
    Image.fromarray(picture(number)).save(file, "PNG")
    return file.getvalue()


def write_parquet(path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["even", "odd"])}
    )
    rows = {
        "image": [{"bytes": encode(number), "path": None} for number in range(COUNT)],
        "label": [number % 2 for number in range(COUNT)],
    }
    path.parent.mkdir(parents=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path, batch_size=9)


def test_parquet_and_hub_data_sets_are_streamed_by_row_groups(tmp_path):
    write_parquet(tmp_path / "set" / "train-00000-of-00001.parquet")
    for name in (tmp_path / "set", f"hub:{tmp_path / 'set'}"):
        data = batches(name)
        assert data.stream.counts == (9, 9, 9, 9, 9, 5)
        pixels, labels = data.at(0, COUNT)
        assert sorted(numbers((pixels, labels))) == list(range(COUNT))
        assert labels.tolist() == [number % 2 for number in numbers((pixels, labels))]
        assert data.class_names == ("even", "odd")
    with pytest.raises(LapganError, match="of the split 'test' to stream; found the splits train"):
        open_stream(f"stream:hub:{tmp_path / 'set'}", split="test")


def test_lsun_is_streamed_by_ranges_of_keys(tmp_path, monkeypatch):
    lmdb = pytest.importorskip("lmdb")
    monkeypatch.setattr("lapgan.data.streams.lsun.key_ranges.__defaults__", (4,))
    for name, parity in (("even", 0), ("odd", 1)):
        (tmp_path / "lsun" / f"{name}_train_lmdb").mkdir(parents=True)
        with (
            lmdb.open(str(tmp_path / "lsun" / f"{name}_train_lmdb"), map_size=2**24) as database,
            database.begin(write=True) as transaction,
        ):
            for number in range(parity, COUNT, 2):
                transaction.put(f"{number:04}".encode(), encode(number))
    data = batches(f"{tmp_path / 'lsun'}:all:12")
    assert data.stream.counts == (4, 4, 4, 4, 4, 4, 1) * 2
    pixels, labels = data.at(0, COUNT)
    assert sorted(numbers((pixels, labels))) == list(range(COUNT))
    assert labels.tolist() == [number % 2 for number in numbers((pixels, labels))]


def config(shards, out, images=64, **changes):
    data = {"classes": True, "normalisation": "standardised", "buffer": 16, **changes}
    return RunConfig(
        check_recipe(TINY | {"data": data}, "tiny"), out, f"stream:{shards}", images=images
    )


def test_a_run_that_is_interrupted_goes_on_as_if_it_had_not_been(shards, tmp_path):
    train(config(shards, tmp_path / "whole"))
    for images in (24, 64):
        cascade = train(config(shards, tmp_path / "halves", images))
    weights = [tmp_path / name / "level-12" / "weights.safetensors" for name in ("whole", "halves")]
    assert cascade.class_names == ("even", "odd")
    assert len({_tensors(path) for path in weights}) == 1


def _tensors(path):
    from safetensors.numpy import load_file

    return tuple((name, value.tobytes()) for name, value in sorted(load_file(path).items()))


def test_the_normalization_is_that_of_the_images_of_the_stream(shards):
    recipe = check_recipe(TINY | {"data": {"normalisation": "standardised"}}, "tiny")
    normalization = training_normalization(
        recipe, open_training_images(f"stream:{shards}", recipe, "stop")
    )
    pixels = np.stack([picture(number) for number in range(COUNT)]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(normalization.mean, pixels.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(normalization.std, pixels.std(axis=0).clip(1), rtol=1e-5)


def test_what_cannot_be_streamed_is_refused_with_the_way_out(shards, folder, tmp_path):
    with pytest.raises(LapganError, match=r"this source has no shards.*prepare .* --shards"):
        open_stream(f"stream:{folder}")
    recipe = check_recipe(TINY | {"data": {"replacement": True}}, "tiny")
    with pytest.raises(LapganError, match=r"data\.replacement=false"):
        training_set(recipe, open_stream(f"stream:{shards}"), 0)
    with pytest.raises(LapganError, match="`stream:` is for `lapgan train`"):
        open_images(f"stream:{shards}")
    with pytest.raises(LapganError, match="lies in the folder of the data"):
        list(plan(config(shards, shards / "run")))
    other = TINY | {"levels": {"24": TINY["levels"]["12"], **TINY["levels"]}}
    with pytest.raises(LapganError, match="images are 12x12, but the recipe's finest level is 24"):
        list(plan(RunConfig(check_recipe(other, "tiny"), tmp_path / "run", f"stream:{shards}")))


def test_the_plan_says_how_many_images_are_streamed(shards, tmp_path):
    lines = list(plan(config(shards, tmp_path / "run")))
    assert lines[0].endswith("50 images of 12x12 streamed from 8 shards, 2 classes (even, odd)")
    assert not (tmp_path / "run").exists()
