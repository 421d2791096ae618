"""Raters who come from a recruiting service, and the table of raters."""

import csv
import io
import sqlite3
from html import unescape

import numpy as np
import pytest
from pydantic import ValidationError
from serving import make_answer
from starlette.testclient import TestClient

from lapgan.errors import LapganError
from lapgan.study.app import build_app
from lapgan.study.design import Design, Recruiting, read_design
from lapgan.study.export import export, raters_to_csv
from lapgan.study.simulate import Observers, simulate_into
from lapgan.study.store import Store

SECRET = "open-sesame"
PROLIFIC = {
    "parameters": ["PROLIFIC_PID", "STUDY_ID", "SESSION_ID"],
    "completion_code": "C1A2B3C4",
    "completion_url": "https://app.prolific.com/submissions/complete?cc=C1A2B3C4",
}
SHORT = {"trials": 3, "blocks": 1, "practice_trials": 0, "catch_trials": 0}


@pytest.fixture
def serve(make_study):
    """Study, store and client of a short study; keywords are those of its recruiting."""
    stores = []

    def start(**recruiting):
        study = make_study(**SHORT, recruiting=recruiting)
        stores.append(Store(study))
        return (
            study,
            stores[-1],
            TestClient(build_app(study, stores[-1], SECRET), follow_redirects=False),
        )

    yield start
    for store in stores:
        store.close()


def arrive(client, query):
    """Opens the address, agrees with the page's own form, and returns the rater's headers."""
    page = client.get(f"/?{query}").text
    inputs = page.split('<form method="post" action="/join">')[1].split("</form>")[0]
    fields = [part.split('"')[1:6:2] for part in inputs.split("<input")[1:]]
    response = client.post("/join", data={name: unescape(value) for _, name, value in fields})
    assert response.status_code == 303
    return {"Authorization": f"Bearer {response.headers['location'].partition('#')[2]}"}


def finish(client, headers):
    while (trial := client.get("/api/sitting", headers=headers).json()["next"]) is not None:
        assert client.get("/api/sitting", headers=headers).json()["completion"] is None
        client.post("/api/answers", headers=headers, json=make_answer(trial["trial"]))
    return client.get("/api/sitting", headers=headers).json()


def table(study, store):
    text = raters_to_csv(study.design, store.rows(), store.progress())
    return list(csv.DictReader(io.StringIO(text)))


def test_a_rater_from_prolific_is_known_and_sent_back(serve):
    study, store, client = serve(**PROLIFIC)
    assert "PROLIFIC_PID, STUDY_ID, SESSION_ID" in study.consent
    assert "random code only" not in study.consent
    query = "PROLIFIC_PID=5f1&STUDY_ID=6a2&SESSION_ID=7b%22%3E3&utm=spam"
    end = finish(client, arrive(client, query))
    assert end["completion"] == {
        "code": "C1A2B3C4",
        "url": "https://app.prolific.com/submissions/complete?cc=C1A2B3C4",
    }
    (row,) = table(study, store)
    assert (row["PROLIFIC_PID"], row["STUDY_ID"], row["SESSION_ID"]) == ("5f1", "6a2", '7b">3')
    assert "spam" not in str(store.progress())


def test_the_completion_code_is_shown_to_nobody_who_has_not_finished(serve):
    _, _, client = serve(**PROLIFIC)
    headers = arrive(client, "PROLIFIC_PID=5f1")
    for path in ("/", "/sitting", "/api/sitting", "/static/study.js"):
        assert "C1A2B3C4" not in client.get(path, headers=headers).text


def test_the_way_back_can_carry_parameters(serve):
    names = ["workerId", "assignmentId", "hitId"]
    url = "https://panel.example/end?worker={workerId}&hit={hitId}"
    _, _, client = serve(parameters=names, completion_url=url)
    end = finish(client, arrive(client, "workerId=A%26B&assignmentId=x"))
    assert end["completion"]["url"] == "https://panel.example/end?worker=A%26B&hit="


def test_without_recruiting_nothing_of_the_address_is_kept(serve):
    study, store, client = serve()
    end = finish(client, arrive(client, "PROLIFIC_PID=5f1"))
    assert end["completion"] == {"code": None, "url": None}
    assert "PROLIFIC_PID" not in table(study, store)[0]
    assert store.progress()[0]["details"] == {}
    assert "random code only" in study.consent


def test_what_is_no_parameter_is_not_stored(serve):
    _, store, client = serve(**PROLIFIC)
    client.post("/join", data={"PROLIFIC_PID": "x" * 5000})  # beyond the limit of a form
    client.post("/join", data={"PROLIFIC_PID": "x" * 500, "STUDY_ID": "a\nb", "code": "R-1"})
    (rater,) = store.progress()
    assert rater["details"] == {"PROLIFIC_PID": "x" * 200}
    assert rater["code"] != "R-1"


def test_the_same_participant_twice_is_flagged(serve):
    study, store, client = serve(**PROLIFIC)
    for name in ("5f1", "5f1", "6f2"):
        arrive(client, f"PROLIFIC_PID={name}")
    first, second, other = table(study, store)
    assert first["flags"] == f"same PROLIFIC_PID as {second['code']}"
    assert second["flags"] == f"same PROLIFIC_PID as {first['code']}"
    assert other["flags"] == ""


def test_the_table_of_raters_has_window_and_flags(serve, tmp_path):
    study, store, client = serve()
    headers = arrive(client, "")
    screen = {"window_width": 1280, "window_height": 720, "pixel_ratio": 1.5}
    later = {**screen, "window_width": 99}
    for body in (screen, later):  # what was said first stands
        assert client.post("/api/screen", headers=headers, json=body).status_code == 200
    finish(client, headers)
    (row,) = table(study, store)
    assert (row["window_width"], row["window_height"], row["pixel_ratio"]) == ("1280", "720", "1.5")
    # A test's client answers at once, long before the images can have been shown.
    assert "sooner than their images can have been shown" in row["flags"]
    paths = export(store.rows(), tmp_path, store.progress(), study.design)
    assert all(f"| `{name}` |" in paths[3].read_text() for name in row)
    secret = {"Authorization": f"Bearer {SECRET}"}
    assert client.get("/admin/raters.csv", headers=secret).text == paths[2].read_text()
    assert client.get("/admin/raters.csv").status_code == 401


@pytest.mark.parametrize(
    "body",
    [{}, {"window_width": 0, "window_height": 1, "pixel_ratio": 1},
     {"window_width": 1, "window_height": 1, "pixel_ratio": "NaN"}, [1]],
)  # fmt: skip
def test_a_window_that_cannot_be_is_refused(serve, body):
    _, store, client = serve()
    headers = arrive(client, "")
    assert client.post("/api/screen", headers=headers, json=body).status_code == 422
    strange = {"Authorization": f"Bearer {'x' * 32}"}
    good = {"window_width": 1, "window_height": 1, "pixel_ratio": 1}
    assert client.post("/api/screen", headers=strange, json=good).status_code == 401
    assert store.progress()[0]["details"] == {}


def test_removed_raters_leave_no_parameters(serve):
    study, store, client = serve(**PROLIFIC)
    # No hexadecimal number, as the study's salt and fingerprint have any three digits by chance.
    arrive(client, "PROLIFIC_PID=recruited-rater")
    store.remove([store.progress()[0]["code"]])
    store.close()
    with sqlite3.connect(study.folder / "answers.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM study_details").fetchone() == (0,)
    connection.close()
    assert b"recruited-rater" not in (study.folder / "answers.sqlite").read_bytes()


def test_a_database_from_before_is_read_and_continued(make_study):
    study = make_study(**SHORT, recruiting=PROLIFIC)
    store = Store(study)
    simulate_into(store, Observers({}), 1, np.random.default_rng(0))
    store.close()
    with sqlite3.connect(study.folder / "answers.sqlite") as connection:
        connection.execute("DROP TABLE study_details")
    connection.close()
    store = Store(study)
    assert store.progress()[0]["details"] == {}
    assert table(study, store)[0]["PROLIFIC_PID"] == ""
    store.join(origin={"PROLIFIC_PID": "5f1"}).result()
    assert store.progress()[1]["details"] == {"PROLIFIC_PID": "5f1"}
    store.close()


@pytest.mark.parametrize(
    "wrong",
    [{"parameters": ["a b"]}, {"parameters": ["a", "A"]}, {"completion_url": "javascript:alert(1)"},
     {"completion_url": "https://x.example/{a}"}, {"completion_code": ""}, {"code": "x"}],
)  # fmt: skip
def test_wrong_recruiting_is_refused(tmp_path, wrong):
    with pytest.raises(ValidationError):
        Recruiting.model_validate(wrong)
    (tmp_path / "study.toml").write_text(
        "[recruiting]\n" + "".join(f"{key} = {value!r}\n" for key, value in wrong.items())
    )
    with pytest.raises(LapganError, match="recruiting"):
        read_design(tmp_path / "study.toml")


def test_a_parameter_named_like_a_column_has_a_column_of_its_own():
    design = Design.model_validate({"recruiting": {"parameters": ["code", "panel"]}})
    rater = {"code": "R-1", "done": 0, "total": 3, "simulated": False, "joined_at": "",
             "finished_at": None, "consent_sha256": "", "details": {"code": "7"}}  # fmt: skip
    (row,) = csv.DictReader(io.StringIO(raters_to_csv(design, [], [rater])))
    assert (row["code"], row["url_code"], row["panel"]) == ("R-1", "7", "")
