"""Hashes of files' content that cost one look at their dates on later starts."""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from lapgan.errors import LapganError
from lapgan.files import write_atomically

__all__ = ["files_fingerprint"]

# A file changed so recently might be changed again within the same tick of the file system's clock.
_SETTLED_NS = 2_000_000_000


def files_fingerprint(files: Sequence[tuple[str, str]], memory: Path) -> str:
    """Hashes files by content, and remembers the hash for as long as they stay as they are.

    A file counts as changed when its size, its dates or its inode change; the inode's own date
    (ctime) cannot be set back, so a file that is replaced by another of the same size and date is
    noticed too. Copied or moved files are hashed again, to the same value. A file that cannot be
    read counts as such: whoever decodes it names it.

    Args:
        files: pairs of a name that goes into the hash and the file's path.
        memory: a folder for remembered hashes. It need not exist or be writable.
    """
    state, newest = _state(files)
    note = memory / state
    if (known := _remembered(note)) is not None:
        return known
    content = _content(files)
    if time.time_ns() - newest > _SETTLED_NS:
        _remember(note, content)
    return content


def _state(files: Sequence[tuple[str, str]]) -> tuple[str, int]:
    digest, newest = hashlib.sha256(), 0
    for name, path in files:
        try:
            stat = os.stat(path)  # noqa: PTH116 (a Path for each of 50,000 files takes a second)
        except OSError:  # a dangling link
            digest.update(repr((name, path)).encode())
            continue
        dates = (stat.st_mtime_ns, stat.st_ctime_ns)
        digest.update(repr((name, path, stat.st_size, stat.st_ino, dates)).encode())
        newest = max(newest, *dates)
    return digest.hexdigest()[:32], newest


def _content(files: Sequence[tuple[str, str]]) -> str:
    digest = hashlib.sha256()
    for name, path in files:
        try:
            with Path(path).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            content = "unreadable"
        digest.update(repr((name, content)).encode())
    return digest.hexdigest()


def _remembered(note: Path) -> str | None:
    try:
        text = note.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return text if len(text) == 64 else None


def _remember(note: Path, content: str) -> None:
    try:
        write_atomically(note, content.encode("ascii"))
    except LapganError:
        return  # only the next start pays for it
