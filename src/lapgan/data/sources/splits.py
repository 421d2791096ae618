"""The split of a file or folder, told by its name, such as `train-00000-of-00002.parquet`."""

import re
from collections.abc import Sequence
from pathlib import Path

from lapgan.errors import LapganError

__all__ = ["NoSplitError", "canonical_split", "choose_files", "named_split"]

# Words of a name, in lower case, and the split that they stand for.
_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
}


class NoSplitError(LapganError):
    """A source can be read, but has no such split."""


def named_split(name: str) -> str | None:
    """Returns the split that a word stands for in any case: train, test or val; None if none."""
    return _WORDS.get(name.casefold())


def canonical_split(split: str) -> str:
    """Returns a split as `named_split` writes it; a name of its own stays as it is."""
    return named_split(split) or split


def choose_files(files: Sequence[Path], split: str) -> list[Path]:
    """Returns the files of one split.

    If no name contains a split, all files are `train`. A single file is `train` whatever its name.

    Args:
        files: at least one file.
        split: which part, such as "train" or "test".

    Raises:
        NoSplitError: there is no such split.
        LapganError: there are files of one split beside files of none.
    """
    splits = {file: _splits_of(file, split) for file in files}
    chosen = [file for file in files if canonical_split(split) in splits[file]]
    others = sorted(set.union(*splits.values()))
    if chosen:
        unnamed = [file for file in files if not splits[file]]
        if unnamed and len(others) == 1:
            raise LapganError(
                f"{files[0].parent}: {chosen[0].name} is named after the split '{others[0]}', but "
                f"{unnamed[0].name} beside it after none. Name every file after its split, or none."
            )
        return chosen
    if split == "train" and (not others or len(files) == 1):
        return list(files)
    detail = f"found {', '.join(others)}" if others else "no file is named after a split"
    suffix = files[0].suffix
    raise NoSplitError(
        f"{files[0] if len(files) == 1 else files[0].parent}: there is no split '{split}'; "
        f"{detail}. Expected a file such as {split}{suffix} or {split}-00000-of-00001{suffix}."
    )


def _splits_of(file: Path, split: str) -> set[str]:
    """Returns the splits in a file's name, or in its folder's if there are none in its own."""
    return _splits_in(re.split(r"[-_.]", file.stem), split) or _splits_in([file.parent.name], split)


def _splits_in(words: Sequence[str], split: str) -> set[str]:
    return {canonical_split(word) for word in words if word == split or named_split(word)}
