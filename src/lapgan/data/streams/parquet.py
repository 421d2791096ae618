"""Row groups of parquet files as shards: on the disk, or on the Hugging Face Hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from lapgan.data.sources.base import Item
from lapgan.data.sources.parquet import Columns, find_columns, number_classes, read_rows
from lapgan.errors import LapganError, requires

__all__ = ["RowGroup", "hub_files", "read_footers"]


@dataclass(frozen=True)
class RowGroup:
    """One row group.

    Args:
        file: the path or the URL of the parquet file.
        group: its number.
        count: how many rows it has.
        columns: where images and labels are.
    """

    file: str
    group: int
    count: int
    columns: Columns

    @property
    def name(self) -> str:
        """File and number, for messages."""
        return f"{self.file}: row group {self.group}"

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """Yields the rows from `start` to `stop` - 1."""
        names = [name for name in (self.columns.image, self.columns.label) if name]
        with _open(self.file) as parquet:
            batches = parquet.iter_batches(128, row_groups=[self.group], columns=names)
            yield from islice(read_rows(batches, self.columns, self.name), start, stop)


def hub_files(text: str, split: str) -> list[str]:
    """Returns the URLs of the parquet files of `hub:OWNER/NAME` or `hub:OWNER/NAME:CONFIG`.

    Nothing but the list of files is downloaded. A URL names the version of the data set.

    Raises:
        LapganError: `datasets` is not installed, the Hub cannot be reached, or the data set has no
            such split or other files.
    """
    with requires("data", f"{text}: reading data sets of the Hugging Face Hub"):
        from datasets import load_dataset_builder
    path, _, config = text.removeprefix("hub:").partition(":")
    try:
        builder = load_dataset_builder(path, config or None)
        files = dict(builder.config.data_files or {})
    except Exception as error:  # the library lets many errors of its network stack through
        raise LapganError(
            f"{text}: the list of its files cannot be downloaded ({error}). Check the name and the "
            "network, or give the path of a local copy."
        ) from error
    urls = [str(url) for url in files.get(split, ())]
    others = [url for url in urls if not url.endswith(".parquet")]
    if not urls or others:
        found = others[0] if others else f"the splits {', '.join(map(str, files)) or 'none'}"
        raise LapganError(
            f"{text}: expected parquet files of the split '{split}' to stream; found {found}. "
            "Leave out `stream:` to download and decode the data set."
        )
    return urls


def read_footers(files: list[str], text: str) -> tuple[tuple[RowGroup, ...], Columns]:
    """Returns the row groups of files, and where images and labels are.

    Footers are read; of labels without names, their column too.

    Raises:
        LapganError: a file cannot be read, or its columns are others than in the first.
    """
    groups: list[tuple[str, int, int]] = []
    columns: Columns | None = None
    values: set[Any] = set()
    for file in files:
        with _open(file) as parquet:
            found = find_columns(parquet.schema_arrow, file)
            if columns is not None and found != columns:
                raise LapganError(f"{file}: expected {columns} as in {files[0]}, found {found}.")
            columns = found
            counts = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
            groups += [(file, index, count) for index, count in enumerate(counts) if count]
            if found.label is not None and not found.class_names:
                for batch in parquet.iter_batches(1 << 16, columns=[found.label]):
                    values.update(batch.column(found.label).unique().to_pylist())
    assert columns is not None
    if columns.label is not None:
        columns = number_classes(columns, values, text)
    return tuple(RowGroup(*group, columns) for group in groups), columns


@contextmanager
def _open(file: str) -> Iterator[Any]:
    with requires("data", f"{file}: reading parquet files"):
        import fsspec
        import pyarrow.parquet
    try:
        with fsspec.open(file, "rb") as stream:
            yield pyarrow.parquet.ParquetFile(stream)
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise LapganError(
            f"{file}: cannot be read as parquet ({error}). Download or write it again."
        ) from error
