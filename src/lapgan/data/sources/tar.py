"""Tar shards in the layout of webdataset: `KEY.png` and `KEY.cls` one after the other."""

import glob
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from lapgan.data.fingerprint import files_fingerprint
from lapgan.data.sources.base import Item
from lapgan.data.sources.splits import choose_files
from lapgan.errors import LapganError
from lapgan.files import resolve_data_path

__all__ = ["FORM", "INDEX", "TarImages", "TarShard", "find"]

FORM = {
    "FILE.tar": "tar shards of webdataset (KEY.png, KEY.cls); also a folder of such files",
    "'train-{000..009}.tar'": "all shards that match; * and ? work too",
}
INDEX = "shards.json"
_IMAGES = {"png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "ppm"}
_MAX_CLASS = 4095


@dataclass(frozen=True)
class TarShard:
    """One tar file.

    Args:
        path: the file.
        count: how many images it has, -1 if that is not known yet.
        digest: a hash of the content from the index; empty without an index.
    """

    path: Path
    count: int = -1
    digest: str = ""

    @property
    def name(self) -> str:
        """The path, for messages."""
        return str(self.path)

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """Yields the images from `start` to `stop` - 1; those before are passed over unread.

        Raises:
            LapganError: the file is no tar file, or it is truncated.
        """
        yield from islice(self._samples(start), max(0, stop - start))

    def _samples(self, start: int) -> Iterator[Item]:
        try:
            with tarfile.open(self.path, "r:*") as tar:
                yield from islice(_group_members(tar, self.name, start), start, None)
        except (OSError, EOFError, tarfile.TarError) as error:
            raise LapganError(
                f"{self.path}: cannot be read as a tar file ({error}). Copy or write it again, or "
                "leave out what it holds (--skip-invalid, or on_invalid='skip')."
            ) from error


def _group_members(tar: tarfile.TarFile, where: str, unread: int) -> Iterator[Item]:
    """Yields one item per key; the content of the first `unread` is empty."""
    key: str | None = None
    parts: dict[str, bytes] = {}
    count = 0
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
        if not member.isfile():
            continue
        folder, _, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        if key is not None and key != f"{folder}/{stem}":
            yield from _make_item(parts, where, key)
            count += bool(_IMAGES & parts.keys())
            parts = {}
        key = f"{folder}/{stem}"
        suffix = suffix.lower()
        if suffix in _IMAGES or suffix == "cls":
            parts[suffix] = b"" if count < unread else _content(tar, member)
    if key is not None:
        yield from _make_item(parts, where, key)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()


def _make_item(parts: Mapping[str, bytes], where: str, key: str) -> Iterator[Item]:
    """Yields the image of a key; nothing if it has none."""
    image = next((parts[suffix] for suffix in parts if suffix in _IMAGES), None)
    if image is not None:
        yield Item(f"{where}: {key.lstrip('/')}", image, _class_of(parts.get("cls", b"")))


def _class_of(content: bytes) -> int | None:
    text = content.strip()
    return int(text) if re.fullmatch(rb"\d{1,9}", text) else None


@dataclass(frozen=True)
class TarImages:
    """The images of tar shards, one shard after another.

    Args:
        shards: the shards, each with its number of images.
        class_names: the name of each class; empty if the images have none.
        name: a short name for people.
        broken: what is wrong with shards that are not among them.
    """

    shards: tuple[TarShard, ...]
    class_names: tuple[str, ...]
    name: str
    broken: tuple[str, ...] = ()
    size: ClassVar[None] = None

    def __len__(self) -> int:
        return sum(shard.count for shard in self.shards)

    def fingerprint(self, memory: Path) -> str:
        """Returns a hash of the shards, whatever their names are."""
        files = [("", str(shard.path.absolute())) for shard in self.shards]
        return files_fingerprint(files, memory)

    def quick_fingerprint(self) -> str:
        """Returns a hash that needs no reading: of the index, or of names and sizes without one."""
        parts = [
            shard.digest or (shard.path.name, shard.path.stat().st_size, shard.count)
            for shard in self.shards
        ]
        return hashlib.sha256(repr((parts, self.class_names)).encode()).hexdigest()

    def items(self) -> Iterator[Item]:
        """Yields all images.

        Raises:
            LapganError: a shard is broken.
        """
        if self.broken:
            raise describe_broken(self.name, self.broken)
        for shard in self.shards:
            yield from shard.read(0, shard.count)


def describe_broken(name: str, broken: Sequence[str]) -> LapganError:
    """Returns the error that names broken shards."""
    lines = "\n  ".join(broken[:10])
    more = f"\n  ... and {len(broken) - 10} more" if len(broken) > 10 else ""
    return LapganError(
        f"{name}: {len(broken)} {'shard' if len(broken) == 1 else 'shards'} cannot be used:\n  "
        f"{lines}{more}\nCopy or write them again. Training from `stream:` leaves them out when "
        "asked (--skip-invalid)."
    )


def find(text: str, split: str) -> TarImages | None:
    """Returns the images of a tar file, of a folder of them, or of a pattern; else None.

    A folder may have an index, as `lapgan prepare --shards` writes one; else the shards are gone
    through once to count their images.

    Raises:
        LapganError: there is no such split, or no shard can be used.
    """
    files = _find_files(text)
    if not files:
        return None
    index = _read_index(files[0].parent / INDEX)
    chosen = choose_files(files, split)
    shards, broken, labels = [], [], set[int | None]()
    for file in chosen:
        try:
            shard, found = _open_shard(file, index)
        except LapganError as error:
            broken.append(str(error).splitlines()[0])
            continue
        labels |= found
        shards.append(shard)
    path = resolve_data_path(text)
    name = path.resolve().name if path.is_dir() else text
    if not shards:
        raise describe_broken(name, broken)
    names = _class_names(index, labels, name)
    return TarImages(tuple(shards), names, name, tuple(broken))


def _find_files(text: str) -> list[Path]:
    path = resolve_data_path(text)
    if path.is_dir():
        listed = _read_index(path / INDEX).get("shards", {})
        return sorted({*path.glob("*.tar"), *(path / name for name in listed)})
    if path.suffix != ".tar" or path.is_file():
        return [path] if path.suffix == ".tar" else []
    data = os.environ.get("LAPGAN_DATA")
    for base in ["", *([data + os.sep] if data else [])]:
        patterns = _expand_braces(base + text)
        files = [Path(name) for pattern in patterns for name in sorted(glob.glob(pattern))]  # noqa: PTH207
        if files:
            return files
    return []


def _expand_braces(text: str) -> list[str]:
    """Expands one `{000..012}` to its numbers, with as many digits."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}", text)
    if match is None:
        return [text]
    first, last = match.groups()
    return [
        f"{glob.escape(text[: match.start()])}{number:0{len(first)}}{text[match.end() :]}"
        for number in range(int(first), int(last) + 1)
    ]


def _read_index(path: Path) -> dict[str, Any]:
    """Reads an index; empty if there is none.

    Raises:
        LapganError: it is not one.
    """
    if not path.is_file():
        return {}
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        for entry in index["shards"].values():
            int(entry["images"]) + int(entry["bytes"]) + len(entry["sha256"])
        list(map(str, index["class_names"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LapganError(
            f"{path}: expected the index of `lapgan prepare --shards` ({error!r}). Write the "
            "shards again, or remove the index; then the shards are counted."
        ) from error
    return dict(index)


def _open_shard(file: Path, index: Mapping[str, Any]) -> tuple[TarShard, set[int | None]]:
    """Returns a shard with its number of images, and the labels in it if there is no index.

    Raises:
        LapganError: it is broken, or not the file that the index describes.
    """
    entry = index.get("shards", {}).get(file.name)
    if entry is None:
        labels = [item.label for item in TarShard(file).read(0, 2**62)]
        return TarShard(file, len(labels)), set(labels)
    actual = file.stat().st_size if file.is_file() else None
    if actual != entry["bytes"]:
        found = "no such file" if actual is None else f"{actual:,} bytes"
        raise LapganError(f"{file}: expected {entry['bytes']:,} bytes, found {found}.")
    return TarShard(file, int(entry["images"]), str(entry["sha256"])), set()


def _class_names(index: Mapping[str, Any], labels: set[int | None], name: str) -> tuple[str, ...]:
    if index:
        return tuple(map(str, index["class_names"]))
    numbers = {label for label in labels if label is not None}
    if not numbers:
        return ()
    if None in labels:
        raise LapganError(f"{name}: some images have no .cls file. Label all images or none.")
    if max(numbers) > _MAX_CLASS:
        raise LapganError(
            f"{name}: expected classes from 0 to {_MAX_CLASS} in .cls files, found {max(numbers)}."
        )
    return tuple(map(str, range(max(numbers) + 1)))
