"""Answers as tidy CSV and JSON Lines, with the dictionary that explains every column."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lapgan.files import write_atomically

__all__ = ["COLUMNS", "data_dictionary", "export", "rows_to_csv", "rows_to_json_lines"]

# name: (type, meaning). One row is one answered trial.
COLUMNS: Mapping[str, tuple[str, str]] = {
    "rater": ("text", "Random code of the rater. Nothing links it to a person."),
    "simulated": ("boolean", "True if a program answered in the place of a person."),
    "trial": ("text", "Random id of the trial, unique in the study."),
    "position": ("integer", "Place of the trial in the rater's sitting, from 0."),
    "block": ("integer", "0 for practice, then 1, 2, ..."),
    "phase": ("text", "practice (with feedback), main, or catch (plainly fake)."),
    "source": ("text", "Where the image comes from: real, catch, or a model's name."),
    "staircase": ("text", "Source whose staircase set the time; empty in other modes."),
    "stimulus": ("text", "Name of the image; its file is stimuli/NAME.png of the study."),
    "real": ("boolean", "Whether the image is real."),
    "said_real": ("boolean", "Whether the rater judged it real."),
    "correct": ("boolean", "real == said_real."),
    "asked_ms": ("number", "Presentation time asked for, ms; empty when untimed."),
    "achieved_ms": ("number", "From onset frame to offset frame in the browser, ms."),
    "frames": ("integer", "Animation frames the image was on the screen."),
    "refresh_hz": ("number", "Refresh rate of the screen, estimated before the block, Hz."),
    "dropped_frames": ("integer", "Frames that failed to come while the image was shown."),
    "hidden": ("boolean", "True if the page lost visibility during the trial."),
    "resumed": ("boolean", "True if the image had been shown before a reload."),
    "response_ms": ("number", "From the image's onset to the answer, ms."),
    "input": ("text", "keyboard, touch or mouse."),
    "real_left": ("boolean", "Whether the left key meant real for this rater."),
    "answered_at": ("text", "UTC time at which the server stored the answer, ISO 8601."),
}


def rows_to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of `Store.rows` as CSV with a header; empty cells mean not applicable."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="raise", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(row[name]) for name in COLUMNS} for row in rows)
    return text.getvalue()


def rows_to_json_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of `Store.rows` as one JSON object a line."""
    lines = [json.dumps({name: row[name] for name in COLUMNS}) for row in rows]
    return "".join(f"{line}\n" for line in lines)


def data_dictionary() -> str:
    """The meaning of every column, as a Markdown table."""
    lines = ["| column | type | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {kind} | {meaning} |" for name, (kind, meaning) in COLUMNS.items()]
    return "\n".join(lines) + "\n"


def export(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Writes `answers.csv`, `answers.jsonl` and `data-dictionary.md` into `folder`."""
    files = {
        "answers.csv": rows_to_csv(rows),
        "answers.jsonl": rows_to_json_lines(rows),
        "data-dictionary.md": f"# Data dictionary\n\nOne row is one answer.\n\n{data_dictionary()}",
    }
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in files]


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
