import json
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from filelock import FileLock

from lapgan.data import open_images
from lapgan.data import reading as reading_module
from lapgan.errors import LapganError


@pytest.fixture
def decoded(monkeypatch):
    """Counts the images that are decoded."""
    count = []

    def counting(content, decode=reading_module.decode):
        count.append(content)
        return decode(content)

    monkeypatch.setattr(reading_module, "decode", counting)
    return count


def entry_of(cache):
    [meta] = cache.glob("*/meta.json")
    return meta.parent


def test_the_second_start_decodes_nothing(photos, decoded):
    first = open_images(photos)
    assert len(decoded) == 8
    second = open_images(photos)
    assert len(decoded) == 8
    assert isinstance(second.pixels, np.memmap)
    assert not second.pixels.flags.writeable
    np.testing.assert_array_equal(second.pixels, first.pixels)
    np.testing.assert_array_equal(second.labels, first.labels)
    assert second.class_names == first.class_names
    assert second.fingerprint == first.fingerprint


def test_a_moved_source_is_not_decoded_again(photos, decoded):
    open_images(photos)
    moved = photos.rename(photos.parent / "pets")
    assert open_images(moved).name == "pets"
    assert len(decoded) == 8


def test_an_edited_source_is_decoded_again(photos, pixels, encode, decoded):
    first = open_images(photos)
    (photos / "cat" / "0.png").write_bytes(encode(pixels(100)))
    second = open_images(photos)
    assert len(decoded) == 16
    assert second.fingerprint != first.fingerprint
    assert (second.pixels[0] == pixels(100).transpose(2, 0, 1)).all()


def test_the_cache_argument_wins_over_the_environment(photos, cache, tmp_path):
    open_images(photos, cache=tmp_path / "here")
    assert list((tmp_path / "here").glob("*/pixels.npy"))
    assert not list(cache.iterdir())


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "meta.json").write_text("{"),
        lambda entry: (entry / "meta.json").write_text("[]"),
        lambda entry: (entry / "meta.json").unlink(),
        lambda entry: (entry / "labels.npy").write_bytes(b""),
        lambda entry: (entry / "labels.npy").unlink(),
        lambda entry: np.save(entry / "labels.npy", np.zeros(3, np.int64)),
        lambda entry: (entry / "pixels.npy").write_bytes((entry / "pixels.npy").read_bytes()[:-9]),
        lambda entry: np.save(entry / "pixels.npy", np.zeros((7, 3, 6, 8), np.uint8)),
        lambda entry: (entry / "meta.json").write_text(
            json.dumps(json.loads((entry / "meta.json").read_text()) | {"shape": [9, 3, 6, 8]})
        ),
    ],
)
def test_a_damaged_entry_is_replaced(damage, photos, cache, decoded):
    expected = np.array(open_images(photos).pixels)
    damage(entry_of(cache))
    images = open_images(photos)
    assert len(decoded) == 16
    np.testing.assert_array_equal(images.pixels, expected)


def test_no_pickle_is_ever_loaded(photos, cache, decoded):
    open_images(photos)
    np.save(entry_of(cache) / "labels.npy", np.array([{}] * 8), allow_pickle=True)
    assert open_images(photos).labels.tolist() == [0] * 4 + [1] * 4
    assert len(decoded) == 16


@pytest.fixture
def full_disk():
    """Makes the system refuse files of more than 600 bytes, as a full disk would."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextmanager
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited()


def test_a_full_disk_leaves_nothing_half_written(photos, cache, full_disk):
    with (
        full_disk,
        pytest.raises(LapganError, match=r"(?s)cannot be written.*LAPGAN_CACHE") as error,
    ):
        open_images(photos)
    assert str(cache) in str(error.value)
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []
    assert len(open_images(photos)) == 8


def test_a_cache_that_cannot_be_made_is_named(photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LapganError, match=r"(?s)file/cache: .*cannot be written.*LAPGAN_CACHE"):
        open_images(photos, cache=tmp_path / "file" / "cache")


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(photos, cache):
    key = open_images(photos).fingerprint
    (cache / key).rename(cache / f".{key}.a1b2.partial")  # killed just before the end
    (cache / ".dead.a1b2.partial").mkdir()
    (cache / ".alive.a1b2.partial").mkdir()
    with FileLock(cache / "alive.lock"):
        assert len(open_images(photos)) == 8
    assert [path.name for path in cache.glob("*.partial")] == [".alive.a1b2.partial"]


STARTER = """
import sys, time
from lapgan.data import open_images
from lapgan.data import reading

def slow(content, decode=reading.decode):
    print("decoded", flush=True)
    time.sleep(0.05)
    return decode(content)

reading.decode = slow
print(len(open_images(sys.argv[1])), flush=True)
"""


def start(photos):
    command = [sys.executable, "-c", STARTER, str(photos)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_of_two_processes_one_decodes_and_both_see_all(photos):
    processes = [start(photos), start(photos)]
    printed = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [words[-1] for words in printed] == ["8", "8"]
    assert sum(words.count("decoded") for words in printed) == 8


def test_a_process_killed_in_the_middle_does_no_harm(photos, cache, decoded):
    process = start(photos)
    assert process.stdout.readline() == "decoded\n"
    process.kill()
    process.communicate()
    assert list(cache.glob("*.partial"))
    assert len(open_images(photos)) == 8
    assert len(decoded) == 8
    assert not list(cache.glob("*.partial"))
