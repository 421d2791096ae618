"""The split of a file, told by its name, such as `train-00000-of-00002.parquet`."""

import re
from collections.abc import Sequence
from pathlib import Path

from lapgan.errors import LapganError

__all__ = ["choose_files"]

_SPLITS = {"train", "training", "test", "validation", "valid", "val", "dev"}


def choose_files(files: Sequence[Path], split: str) -> list[Path]:
    """Returns the files of one split.

    If no name contains a split, all files are `train`. A single file is `train` whatever its name.

    Args:
        files: at least one file.
        split: which part, such as "train" or "test".

    Raises:
        LapganError: there is no such split.
    """
    splits = {file: _splits_of(file, split) for file in files}
    chosen = [file for file in files if split in splits[file]]
    if chosen:
        return chosen
    others = sorted(set.union(*splits.values()))
    if split == "train" and (not others or len(files) == 1):
        return list(files)
    detail = f"found {', '.join(others)}" if others else "no file is named after a split"
    suffix = files[0].suffix
    raise LapganError(
        f"{files[0] if len(files) == 1 else files[0].parent}: there is no split '{split}'; "
        f"{detail}. Expected a file such as {split}{suffix} or {split}-00000-of-00001{suffix}."
    )


def _splits_of(file: Path, split: str) -> set[str]:
    """Returns the splits in a file's name, or in its folder's if there are none in its own."""
    splits = _SPLITS | {split}
    return splits.intersection(re.split(r"[-_.]", file.stem)) or splits & {file.parent.name}
