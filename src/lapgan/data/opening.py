"""Opens images by the name of their source: the one entry to all data sources."""

import glob
import os
import sys
from pathlib import Path

from platformdirs import user_data_path

from lapgan.data.cache import cached_images, default_cache
from lapgan.data.cifar10 import Cifar10, download_cifar10, is_cifar10
from lapgan.data.dead_leaves import DeadLeaves
from lapgan.data.folder import files_below, image_folder
from lapgan.data.hub import hub_images
from lapgan.data.images import Images
from lapgan.data.parquet import parquet_images
from lapgan.data.reading import OnInvalid
from lapgan.data.source import Source
from lapgan.errors import LapganError
from lapgan.files import resolve_data_path

__all__ = ["find_source", "open_images"]

_DEAD_LEAVES = 2_000
_FORMS = """Expected one of:
  dead-leaves or dead-leaves:COUNT   made images, without data or network
  cifar10                            the official archives, fetched if need be
  hub:OWNER/NAME                     a data set on the Hugging Face Hub
  PATH                               a folder of images (sub-folders are classes), a folder of
                                     parquet files or with the CIFAR-10 archive, a .parquet file,
                                     or a pattern such as 'train-*.parquet'; searched below
                                     the working folder, then below $LAPGAN_DATA"""


def open_images(
    source: str | Path,
    *,
    split: str = "train",
    on_invalid: OnInvalid = "stop",
    cache: Path | None = None,
    progress: bool | None = None,
) -> Images:
    """Opens a source of images, decoded once and memory-mapped from then on.

    Nothing is resized or cropped: all images must have one size.

    Args:
        source: `dead-leaves`, `dead-leaves:COUNT`, `cifar10`, `hub:OWNER/NAME`, or the path of a
            folder of images, of a folder with parquet files or the CIFAR-10 archives, of a
            parquet file, or a pattern of parquet files. Relative paths are searched below the
            working folder and then below `$LAPGAN_DATA`.
        split: which part of the source, usually "train" or "test".
        on_invalid: what to do about images that are broken, of odd size, or not 8-bit RGB without
            loss: "stop" raises and names them, "skip" leaves them out and names them in a warning
            on the log `lapgan.data`.
        cache: the folder for decoded images; `$LAPGAN_CACHE` or the user's cache folder if None.
        progress: whether to draw progress bars on stderr; only in a terminal if None.

    Returns:
        The images, uint8 (N, 3, H, W), with labels and class names if the source has them.

    Raises:
        LapganError: the source cannot be found, fetched, read or kept; says which part, and what
            to do.
        ValueError: `on_invalid` is neither "stop" nor "skip".
    """
    if on_invalid not in ("stop", "skip"):
        raise ValueError(f"on_invalid: expected 'stop' or 'skip', got {on_invalid!r}")
    return cached_images(
        find_source(str(source), split),
        split=split,
        on_invalid=on_invalid,
        folder=cache or default_cache(),
        progress=sys.stderr.isatty() if progress is None else progress,
    )


def find_source(text: str, split: str) -> Source:
    """Finds what a name of `open_images` stands for, before anything is decoded."""
    if not text:
        raise LapganError(f"The source of images is empty. {_FORMS}")
    word, _, rest = text.partition(":")
    if word == "dead-leaves":
        return DeadLeaves(_count(text, rest), split)
    if word == "hub":
        return hub_images(rest, split)
    path = resolve_data_path(text)
    if path.is_dir():
        return _folder_source(path, split, text)
    if path.is_file():
        return _file_source(path, split, text)
    if text == "cifar10":
        return _official_cifar10(split)
    if glob.has_magic(text):
        return _pattern_source(text, split)
    raise LapganError(f"{text}: there is no such file or folder. {_FORMS}")


def _count(text: str, count: str) -> int:
    if not count and not text.endswith(":"):
        return _DEAD_LEAVES
    if not (count.isascii() and count.isdigit()):
        raise LapganError(f"{text}: expected a number of images, such as dead-leaves:5000.")
    return int(count)


def _folder_source(folder: Path, split: str, text: str) -> Source:
    name = folder.resolve().name or text
    if is_cifar10(folder):
        return Cifar10(folder, split, name)
    parquet = [folder / file for file in files_below(folder) if file.endswith(".parquet")]
    if parquet:
        return parquet_images(parquet, split, name)
    return image_folder(folder, split, name)


def _file_source(file: Path, split: str, text: str) -> Source:
    if file.suffix != ".parquet":
        raise LapganError(f"{text}: is a file, but no parquet file. {_FORMS}")
    return parquet_images([file], split, text)


def _pattern_source(text: str, split: str) -> Source:
    data = os.environ.get("LAPGAN_DATA")
    for pattern in [text, *([str(Path(data) / text)] if data else [])]:
        files = [Path(file) for file in _matches(pattern)]
        files = [file for file in files if file.suffix == ".parquet"]
        if files:
            return parquet_images(files, split, text)
    raise LapganError(f"{text}: no parquet file fits this pattern. {_FORMS}")


def _matches(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (Path.glob: relative only)


def _official_cifar10(split: str) -> Source:
    data = os.environ.get("LAPGAN_DATA")
    folder = Path(data) if data else user_data_path("lapgan")
    source = Cifar10(folder, split)
    if not is_cifar10(folder):
        download_cifar10(folder)
    return source
