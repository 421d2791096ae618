"""LSUN in its official LMDB layout: one folder `CLASS_SPLIT_lmdb` per scene class and split."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_data_path

from lapgan.data.fingerprint import files_fingerprint
from lapgan.data.sources.base import Item, Reduced
from lapgan.data.sources.splits import canonical_split
from lapgan.errors import LapganError, requires
from lapgan.files import resolve_data_path
from lapgan.sizes import Size

if TYPE_CHECKING:
    import lmdb

__all__ = ["FORM", "Lsun", "count_images", "every_key", "find"]

FORM = {
    "lsun:CLASS:SIZE": "LSUN, cropped and reduced from $LAPGAN_DATA/lsun: lsun:tower:64",
    "lsun:CLASS,CLASS:SIZE": "several classes, or lsun:all:64; also FOLDER:CLASS:SIZE",
}
_SUFFIX = "_lmdb"
_SPLITS = {"train": "train", "val": "val", "test": "val"}
_READ_AT_ONCE = 64  # images; a database is not left open while they are used
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Lsun:
    """The photographs of some scene classes, in the order of their keys.

    A database is opened anew by every reading, in whatever process that is, read-only and without
    a lock, and nothing is written beside it. The official test images have no classes; held-out
    images are those of `val`.

    Args:
        folders: the database of each class.
        classes: the name of each class.
        name: a short name for people.
        size: to which photographs are cropped and reduced, None to leave them as they are.

    Raises:
        LapganError: lmdb is not installed, or a database cannot be opened.

    References:
        Yu et al., "LSUN: construction of a large-scale image dataset using deep learning with
        humans in the loop", 2015. https://www.yf.io/p/lsun
    """

    folders: tuple[Path, ...]
    classes: tuple[str, ...]
    name: str
    size: Size | None = None

    def __post_init__(self) -> None:
        for folder in self.folders:
            count_images(folder)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, if there are several."""
        return self.classes if len(self.classes) > 1 else ()

    def __len__(self) -> int:
        return sum(map(count_images, self.folders))

    def fingerprint(self, memory: Path) -> str:
        """Returns a hash of the databases, and the size of the images."""
        files = [(folder.name, str(folder.absolute() / "data.mdb")) for folder in self.folders]
        return f"{files_fingerprint(files, memory)} {self.size}"

    def items(self) -> Iterator[Item]:
        """Yields the photographs, which are decoded, cropped and reduced when they are used."""
        for index in range(len(self.folders)):
            yield from self.items_from(index, None)

    def items_from(self, index: int, start: bytes | None) -> Iterator[Item]:
        """Yields the photographs of one class from a key on, or from the first."""
        label = index if len(self.classes) > 1 else None
        for key, value in _read_from(self.folders[index], start):
            where = f"{self.folders[index]}: {key.decode('ascii', 'replace')}"
            yield Item(where, value if self.size is None else Reduced(value, self.size), label)


def count_images(folder: Path) -> int:
    """Returns how many images a database has."""
    with _open_database(folder) as environment:
        return int(environment.stat()["entries"])


def every_key(folder: Path, step: int) -> list[bytes]:
    """Returns every `step`-th key of a database, beginning with the first."""
    with _open_database(folder) as environment, environment.begin() as transaction:
        keys = transaction.cursor().iternext(keys=True, values=False)
        return list(islice(keys, 0, None, step))


@contextmanager
def _open_database(folder: Path) -> Iterator["lmdb.Environment"]:
    """Opens a database for reading, in this process alone, once at a time.

    Raises:
        LapganError: lmdb is not installed, or the database is broken.
    """
    with requires("lmdb", f"{folder}: reading LMDB databases"):
        import lmdb
    advice = "Download this part of LSUN again."
    try:
        # Without a lock nothing is written beside the data; read-ahead does harm on large files.
        # lmdb refuses to open a database twice in one process.
        with (
            _ONE_AT_A_TIME,
            lmdb.open(str(folder), readonly=True, lock=False, readahead=False, create=False) as env,
        ):
            yield env
    except lmdb.Error as error:
        raise LapganError(f"{folder}: cannot be read as LMDB ({error}). {advice}") from error


def _read_from(folder: Path, start: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    """Yields keys and values in the order of the keys, some at a time."""
    while True:
        with (
            _open_database(folder) as environment,
            environment.begin() as transaction,
            transaction.cursor() as cursor,
        ):
            there = cursor.first() if start is None else cursor.set_range(start)
            pairs = list(islice(cursor.iternext(), _READ_AT_ONCE + 1)) if there else []
        yield from pairs[:_READ_AT_ONCE]
        if len(pairs) <= _READ_AT_ONCE:
            return
        start = pairs[-1][0]


def find(text: str, split: str) -> Lsun | None:
    """Returns `lsun:CLASSES[:SIZE]`, `FOLDER:CLASSES[:SIZE]` or `FOLDER[:SIZE]`, else None.

    FOLDER is one with folders such as `bedroom_train_lmdb`, or such a folder itself.

    Raises:
        LapganError: there is no such class or split, or a database cannot be read.
    """
    head, size = _cut_size(text)
    for name, classes in ((head, "all"), head.rpartition(":")[::2]):
        if not name:
            continue
        path = resolve_data_path(name)
        if name == "lsun" and not path.exists():
            data = os.environ.get("LAPGAN_DATA")
            path = (Path(data) if data else user_data_path("lapgan")) / "lsun"
            return _open(path, classes, split, size, text)
        if path.is_dir() and any(path.glob(f"*{_SUFFIX}/data.mdb")):
            return _open(path, classes, split, size, text)
        if path.name.endswith(_SUFFIX) and (path / "data.mdb").is_file() and classes == "all":
            return _open_one(path, split, size, text)
    return None


def _cut_size(text: str) -> tuple[str, Size | None]:
    head, _, last = text.rpartition(":")
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", last)
    if not head or match is None:
        return text, None
    return head, (int(match[1]), int(match[2] or match[1]))


def _open(path: Path, classes: str, split: str, size: Size | None, text: str) -> Lsun:
    part = _SPLITS.get(canonical_split(split))
    if part is None:
        raise LapganError(f"{text}: there is no split '{split}'. Choose {', '.join(_SPLITS)}.")
    suffix = f"_{part}{_SUFFIX}"
    there = {
        file.parent.name.removesuffix(suffix): file.parent
        for file in sorted(path.glob(f"*{suffix}/data.mdb"))
    }
    names = list(there) if classes == "all" else classes.split(",")
    missing = [name for name in names if name not in there]
    if missing or not names:
        found = ", ".join(there) or "no class"
        raise LapganError(
            f"{text}: expected {path / ((missing or ['CLASS'])[0] + suffix)}, found {found} there. "
            "LSUN is downloaded by the script at https://github.com/fyu/lsun; give the folder with "
            "its *_lmdb folders instead of lsun, or set LAPGAN_DATA to the folder above a folder "
            "lsun."
        )
    return Lsun(tuple(there[name] for name in names), tuple(names), text, size)


def _open_one(path: Path, split: str, size: Size | None, text: str) -> Lsun:
    match = re.fullmatch(rf"(.+)_(train|val){_SUFFIX}", path.name)
    if match is not None:
        return _open(path.parent, match[1], split, size, text)
    if split != "train":
        raise LapganError(f"{text}: there is no split '{split}'; a single database is train.")
    return Lsun((path,), (path.name.removesuffix(_SUFFIX),), text, size)
