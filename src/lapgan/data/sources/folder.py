"""A folder of image files: the folders of its first level are the classes, if there are any."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from lapgan.data.fingerprint import files_fingerprint
from lapgan.data.sources.base import Item
from lapgan.data.sources.splits import NoSplitError, canonical_split, named_split
from lapgan.errors import LapganError
from lapgan.files import resolve_data_path, safe_file_names

__all__ = ["FORM", "ImageFolder", "class_folders", "find", "list_files", "read_folder"]

FORM = {"FOLDER": "image files, loose or in one sub-folder per class"}

# Formats that cannot be decoded are listed too, so that errors name these files.
_SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pnm", ".heic", ".heif", ".avif", ".jp2", ".jxl"),
)


@dataclass(frozen=True)
class ImageFolder:
    """Image files below a folder, in sorted order.

    Args:
        folder: the folder.
        files: the paths of the images, relative to `folder`.
        class_names: the first-level folders, sorted; empty if there are none.
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
        """Returns a hash of the names and contents of the files."""
        folder = f"{self.folder.absolute()}{os.sep}"
        return files_fingerprint([(file, folder + file) for file in self.files], memory)

    def items(self) -> Iterator[Item]:
        """Yields the paths; the files are opened when they are decoded."""
        for file in self.files:
            label = self._labels[_first_folder(file)] if self.class_names else None
            yield Item(str(self.folder / file), self.folder / file, label)

    @cached_property
    def _labels(self) -> dict[str, int]:
        return {name: label for label, name in enumerate(self.class_names)}


def find(text: str, split: str) -> ImageFolder | None:
    """Returns the images below a folder, None if `text` is not a folder.

    Raises:
        LapganError: the images of the split cannot be used (see `read_folder`).
    """
    folder = resolve_data_path(text)
    return read_folder(folder, split, folder.resolve().name or text) if folder.is_dir() else None


def read_folder(folder: Path, split: str, name: str) -> ImageFolder:
    """Lists the images of a split below a folder, with or without class folders.

    The images of a split are in the sub-folder of that name, in any case (`Train`, `training`);
    without such sub-folders, all images are `train`. Files and folders whose names start with a dot
    are ignored.

    Args:
        folder: the folder.
        split: which part, such as "train" or "test".
        name: a short name for people.

    Raises:
        LapganError: there are no images or no such split, a class folder has no images, there are
            images beside class folders, or a folder may be a split as well as a class.
    """
    folder = _split_folder(folder, split)
    paths = list_files(folder)
    files = tuple(filter(_is_image_name, paths))
    if not files:
        raise LapganError(_describe_no_images(folder, paths))
    loose = [file for file in files if os.sep not in file]
    if len(loose) == len(files):
        return ImageFolder(folder, files, (), name)
    if loose:
        raise LapganError(
            f"{folder}: {len(loose)} images such as {loose[0]} lie beside the class folder "
            f"{_first_folder(next(file for file in files if os.sep in file))}. Move every image "
            "into a class folder, or all images out of them."
        )
    return ImageFolder(folder, files, _class_names(folder, files), name)


def class_folders(class_names: Iterable[str]) -> tuple[str, ...]:
    """Returns the name of each class's folder: no two the same, and none read as a split."""
    return safe_file_names(f"{name}_" if named_split(name) else name for name in class_names)


def list_files(folder: Path) -> list[str]:
    """Returns the files below a folder, relative to it and sorted, without hidden ones.

    Links are followed, but each real folder is listed once, so a link to a parent adds nothing.
    """
    paths: list[str] = []
    visited: set[tuple[int, int]] = set()
    starts = [""]
    for start in starts:  # grows by the links that are met: real folders come before links to them
        for place, folders, files in os.walk(folder / start):
            stat = os.stat(place)  # noqa: PTH116 (one of many)
            if (stat.st_dev, stat.st_ino) in visited:
                folders.clear()
                continue
            visited.add((stat.st_dev, stat.st_ino))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = os.path.relpath(place, folder)
            prefix = "" if below == "." else below + os.sep
            starts += [prefix + name for name in folders if Path(place, name).is_symlink()]
            paths += [prefix + name for name in files if not name.startswith(".")]
    return sorted(paths)


def _split_folder(folder: Path, split: str) -> Path:
    inside = [path for path in sorted(folder.iterdir()) if _is_visible_folder(path)]
    splits = [path for path in inside if named_split(path.name)]
    if not splits or (not named_split(split) and (folder / split).is_dir()):
        return _unnamed_folder(folder, split)
    found = {path: canonical_split(path.name) for path in splits}
    _refuse_ambiguous(folder, found, [path for path in inside if path not in found])
    chosen = [path for path in inside if canonical_split(path.name) == canonical_split(split)]
    if not chosen:
        raise NoSplitError(
            f"{folder}: expected a folder {split} for the split '{split}', found "
            f"{', '.join(sorted(path.name for path in splits))}. Choose one of these splits."
        )
    return chosen[0]


def _unnamed_folder(folder: Path, split: str) -> Path:
    """Returns the folder of a split where no sub-folder is named train, test or val."""
    if split == "train":
        return folder
    if (folder / split).is_dir():
        return folder / split
    raise NoSplitError(
        f"{folder}: there is no split '{split}'. Put its images into {folder / split} and the "
        f"others into {folder / 'train'}, or give another folder."
    )


def _refuse_ambiguous(folder: Path, splits: Mapping[Path, str], others: Sequence[Path]) -> None:
    """Raises a LapganError where images would be left out that may well be meant.

    Args:
        folder: the folder that holds the others.
        splits: the folders named after splits, and which each is named after.
        others: the other folders.
    """
    counts = Counter(splits.values())
    for split, count in counts.items():
        if count > 1:
            names = " and ".join(path.name for path in splits if splits[path] == split)
            raise LapganError(f"{folder}: {names} are the same split. Put their images together.")
    loose = [path.name for path in folder.iterdir() if _is_image_name(path.name) and path.is_file()]
    if loose:
        raise LapganError(
            f"{folder}: {len(loose)} images such as {min(loose)} lie beside the folder "
            f"{min(splits).name}, which is named after a split. Move them into a split."
        )
    classes = [path.name for path in others if any(map(_is_image_name, list_files(path)))]
    if classes and len(counts) == 1:
        name = min(splits).name
        raise LapganError(
            f"{folder}: {name} may be a split or a class beside {', '.join(classes[:5])}. If it is "
            f"a class, put all class folders into a new folder {folder / 'train'}; if it is the "
            "split, move the other folders elsewhere."
        )


def _is_visible_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _is_image_name(path: str) -> bool:
    name = path.rsplit(os.sep, 1)[-1]
    return not name.startswith(".") and name.lower().endswith(_SUFFIXES)


def _class_names(folder: Path, files: tuple[str, ...]) -> tuple[str, ...]:
    names = sorted({_first_folder(file) for file in files})
    for inside in sorted(folder.iterdir()):
        if _is_visible_folder(inside) and inside.name not in names:
            raise LapganError(
                f"{inside}: expected images, as in the class folder {names[0]} beside it, but "
                "there are none. Add some or remove the folder."
            )
    return tuple(names)


def _first_folder(file: str) -> str:
    return file.split(os.sep, 1)[0]


def _describe_no_images(folder: Path, paths: list[str]) -> str:
    suffixes = Counter(Path(path).suffix.lower() or "no suffix" for path in paths)
    counts = ", ".join(f"{count} x {suffix}" for suffix, count in suffixes.most_common(5))
    return (
        f"{folder}: expected images (PNG, JPEG, WebP, BMP, GIF, TIFF), class folders with images, "
        f"or the files of another source; found {counts or 'no files'}."
    )
