"""Hashes of the content of files; on later runs only the dates of the files are read."""

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
    """Returns a hash of the content of files, and stores it until one of them changes.

    A file has changed when its size, its dates or its inode differ; the inode's own date (ctime)
    cannot be set back, so replacing a file by another of the same size and date is noticed too.
    Copied or moved files are hashed again, to the same value. A file that cannot be read is part
    of the hash as unreadable; the error comes when it is decoded.

    Args:
        files: pairs of a name that enters the hash and the path of the file.
        memory: a folder for stored hashes. It need not exist or be writable.
    """
    state, newest = _hash_states(files)
    stored = memory / state
    if (fingerprint := _read_hash(stored)) is not None:
        return fingerprint
    fingerprint = _hash_contents(files)
    if time.time_ns() - newest > _SETTLED_NS:
        _store_hash(stored, fingerprint)
    return fingerprint


def _hash_states(files: Sequence[tuple[str, str]]) -> tuple[str, int]:
    """Returns a hash of sizes, inodes and dates, and the newest date in nanoseconds."""
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


def _hash_contents(files: Sequence[tuple[str, str]]) -> str:
    digest = hashlib.sha256()
    for name, path in files:
        try:
            with Path(path).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            content = "unreadable"
        digest.update(repr((name, content)).encode())
    return digest.hexdigest()


def _read_hash(stored: Path) -> str | None:
    try:
        text = stored.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return text if len(text) == 64 else None


def _store_hash(stored: Path, fingerprint: str) -> None:
    try:
        write_atomically(stored, fingerprint.encode("ascii"))
    except LapganError:
        return  # the next run hashes the files again
