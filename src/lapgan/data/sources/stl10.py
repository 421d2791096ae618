"""STL-10 in its official binary files, read by torchvision."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from platformdirs import user_data_path

from lapgan.data.fingerprint import files_fingerprint
from lapgan.data.sources.base import Item
from lapgan.errors import LapganError
from lapgan.files import resolve_data_path
from lapgan.sizes import Size

__all__ = ["FORM", "Stl10", "find"]

_BINARY = "stl10_binary"
FORM = {
    "stl10": f"STL-10 from $LAPGAN_DATA/{_BINARY}; splits train, test, unlabeled",
    "stl10:unlabeled": "the same, trained on these images, or on a fold: stl10:fold-0",
    "FOLDER of STL-10": f"with {_BINARY} in it; also FOLDER:unlabeled",
}
_FILES = {
    "train": ("train_X.bin", "train_y.bin"),
    "test": ("test_X.bin", "test_y.bin"),
    "unlabeled": ("unlabeled_X.bin",),
    **{f"fold-{fold}": ("train_X.bin", "train_y.bin", "fold_indices.txt") for fold in range(10)},
}
_CLASSES = (
    *("airplane", "bird", "car", "cat", "deer"),
    *("dog", "horse", "monkey", "ship", "truck"),
)
_BYTES_PER_IMAGE = 3 * 96 * 96


@dataclass(frozen=True)
class Stl10:
    """The images of one split.

    Only the files of that split are needed, and they may be a subset of the official ones.

    Args:
        folder: contains `stl10_binary`. Nothing is written to it.
        split: "train" (officially 5,000 images), "test" (8,000), "unlabeled" (100,000), or
            "fold-0" to "fold-9" (1,000 of the training images each).
        name: a short name for people.

    Raises:
        LapganError: there is no such split, or a file of it is missing.

    References:
        Coates, Lee and Ng, "An analysis of single-layer networks in unsupervised feature
        learning", AISTATS 2011. https://cs.stanford.edu/~acoates/stl10/
    """

    folder: Path
    split: str
    name: str = "stl10"
    size: ClassVar[Size] = (96, 96)

    def __post_init__(self) -> None:
        if self.split not in _FILES:
            raise LapganError(
                f"{self.name}: there is no split '{self.split}'. Choose {', '.join(_FILES)}."
            )
        missing = [str(file) for file in self._files() if not file.is_file()]
        if missing:
            raise LapganError(
                f"{self.name}: {', '.join(missing)}: no such file. Download and check STL-10 with\n"
                "  python -c \"from torchvision.datasets import STL10; STL10('FOLDER', "
                'download=True)"\n'
                "and give FOLDER instead of stl10, or set LAPGAN_DATA to it."
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The lines of `class_names.txt`; the official ones without that file."""
        file = self.folder / _BINARY / "class_names.txt"
        if not file.is_file():
            return _CLASSES
        return tuple(file.read_text(encoding="utf-8", errors="replace").split())

    def __len__(self) -> int:
        if self._fold is not None:
            return len(self._fold_indices())
        return self._files()[0].stat().st_size // _BYTES_PER_IMAGE

    def fingerprint(self, memory: Path) -> str:
        """Returns a hash of the files of the split."""
        files = [(file.name, str(file.absolute())) for file in self._files()]
        content = files_fingerprint(files, memory)
        return content if self._fold is None else f"{content} {self.split}"

    def items(self) -> Iterator[Item]:
        """Yields the images after reading all of the split.

        Raises:
            LapganError: a file is truncated, or images and labels differ in number.
        """
        dataset = self._read()
        for index, (planes, label) in enumerate(zip(dataset.data, dataset.labels, strict=True)):
            name = f"{self.name}: {self.split} image {index}"
            yield Item(name, planes.transpose(1, 2, 0), None if label == -1 else int(label))

    def _files(self) -> list[Path]:
        return [self.folder / _BINARY / file for file in _FILES[self.split]]

    @property
    def _fold(self) -> int | None:
        return int(self.split[-1]) if self.split.startswith("fold-") else None

    def _fold_indices(self) -> list[int]:
        """Returns which training images the fold has, from its line in the official file."""
        file = self.folder / _BINARY / "fold_indices.txt"
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        if len(lines) != 10 or not all(re.fullmatch(r"[\d\s]+", line) for line in lines):
            raise LapganError(
                f"{file}: expected 10 lines of indices, found {len(lines)} lines. "
                "Download the archive of STL-10 again."
            )
        return [int(index) for index in lines[int(self.split[-1])].split()]

    def _read(self) -> Any:
        """Returns torchvision's data set: `data` (N, 3, 96, 96), `labels` (N,), -1 for none."""
        from torchvision.datasets import STL10

        # torchvision demands the official files of every split; here those of one are enough.
        reader = type("UncheckedSTL10", (STL10,), {"_check_integrity": lambda _: True})
        files = ", ".join(map(str, self._files()))
        try:
            if self._fold is None:
                dataset = reader(self.folder, split=self.split)
            else:
                self._fold_indices()
                dataset = reader(self.folder, split="train", folds=self._fold)
        except (ValueError, IndexError) as error:
            raise LapganError(
                f"{files}: cannot be read as STL-10 ({error}). Download {STL10.url} again."
            ) from error
        if len(dataset.data) != len(dataset.labels):
            raise LapganError(
                f"{files}: expected one label per image, found {len(dataset.labels)} for "
                f"{len(dataset.data)} images. Download {STL10.url} again."
            )
        return dataset


def find(text: str, split: str) -> Stl10 | None:
    """Returns STL-10 if `text` is a folder with it, or the word `stl10` and no path; else None.

    The word stands for the files in `$LAPGAN_DATA`, or else in the user's data folder. What follows
    a colon takes the place of the training images: `stl10:unlabeled`, `FOLDER:fold-3`.

    Raises:
        LapganError: there is no such split, or its files are missing.
    """
    for name, part in ((text, ""), text.rpartition(":")[::2]):
        chosen = _canonical(part) if part and split == "train" else _canonical(split)
        path = resolve_data_path(name)
        if name and (path / _BINARY).is_dir():
            return Stl10(path, chosen, _name(path.resolve().name or name, part))
        if name == "stl10" and not path.exists():
            data = os.environ.get("LAPGAN_DATA")
            folder = Path(data) if data else user_data_path("lapgan")
            return Stl10(folder, chosen, _name("stl10", part))
    return None


def _canonical(split: str) -> str:
    return "unlabeled" if split in ("unlabelled", "unsup") else split


def _name(name: str, part: str) -> str:
    return f"{name}:{part}" if part else name
