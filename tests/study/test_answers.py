import sqlite3

import numpy as np
import pytest
from pydantic import ValidationError
from serving import make_answer

from lapgan.study import tables
from lapgan.study.answers import COLUMNS, Answer, add_truth, neutral_row
from lapgan.study.judgements import Judgements
from lapgan.study.store import Store

# What study.js sends beside the trial and the judgement.
SENT = set(make_answer("x")) - {"trial", "answer"}

# The table of answers as the first version of schema 1 created it.
FIRST_TABLE = """
CREATE TABLE study_answers (
    trial_id VARCHAR(24) NOT NULL, said_real BOOLEAN NOT NULL, response_ms FLOAT NOT NULL,
    achieved_ms FLOAT NOT NULL, frames INTEGER NOT NULL, refresh_hz FLOAT NOT NULL,
    dropped_frames INTEGER NOT NULL, hidden BOOLEAN NOT NULL, resumed BOOLEAN NOT NULL,
    input VARCHAR(10) NOT NULL, answered_at VARCHAR(32) NOT NULL, PRIMARY KEY (trial_id)
)
"""


def test_all_that_a_browser_sends_is_stored_and_exported():
    assert set(tables.answers.c.keys()) == SENT | {"trial_id", "said_real", "answered_at"}
    assert set(COLUMNS) >= SENT
    assert all(column.meaning.endswith(".") for column in COLUMNS.values())


def test_columns_have_the_types_of_what_is_sent():
    words = {bool: "boolean", int: "integer", float: "number", str: "text"}
    sent = make_answer("x")
    assert {name: COLUMNS[name].kind for name in SENT} == {
        name: words[type(sent[name])] for name in SENT
    }


@pytest.mark.parametrize("name", sorted(SENT))
def test_no_measurement_may_be_missing(name):
    content = make_answer("x")
    del content[name]
    with pytest.raises(ValidationError, match=name):
        Answer.model_validate(content)


@pytest.mark.parametrize(
    ("source", "said_real", "correct"),
    [("real", True, True), ("real", False, False), ("gan", True, False), ("catch", False, True)],
)
def test_a_judgement_is_correct_if_it_is_the_truth(source, said_real, correct):
    row = add_truth({"source": source, "said_real": said_real})
    assert (row["real"], row["correct"]) == (source == "real", correct)


def test_columns_that_do_not_matter_are_neutral():
    judgements = Judgements.from_columns(rater=np.array(["a", "b"]), real=np.array([True, False]))
    rows = [{**neutral_row(), "rater": "a", "real": True}, {**neutral_row(), "rater": "b"}]
    for name, column in vars(Judgements.from_rows(rows)).items():
        assert getattr(judgements, name).tolist() == column.tolist()


def test_a_database_of_the_first_version_takes_answers(make_study):
    study = make_study()
    with sqlite3.connect(study.folder / "answers.sqlite") as connection:
        connection.execute(FIRST_TABLE)
    connection.close()
    store = Store(study)
    token = store.join().result()
    sent = make_answer(store.sitting(token).next.trial, achieved_ms=116.7, dropped_frames=1)
    store.answer(token, Answer.model_validate(sent)).result()
    (row,) = store.rows()
    assert {name: row[name] for name in SENT} == {name: sent[name] for name in SENT}
    store.close()
