"""Files: paths below the data folder, and writing that leaves a whole file or none."""

import glob
import itertools
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lapgan.errors import LapganError

__all__ = [
    "PARTIAL",
    "append_line",
    "atomic_folder",
    "atomic_path",
    "check_writable",
    "encode_json",
    "explain_write_errors",
    "resolve_data_path",
    "safe_file_names",
    "write_atomically",
    "write_json",
]

PARTIAL = ".partial"  # the suffix of a folder that `atomic_folder` has not finished
_ALIVE = "lock"  # held within an unfinished folder by the process that makes it
_LONGEST = 60  # characters of a name; file systems take 255 bytes
# What no system takes in a name, and what Windows takes for something else: names of devices, and
# a dot or a space at the end.
_UNSAFE = re.compile(
    r"^\.|[. ]$|[^\w. +#-]|^(?=(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)).", re.IGNORECASE
)
_PAUSES = (0.05, 0.2, 1.0)  # seconds
_ADVICE = "Free some space or choose another folder, then run the command again."


def resolve_data_path(path: str | Path) -> Path:
    """Returns the path below `$LAPGAN_DATA` if it exists only there, otherwise the path itself."""
    local, data = Path(path).expanduser(), os.environ.get("LAPGAN_DATA")
    if data and str(path) and not local.exists() and (Path(data) / local).exists():
        return Path(data) / local
    return local


@contextmanager
def explain_write_errors(path: Path, advice: str = _ADVICE) -> Iterator[None]:
    """Turns the system's errors within the block into a LapganError that names `path`.

    Args:
        path: what the block writes.
        advice: what the user can do.

    Raises:
        LapganError: the block raised an OSError (disk full, no permission).
    """
    try:
        yield
    except OSError as error:
        raise LapganError(
            f"{path}: cannot be written ({error.strerror or error}). Nothing that was there before "
            f"has changed. {advice}"
        ) from error


def check_writable(path: Path) -> None:
    """Raises a LapganError unless a file or folder of this name can be made; nothing is left.

    So a long computation does not find out at its end that the result cannot be written.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    with explain_write_errors(path), tempfile.TemporaryFile(dir=folder):
        pass


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` and renames it to `path` when the block succeeds.

    The content is flushed to the disk before the rename, so a crash at any moment leaves either
    the old file or the new one. The temporary file is removed when the block fails.

    Args:
        path: the path of the file. Its folder is made if it does not exist.

    Raises:
        LapganError: the file cannot be written (disk full, no permission).
    """
    temporary = None
    try:
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(
                prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent
            )
            os.close(handle)
            temporary = Path(name)
            yield temporary
            _flush(temporary)
            # mkstemp makes private files; a result is as readable as any file the user makes.
            temporary.chmod(0o666 & ~_umask())
            _replace(temporary, path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False, advice: str = _ADVICE) -> Iterator[Path]:
    """Yields a temporary folder beside `path` and renames it to `path` when the block succeeds.

    All files are flushed to the disk before the rename, so a crash at any moment leaves the whole
    folder or none. The temporary folder is removed when the block fails; a killed process leaves
    it behind, hidden, as `.NAME.*.partial`, and the next call for the same path removes it.

    Args:
        path: the path of the folder. The folder above it is made if it does not exist.
        replace: whether a folder of that name may be there already; the new one takes its place.
        advice: what the user can do when the folder cannot be written.

    Raises:
        LapganError: `path` exists although it may not, or cannot be written.
    """
    if path.exists() and not replace:
        raise LapganError(f"{path}: already exists. Remove it or choose another folder.")
    with explain_write_errors(path, advice):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        with (
            tempfile.TemporaryDirectory(
                prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent
            ) as temporary,
            FileLock(Path(temporary) / _ALIVE),
        ):
            # A folder within: the temporary one is private, a result is not.
            folder = Path(temporary) / "new"
            folder.mkdir()
            yield folder
            for file in folder.rglob("*"):
                if file.is_file():
                    _flush(file)
            if path.exists():
                path.rename(Path(temporary) / "old")
            folder.rename(path)


def safe_file_names(class_names: Iterable[str]) -> tuple[str, ...]:
    """Returns a folder name for each class name, which can be any text; no two are the same.

    What a file name cannot hold is written as `%` and its code point in hexadecimal. Names that
    differ in case alone get a number, for disks that cannot tell them apart, and so do names that
    are cut off because they are too long.
    """
    names: dict[str, str] = {}
    for class_name in class_names:
        name = _UNSAFE.sub(_escape, class_name)[:_LONGEST].rstrip(". ") or "%"
        distinct = next(
            other
            for other in itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
            if other.casefold() not in names
        )
        names[distinct.casefold()] = distinct
    return tuple(names.values())


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content` to `path`, whole or not at all (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Writes strict JSON, whole or not at all; see `encode_json`. A file that has it is left."""
    encoded = encode_json(content).encode() + b"\n"
    if not (path.is_file() and path.read_bytes() == encoded):
        write_atomically(path, encoded)


def encode_json(content: Any) -> str:
    """Returns strict JSON; numbers that are not finite become null."""
    return json.dumps(_replace_infinities(content), indent=1, allow_nan=False)


def append_line(path: Path, line: str) -> None:
    """Appends a line to a text file; if the process dies meanwhile, the line may be cut off.

    Raises:
        LapganError: the file cannot be written.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _remove_leftovers(path: Path) -> None:
    """Removes unfinished folders of processes that were killed while they made this one."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*{PARTIAL}"):
        lock = partial / _ALIVE
        if not lock.exists():
            continue  # just made by another process, or not by `atomic_folder`
        try:
            with FileLock(lock, timeout=0):
                shutil.rmtree(partial, ignore_errors=True)
        except Timeout:
            continue  # another process is writing it


def _escape(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"


def _flush(file: Path) -> None:
    # Windows flushes files only that are open for writing.
    with file.open("r+b") as stream:
        os.fsync(stream.fileno())


def _replace(file: Path, path: Path) -> None:
    """Renames a file; waits a little for programs that are reading the old one, on Windows."""
    for pause in _PAUSES:
        try:
            file.replace(path)
            return
        except PermissionError:
            time.sleep(pause)
    file.replace(path)


def _replace_infinities(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _replace_infinities(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_infinities(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
