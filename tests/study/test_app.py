import json
import os
import random
import string
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import make_answer
from starlette.testclient import TestClient

from lapgan.study.app import build_app
from lapgan.study.store import Store

SECRET = "open-sesame"
RATES = {
    "answers": "100000/second",
    "strangers": "100000/second",
    "joins": "100000/second",
    "logins": "100000/second",
}


@pytest.fixture
def served(make_study):
    """Study, store and a client of the application."""
    study = make_study()
    store = Store(study)
    app = build_app(study, store, SECRET, RATES)
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        yield study, store, client
    store.close()


def join(client):
    response = client.post("/join")
    assert response.status_code == 303
    page, _, token = response.headers["location"].partition("#")
    assert page == "/sitting"
    return {"Authorization": f"Bearer {token}"}


def following(client, headers):
    return client.get("/api/sitting", headers=headers).json()["next"]


def send(client, headers, body):
    return client.post("/api/answers", headers=headers, json=body)


def admin(client):
    return client.get("/admin/", headers={"Authorization": f"Bearer {SECRET}"})


def test_consent_comes_first_and_can_be_declined(served):
    study, store, client = served
    (study.folder / "consent.txt").write_text("Our <own> text.\n\n- one\n- two")
    home = client.get("/").text
    assert "Our &lt;own&gt; text." in home
    assert "<li>one</li><li>two</li>" in home
    assert "nothing was recorded" in client.get("/declined").text
    assert store.progress() == []


def test_a_whole_sitting(served):
    _, store, client = served
    headers = join(client)
    count = 0
    while (trial := following(client, headers)) is not None:
        while trial is not None:
            receipt = send(client, headers, make_answer(trial["trial"])).json()
            trial = receipt["next"]
            count += 1
    assert count == len(store.rows()) == 16


def test_nothing_a_browser_gets_before_the_answer_tells_the_truth(served):
    study, _, client = served
    headers = join(client)
    sitting = client.get("/api/sitting", headers=headers)
    assert set(sitting.json()) == {
        "code", "real_left", "done", "total", "block", "images", "next", "paused", "completion"
    }  # fmt: skip
    assert sitting.json()["completion"] is None
    assert set(sitting.json()["next"]) == {"trial", "image", "asked_ms", "practice"}
    texts = [sitting.text, client.get("/sitting").text]
    receipt = None
    while (trial := following(client, headers)) is not None:
        receipt = send(client, headers, make_answer(trial["trial"]))
        if not trial["practice"]:
            texts.append(receipt.text)
            assert receipt.json()["truth"] is None
    shown = client.get(f"/stimuli/{sitting.json()['images'][0]}.png")
    texts.append(str(sorted(shown.headers)))
    for source in study.manifest.fakes:
        assert not any(source in text for text in texts)
    assert "last-modified" not in shown.headers
    assert "etag" not in shown.headers


def test_replayed_forged_and_foreign_requests_are_refused(served):
    _, store, client = served
    mine, other = join(client), join(client)
    trial = following(client, mine)["trial"]
    foreign = following(client, other)["trial"]
    assert send(client, mine, make_answer(foreign)).status_code == 404
    assert send(client, {}, make_answer(trial)).status_code == 401
    forged = {"Authorization": mine["Authorization"][:-1] + "?"}
    assert send(client, forged, make_answer(trial)).status_code == 401
    assert client.get("/api/sitting", headers=forged).status_code == 401
    assert store.rows() == []
    assert send(client, mine, make_answer(trial, answer="fake")).status_code == 200
    replayed = send(client, mine, make_answer(trial, answer="real"))
    assert replayed.json()["repeated"]
    assert [row["said_real"] for row in store.rows()] == [False]


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": "maybe"},
        {"response_ms": -1},
        {"response_ms": 1e12},
        {"refresh_hz": 0},
        {"frames": 1.5},
        {"hidden": "no"},
        {"input": "thought"},
        {"source": "real"},
        {"trial": "a' OR 1=1 --"},
        {"trial": ""},
    ],
)
def test_ill_formed_answers_are_refused_by_name(served, changes):
    _, store, client = served
    headers = join(client)
    trial = following(client, headers)["trial"]
    response = send(client, headers, {**make_answer(trial), **changes})
    assert response.status_code == 422
    assert next(iter(changes)) in response.json()["error"]
    assert store.rows() == []


def test_bodies_are_limited_even_without_a_length(served):
    _, _, client = served
    headers = join(client)
    assert client.post("/api/answers", headers=headers, content=b"x" * 5000).status_code == 413
    chunks = (b"x" * 100 for _ in range(100))
    assert client.post("/api/answers", headers=headers, content=chunks).status_code == 413
    assert client.post("/admin/login", content=b"secret=" + b"x" * 2000).status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/stimuli/../manifest.json",
        "/stimuli/..%2fmanifest.json",
        "/stimuli/%2e%2e/answers.sqlite",
        "/stimuli/....png",
        "/stimuli/..%5cmanifest.png",
        "/stimuli/%00.png",
        "/static/../store.py",
        "/static/..%2fstore.py",
        "/static/%2e%2e/%2e%2e/cli.py",
        "/static//etc/passwd",
        "/manifest.json",
        "/answers.sqlite",
    ],
)
def test_only_files_of_the_manifest_are_served(served, path):
    study, _, client = served
    (study.folder / "stimuli" / f"{'0' * 32}.png").write_bytes(b"not in the manifest")
    assert client.get(path).status_code == 404
    assert client.get(f"/stimuli/{'0' * 32}.png").status_code == 404


def test_stimuli_are_served_as_frozen(served):
    study, _, client = served
    name = study.manifest.stimuli[0].name
    response = client.get(f"/stimuli/{name}.png")
    assert response.content == study.path_of(name).read_bytes()
    assert response.headers["content-type"] == "image/png"
    assert "immutable" in response.headers["cache-control"]


@pytest.mark.parametrize(
    "path", ["/", "/sitting", "/static/study.js", "/nothing", "/admin/", "/api/sitting"]
)
def test_every_response_is_confined(served, path):
    headers = served[2].get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_pages_need_no_other_host_and_no_inline_code(served):
    _, _, client = served
    for path in ("/", "/sitting", "/declined", "/admin/"):
        page = client.get(path).text
        assert "http://" not in page
        assert "https://" not in page
        assert " style=" not in page
        assert "onclick" not in page
        assert "<script>" not in page


def test_the_admin_pages_need_the_secret(served):
    _, store, client = served
    for path in ("/admin/", "/admin/answers.csv", "/admin/answers.jsonl"):
        assert client.get(path).status_code == 401
        wrong = {"Authorization": "Bearer wrong"}
        assert client.get(path, headers=wrong).status_code == 401
    assert client.post("/admin/pause", data={"paused": "1"}).status_code == 401
    assert not store.is_paused()
    assert client.post("/admin/login", data={"secret": "wrong"}).status_code == 401
    rater = join(client)
    assert client.get("/admin/", headers=rater).status_code == 401


def test_the_admin_sees_progress_pauses_and_exports(served):
    _, store, client = served
    headers = join(client)
    send(client, headers, make_answer(following(client, headers)["trial"]))
    login = client.post("/admin/login", data={"secret": SECRET})
    assert login.status_code == 303
    cookie = login.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert SECRET not in cookie
    page = client.get("/admin/").text
    assert store.progress()[0]["code"] in page
    assert "1 / 16" in page
    assert client.post("/admin/pause", data={"paused": "1"}).status_code == 303
    assert client.post("/join").status_code == 503
    assert client.get("/api/sitting", headers=headers).json()["paused"]
    assert client.post("/admin/pause", data={"paused": "2"}).status_code == 422
    assert client.post("/admin/pause", data={"paused": "0"}).status_code == 303
    assert client.get("/admin/answers.csv").text.count("\n") == 2
    assert len(client.get("/admin/answers.jsonl").text.splitlines()) == 1
    assert client.get("/admin/answers.sqlite").status_code == 404


def test_rates_are_limited(make_study):
    study = make_study()
    store = Store(study)
    rates = {**RATES, "joins": "3/minute", "strangers": "4/minute", "logins": "2/minute"}
    app = build_app(study, store, SECRET, {**rates, "answers": "5/minute"})
    with TestClient(app, follow_redirects=False) as client:
        headers = join(client)
        seen = [client.post("/join").status_code for _ in range(4)]
        assert seen == [303, 303, 429, 429]
        assert 429 in [client.get("/api/sitting").status_code for _ in range(6)]
        assert 429 in [client.get("/api/sitting", headers=headers).status_code for _ in range(7)]
        logins = [client.post("/admin/login", data={"secret": "x"}).status_code for _ in range(4)]
        assert logins == [401, 401, 429, 429]
        # A flood of guesses does not lock the holder of the secret out of reading.
        assert admin(client).status_code == 200
    store.close()


def test_a_failure_shows_no_traceback(served, monkeypatch):
    _, store, client = served
    headers = join(client)

    def fail(_token):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(store, "sitting", fail)
    response = client.get("/api/sitting", headers=headers)
    assert response.status_code == 500
    assert "secret detail" not in response.text
    assert "Traceback" not in response.text


# --- fuzzing: 300 requests by default, over 5,000 with LAPGAN_FUZZ=5200 -------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)
_FIELDS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(make_answer("x"), _JSON) | {"source": _JSON},
)
_PATHS = st.sampled_from(
    ["/", "/join", "/declined", "/sitting", "/api/sitting", "/api/answers", "/stimuli/{}.png",
     "/static/{}", "/admin/", "/admin/login", "/admin/pause", "/admin/answers.{}", "/{}"]
)  # fmt: skip
_HEADER = st.text(string.printable.strip(), max_size=50)


@settings(
    max_examples=int(os.environ.get("LAPGAN_FUZZ", "300")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    path=_PATHS,
    part=st.text(max_size=20),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
    body=_JSON | _FIELDS | st.binary(max_size=200),
    authorization=st.sampled_from(["none", "rater", "forged"]) | _HEADER,
    cookie=st.none() | _HEADER,
    complete=st.booleans(),
)
def test_no_request_breaks_the_server(
    served, path, part, method, body, authorization, cookie, complete
):
    _study, store, client = served
    client.cookies.clear()
    state = _fuzz_state(served)
    before, raters = len(store.rows()), len(store.progress())
    if isinstance(body, dict) and complete:
        body = {**make_answer(state["trial"]), **body}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": random.choice(["application/json", "text/plain"])}
    token = {"rater": state["token"], "forged": "Bearer " + "A" * 32, "none": None}
    value = token.get(authorization, authorization)
    headers |= {"authorization": value} if value else {}
    headers |= {"cookie": f"lapgan_study_admin={cookie}"} if cookie else {}
    url = path.replace("{}", "".join(f"%{byte:02x}" for byte in part.encode("utf-8", "replace")))
    response = client.request(method, url, headers=headers, content=content)
    assert response.status_code < 500
    assert "Traceback" not in response.text[:2000]
    written, joined = len(store.rows()) - before, len(store.progress()) - raters
    assert joined == (method == "POST" and url == "/join" and response.status_code == 303)
    if written:
        assert (method, url, authorization, response.status_code) == (
            "POST", "/api/answers", "rater", 200
        )  # fmt: skip
        assert written == 1
        row = next(row for row in store.rows() if row["trial"] == state["trial"])
        assert row["response_ms"] >= 0


def _fuzz_state(served):
    """A rater in mid-sitting; a new one when the last has finished."""
    _, _, client = served
    state = client.__dict__.setdefault("fuzz_state", {})
    if state:
        trial = following(client, {"Authorization": state["token"]})
    if not state or trial is None:
        state["token"] = join(client)["Authorization"]
        trial = following(client, {"Authorization": state["token"]})
    state["trial"] = trial["trial"]
    return state


def test_times_that_contradict_each_other_are_refused(served):
    _, store, client = served
    headers = join(client)
    trial = following(client, headers)["trial"]
    for changes in ({"response_ms": 90.0}, {"achieved_ms": 0.0}, {"frames": 0}):
        assert send(client, headers, make_answer(trial, **changes)).status_code == 422
    assert store.rows() == []


def test_a_rater_can_delete_the_answers(served):
    _, store, client = served
    headers, other = join(client), join(client)
    for one in (headers, other):
        send(client, one, make_answer(following(client, one)["trial"]))
    assert client.post("/api/withdraw", headers=headers).status_code == 200
    assert client.post("/api/withdraw", headers=headers).status_code == 401
    assert len(store.rows()) == len(store.progress()) == 1
    assert following(client, other) is not None


def test_an_admins_session_is_random_ends_and_removes_raters(served, monkeypatch):
    _, store, client = served
    join(client)
    code = store.progress()[0]["code"]
    cookies = set()
    for _ in range(2):
        client.post("/admin/login", data={"secret": SECRET})
        cookies.add(client.cookies["lapgan_study_admin"])
    assert len(cookies) == 2
    evil = {"Origin": "https://evil.example"}
    assert client.post("/admin/remove", data={"code": code}, headers=evil).status_code == 403
    assert client.post("/admin/remove", data={"code": code}).status_code == 303
    assert store.progress() == []
    assert client.post("/admin/remove", data={"code": code}).status_code == 404
    (cookie,) = cookies - {client.cookies["lapgan_study_admin"]}
    assert client.post("/admin/logout").status_code == 303
    assert client.get("/admin/").status_code == 401
    headers = {"Cookie": f"lapgan_study_admin={cookie}"}
    assert client.get("/admin/", headers=headers).status_code == 200
    later = time.monotonic() + 13 * 3600
    monkeypatch.setattr("lapgan.study.admin.time.monotonic", lambda: later)
    assert client.get("/admin/", headers=headers).status_code == 401


def test_a_full_study_takes_no_more_raters(make_study):
    study = make_study()
    store = Store(study)
    app = build_app(study, store, SECRET, RATES, max_raters=2)
    with TestClient(app, follow_redirects=False) as client:
        assert [client.post("/join").status_code for _ in range(3)] == [303, 303, 503]
    store.close()


def test_people_get_pages_and_programs_json_when_the_server_fails(served, monkeypatch):
    _, store, client = served
    monkeypatch.setattr(store, "join", lambda: 1 / 0)
    response = client.post("/join")
    assert response.status_code == 500
    assert "<h1>Sorry</h1>" in response.text
