"""Data sets of the Hugging Face Hub, fetched and kept by the `datasets` library."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lapgan.data.fingerprint import files_fingerprint
from lapgan.data.parquet import ROWS_AT_ONCE, Columns, find_columns, rows
from lapgan.data.source import Item
from lapgan.errors import LapganError

__all__ = ["HubImages", "hub_images"]


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
        """The names of the data set's ClassLabel, if it has one."""
        return self.columns.class_names

    def fingerprint(self, memory: Path) -> str:
        """Hashes the files that the library keeps."""
        files = [("", str(kept["filename"])) for kept in self.dataset.cache_files]
        return files_fingerprint(files, memory)

    def items(self) -> Iterator[Item]:
        """Reads the rows, a few hundred at a time, without decoding them."""
        batches = self.dataset.with_format("arrow").iter(ROWS_AT_ONCE)
        yield from rows(batches, self.columns, self.name)


def hub_images(name: str, split: str) -> HubImages:
    """Fetches a split of a data set, or finds what was fetched before.

    Args:
        name: OWNER/NAME, or OWNER/NAME:CONFIG if the data set has several configurations.
        split: the split's name on the Hub.

    Raises:
        LapganError: `datasets` is missing, the Hub or the data set cannot be reached, or the data
            set has no such split or no image column.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise LapganError(
            f"hub:{name}: the Hub needs the datasets library. Install it: "
            "pip install 'lapgan[data]'"
        ) from error
    where, _, config = name.partition(":")
    try:
        dataset = load_dataset(where, config or None, split=split, keep_in_memory=False)
    except Exception as error:  # the library lets its network stack's many errors through
        raise LapganError(
            f"hub:{name}: the split '{split}' cannot be fetched ({error}). Check the name and the "
            "network, or give the path of a local copy."
        ) from error
    columns = find_columns(dataset.features.arrow_schema, f"hub:{name}")
    return HubImages(dataset, columns, name)
