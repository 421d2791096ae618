"""Answers as tidy CSV and JSON Lines, with a dictionary that explains every column."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lapgan.files import write_atomically
from lapgan.study.answers import COLUMNS

__all__ = ["data_dictionary", "export", "rows_to_csv", "rows_to_json_lines"]


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


def export(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Writes `answers.csv`, `answers.jsonl` and `data-dictionary.md` into a folder.

    Args:
        rows: from `Store.rows`.
        folder: where to write; it is created if needed.

    Raises:
        LapganError: a file cannot be written.
    """
    files = {
        "answers.csv": rows_to_csv(rows),
        "answers.jsonl": rows_to_json_lines(rows),
        "data-dictionary.md": f"# Data dictionary\n\nOne row is one answer.\n\n{data_dictionary()}",
    }
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in files]


def _format_cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
