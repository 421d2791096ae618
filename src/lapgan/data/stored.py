"""What the cache of decoded images holds, to look at and to clear."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from lapgan.files import explain_write_errors

__all__ = ["StoredImages", "clear_stored", "list_stored"]


@dataclass(frozen=True)
class StoredImages:
    """One entry of the cache.

    Args:
        path: its folder.
        name: of the images, when they were decoded; empty in entries of earlier versions.
        shape: (N, 3, H, W); empty in a damaged entry.
        size: on the disk, in bytes.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    size: int


def list_stored(folder: Path) -> list[StoredImages]:
    """Returns the entries of a cache, largest first."""
    places = [path.parent for path in folder.glob("*/pixels.npy")]
    return sorted(map(_read_entry, places), key=lambda entry: (-entry.size, entry.path))


def clear_stored(folder: Path) -> list[StoredImages]:
    """Removes the entries of a cache; returns them, without those that are being written.

    Programs that have an entry open keep its images until they end.

    Raises:
        LapganError: the cache cannot be written.
    """
    removed = []
    for entry in list_stored(folder):
        with explain_write_errors(entry.path, "Remove the folder by hand."):
            try:
                with FileLock(f"{entry.path}.lock", timeout=0):
                    shutil.rmtree(entry.path)
            except Timeout:
                continue
        removed.append(entry)
    return removed


def _read_entry(path: Path) -> StoredImages:
    size = sum(file.stat().st_size for file in path.iterdir())
    try:
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        return StoredImages(path, str(meta.get("name", "")), tuple(meta["shape"]), size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return StoredImages(path, "", (), size)
