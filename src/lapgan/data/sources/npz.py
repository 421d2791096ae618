"""NumPy archives of images, such as `lapgan sample --out FILE.npz` writes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lapgan.data.fingerprint import files_fingerprint
from lapgan.data.sources.base import Item
from lapgan.data.sources.splits import choose_files
from lapgan.errors import LapganError
from lapgan.files import resolve_data_path
from lapgan.sizes import Size

__all__ = ["FORM", "NpzArrays", "NpzImages", "find"]

FORM = {"FILE.npz": "images, uint8 (N, H, W, 3), and optionally labels and class_names"}


class NpzArrays(NamedTuple):
    """The arrays of an archive.

    Args:
        images: uint8 (N, H, W, 3), RGB.
        labels: integers (N,), -1 for images without a label, or strings (N,); None if the archive
            has none.
        class_names: strings (classes,); empty if the archive has none.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.integer | np.str_] | None
    class_names: NDArray[np.str_]


@dataclass(frozen=True)
class NpzImages:
    """Images of one NumPy archive, which is read when they are first used.

    Args:
        file: the archive.
        name: a short name for people.
    """

    file: Path
    name: str

    @cached_property
    def arrays(self) -> NpzArrays:
        """The arrays of the archive; a LapganError if they are not as `NpzArrays` says."""
        return read_arrays(self.file)

    @property
    def size(self) -> Size:
        """Height and width of every image."""
        return self.arrays.images.shape[1], self.arrays.images.shape[2]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names in the archive, or the different labels."""
        return tuple(map(str, self.arrays.class_names)) or tuple(map(str, self._values))

    def __len__(self) -> int:
        return len(self.arrays.images)

    def fingerprint(self, memory: Path) -> str:
        """Returns a hash of the content of the file, whatever its name is."""
        return files_fingerprint([("", str(self.file.absolute()))], memory)

    def items(self) -> Iterator[Item]:
        """Yields the images."""
        images, labels, names = self.arrays
        numbers = {} if len(names) else {value: index for index, value in enumerate(self._values)}
        for index, image in enumerate(images):
            label = -1 if labels is None else labels[index].item()
            number = None if label == -1 else numbers.get(label, label)
            yield Item(f"{self.file}: image {index}", image, number)

    @cached_property
    def _values(self) -> list[int | str]:
        """The different labels, in their order."""
        labels = self.arrays.labels
        return [] if labels is None else [v for v in np.unique(labels).tolist() if v != -1]


def find(text: str, split: str) -> NpzImages | None:
    """Returns the images of an archive, None if `text` is not the path of an `.npz` file.

    Raises:
        LapganError: the archive is not of this split (see `choose_files`).
    """
    path = resolve_data_path(text)
    if path.suffix != ".npz" or not path.is_file():
        return None
    [file] = choose_files([path], split)
    return NpzImages(file, text)


def read_arrays(file: Path) -> NpzArrays:
    """Reads an archive of images. Nothing is unpickled.

    Raises:
        LapganError: the archive cannot be read, has no images, or an array is not as expected.
    """
    arrays = _load(file)
    if "images" not in arrays:
        raise LapganError(
            f"{file}: expected an array images, uint8 (N, H, W, 3), but there is none. Write the "
            "archive with numpy.savez(FILE, images=...)."
        )
    images, labels = arrays["images"], arrays.get("labels")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise _describe(file, "images", "uint8 (N, H, W, 3)", images)
    class_names = arrays.get("class_names", np.empty(0, np.str_))
    kinds = "iu" if len(class_names) else "iuU"
    if labels is not None and (labels.dtype.kind not in kinds or labels.shape != images.shape[:1]):
        expected = f"integers {'' if len(class_names) else 'or strings '}({len(images)},)"
        raise _describe(file, "labels", expected, labels)
    if class_names.dtype.kind != "U" or class_names.ndim != 1:
        raise _describe(file, "class_names", "strings (classes,)", class_names)
    return NpzArrays(images, labels, class_names)


def _load(file: Path) -> dict[str, NDArray[Any]]:
    try:
        # Opened here: numpy leaves the file open when its content is broken.
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it is a single array without a name")
            return {name: archive[name] for name in NpzArrays._fields if name in archive}
    except Exception as error:  # numpy and zipfile raise almost anything on broken files
        raise LapganError(
            f"{file}: cannot be read as a NumPy archive ({error}). Download or write it again."
        ) from error


def _describe(file: Path, name: str, expected: str, array: NDArray[Any]) -> LapganError:
    return LapganError(
        f"{file}: {name}: expected {expected}, found {array.dtype} {array.shape}. Convert the "
        "array and write the archive again."
    )
