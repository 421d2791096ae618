"""Data sources: one module per kind, in the order in which they are tried.

A module has `FORM`, its lines of the help text, and `find(text, split)` (see `SourceModule`). To
add a source, write such a module and add its name to `SOURCES`.
"""

import glob
from collections.abc import Iterator
from importlib import import_module
from typing import cast

from lapgan.data.sources.base import STREAM, Item, Source, SourceModule
from lapgan.errors import LapganError
from lapgan.files import resolve_data_path

__all__ = ["SOURCES", "Item", "Source", "describe_sources", "find_source"]

SOURCES = ("dead_leaves", "hub", "cifar10", "stl10", "lsun", "parquet", "tar", "npz", "folder")


def find_source(text: str, split: str) -> Source:
    """Returns the source that a name or path stands for, before anything is decoded.

    Args:
        text: a name or path as `describe_sources` lists them. Relative paths are searched below
            the working folder and then below `$LAPGAN_DATA`.
        split: which part of the source, usually "train" or "test".

    Raises:
        LapganError: no source has this name, or the source cannot be used.
    """
    for module in _modules():
        source = module.find(text, split) if text else None
        if source is not None:
            return source
    raise LapganError(f"{_describe_failure(text)} Expected one of:\n{describe_sources()}")


def describe_sources() -> str:
    """Returns the lines of help on all sources: what to write, and what it opens."""
    forms = {form: meaning for module in _modules() for form, meaning in module.FORM.items()}
    width = max(map(len, forms))
    lines = [f"  {form:<{width}}  {meaning}" for form, meaning in forms.items()]
    note = "Paths are searched below the working folder, then below $LAPGAN_DATA."
    return "\n".join([*lines, note])


def _modules() -> Iterator[SourceModule]:
    for name in SOURCES:
        yield cast(SourceModule, import_module(f"{__name__}.{name}"))


def _describe_failure(text: str) -> str:
    if not text:
        return "The source of images is empty."
    if text.startswith(STREAM):
        return (
            f"{text}: `{STREAM}` is for `lapgan train`; here every image must be at hand. Leave "
            "the word out, or prepare a part of the images with `lapgan prepare --n`."
        )
    if resolve_data_path(text).exists():
        return f"{text}: this file is not a source of images."
    if glob.has_magic(text):
        return f"{text}: no files that can be used match this pattern."
    return f"{text}: there is no such file or folder."
