"""Images decoded once: a folder of memory-mapped arrays for each source, keyed by its content."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib import format as npy
from numpy.typing import NDArray
from platformdirs import user_cache_path

from lapgan.data.images import Images
from lapgan.data.reading import OnInvalid, Reading, warn_skipped
from lapgan.data.source import Source
from lapgan.errors import LapganError
from lapgan.sizes import Size

__all__ = ["cached_images", "default_cache"]

# Raise this when the same content gives other pixels or labels, or the files change their form.
_FORMAT = 1
_HASHES = "hashes"


def default_cache() -> Path:
    """The folder for decoded images: `$LAPGAN_CACHE`, or the user's cache folder."""
    named = os.environ.get("LAPGAN_CACHE")
    return Path(named) if named else user_cache_path("lapgan") / "images"


def cached_images(
    source: Source, *, split: str, on_invalid: OnInvalid, folder: Path, progress: bool
) -> Images:
    """Opens the decoded images of a source, and decodes them first if nobody has yet.

    An entry appears whole or not at all; of several processes that ask at once, one decodes and
    the others wait. An entry that is damaged is made anew.

    Raises:
        LapganError: the source holds images that cannot be used, or the cache cannot be written.
    """
    key = _key(source.fingerprint(folder / _HASHES), split, on_invalid)
    entry = _Entry(folder / key, key)
    images = entry.load(source.name)
    if images is not None:
        return images
    with _writable(folder):
        _remove_leftovers(folder)
        with FileLock(f"{entry.path}.lock"):
            # Another process may have made the entry while this one waited.
            images = entry.load(source.name)
            if images is not None:
                return images
            entry.build(Reading(source, on_invalid, progress))
    images = entry.load(source.name)
    if images is None:
        raise LapganError(f"{entry.path}: was written but cannot be read back. Check the disk.")
    return images


def _key(content: str, split: str, on_invalid: OnInvalid) -> str:
    return hashlib.sha256(repr((_FORMAT, content, split, on_invalid)).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class _Entry:
    """`pixels.npy`, `labels.npy` (if any) and `meta.json` in one folder."""

    path: Path
    key: str

    def load(self, name: str) -> Images | None:
        """Opens the entry; None if it does not exist or is not what was once written."""
        try:
            meta = json.loads((self.path / "meta.json").read_text(encoding="utf-8"))
            images = self._open(name, meta)
            skipped, count = list(meta["skipped"]), int(meta["skipped_count"])
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            return None
        warn_skipped(name, skipped, count)
        return images

    def _open(self, name: str, meta: dict[str, Any]) -> Images:
        pixels = np.load(self.path / "pixels.npy", mmap_mode="r", allow_pickle=False)
        names = tuple(meta["class_names"])
        labels = np.load(self.path / "labels.npy", allow_pickle=False) if names else None
        if list(pixels.shape) != meta["shape"]:
            raise ValueError("pixels: not the shape that was written")
        return Images(pixels, labels, names, name, self.key)

    def build(self, reading: Reading) -> None:
        """Decodes into a folder beside the entry that takes its place at the end."""
        size = reading.survey()
        partial = self.path.with_suffix(".partial")
        partial.mkdir(parents=True)
        try:
            labels = _write_pixels(partial / "pixels.npy", reading, size)
            names = _write_labels(partial / "labels.npy", labels, reading.source)
            meta = {
                "class_names": names,
                "shape": [len(labels), 3, *size],
                "skipped": reading.named(),
                "skipped_count": len(reading.bad),
            }
            with _synced(partial / "meta.json") as file:
                file.write(json.dumps(meta).encode())
            # What stands there now is damaged, or it would have been loaded.
            shutil.rmtree(self.path, ignore_errors=True)
            partial.rename(self.path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _write_pixels(path: Path, reading: Reading, size: Size) -> list[int | None]:
    labels: list[int | None] = []
    # Written, not assigned to a memory map: a full disk kills a process that writes to a map.
    with _synced(path) as file:
        _write_header(file, (0, 3, *size))
        for rgb, label in reading.images():
            file.write(np.ascontiguousarray(rgb.transpose(2, 0, 1)).data)
            labels.append(label)
        # numpy leaves room in the header for the first axis to grow.
        file.seek(0)
        _write_header(file, (len(labels), 3, *size))
    return labels


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    description = npy.header_data_from_array_1_0(np.empty((0, *shape[1:]), np.uint8))
    npy.write_array_header_1_0(file, description | {"shape": shape})


def _write_labels(path: Path, labels: list[int | None], source: Source) -> tuple[str, ...]:
    numbers = _whole(labels, source)
    if numbers is None:
        return ()
    names = source.class_names or tuple(map(str, range(int(numbers.max()) + 1)))
    if not 0 <= numbers.min() <= numbers.max() < len(names):
        raise LapganError(
            f"{source.name}: expected labels 0 to {len(names) - 1} for the {len(names)} classes "
            f"{', '.join(names[:10])}; found {numbers.min()} to {numbers.max()}. "
            "Correct the labels or the class names."
        )
    with _synced(path) as file:
        np.save(file, numbers, allow_pickle=False)
    return names


def _whole(labels: list[int | None], source: Source) -> NDArray[np.int64] | None:
    given = [label for label in labels if label is not None]
    if not given:
        return None
    if len(given) < len(labels):
        raise LapganError(
            f"{source.name}: {len(labels) - len(given)} of {len(labels)} images have no label. "
            "Label all images or none."
        )
    return np.array(given, np.int64)


@contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise LapganError(
            f"{folder}: the decoded images cannot be written ({error.strerror or error}). Free "
            "some space, or set LAPGAN_CACHE to a folder on another disk."
        ) from error


def _remove_leftovers(folder: Path) -> None:
    """Removes what killed processes left half-written, in this entry or any other."""
    for partial in folder.glob("*.partial"):
        try:
            with FileLock(partial.with_suffix(".lock"), timeout=0):
                shutil.rmtree(partial, ignore_errors=True)
        except Timeout:
            continue  # another process is writing it
