"""Parquet files in the Hugging Face layout: images as {bytes, path}, labels in a column."""

import glob
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from lapgan.data.fingerprint import files_fingerprint
from lapgan.data.sources.base import Item
from lapgan.data.sources.folder import list_files
from lapgan.data.sources.splits import choose_files
from lapgan.errors import LapganError, requires
from lapgan.files import resolve_data_path

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "FORM",
    "Columns",
    "ParquetImages",
    "describe_classes",
    "find",
    "find_columns",
    "number_classes",
    "read_rows",
]

FORM = {
    "FILE.parquet": "images as on the Hugging Face Hub; also a folder of such files",
    "'train-*.parquet'": "all parquet files that match a pattern",
    "FILE.parquet:COLUMN": "with the classes that stand in this column",
}
ROWS_PER_BATCH = 512
_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "fine_label")
_MAX_CLASSES = 4096

_Any = TypeVar("_Any")

_log = logging.getLogger("lapgan.data")


@dataclass(frozen=True)
class Columns:
    """The columns of a table that hold images and labels.

    Args:
        image: the name of the column of images.
        label: the name of the column of labels, None if there is none.
        class_names: the name of each class; empty if there are no labels.
        values: what stands for each class in the column of labels; empty if its index does.
        chosen: whether the user named the column of labels.
    """

    image: str
    label: str | None
    class_names: tuple[str, ...]
    values: tuple[Any, ...] = ()
    chosen: bool = False

    @cached_property
    def numbers(self) -> dict[Any, int]:
        """The index of each class by what stands for it."""
        return {value: index for index, value in enumerate(self.values)}

    def class_of(self, label: Any) -> int | None:
        """Returns the index of a row's class; None for null and -1, which mean no label."""
        if label is None or label == -1:
            return None
        return self.numbers[label] if self.values else int(label)


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
        """The names in the schema's `huggingface` metadata, or the values in the column."""
        return self.columns.class_names

    def fingerprint(self, memory: Path) -> str:
        """Returns a hash of the contents of the files, whatever their names are."""
        content = files_fingerprint([("", str(file.absolute())) for file in self.files], memory)
        return content + describe_classes(self.columns)

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
    head, _, column = text.rpartition(":")
    for name, label in ((text, None), (head, column)):
        files = _find_files(name) if name else []
        if files:
            path = resolve_data_path(name)
            short = path.resolve().name or text if path.is_dir() else name
            return _read_files(files, split, short, label)
    return None


def find_columns(schema: "pa.Schema", where: str, label: str | None = None) -> Columns:
    """Returns the image and the label column of a schema.

    The image column is a struct of `bytes` and `path`; the label column is a ClassLabel of the
    `huggingface` metadata, or a column named label, labels or fine_label. Labels are integers,
    strings or booleans; a column of anything else is left out with a warning.

    Args:
        schema: the schema of the table.
        where: what errors begin with, such as the file.
        label: the name of the label column, if it has another.

    Raises:
        LapganError: there is no image column, several and none is named image or img, or no label
            column of the given name and a type that tells classes.
    """
    images = [field.name for field in schema if _is_image(field.type)]
    candidates = [name for name in _IMAGE_NAMES if name in images][:1] or images
    if len(candidates) != 1:
        raise LapganError(
            f"{where}: expected one image column, struct<bytes: binary, path: string>, named image "
            f"or img if there are several; found {_list_columns(schema)}."
        )
    classes = _class_labels(schema)
    names = [label] if label else [n for n in (*_LABEL_NAMES, *classes) if n in schema.names]
    labels = [name for name in names if name in schema.names and _is_class(schema.field(name).type)]
    if not labels and label:
        raise LapganError(
            f"{where}: expected a column {label} of integers, strings or booleans for the classes; "
            f"found {_list_columns(schema)}."
        )
    if not labels and names:
        _log.warning(
            "%s: the column %s holds %s; classes are integers, strings or booleans, so the images "
            "have none. Another column is named as %s:COLUMN.",
            *(where, names[0], schema.field(names[0]).type, where),
        )
    if not labels:
        return Columns(candidates[0], None, ())
    return Columns(candidates[0], labels[0], classes.get(labels[0], ()), chosen=label is not None)


def number_classes(columns: Columns, values: Iterable[Any], where: str) -> Columns:
    """Returns columns whose classes are the different values of the label column, in their order.

    More than a few thousand values are no classes but numbers of images or the like; a warning says
    so, and the images have no classes.

    Args:
        columns: with a label column; returned as they are if the classes have names.
        values: what stands in the label column; null and -1 mean no label.
        where: what messages begin with, such as the file.
    """
    if columns.class_names:
        return columns
    classes = sorted({value for value in values if value is not None and value != -1})
    if len(classes) > _MAX_CLASSES:
        _log.warning(
            "%s: the column %s holds %s different values, more than the %s that are taken for "
            "classes; the images have none.",
            *(where, columns.label, f"{len(classes):,}", f"{_MAX_CLASSES:,}"),
        )
        return replace(columns, label=None)
    return replace(columns, class_names=tuple(map(str, classes)), values=tuple(classes))


def describe_classes(columns: Columns) -> str:
    """Returns what a hash of files does not tell of the classes.

    It is empty for the integers 0, 1, 2, ... in the usual column, as it always was for them.
    """
    usual = all(type(value) is int and value == i for i, value in enumerate(columns.values))
    if usual and not columns.chosen:
        return ""
    return repr((columns.label, columns.values))


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
            content = (image or {}).get("bytes") or b""
            name = f"{where}: row {index}"
            if path:
                name += f" ({path})" if content else f" (a path, {path}, and no bytes; embed them)"
            yield Item(name, content, columns.class_of(label))
            index += 1


def _match_pattern(text: str) -> list[Path]:
    """Returns the files that match below the working folder, or else below `$LAPGAN_DATA`."""
    data = os.environ.get("LAPGAN_DATA")
    for pattern in [text, *([str(Path(data) / text)] if data else [])]:
        matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (Path.glob: relative only)
        if any(match.endswith(".parquet") for match in matches):
            return [Path(match) for match in matches]
    return []


def _find_files(text: str) -> list[Path]:
    """Returns the parquet files of a path, a folder or a pattern."""
    path = resolve_data_path(text)
    if path.is_dir():
        return [path / file for file in list_files(path) if file.endswith(".parquet")]
    files = [path] if path.exists() else _match_pattern(text)
    return [file for file in files if file.suffix == ".parquet"]


def _read_files(files: Sequence[Path], split: str, name: str, label: str | None) -> ParquetImages:
    chosen = choose_files(files, split)
    columns, count = [], 0
    values: set[Any] = set()
    for file in chosen:
        with _open(file) as parquet:
            columns.append(find_columns(parquet.schema_arrow, str(file), label))
            count += parquet.metadata.num_rows
            if columns[0].label == columns[-1].label is not None and not columns[-1].class_names:
                values.update(_explain_errors(_read_values(parquet, columns[-1].label), file))
    for file, other in zip(chosen, columns, strict=True):
        if other != columns[0]:
            raise LapganError(f"{file}: expected {columns[0]} as in {chosen[0]}, found {other}.")
    found = number_classes(columns[0], values, str(chosen[0])) if columns[0].label else columns[0]
    return ParquetImages(tuple(chosen), found, count, name)


def _read_values(parquet: Any, column: str) -> Iterator[Any]:
    """Yields the different values of a column, group by group."""
    for batch in parquet.iter_batches(1 << 16, columns=[column]):
        yield from batch.column(column).unique().to_pylist()


def _is_class(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    types = pa.types
    value = kind.value_type if types.is_dictionary(kind) else kind
    tests = (types.is_integer, types.is_boolean, types.is_string, types.is_large_string)
    return any(test(value) for test in tests)


def _list_columns(schema: "pa.Schema") -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema) or "no columns"


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


def _explain_errors(items: Iterator[_Any], file: Path) -> Iterator[_Any]:
    try:
        yield from items
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise _describe_broken(file, error) from error


def _describe_broken(file: Path, error: Exception) -> LapganError:
    return LapganError(f"{file}: cannot be read as parquet ({error}). Download or write it again.")
