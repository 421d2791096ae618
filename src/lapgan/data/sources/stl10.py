"""STL-10 in its official binary files, read by torchvision."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    "FOLDER of STL-10": f"with {_BINARY} in it",
}
_FILES = {
    "train": ("train_X.bin", "train_y.bin"),
    "test": ("test_X.bin", "test_y.bin"),
    "unlabeled": ("unlabeled_X.bin",),
}
_BYTES_PER_IMAGE = 3 * 96 * 96


@dataclass(frozen=True)
class Stl10:
    """The images of one split.

    Only the files of that split are needed, and they may be a subset of the official ones.

    Args:
        folder: contains `stl10_binary`. Nothing is written to it.
        split: "train" (officially 5,000 images), "test" (8,000) or "unlabeled" (100,000).
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
    size: Size = (96, 96)
    class_names: tuple[str, ...] = (
        *("airplane", "bird", "car", "cat", "deer"),
        *("dog", "horse", "monkey", "ship", "truck"),
    )

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

    def __len__(self) -> int:
        return self._files()[0].stat().st_size // _BYTES_PER_IMAGE

    def fingerprint(self, memory: Path) -> str:
        """Returns a hash of the files of the split."""
        files = [(file.name, str(file.absolute())) for file in self._files()]
        return files_fingerprint(files, memory)

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

    def _read(self) -> Any:
        """Returns torchvision's data set: `data` (N, 3, 96, 96), `labels` (N,), -1 for none."""
        from torchvision.datasets import STL10

        # torchvision demands the official files of every split; here those of one are enough.
        reader = type("UncheckedSTL10", (STL10,), {"_check_integrity": lambda _: True})
        files = ", ".join(map(str, self._files()))
        try:
            dataset = reader(self.folder, split=self.split)
        except ValueError as error:
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

    The word stands for the files in `$LAPGAN_DATA`, or else in the user's data folder.

    Raises:
        LapganError: there is no such split, or its files are missing.
    """
    path = resolve_data_path(text)
    if (path / _BINARY).is_dir():
        return Stl10(path, split, path.resolve().name or text)
    if text != "stl10" or path.exists():
        return None
    data = os.environ.get("LAPGAN_DATA")
    return Stl10(Path(data) if data else user_data_path("lapgan"), split)
