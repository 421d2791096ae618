"""Parquet files in the Hugging Face layout: images as {bytes, path}, labels as numbers."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lapgan.data.fingerprint import files_fingerprint
from lapgan.data.source import Item
from lapgan.errors import LapganError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Columns", "ParquetImages", "find_columns", "parquet_images", "rows"]

ROWS_AT_ONCE = 512
_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "fine_label")
_SPLITS = {"train", "training", "test", "validation", "valid", "val", "dev"}


@dataclass(frozen=True)
class Columns:
    """Which columns hold the images and the labels, and what the labels mean."""

    image: str
    label: str | None
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class ParquetImages:
    """Images in the rows of parquet files.

    Args:
        files: the files, read one after another.
        columns: where images and labels are, the same in all files.
        count: the number of rows in all.
        name: a short name for people.
    """

    files: tuple[Path, ...]
    columns: Columns
    count: int
    name: str
    size: ClassVar[None] = None

    def __len__(self) -> int:
        return self.count

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names in the schema's `huggingface` metadata, if it has any."""
        return self.columns.class_names

    def fingerprint(self, memory: Path) -> str:
        """Hashes the files' contents, whatever they are called."""
        return files_fingerprint([("", str(file.absolute())) for file in self.files], memory)

    def items(self) -> Iterator[Item]:
        """Reads the rows, a few hundred at a time."""
        for file in self.files:
            with _opened(file) as parquet:
                names = [name for name in (self.columns.image, self.columns.label) if name]
                batches = parquet.iter_batches(ROWS_AT_ONCE, columns=names)
                yield from _guarded(rows(batches, self.columns, str(file)), file)


def parquet_images(files: list[Path], split: str, name: str) -> ParquetImages:
    """Takes the files of one split, told by their names, such as `train-00000-of-00002.parquet`.

    If no name tells of a split, the files are `train`. A single file is taken for `train` whatever
    its name.

    Raises:
        LapganError: no such split, a broken file, or columns other than expected.
    """
    chosen = _of_split(files, split)
    columns, count = [], 0
    for file in chosen:
        with _opened(file) as parquet:
            columns.append(find_columns(parquet.schema_arrow, str(file)))
            count += parquet.metadata.num_rows
    for file, other in zip(chosen, columns, strict=True):
        if other != columns[0]:
            raise LapganError(f"{file}: expected {columns[0]} as in {chosen[0]}, found {other}.")
    return ParquetImages(tuple(chosen), columns[0], count, name)


def find_columns(schema: "pa.Schema", where: str) -> Columns:
    """Finds the image and the label column in a schema.

    The image column is a struct of `bytes` and `path`; the label column is a ClassLabel of the
    `huggingface` metadata, or an integer column named label, labels or fine_label.

    Raises:
        LapganError: no image column, or several and none is named image or img.
    """
    import pyarrow as pa

    images = [field.name for field in schema if _is_image(field.type)]
    chosen = [name for name in _IMAGE_NAMES if name in images][:1] or images
    if len(chosen) != 1:
        found = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise LapganError(
            f"{where}: expected one image column, struct<bytes: binary, path: string>, named image "
            f"or img if there are several; found {found or 'no columns'}."
        )
    classes = _class_labels(schema)
    numbers = {field.name for field in schema if pa.types.is_integer(field.type)}
    known = [name for name in _LABEL_NAMES if name in numbers]
    labels = known + [name for name in classes if name in numbers]
    label = labels[0] if labels else None
    return Columns(chosen[0], label, classes.get(label, ()) if label else ())


def rows(batches: Iterator[Any], columns: Columns, where: str) -> Iterator[Item]:
    """Turns batches of arrow records into items; no label and label -1 both mean unlabelled."""
    index = 0
    for batch in batches:
        images = batch.column(columns.image).to_pylist()
        labels = batch.column(columns.label).to_pylist() if columns.label else [None] * len(images)
        for image, label in zip(images, labels, strict=True):
            path = (image or {}).get("path")
            name = f"{where}: row {index}" + (f" ({path})" if path else "")
            yield Item(name, (image or {}).get("bytes") or b"", None if label == -1 else label)
            index += 1


def _is_image(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    if not pa.types.is_struct(kind):
        return False
    names = {kind.field(i).name for i in range(kind.num_fields)}
    return names == {"bytes", "path"}


def _class_labels(schema: "pa.Schema") -> dict[str, tuple[str, ...]]:
    """The names of the classes by column, as the `datasets` library writes them."""
    try:
        text = (schema.metadata or {}).get(b"huggingface", b"{}")
        features = json.loads(text)["info"]["features"]
        return {
            column: tuple(str(name) for name in feature["names"])
            for column, feature in features.items()
            if feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _of_split(files: list[Path], split: str) -> list[Path]:
    words = {file: _split_words(file, split) for file in files}
    chosen = [file for file in files if split in words[file]]
    if chosen:
        return chosen
    others = sorted(set.union(*words.values()))
    if split == "train" and (not others or len(files) == 1):
        return files
    told = f"found {', '.join(others)}" if others else "no file is named after a split"
    raise LapganError(
        f"{files[0] if len(files) == 1 else files[0].parent}: there is no split '{split}'; {told}. "
        f"Expected a file such as {split}.parquet or {split}-00000-of-00001.parquet."
    )


def _split_words(file: Path, split: str) -> set[str]:
    """The splits that a file's name tells of, or its folder's if the name tells of none."""
    known = _SPLITS | {split}
    return known.intersection(re.split(r"[-_.]", file.stem)) or known & {file.parent.name}


def _opened(file: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise LapganError(
            f"{file}: reading parquet needs pyarrow. Install it: pip install 'lapgan[data]'"
        ) from error
    try:
        return pyarrow.parquet.ParquetFile(file)
    except (OSError, ValueError) as error:
        raise _broken(file, error) from error


def _guarded(items: Iterator[Item], file: Path) -> Iterator[Item]:
    try:
        yield from items
    except (OSError, ValueError) as error:  # pyarrow's own errors are kinds of these
        raise _broken(file, error) from error


def _broken(file: Path, error: Exception) -> LapganError:
    return LapganError(f"{file}: cannot be read as parquet ({error}). Fetch or write it again.")
