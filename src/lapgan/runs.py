"""The runs below a folder: what each is, how far it has come, and whether it is training.

Everything is read from the run folders (`lapgan.run_folder`), and nothing is written there.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from lapgan.errors import LapganError
from lapgan.run_folder import CLASSIFIER, PartFolder, RunFolder, read_records

__all__ = ["PartSummary", "RunSummary", "find_runs", "summarize_run"]

State = Literal["waiting", "training", "finished", "interrupted"]
# Seconds are logged with six digits.
_ROUNDING = 1 - 1e-5


@dataclass(frozen=True)
class PartSummary:
    """How far a level or the classifier has come.

    Args:
        name: a level's name, such as 28, or `classifier`.
        state: `waiting` has not begun, `training` is being trained by some process, `finished` has
            spent its budget, `interrupted` has not.
        images_seen: examples seen by the last record of the log.
        seconds: time spent in training by then.
        fraction: of the budget; of the recipe's images where an earlier version recorded no budget.
        updated: when the log was last written, in ISO 8601; None if there is no log.
        figures: the last record of the log.
    """

    name: str
    state: State
    images_seen: int
    seconds: float
    fraction: float
    updated: str | None
    figures: dict[str, float]


@dataclass(frozen=True)
class RunSummary:
    """A run: what it is, and how far its parts have come.

    Args:
        path: its folder.
        recipe: the name of its recipe.
        data: the name of its data.
        seed: of everything random.
        precision: float32 or bfloat16; empty if a run of an earlier version recorded none.
        state: `training` if any part is, `finished` if every level that it trains is, else
            `interrupted`.
        parts: levels that it trains, finest first, then the classifier if the run has one.
    """

    path: Path
    recipe: str
    data: str
    seed: int
    precision: str
    state: State
    parts: tuple[PartSummary, ...]

    @property
    def levels(self) -> list[PartSummary]:
        """The levels that the run trains, finest first."""
        return [part for part in self.parts if part.name != CLASSIFIER]

    @property
    def images_seen(self) -> int:
        """Examples seen by all levels together."""
        return sum(level.images_seen for level in self.levels)

    @property
    def seconds(self) -> float:
        """Time spent in training all levels."""
        return sum(level.seconds for level in self.levels)


def find_runs(folder: Path) -> list[Path]:
    """Returns the run folders at or below a folder, by name; run folders hold no others.

    Raises:
        LapganError: there is no such folder.
    """
    if not folder.is_dir():
        raise LapganError(f"{folder}: there is no such folder; name one that holds run folders.")
    return sorted(_walk(folder))


def summarize_run(path: Path) -> RunSummary:
    """Reads how far a run has come.

    Raises:
        LapganError: the folder is not a run's, or its record cannot be read.
    """
    folder = RunFolder(path)
    identity = _read_identity(folder)
    names = [*_trained_levels(identity["recipe"]["levels"])]
    if folder.part(CLASSIFIER).path.is_dir():
        names.append(CLASSIFIER)
    images = identity["recipe"].get("training", {}).get("images")
    parts = tuple(_summarize_part(name, folder.part(name), images) for name in names)
    return RunSummary(
        path=path,
        recipe=identity["recipe"]["name"],
        data=identity["data"]["name"],
        seed=identity["seed"],
        precision=identity.get("precision", ""),
        state=_join_states(parts),
        parts=parts,
    )


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        path = Path(place)
        if RunFolder(path).identity.name in files:
            folders.clear()
            yield path
        folders[:] = [name for name in folders if not name.startswith(".")]


def _read_identity(folder: RunFolder) -> dict[str, Any]:
    path = folder.identity
    if not path.is_file():
        raise LapganError(
            f"{folder.path}: this is no run folder (no {path.name}); name the --out folder of a "
            "`lapgan train`."
        )
    try:
        identity: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        levels = _trained_levels(identity["recipe"]["levels"])
        texts = identity["recipe"]["name"], identity["data"]["name"], *levels
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("expected the run's recipe and data")
        int(identity["seed"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LapganError(
            f"{path}: cannot be read as the record of a run ({error!r}); restore it from a copy, "
            "or remove the folder."
        ) from None
    return identity


def _trained_levels(levels: Mapping[str, Any]) -> Iterator[str]:
    """Yields the names of levels that a recipe does not freeze."""
    for name, level in levels.items():
        if not level.get("frozen"):
            yield name


def _summarize_part(name: str, folder: PartFolder, images: int | None) -> PartSummary:
    figures = _last_record(folder.log)
    images_seen, seconds = int(figures.get("images_seen", 0)), figures.get("seconds", 0.0)
    fraction = _spent(_read_limits(folder.budget, images), images_seen, seconds)
    return PartSummary(
        name=name,
        state=_state_of(folder, fraction),
        images_seen=images_seen,
        seconds=seconds,
        fraction=fraction,
        updated=_modified(folder.log),
        figures=figures,
    )


def _state_of(folder: PartFolder, fraction: float) -> State:
    if not folder.path.is_dir():
        return "waiting"
    if _is_locked(folder.lock):
        return "training"
    return "finished" if fraction >= _ROUNDING else "interrupted"


def _join_states(parts: tuple[PartSummary, ...]) -> State:
    if any(part.state == "training" for part in parts):
        return "training"
    levels = [part for part in parts if part.name != CLASSIFIER]
    return "finished" if all(level.state == "finished" for level in levels) else "interrupted"


def _last_record(log: Path) -> dict[str, float]:
    last: dict[str, float] = {}
    for record in read_records(log):
        last = record
    return last


def _read_limits(budget: Path, images: int | None) -> dict[str, float | None]:
    """Returns the recorded limits of a part; those of the recipe if none are recorded."""
    try:
        limits: dict[str, float | None] = json.loads(budget.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"images": images}
    return limits


def _spent(limits: dict[str, float | None], images_seen: int, seconds: float) -> float:
    """Returns the fraction of the limits that is spent; see `lapgan.training.config.Budget`."""
    amounts = {"images": images_seen, "seconds": seconds}
    spent = [amounts[key] / limit for key, limit in limits.items() if limit]
    return min(1.0, max(spent, default=0.0))


def _is_locked(path: Path) -> bool:
    """Whether another process holds a lock; it is taken for a moment to find out."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False  # a folder that this user cannot write


def _modified(path: Path) -> str | None:
    if not path.exists():
        return None
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
