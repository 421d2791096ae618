"""Answers as tidy CSV and JSON Lines, with a dictionary that explains every column."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lapgan.files import write_atomically
from lapgan.study.answers import COLUMNS, Screen
from lapgan.study.design import Design
from lapgan.study.judgements import Judgements, exclusion_reasons

# The columns of the table of raters, in the order of the export.
RATER_COLUMNS: Mapping[str, str] = {
    "code": "Random code of the rater, `rater` in the answers.",
    "done": "Number of trials answered, practice and catch trials included.",
    "total": "Number of trials of the whole sitting.",
    "simulated": "True if a program answered instead of a person.",
    "joined_at": "UTC time of the consent, ISO 8601.",
    "finished_at": "UTC time of the last answer of a finished sitting; empty otherwise.",
    "consent_sha256": "SHA-256 of the text that the rater agreed to.",
    **{name: field.description or "" for name, field in Screen.model_fields.items()},
    "flags": "Why the analysis leaves the rater out, and what else is odd; empty if nothing is.",
}

__all__ = [
    "RATER_COLUMNS",
    "data_dictionary",
    "export",
    "flag_raters",
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


def flag_raters(
    design: Design, rows: Sequence[Mapping[str, Any]], progress: Sequence[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Returns what is odd about raters, by code: why they are left out, and who came twice.

    Args:
        design: its rules are those of the report.
        rows: from `Store.rows`.
        progress: from `Store.progress`. Raters with the same value of the first parameter of
            `recruiting` are the same person.
    """
    judgements = Judgements.from_rows(rows)
    flags = defaultdict(list, exclusion_reasons(judgements, design.exclusion, design.fixation_ms))
    for name in design.recruiting.parameters[:1]:
        codes = defaultdict(list)
        for rater in progress:
            if value := rater["details"].get(name):
                codes[value].append(rater["code"])
        for same in codes.values():
            for code in same if len(same) > 1 else ():
                others = ", ".join(other for other in same if other != code)
                flags[code].append(f"same {name} as {others}")
    return dict(flags)


def raters_to_csv(
    design: Design, rows: Sequence[Mapping[str, Any]], progress: Sequence[Mapping[str, Any]]
) -> str:
    """Returns rows of `Store.progress` as CSV, with flags and the design's parameters."""
    columns = _list_rater_columns(design)
    flags = flag_raters(design, rows, progress)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="raise", lineterminator="\n")
    writer.writeheader()
    for rater in progress:
        stored = rater["details"]
        values = {**rater, "flags": "; ".join(flags.get(rater["code"], ()))}
        values |= {name: stored.get(f"screen.{name}") for name in Screen.model_fields}
        values |= {column: stored.get(name) for name, column in _name_parameters(design)}
        writer.writerow({name: _format_cell(values.get(name)) for name in columns})
    return text.getvalue()


def export(
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    progress: Sequence[Mapping[str, Any]] = (),
    design: Design | None = None,
) -> list[Path]:
    """Writes `answers.csv`, `answers.jsonl`, `raters.csv` and `data-dictionary.md` into a folder.

    Args:
        rows: from `Store.rows`.
        folder: where to write; it is created if needed.
        progress: from `Store.progress`; raters who joined and never answered are there too.
        design: of the study, for its rules and its `recruiting`.

    Raises:
        LapganError: a file cannot be written.
    """
    design = design or Design()
    files = {
        "answers.csv": rows_to_csv(rows),
        "answers.jsonl": rows_to_json_lines(rows),
        "raters.csv": raters_to_csv(design, rows, progress),
        "data-dictionary.md": (
            f"# Data dictionary\n\nOne row of `answers` is one answer.\n\n{data_dictionary()}"
            f"\nOne row of `raters.csv` is one rater.\n\n{_describe_raters(design)}"
        ),
    }
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in files]


def _list_rater_columns(design: Design) -> dict[str, str]:
    mine = {
        column: f"Parameter {name} of the address that the rater came with."
        for name, column in _name_parameters(design)
    }
    return {**RATER_COLUMNS, **mine}


def _name_parameters(design: Design) -> list[tuple[str, str]]:
    """Returns parameters and their columns, which differ where the name is taken."""
    names = design.recruiting.parameters
    return [(name, f"url_{name}" if name in RATER_COLUMNS else name) for name in names]


def _describe_raters(design: Design) -> str:
    lines = ["| column | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in _list_rater_columns(design).items()]
    return "\n".join(lines) + "\n"


def _format_cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
