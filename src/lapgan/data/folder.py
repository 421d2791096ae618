"""A folder of image files: the folders of its first level are the classes, if there are any."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from lapgan.data.fingerprint import files_fingerprint
from lapgan.data.source import Item
from lapgan.errors import LapganError

__all__ = ["ImageFolder", "files_below", "image_folder"]

# Suffixes that cannot be used are here as well, so that their files are named, not passed over.
_SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pnm", ".heic", ".heif", ".avif", ".jp2", ".jxl"),
)
_SPLITS = ("train", "test", "val", "validation")


@dataclass(frozen=True)
class ImageFolder:
    """Image files below a folder, in sorted order.

    Args:
        folder: where the files are.
        files: their paths, relative to `folder`.
        class_names: the first-level folders, sorted; empty if the files lie loose.
        name: a short name for people.
    """

    folder: Path
    files: tuple[str, ...]
    class_names: tuple[str, ...]
    name: str
    size: ClassVar[None] = None

    def __len__(self) -> int:
        return len(self.files)

    def fingerprint(self, memory: Path) -> str:
        """Hashes the files' names and contents."""
        folder = f"{self.folder.absolute()}{os.sep}"
        return files_fingerprint([(file, folder + file) for file in self.files], memory)

    def items(self) -> Iterator[Item]:
        """Names the files; they are opened when they are decoded."""
        for file in self.files:
            label = self._numbers[_first(file)] if self.class_names else None
            yield Item(str(self.folder / file), self.folder / file, label)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.class_names)}


def image_folder(folder: Path, split: str, name: str) -> ImageFolder:
    """Finds the images of a split below a folder, with or without class folders.

    A sub-folder named as the split holds it; without such sub-folders, all images are `train`.
    Files and folders whose names start with a dot are passed over.

    Raises:
        LapganError: no images, no such split, a class folder without images, or loose images
            beside class folders.
    """
    folder = _split_folder(folder, split)
    found = files_below(folder)
    files = tuple(file for file in found if file.lower().endswith(_SUFFIXES))
    if not files:
        raise LapganError(_no_images(folder, found))
    loose = [file for file in files if os.sep not in file]
    if len(loose) == len(files):
        return ImageFolder(folder, files, (), name)
    if loose:
        raise LapganError(
            f"{folder}: {len(loose)} images such as {loose[0]} lie beside the class folder "
            f"{_first(next(file for file in files if os.sep in file))}. Move every image into a "
            "class folder, or all images out of them."
        )
    return ImageFolder(folder, files, _class_names(folder, files), name)


def files_below(folder: Path) -> list[str]:
    """Lists the files below a folder, relative to it and sorted, without hidden ones."""
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = os.path.relpath(place, folder)
        prefix = "" if below == "." else below + os.sep
        found += [prefix + name for name in files if not name.startswith(".")]
    return sorted(found)


def _split_folder(folder: Path, split: str) -> Path:
    if (folder / split).is_dir():
        return folder / split
    others = [other for other in _SPLITS if (folder / other).is_dir()]
    if others:
        raise LapganError(
            f"{folder}: expected a folder {split} for the split '{split}', found "
            f"{', '.join(others)}. Choose one of those splits."
        )
    if split != "train":
        raise LapganError(
            f"{folder}: there is no split '{split}'. Put its images into {folder / split} and the "
            f"others into {folder / 'train'}, or give another folder for '{split}'."
        )
    return folder


def _class_names(folder: Path, files: tuple[str, ...]) -> tuple[str, ...]:
    names = sorted({_first(file) for file in files})
    for inside in sorted(folder.iterdir()):
        if inside.is_dir() and not inside.name.startswith(".") and inside.name not in names:
            raise LapganError(
                f"{inside}: expected images, as in the class folder {names[0]} beside it, but it "
                "holds none. Fill it or remove it."
            )
    return tuple(names)


def _first(file: str) -> str:
    return file.split(os.sep, 1)[0]


def _no_images(folder: Path, found: list[str]) -> str:
    suffixes = Counter(Path(file).suffix.lower() or "no suffix" for file in found)
    holds = ", ".join(f"{count} x {suffix}" for suffix, count in suffixes.most_common(5))
    return (
        f"{folder}: expected images (PNG, JPEG, WebP, BMP, GIF, TIFF), class folders of images, "
        f"parquet files or the CIFAR-10 archive; found {holds or 'no files'}."
    )
