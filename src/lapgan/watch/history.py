"""What the page shows of a run, as plain data."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lapgan.run_folder import RunFolder, read_records
from lapgan.runs import PartSummary, summarize_run

__all__ = ["POINTS", "describe_run", "thin_records"]

POINTS = 300  # of a curve
Records = Sequence[dict[str, float]]


def describe_run(path: Path) -> dict[str, Any]:
    """Returns the state of a run, the curves of its parts, and the names of their sheets.

    Raises:
        LapganError: the folder is not a run's.
    """
    summary = summarize_run(path)
    return {
        "name": path.resolve().name,
        "recipe": summary.recipe,
        "data": summary.data,
        "seed": summary.seed,
        "precision": summary.precision,
        "state": summary.state,
        "parts": [_describe_part(part, RunFolder(path)) for part in summary.parts],
    }


def thin_records(records: Records, points: int = POINTS) -> dict[str, list[float | None]]:
    """Returns a log as columns of at most so many values.

    A value is the mean of as many records as its neighbors' is; None where no record has the
    figure. The last record's own `images_seen` and `seconds` end the columns of these.

    Args:
        records: of a log, first to last.
        points: the most values of a column.
    """
    names = dict.fromkeys(name for record in records for name in record)
    size = max(1, -(-len(records) // points))
    groups = [records[start : start + size] for start in range(0, len(records), size)]
    return {
        name: [
            group[-1].get(name) if name in ("images_seen", "seconds") else _mean(group, name)
            for group in groups
        ]
        for name in names
    }


def _describe_part(part: PartSummary, folder: RunFolder) -> dict[str, Any]:
    own = folder.part(part.name)
    records = list(read_records(own.log))
    return {
        **asdict(part),
        "curves": thin_records(records),
        "sheets": [sheet.name for sheet in own.sheets],
    }


def _mean(group: Records, name: str) -> float | None:
    values = [record[name] for record in group if name in record]
    return sum(values) / len(values) if values else None
