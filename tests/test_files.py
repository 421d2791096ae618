import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from lapgan import files
from lapgan.errors import LapganError
from lapgan.files import (
    atomic_folder,
    atomic_path,
    check_writable,
    resolve_data_path,
    safe_file_names,
    write_atomically,
)


def test_content_is_written_with_its_folder(tmp_path: Path):
    path = tmp_path / "a" / "b.txt"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["b.txt"]


def test_a_full_disk_leaves_what_was_there_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "b.txt"
    write_atomically(path, b"one")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(LapganError, match=r"b\.txt: cannot be written \(No space left on device\)"):
        write_atomically(path, b"two")
    assert path.read_bytes() == b"one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["b.txt"]


def _stop_midway(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt


def test_an_interrupted_write_leaves_nothing(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        _stop_midway(tmp_path / "b.txt")
    assert list(tmp_path.iterdir()) == []


def test_a_path_is_found_below_the_data_folder_only_if_it_is_not_where_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "b").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAPGAN_DATA", str(tmp_path / "data"))
    assert resolve_data_path("a") == tmp_path / "data" / "a"
    assert resolve_data_path("b") == Path("b")
    assert resolve_data_path("c") == Path("c")
    monkeypatch.delenv("LAPGAN_DATA")
    assert resolve_data_path("a") == Path("a")


@pytest.mark.parametrize("name", ["../up", "/etc/cat", "a\\b", "..", "x\0y", "con", "a."])
def test_a_class_name_names_one_folder_below(name: str, tmp_path: Path):
    folder = tmp_path / safe_file_names([name])[0]
    folder.mkdir()
    assert folder.resolve().parent == tmp_path.resolve()


def test_different_classes_have_different_folders(tmp_path: Path):
    classes = ["c", "c+", "c#", "c/", "c%2F", "C", "", ".", "x" * 300, "x" * 299, "ü/", "c-2"]
    folders = safe_file_names(classes)
    for folder in folders:
        (tmp_path / folder).mkdir()
    assert len({folder.casefold() for folder in folders}) == len(classes)
    assert folders[:4] == ("c", "c+", "c#", "c%2F")


def test_names_that_windows_takes_for_devices_or_cuts_are_changed():
    names = ["con", "CON.txt", "nul", "Com1", "lpt9.a", "a ", "b.", "x" * 59 + ". y"]
    devices = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in "19")}
    for folder in safe_file_names(names):
        assert folder.split(".")[0].casefold() not in devices
        assert not folder.endswith((".", " "))
    assert safe_file_names(["console", "a con", "computer"]) == ("console", "a con", "computer")


def test_files_are_flushed_through_handles_that_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # As Windows demands; a handle that can only read is refused there.
    fcntl = pytest.importorskip("fcntl")
    modes = []

    def check(descriptor: int) -> None:
        modes.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)

    monkeypatch.setattr(os, "fsync", check)
    write_atomically(tmp_path / "a", b"a")
    _fill(tmp_path / "b")
    assert len(modes) >= 2
    assert os.O_RDONLY not in modes


def test_a_file_that_somebody_reads_is_replaced_when_they_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    replace, refusals = Path.replace, iter([True, True, False])

    def refuse(file: Path, target: Path) -> Path:
        # As Windows does while the target is open.
        if next(refusals, True):
            raise PermissionError(13, "Access is denied")
        return replace(file, target)

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(files, "_PAUSES", (0.0, 0.0, 0.0))
    write_atomically(tmp_path / "a", b"a")
    assert (tmp_path / "a").read_bytes() == b"a"
    with pytest.raises(LapganError, match="Access is denied"):
        write_atomically(tmp_path / "a", b"b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"a"


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path):
    code = (
        "import os, sys; from pathlib import Path; from lapgan.files import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'x').write_text('x'); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "out"], check=False)
    assert killed.returncode == -9
    [left] = tmp_path.iterdir()
    other = tmp_path / ".out.living.partial"
    other.mkdir()
    with FileLock(other / "lock"):
        _fill(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out", other.name}
    assert left != other


def test_a_place_that_cannot_be_written_is_found_out_beforehand(tmp_path: Path):
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "new" / "deeper" / "a.png")
    with pytest.raises(LapganError, match=r"a\.png: cannot be written \(Not a directory\)"):
        check_writable(tmp_path / "file" / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_appears_whole_and_as_readable_as_any(tmp_path: Path):
    with atomic_folder(tmp_path / "a" / "out") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "x").write_text("x")
        assert not (tmp_path / "a" / "out").exists()
    assert (tmp_path / "a" / "out" / "sub" / "x").read_text() == "x"
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["out"]
    assert (tmp_path / "a" / "out").stat().st_mode == (tmp_path / "a").stat().st_mode


def _fill(path: Path, error: BaseException | None = None, **options: bool) -> None:
    with atomic_folder(path, **options) as folder:
        (folder / "new").write_text("new")
        if error:
            raise error


def test_a_folder_is_replaced_only_if_asked_and_only_by_a_whole_one(tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    with pytest.raises(LapganError, match="out: already exists"):
        _fill(out)
    with pytest.raises(KeyboardInterrupt):
        _fill(out, KeyboardInterrupt(), replace=True)
    assert [entry.name for entry in out.iterdir()] == ["old"]
    _fill(out, replace=True)
    assert [entry.name for entry in out.iterdir()] == ["new"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_folder_on_a_full_disk_gives_the_advice_of_its_caller(tmp_path: Path):
    with (
        pytest.raises(LapganError, match=r"out: cannot be written \(No space left\).*Buy a disk\."),
        atomic_folder(tmp_path / "out", advice="Buy a disk."),
    ):
        raise OSError(errno.ENOSPC, "No space left")
    assert list(tmp_path.iterdir()) == []


def test_every_file_of_a_folder_is_on_the_disk_before_the_folder_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flushed = []

    def record(number: int) -> None:
        assert not (tmp_path / "out").exists()
        flushed.append(os.fstat(number).st_ino)

    monkeypatch.setattr(os, "fsync", record)
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "sub").mkdir()
        for name in ("a", "sub/b"):
            (folder / name).write_text(name)
    inodes = [(tmp_path / "out" / name).stat().st_ino for name in ("a", "sub/b")]
    assert sorted(flushed) == sorted(inodes)
