"""Files: found below the data folder, written whole or not at all."""

import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lapgan.errors import LapganError

__all__ = [
    "append_line",
    "atomic_folder",
    "atomic_path",
    "is_model_path",
    "resolve_data_path",
    "safe_file_name",
    "write_atomically",
    "write_json",
]


def resolve_data_path(path: str | Path) -> Path:
    """Returns the path itself, or its like below `$LAPGAN_DATA` if only that exists."""
    given, data = Path(path).expanduser(), os.environ.get("LAPGAN_DATA")
    if data and str(path) and not given.exists() and (Path(data) / given).exists():
        return Path(data) / given
    return given


def is_model_path(path: Path) -> bool:
    """Returns whether a path is a weights file, or a folder with one or with levels of a run."""
    if path.is_dir():
        return any(path.glob("level-*")) or any(path.glob("*.safetensors"))
    return path.suffix == ".safetensors" and path.is_file()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its place when the block ends well.

    The content is flushed to the disk before the rename, so a crash at any moment leaves either
    the old file or the new one. The temporary file is removed when the block fails.

    Args:
        path: where the file shall be. Its folder is made if need be.

    Raises:
        LapganError: the file cannot be written (disk full, no permission), with the path.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp makes private files; a result is as readable as any file the user makes.
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path` that takes its name when the block ends well.

    Raises:
        LapganError: `path` is there already, or cannot be written.
    """
    if path.exists():
        raise LapganError(f"{path}: is there already. Remove it or name another folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
            folder = Path(temporary) / path.name
            folder.mkdir()
            yield folder
            folder.rename(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def safe_file_name(class_name: str) -> str:
    """Keeps a class name, which a file may choose freely, from naming another folder."""
    return re.sub(r"[^\w -]", "_", class_name)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content` to `path`, whole or not at all (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Writes strict JSON, whole or not at all: null stands for what is no finite number."""
    text = json.dumps(_finite(content), indent=1, allow_nan=False)
    write_atomically(path, text.encode() + b"\n")


def append_line(path: Path, line: str) -> None:
    """Adds a line to a text file, which may be cut off if the process dies meanwhile.

    Raises:
        LapganError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise _unwritable(path, error) from error


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _unwritable(path: Path, error: OSError) -> LapganError:
    return LapganError(
        f"{path}: cannot be written ({error.strerror or error}). What was there before is "
        "unchanged. Free some space or choose another folder, then run the command again."
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
