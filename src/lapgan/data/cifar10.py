"""CIFAR-10 in its official archives, read and checked by torchvision."""

import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from lapgan.data.fingerprint import files_fingerprint
from lapgan.data.source import Item
from lapgan.errors import LapganError
from lapgan.files import atomic_path
from lapgan.sizes import Size

__all__ = ["Cifar10", "download_cifar10", "is_cifar10"]

_COUNTS = {"train": 50_000, "test": 10_000}
_ARCHIVE = "cifar-10-python.tar.gz"
_BATCHES = "cifar-10-batches-py"


@dataclass(frozen=True)
class Cifar10:
    """The images of one split.

    Args:
        folder: holds `cifar-10-batches-py` or `cifar-10-python.tar.gz`. Nothing is written there.
        split: "train" (50,000 images) or "test" (10,000).
        name: a short name for people.

    Raises:
        LapganError: there is no such split.
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
        """Hashes the archive, or the batches if it is unpacked."""
        batches = self.folder / _BATCHES
        files = sorted(batches.iterdir()) if batches.is_dir() else [self.folder / _ARCHIVE]
        return files_fingerprint([(file.name, str(file.absolute())) for file in files], memory)

    def items(self) -> Iterator[Item]:
        """Reads all batches at once.

        Raises:
            LapganError: a file is not the official one, byte for byte.
        """
        if (self.folder / _BATCHES).is_dir():
            yield from self._batches(self.folder)
            return
        with tempfile.TemporaryDirectory() as folder:
            _unpack(self.folder / _ARCHIVE, Path(folder))
            yield from self._batches(Path(folder))

    def _batches(self, folder: Path) -> Iterator[Item]:
        from torchvision.datasets import CIFAR10

        try:
            with warnings.catch_warnings():
                # The official pickles spell a numpy dtype in a way that new numpys frown on.
                warnings.simplefilter("ignore")
                dataset = CIFAR10(folder, train=self.split == "train")
        except RuntimeError as error:
            raise LapganError(
                f"{self.folder / _BATCHES}: a file is missing or is not the official one (its MD5 "
                f"differs). Remove the folder and fetch {CIFAR10.url} again."
            ) from error
        for index, (rgb, label) in enumerate(zip(dataset.data, dataset.targets, strict=True)):
            yield Item(f"{self.name}: {self.split} image {index}", rgb, int(label))


def is_cifar10(folder: Path) -> bool:
    """Tells whether a folder holds the official archive, packed or unpacked."""
    return (folder / _BATCHES).is_dir() or (folder / _ARCHIVE).is_file()


def download_cifar10(folder: Path) -> None:
    """Fetches the official archive into a folder, whole and with the right checksum or not at all.

    Raises:
        LapganError: the host cannot be reached, the checksum differs or the disk is full.
    """
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    with atomic_path(folder / _ARCHIVE) as temporary:
        try:
            download_url(CIFAR10.url, str(temporary.parent), temporary.name, CIFAR10.tgz_md5)
        except (URLError, HTTPException, TimeoutError, ConnectionError, RuntimeError) as error:
            raise LapganError(
                f"cifar10: {CIFAR10.url} cannot be fetched ({error}). Fetch it on a machine with "
                f"internet, put it into a folder and give that folder's path instead of cifar10, "
                f"or copy it to {folder / _ARCHIVE}. A folder of CIFAR-10 parquet files will do "
                "as well, or hub:uoft-cs/cifar10 where the Hub can be reached."
            ) from error


def _unpack(archive: Path, folder: Path) -> None:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity, extract_archive

    if not check_integrity(archive, CIFAR10.tgz_md5):
        raise LapganError(
            f"{archive}: is not the official archive (MD5 {CIFAR10.tgz_md5} expected). "
            f"Remove it and fetch {CIFAR10.url} again."
        )
    try:
        extract_archive(str(archive), str(folder))
    except OSError as error:
        raise LapganError(
            f"{archive}: cannot be unpacked to {folder} ({error.strerror or error}). Free some "
            "space there, set TMPDIR to another folder, or unpack the archive yourself."
        ) from error
