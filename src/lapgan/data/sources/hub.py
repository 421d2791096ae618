"""Data sets of the Hugging Face Hub, downloaded and stored by the `datasets` library."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lapgan.data.fingerprint import files_fingerprint
from lapgan.data.sources.base import Item
from lapgan.data.sources.parquet import (
    ROWS_PER_BATCH,
    Columns,
    describe_classes,
    find_columns,
    number_classes,
    read_rows,
)
from lapgan.data.sources.splits import NoSplitError
from lapgan.errors import LapganError, requires

__all__ = ["FORM", "HubImages", "find"]

FORM = {"hub:OWNER/NAME": "a data set of the Hugging Face Hub, or hub:OWNER/NAME:CONFIG"}


@dataclass(frozen=True)
class HubImages:
    """One split of a data set on the Hub.

    Args:
        dataset: a `datasets.Dataset`.
        columns: where its images and labels are.
        name: a short name for people.
    """

    dataset: Any
    columns: Columns
    name: str
    size: ClassVar[None] = None

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the data set's ClassLabel, or the values of its label column."""
        return self.columns.class_names

    def fingerprint(self, memory: Path) -> str:
        """Returns a hash of the files that the library stores."""
        files = [("", str(file["filename"])) for file in self.dataset.cache_files]
        return files_fingerprint(files, memory) + describe_classes(self.columns)

    def items(self) -> Iterator[Item]:
        """Yields the rows without decoding them, reading a few hundred at a time."""
        batches = self.dataset.with_format("arrow").iter(ROWS_PER_BATCH)
        yield from read_rows(batches, self.columns, self.name)


def find(text: str, split: str) -> HubImages | None:
    """Returns a split of the data set `hub:OWNER/NAME` or `hub:OWNER/NAME:CONFIG`, else None.

    What was downloaded before is not downloaded again.

    Raises:
        LapganError: `datasets` is not installed, the Hub or the data set cannot be reached, or the
            data set has no such split or no image column.
    """
    word, _, name = text.partition(":")
    if word != "hub":
        return None
    with requires("data", f"{text}: reading data sets of the Hugging Face Hub"):
        from datasets import load_dataset
    path, _, config = name.partition(":")
    try:
        dataset = load_dataset(path, config or None, split=split, keep_in_memory=False)
    except ValueError as error:
        if "Unknown split" not in str(error):
            raise LapganError(_describe_failure(text, split, error)) from error
        raise NoSplitError(f"{text}: {error} Choose one of these splits.") from error
    except Exception as error:  # the library lets many errors of its network stack through
        raise LapganError(_describe_failure(text, split, error)) from error
    columns = find_columns(dataset.features.arrow_schema, text)
    if columns.label is not None and not columns.class_names:
        columns = number_classes(columns, dataset.unique(columns.label), text)
    return HubImages(dataset, columns, name)


def _describe_failure(text: str, split: str, error: Exception) -> str:
    return (
        f"{text}: the split '{split}' cannot be downloaded ({error}). Check the name and the "
        "network, or give the path of a local copy."
    )
