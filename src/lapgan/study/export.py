"""Answers as tidy CSV and JSON Lines, with a dictionary that explains every column."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lapgan.files import write_atomically
from lapgan.study.answers import COLUMNS

# The columns of the table of raters, in the order of the export.
RATER_COLUMNS: Mapping[str, str] = {
    "code": "Random code of the rater, `rater` in the answers.",
    "done": "Number of trials answered, practice and catch trials included.",
    "total": "Number of trials of the whole sitting.",
    "simulated": "True if a program answered instead of a person.",
    "joined_at": "UTC time of the consent, ISO 8601.",
    "finished_at": "UTC time of the last answer of a finished sitting; empty otherwise.",
    "consent_sha256": "SHA-256 of the text that the rater agreed to.",
}

__all__ = [
    "RATER_COLUMNS",
    "data_dictionary",
    "export",
    "raters_to_csv",
    "rows_to_csv",
    "rows_to_json_lines",
]


def rows_to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows of `Store.rows` as CSV with a header; empty cells mean not applicable."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="raise", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _format_cell(row[name]) for name in COLUMNS} for row in rows)
    return text.getvalue()


def rows_to_json_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows of `Store.rows` as one JSON object per line."""
    lines = [json.dumps({name: row[name] for name in COLUMNS}) for row in rows]
    return "".join(f"{line}\n" for line in lines)


def data_dictionary() -> str:
    """Returns the meaning of every column, as a Markdown table."""
    lines = ["| column | type | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {kind} | {meaning} |" for name, (kind, meaning) in COLUMNS.items()]
    return "\n".join(lines) + "\n"


def raters_to_csv(progress: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows of `Store.progress` as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, RATER_COLUMNS, extrasaction="raise", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _format_cell(row[name]) for name in RATER_COLUMNS} for row in progress)
    return text.getvalue()


def export(
    rows: Sequence[Mapping[str, Any]], folder: Path, progress: Sequence[Mapping[str, Any]] = ()
) -> list[Path]:
    """Writes `answers.csv`, `answers.jsonl`, `raters.csv` and `data-dictionary.md` into a folder.

    Args:
        rows: from `Store.rows`.
        progress: from `Store.progress`; raters who joined and never answered are there too.
        folder: where to write; it is created if needed.

    Raises:
        LapganError: a file cannot be written.
    """
    files = {
        "answers.csv": rows_to_csv(rows),
        "answers.jsonl": rows_to_json_lines(rows),
        "raters.csv": raters_to_csv(progress),
        "data-dictionary.md": (
            f"# Data dictionary\n\nOne row of `answers` is one answer.\n\n{data_dictionary()}"
            f"\nOne row of `raters.csv` is one rater.\n\n{_describe_raters()}"
        ),
    }
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in files]


def _describe_raters() -> str:
    lines = ["| column | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in RATER_COLUMNS.items()]
    return "\n".join(lines) + "\n"


def _format_cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
