"""Parquet files in the Hugging Face layout: images as {bytes, path}, labels as numbers."""

import glob
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lapgan.data.fingerprint import files_fingerprint
from lapgan.data.sources.base import Item
from lapgan.data.sources.folder import list_files
from lapgan.data.sources.splits import choose_files
from lapgan.errors import LapganError, requires
from lapgan.files import resolve_data_path

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORM", "Columns", "ParquetImages", "find", "find_columns", "read_rows"]

FORM = {
    "FILE.parquet": "images as on the Hugging Face Hub; also a folder of such files",
    "'train-*.parquet'": "all parquet files that match a pattern",
}
ROWS_PER_BATCH = 512
_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "fine_label")


@dataclass(frozen=True)
class Columns:
    """The columns of a table that hold images and labels.

    Args:
        image: the name of the column of images.
        label: the name of the column of labels, None if there is none.
        class_names: the name of each label; empty if there are no labels, or labels without names.
    """

    image: str
    label: str | None
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class ParquetImages:
    """Images in the rows of parquet files.

    Args:
        files: the files, read one after another.
        columns: where images and labels are, the same in all files.
        count: the number of rows in all files.
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
        """Returns a hash of the contents of the files, whatever their names are."""
        return files_fingerprint([("", str(file.absolute())) for file in self.files], memory)

    def items(self) -> Iterator[Item]:
        """Yields the rows, reading a few hundred at a time."""
        for file in self.files:
            with _open(file) as parquet:
                names = [name for name in (self.columns.image, self.columns.label) if name]
                batches = parquet.iter_batches(ROWS_PER_BATCH, columns=names)
                yield from _explain_errors(read_rows(batches, self.columns, str(file)), file)


def find(text: str, split: str) -> ParquetImages | None:
    """Returns the images of a parquet file, of a folder with some, or of a pattern; else None.

    Raises:
        LapganError: no such split, a broken file, or columns other than expected.
    """
    path = resolve_data_path(text)
    if path.is_dir():
        files = [path / file for file in list_files(path) if file.endswith(".parquet")]
        return _read_files(files, split, path.resolve().name or text) if files else None
    files = [path] if path.exists() else _match_pattern(text)
    files = [file for file in files if file.suffix == ".parquet"]
    return _read_files(files, split, text) if files else None


def find_columns(schema: "pa.Schema", where: str) -> Columns:
    """Returns the image and the label column of a schema.

    The image column is a struct of `bytes` and `path`; the label column is a ClassLabel of the
    `huggingface` metadata, or an integer column named label, labels or fine_label.

    Args:
        schema: the schema of the table.
        where: what errors begin with, such as the file.

    Raises:
        LapganError: there is no image column, or several and none is named image or img.
    """
    import pyarrow as pa

    images = [field.name for field in schema if _is_image(field.type)]
    candidates = [name for name in _IMAGE_NAMES if name in images][:1] or images
    if len(candidates) != 1:
        columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise LapganError(
            f"{where}: expected one image column, struct<bytes: binary, path: string>, named image "
            f"or img if there are several; found {columns or 'no columns'}."
        )
    classes = _class_labels(schema)
    integers = {field.name for field in schema if pa.types.is_integer(field.type)}
    labels = [name for name in (*_LABEL_NAMES, *classes) if name in integers]
    label = labels[0] if labels else None
    return Columns(candidates[0], label, classes.get(label, ()) if label else ())


def read_rows(batches: Iterator[Any], columns: Columns, where: str) -> Iterator[Item]:
    """Yields the rows of arrow record batches as items; a label of -1 or null means no label.

    Args:
        batches: record batches that have the columns.
        columns: where images and labels are.
        where: what the items' names begin with, such as the file.
    """
    index = 0
    for batch in batches:
        images = batch.column(columns.image).to_pylist()
        labels = batch.column(columns.label).to_pylist() if columns.label else [None] * len(images)
        for image, label in zip(images, labels, strict=True):
            path = (image or {}).get("path")
            name = f"{where}: row {index}" + (f" ({path})" if path else "")
            yield Item(name, (image or {}).get("bytes") or b"", None if label == -1 else label)
            index += 1


def _match_pattern(text: str) -> list[Path]:
    """Returns the files that match below the working folder, or else below `$LAPGAN_DATA`."""
    data = os.environ.get("LAPGAN_DATA")
    for pattern in [text, *([str(Path(data) / text)] if data else [])]:
        matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (Path.glob: relative only)
        if any(match.endswith(".parquet") for match in matches):
            return [Path(match) for match in matches]
    return []


def _read_files(files: Sequence[Path], split: str, name: str) -> ParquetImages:
    chosen = choose_files(files, split)
    columns, count = [], 0
    for file in chosen:
        with _open(file) as parquet:
            columns.append(find_columns(parquet.schema_arrow, str(file)))
            count += parquet.metadata.num_rows
    for file, other in zip(chosen, columns, strict=True):
        if other != columns[0]:
            raise LapganError(f"{file}: expected {columns[0]} as in {chosen[0]}, found {other}.")
    return ParquetImages(tuple(chosen), columns[0], count, name)


def _is_image(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    if not pa.types.is_struct(kind):
        return False
    names = {kind.field(i).name for i in range(kind.num_fields)}
    return names == {"bytes", "path"}


def _class_labels(schema: "pa.Schema") -> dict[str, tuple[str, ...]]:
    """Returns the names of the classes by column, as the `datasets` library writes them."""
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


def _open(file: Path) -> Any:
    with requires("data", f"{file}: reading parquet files"):
        import pyarrow.parquet
    try:
        return pyarrow.parquet.ParquetFile(file)
    except (OSError, ValueError) as error:
        raise _describe_broken(file, error) from error


def _explain_errors(items: Iterator[Item], file: Path) -> Iterator[Item]:
    try:
        yield from items
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise _describe_broken(file, error) from error


def _describe_broken(file: Path, error: Exception) -> LapganError:
    return LapganError(f"{file}: cannot be read as parquet ({error}). Download or write it again.")
