"""The cache of decoded images: one folder of memory-mapped arrays per source, by its content."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib import format as npy
from numpy.typing import NDArray
from platformdirs import user_cache_path

from lapgan.data.images import Images
from lapgan.data.reading import OnInvalid, SourceReader, warn_skipped
from lapgan.data.sources.base import Source
from lapgan.errors import LapganError
from lapgan.files import PARTIAL, atomic_folder, explain_write_errors
from lapgan.sizes import Size

__all__ = ["default_cache", "open_cached_images"]

# Raise this when the same content gives other pixels or labels, or the files change their format.
_FORMAT = 1
_HASHES = "hashes"
_ADVICE = "Free some space, or set LAPGAN_CACHE to a folder on another disk."


def default_cache() -> Path:
    """Returns the folder for decoded images: `$LAPGAN_CACHE`, or the user's cache folder."""
    folder = os.environ.get("LAPGAN_CACHE")
    return Path(folder) if folder else user_cache_path("lapgan") / "images"


def open_cached_images(
    source: Source,
    *,
    split: str,
    on_invalid: OnInvalid,
    folder: Path,
    progress: bool | None,
    check_size: Callable[[str, Size], None] | None = None,
) -> Images:
    """Opens the decoded images of a source, and decodes them first if they are not in the cache.

    Args:
        source: where the images come from.
        split: which part of it.
        on_invalid: what to do with images that cannot be used, "stop" or "skip".
        folder: the cache.
        progress: as for `open_images`.
        check_size: as for `open_images`.

    Raises:
        LapganError: the source holds images that cannot be used, or the cache cannot be written.
    """
    key = _key(source.fingerprint(folder / _HASHES), split, on_invalid)
    entry = _Entry(folder / key, key)
    images = entry.load(source.name)
    if images is not None:
        return images
    with explain_write_errors(folder, _ADVICE):
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        with FileLock(f"{entry.path}.lock"):
            # Another process may have made the entry while this one waited.
            images = entry.load(source.name)
            if images is not None:
                return images
            entry.build(SourceReader(source, on_invalid, progress), check_size)
    images = entry.load(source.name)
    if images is None:
        raise LapganError(f"{entry.path}: was written but cannot be read again. Check the disk.")
    return images


def _key(content: str, split: str, on_invalid: OnInvalid) -> str:
    return hashlib.sha256(repr((_FORMAT, content, split, on_invalid)).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class _Entry:
    """`pixels.npy`, `labels.npy` (if any) and `meta.json` in one folder."""

    path: Path
    key: str

    def load(self, name: str) -> Images | None:
        """Opens the entry; returns None if it does not exist or is damaged."""
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
            raise ValueError("pixels: not the shape in meta.json")
        return Images(pixels, labels, names, name, self.key, str(meta.get("content", "")))

    def build(self, reader: SourceReader, check_size: Callable[[str, Size], None] | None) -> None:
        """Decodes the images and writes the entry."""
        size = reader.common_size()
        if check_size is not None:
            check_size(reader.source.name, size)
        # An entry that is there already is damaged, or it would have been loaded.
        with atomic_folder(self.path, replace=True, advice=_ADVICE) as folder:
            labels, digest = _write_pixels(folder / "pixels.npy", reader, size)
            names = _write_labels(folder / "labels.npy", labels, reader.source)
            content = repr((digest, size, labels if names else None, names))
            meta = {
                "name": reader.source.name,
                "content": hashlib.sha256(content.encode()).hexdigest()[:32],
                "class_names": names,
                "shape": [len(labels), 3, *size],
                "skipped": reader.list_invalid(),
                "skipped_count": len(reader.invalid),
            }
            (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _write_pixels(path: Path, reader: SourceReader, size: Size) -> tuple[list[int | None], str]:
    """Returns the labels, and a hash of the pixels."""
    labels: list[int | None] = []
    digest = hashlib.sha256()
    # Written, not assigned to a memory map: a full disk kills a process that writes to a map.
    with path.open("wb") as file:
        _write_header(file, (0, 3, *size))
        for rgb, label in reader.images():
            pixels = np.ascontiguousarray(rgb.transpose(2, 0, 1)).data
            file.write(pixels)
            digest.update(pixels)
            labels.append(label)
        # numpy leaves room in the header for the first axis to grow.
        file.seek(0)
        _write_header(file, (len(labels), 3, *size))
    return labels, digest.hexdigest()


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    description = npy.header_data_from_array_1_0(np.empty((0, *shape[1:]), np.uint8))
    npy.write_array_header_1_0(file, description | {"shape": shape})


def _write_labels(path: Path, labels: list[int | None], source: Source) -> tuple[str, ...]:
    array = _label_array(labels, source)
    if array is None:
        return ()
    names = source.class_names or tuple(map(str, range(int(array.max()) + 1)))
    if not 0 <= array.min() <= array.max() < len(names):
        raise LapganError(
            f"{source.name}: expected labels 0 to {len(names) - 1} for the {len(names)} classes "
            f"{', '.join(names[:10])}; found {array.min()} to {array.max()}. "
            "Correct the labels or the class names."
        )
    np.save(path, array, allow_pickle=False)
    return names


def _label_array(labels: list[int | None], source: Source) -> NDArray[np.int64] | None:
    numbers = [label for label in labels if label is not None]
    if not numbers:
        return None
    if len(numbers) < len(labels):
        raise LapganError(
            f"{source.name}: {len(labels) - len(numbers)} of {len(labels)} images have no label. "
            "Label all images or none."
        )
    return np.array(numbers, np.int64)


def _remove_leftovers(folder: Path) -> None:
    """Removes unfinished folders of processes that were killed, of this entry or any other."""
    for partial in folder.glob(f"*{PARTIAL}"):
        key = partial.name.lstrip(".").split(".")[0]
        try:
            with FileLock(folder / f"{key}.lock", timeout=0):
                shutil.rmtree(partial, ignore_errors=True)
        except Timeout:
            continue  # another process is writing it
