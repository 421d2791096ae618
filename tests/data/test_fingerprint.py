import os
import shutil
import time

import pytest

from lapgan.data import fingerprint
from lapgan.data.fingerprint import files_fingerprint


@pytest.fixture
def files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"content of {name}")
    return tmp_path


def hash_of(folder, memory=None):
    pairs = [(name, str(folder / name)) for name in ("a", "b")]
    return files_fingerprint(pairs, memory or folder / "memory")


def test_a_copy_elsewhere_has_the_same_hash(files):
    shutil.copytree(files, files / "copy")
    assert hash_of(files / "copy") == hash_of(files)


def test_names_and_contents_count(files):
    first = hash_of(files)
    assert files_fingerprint([("c", str(files / "a")), ("b", str(files / "b"))], files) != first
    (files / "a").write_text("other")
    assert hash_of(files) != first


def test_settled_files_are_not_read_again(files, monkeypatch):
    monkeypatch.setattr(fingerprint, "_SETTLED_NS", 0)
    time.sleep(0.02)
    first = hash_of(files)
    monkeypatch.setattr(fingerprint, "_hash_contents", lambda files: pytest.fail("read again"))
    assert hash_of(files) == first


def test_files_that_just_changed_are_not_remembered(files):
    hash_of(files)
    assert not (files / "memory").exists()


def test_a_swap_of_same_size_and_date_is_noticed(files, monkeypatch):
    monkeypatch.setattr(fingerprint, "_SETTLED_NS", 0)
    time.sleep(0.02)
    first, stat = hash_of(files), (files / "a").stat()
    (files / "a").write_text("CONTENT OF A")
    os.utime(files / "a", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (files / "a").stat().st_size == stat.st_size
    assert hash_of(files) != first


def test_a_damaged_memory_is_ignored(files, monkeypatch):
    monkeypatch.setattr(fingerprint, "_SETTLED_NS", 0)
    time.sleep(0.02)
    first = hash_of(files)
    [note] = (files / "memory").iterdir()
    note.write_bytes(b"\xff\x00")
    assert hash_of(files) == first


def test_works_without_a_writable_memory(files):
    (files / "file").write_text("")
    assert hash_of(files, files / "file" / "memory") == hash_of(files)


def test_a_missing_file_counts_as_such(files):
    first = hash_of(files)
    (files / "b").unlink()
    assert hash_of(files) != first
