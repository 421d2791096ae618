"""CIFAR-10 in its official archives, read and checked by torchvision."""

import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from platformdirs import user_data_path

from lapgan.data.fingerprint import files_fingerprint
from lapgan.data.sources.base import Item
from lapgan.errors import LapganError
from lapgan.files import atomic_path, resolve_data_path
from lapgan.sizes import Size

__all__ = ["FORM", "Cifar10", "find"]

FORM = {
    "cifar10": "CIFAR-10, downloaded if it is not there",
    "FOLDER of CIFAR-10": "with cifar-10-batches-py or cifar-10-python.tar.gz in it",
}
_COUNTS = {"train": 50_000, "test": 10_000}
_ARCHIVE = "cifar-10-python.tar.gz"
_BATCHES = "cifar-10-batches-py"


@dataclass(frozen=True)
class Cifar10:
    """The images of one split.

    Args:
        folder: contains `cifar-10-batches-py` or `cifar-10-python.tar.gz`. Nothing is written to
            it.
        split: "train" (50,000 images) or "test" (10,000).
        name: a short name for people.

    Raises:
        LapganError: there is no such split.

    References:
        Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
        https://www.cs.toronto.edu/~kriz/cifar.html
    """

    folder: Path
    split: str
    name: str = "cifar10"
    size: Size = (32, 32)
    class_names: tuple[str, ...] = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )

    def __post_init__(self) -> None:
        if self.split not in _COUNTS:
            raise LapganError(
                f"{self.name}: there is no split '{self.split}'. Choose train or test."
            )

    def __len__(self) -> int:
        return _COUNTS[self.split]

    def fingerprint(self, memory: Path) -> str:
        """Returns a hash of the archive, or of the batches if it is unpacked."""
        batches = self.folder / _BATCHES
        files = sorted(batches.iterdir()) if batches.is_dir() else [self.folder / _ARCHIVE]
        return files_fingerprint([(file.name, str(file.absolute())) for file in files], memory)

    def items(self) -> Iterator[Item]:
        """Yields the images after reading all batches.

        Raises:
            LapganError: a file is not the official one, byte for byte.
        """
        if (self.folder / _BATCHES).is_dir():
            yield from self._read_batches(self.folder)
            return
        with tempfile.TemporaryDirectory() as folder:
            _unpack(self.folder / _ARCHIVE, Path(folder))
            yield from self._read_batches(Path(folder))

    def _read_batches(self, folder: Path) -> Iterator[Item]:
        from torchvision.datasets import CIFAR10

        try:
            with warnings.catch_warnings():
                # The official pickles spell a numpy dtype in a way that new numpys warn about.
                warnings.simplefilter("ignore")
                dataset = CIFAR10(folder, train=self.split == "train")
        except RuntimeError as error:
            raise LapganError(
                f"{self.folder / _BATCHES}: a file is missing or is not the official one (its MD5 "
                f"differs). Remove the folder and download {CIFAR10.url} again."
            ) from error
        for index, (rgb, label) in enumerate(zip(dataset.data, dataset.targets, strict=True)):
            yield Item(f"{self.name}: {self.split} image {index}", rgb, int(label))


def find(text: str, split: str) -> Cifar10 | None:
    """Returns CIFAR-10 if `text` is a folder with it, or the word `cifar10` and no path; else None.

    The word stands for the archive in `$LAPGAN_DATA`, or else in the user's data folder; it is
    downloaded if it is not there.

    Raises:
        LapganError: there is no such split, or the archive cannot be downloaded.
    """
    path = resolve_data_path(text)
    if _has_cifar10(path):
        return Cifar10(path, split, path.resolve().name or text)
    if text != "cifar10" or path.exists():
        return None
    data = os.environ.get("LAPGAN_DATA")
    folder = Path(data) if data else user_data_path("lapgan")
    source = Cifar10(folder, split)
    if not _has_cifar10(folder):
        _download(folder)
    return source


def _has_cifar10(folder: Path) -> bool:
    return (folder / _BATCHES).is_dir() or (folder / _ARCHIVE).is_file()


def _download(folder: Path) -> None:
    """Downloads the archive into a folder, whole and with the official checksum or not at all."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    with atomic_path(folder / _ARCHIVE) as temporary:
        try:
            download_url(CIFAR10.url, str(temporary.parent), temporary.name, CIFAR10.tgz_md5)
        except (URLError, HTTPException, TimeoutError, ConnectionError, RuntimeError) as error:
            raise LapganError(
                f"cifar10: {CIFAR10.url} cannot be downloaded ({error}). Download it on a machine "
                "with internet access, put it into a folder and give that folder's path instead of "
                f"cifar10, or copy it to {folder / _ARCHIVE}. A folder of CIFAR-10 parquet files "
                "works as well, and so does hub:uoft-cs/cifar10 where the Hub can be reached."
            ) from error


def _unpack(archive: Path, folder: Path) -> None:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity, extract_archive

    if not check_integrity(archive, CIFAR10.tgz_md5):
        raise LapganError(
            f"{archive}: is not the official archive (expected MD5 {CIFAR10.tgz_md5}). "
            f"Remove it and download {CIFAR10.url} again."
        )
    try:
        extract_archive(str(archive), str(folder))
    except OSError as error:
        raise LapganError(
            f"{archive}: cannot be unpacked to {folder} ({error.strerror or error}). Free some "
            "space there, set TMPDIR to another folder, or unpack the archive yourself."
        ) from error
