import csv
import io
import json

import numpy as np

from lapgan.study.answers import COLUMNS
from lapgan.study.export import data_dictionary, export, rows_to_csv, rows_to_json_lines
from lapgan.study.simulate import Observers, simulate_into
from lapgan.study.store import Store


def test_csv_and_json_lines_tell_the_same(make_study, tmp_path):
    store = Store(make_study())
    simulate_into(store, Observers({}), 1, np.random.default_rng(0))
    store.join().result()
    rows, progress = store.rows(), store.progress()
    store.close()
    assert set(rows[0]) == set(COLUMNS)
    from_lines = [json.loads(line) for line in rows_to_json_lines(rows).splitlines()]
    assert from_lines == [{name: row[name] for name in COLUMNS} for row in rows]
    for text, row in zip(csv.DictReader(io.StringIO(rows_to_csv(rows))), rows, strict=True):
        for name, (kind, _) in COLUMNS.items():
            assert _read(text[name], kind) == row[name]
    paths = export(rows, tmp_path / "out", progress)
    names = ["answers.csv", "answers.jsonl", "raters.csv", "data-dictionary.md"]
    assert [path.name for path in paths] == names
    raters = list(csv.DictReader(io.StringIO(paths[2].read_text())))
    assert [(row["done"], row["simulated"]) for row in raters] == [("16", "true"), ("0", "false")]
    assert all(f"| `{name}` |" in paths[3].read_text() for name in raters[0])
    assert paths[0].read_text() == rows_to_csv(rows)


def test_the_dictionary_names_every_column():
    text = data_dictionary()
    assert all(f"| `{name}` |" in text for name in COLUMNS)


def _read(text, kind):
    if text == "":
        return None
    readers = {"boolean": "true".__eq__, "integer": int, "number": float, "text": str}
    return readers[kind](text)
