"""A program that has the package and all that a client receives, and answers at once."""

import numpy as np
import pytest
from serving import make_answer
from starlette.testclient import TestClient

from lapgan.study.app import build_app
from lapgan.study.design import REAL
from lapgan.study.judgements import Judgements, exclusion_reasons
from lapgan.study.planning import plan_sitting, pool_sizes
from lapgan.study.report import write_report
from lapgan.study.store import Store

SECRET = "open-sesame-open"
RATES = {"answers": "100000/second"}
ANSWERED = 10


@pytest.fixture
def sitting(make_study):
    """Study, store, and a bot's sitting: what it was asked, in order, and its answers' truths."""
    keys = {"trials": 60, "blocks": 1, "practice_trials": 4, "catch_trials": 2}
    study = make_study(**keys, images_per_source=24)
    store = Store(study)
    with TestClient(build_app(study, store, SECRET, RATES), follow_redirects=False) as client:
        token = client.post("/join").headers["location"].partition("#")[2]
        headers = {"Authorization": f"Bearer {token}"}
        asked, truths = [], []
        while (trial := client.get("/api/sitting", headers=headers).json()["next"]) is not None:
            while trial is not None:
                asked.append(trial["asked_ms"])
                body = make_answer(trial["trial"], achieved_ms=trial["asked_ms"])
                body |= {"response_ms": trial["asked_ms"] + 400, "answer": said(len(asked))}
                receipt = client.post("/api/answers", headers=headers, json=body).json()
                truths.append(receipt["truth"])
                trial = receipt["next"]
    yield study, store, asked, truths
    store.close()


def said(place):
    return "real" if place % 3 else "fake"


def plans_of(study, salt, raters=200):
    """The plans that the package gives for each rater, as (time, whether real)."""
    fakes = study.manifest.fakes
    pools = {
        phase: {source: [f"{source}-{i}" for i in range(count)] for source, count in counts.items()}
        for phase, counts in pool_sizes(study.design, fakes).items()
    }
    for index in range(raters):
        plan = plan_sitting(study.design, fakes, pools, index, salt)
        yield [(trial.asked_ms, trial.source == REAL) for trial in plan]


def predict(plans, asked, truths):
    """The truths of all trials by the one plan that fits the first answers, None without one."""
    for plan in plans:
        first = zip(plan[:ANSWERED], asked, truths, strict=False)
        if all(ms == time and truth in (None, ("fake", "real")[real])
               for (ms, real), time, truth in first):  # fmt: skip
            return [real for _, real in plan]
    return None


def test_the_package_is_no_key_to_the_answers(sitting):
    study, store, asked, truths = sitting
    real = [row["real"] for row in store.rows()]
    # With the salt the same attack finds the rater and predicts everything ...
    assert predict(plans_of(study, study.manifest.salt), asked, truths) == real
    # ... and without it no rater's plan fits, and the one of the right number tells nothing.
    assert predict(plans_of(study, ""), asked, truths) is None
    guesses = [kind for _, kind in next(plans_of(study, ""))]
    share = np.mean([guess == kind for guess, kind in zip(guesses[4:], real[4:], strict=True)])
    # By chance 5/9 agree; four standard errors of 62 guesses.
    assert abs(share - 5 / 9) < 4 * np.sqrt(20 / 81 / 62)


def test_the_salt_is_told_to_nobody(sitting, tmp_path):
    study, store, _, _ = sitting
    salt = study.manifest.salt
    assert len(salt) == 32
    with TestClient(build_app(study, store, SECRET, RATES)) as client:
        for path in ("/", "/sitting", "/admin/", "/admin/answers.csv", "/admin/answers.jsonl"):
            headers = {"Authorization": f"Bearer {SECRET}"} if "admin" in path else {}
            assert salt not in client.get(path, headers=headers).text
    for path in write_report(study.manifest, store.rows(), tmp_path, 20):
        assert salt not in path.read_text()
    assert (study.folder / "manifest.json").stat().st_mode & 0o077 == 0


def test_answers_that_took_no_time_are_left_out(sitting):
    study, store, _, _ = sitting
    reasons = exclusion_reasons(
        Judgements.from_rows(store.rows()), study.design.exclusion, study.design.fixation_ms
    )
    (texts,) = reasons.values()
    assert any("sooner than their images can have been shown" in text for text in texts)


def test_answers_that_took_their_time_stay(sitting):
    study, store, _, _ = sitting
    rows, clock = store.rows(), np.datetime64("2026-01-01T00:00:00.000")
    for row in rows:
        clock += round(study.design.fixation_ms + row["response_ms"])
        row["answered_at"] = f"{clock}+00:00"
    judgements = Judgements.from_rows(rows)
    rules = study.design.exclusion.model_copy(update={"failed_catch": 9})
    assert exclusion_reasons(judgements, rules, study.design.fixation_ms) == {}
