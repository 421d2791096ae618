import sqlite3
import threading

import pytest
from serving import make_answer

from lapgan.errors import LapganError
from lapgan.study.design import plan_sitting, staircase_ms
from lapgan.study.store import Answer, RefusedError, Store


@pytest.fixture
def opened(make_study):
    """A small study and its store."""
    study = make_study()
    store = Store(study)
    yield study, store
    store.close()


def answer(trial, **changes):
    return Answer.model_validate(make_answer(trial, **changes))


def finish(store, token, said="real"):
    """Answers all that is left; returns the trials in order."""
    trials = []
    while (following := store.sitting(token).next) is not None:
        store.answer(token, answer(following.trial, answer=said)).result()
        trials.append(following)
    return trials


def test_a_sitting_follows_its_plan(opened):
    study, store = opened
    token = store.join().result()
    planned = plan_sitting(study.design, study.manifest.fakes, study.pools(), 0)
    trials = finish(store, token)
    assert [(trial.image, trial.asked_ms) for trial in trials] == [
        (trial.stimulus, trial.asked_ms) for trial in planned
    ]
    end = store.sitting(token)
    assert (end.done, end.total, end.next, end.images) == (16, 16, None, ())
    assert store.progress()[0]["finished_at"] is not None


def test_images_are_those_left_in_the_block(opened):
    study, store = opened
    token = store.join().result()
    planned = plan_sitting(study.design, study.manifest.fakes, study.pools(), 0)
    practice = [trial.stimulus for trial in planned if trial.block == 0]
    assert list(store.sitting(token).images) == practice
    store.answer(token, answer(store.sitting(token).next.trial)).result()
    assert list(store.sitting(token).images) == practice[1:]


def test_truth_is_told_after_practice_only(opened):
    study, store = opened
    token = store.join().result()
    source = {item.name: item.source for item in study.manifest.stimuli}
    while (following := store.sitting(token).next) is not None:
        receipt = store.answer(token, answer(following.trial)).result()
        if following.practice:
            assert receipt.truth == ("real" if source[following.image] == "real" else "fake")
        else:
            assert receipt.truth is None


def test_the_first_answer_stands(opened):
    _, store = opened
    token = store.join().result()
    first = store.sitting(token).next.trial
    before = store.answer(token, answer(first, answer="fake")).result()
    again = store.answer(token, answer(first, answer="real", response_ms=1.0)).result()
    assert (before.repeated, again.repeated) == (False, True)
    assert (again.done, again.next) == (before.done, before.next)
    assert [(row["said_real"], row["response_ms"]) for row in store.rows()] == [(False, 900.0)]


def test_order_is_kept(opened):
    study, store = opened
    token = store.join().result()
    later = _trial_ids(study)[3]
    with pytest.raises(RefusedError, match="out-of-order"):
        store.answer(token, answer(later)).result()
    assert store.rows() == []


def test_raters_reach_only_their_own(opened):
    _, store = opened
    mine, other = store.join().result(), store.join().result()
    foreign = store.sitting(other).next.trial
    with pytest.raises(RefusedError, match="unknown-trial"):
        store.answer(mine, answer(foreign)).result()
    with pytest.raises(RefusedError, match="unknown-rater"):
        store.answer("x" * 32, answer(foreign)).result()
    with pytest.raises(RefusedError, match="unknown-rater"):
        store.sitting("")
    assert store.rows() == []


def test_the_token_itself_is_not_stored(opened):
    study, store = opened
    token = store.join().result()
    assert len(token) == 32
    assert token.encode() not in (study.folder / "answers.sqlite").read_bytes()


def test_another_process_goes_on_where_the_first_stopped(opened):
    study, store = opened
    token = store.join().result()
    for _ in range(5):
        store.answer(token, answer(store.sitting(token).next.trial)).result()
    store.close()
    reopened = Store(study)
    assert reopened.sitting(token).done == 5
    assert len(reopened.rows()) == 5
    finish(reopened, token)
    assert len(reopened.rows()) == 16
    reopened.close()


def test_racing_copies_of_one_answer_are_stored_once(opened):
    _, store = opened
    token = store.join().result()
    trial = store.sitting(token).next.trial
    receipts = []
    threads = [
        threading.Thread(
            target=lambda: receipts.append(store.answer(token, answer(trial)).result())
        )
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(receipt.repeated for receipt in receipts) == [False] + [True] * 11
    assert len(store.rows()) == 1


def test_a_staircase_gets_shorter_when_raters_are_right(make_study):
    study = make_study(mode="staircase", trials=24, practice_trials=0, catch_trials=0)
    store = Store(study)
    token = store.join().result()
    rule = study.design.staircase
    outcomes = {fake: [] for fake in study.manifest.fakes}
    planned = plan_sitting(study.design, study.manifest.fakes, study.pools(), 0)
    for trial in planned:
        following = store.sitting(token).next
        assert following.asked_ms == pytest.approx(staircase_ms(rule, outcomes[trial.staircase]))
        right = len(outcomes[trial.staircase]) != 4
        said = "real" if (trial.source == "real") == right else "fake"
        store.answer(token, answer(following.trial, answer=said)).result()
        outcomes[trial.staircase].append(right)
    shortest = min(row["asked_ms"] for row in store.rows())
    assert shortest < rule.start_ms
    assert all(row["asked_ms"] is not None for row in store.rows())
    store.close()


def test_pausing_outlives_a_restart(opened):
    study, store = opened
    token = store.join().result()
    store.set_paused(True)
    assert store.sitting(token).paused
    receipt = store.answer(token, answer(store.sitting(token).next.trial)).result()
    assert receipt.paused
    reopened = Store(study)
    assert reopened.is_paused()
    reopened.set_paused(False)
    assert not store.is_paused()
    reopened.close()


def test_sides_alternate_between_raters(opened):
    _, store = opened
    assert [store.sitting(store.join().result()).real_left for _ in range(3)] == [True, False, True]


def test_the_database_of_another_study_is_refused(make_study):
    first, second = make_study(), make_study()
    Store(first).close()
    with pytest.raises(LapganError, match="another study"):
        Store(second, f"sqlite:///{first.folder / 'answers.sqlite'}")


def test_another_schema_is_refused(opened):
    study, store = opened
    store.close()
    with sqlite3.connect(study.folder / "answers.sqlite") as connection:
        connection.execute("UPDATE study_meta SET value = '99' WHERE key = 'schema'")
    connection.close()
    with pytest.raises(LapganError, match="schema 99, expected 1"):
        Store(study)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("no url", "not a database URL"),
        ("nosuch://x/y", "not a database URL"),
        ("sqlite:////nowhere/at/all/x.sqlite", "cannot be used"),
    ],
)
def test_databases_that_cannot_be_used(make_study, url, message):
    with pytest.raises(LapganError, match=message):
        Store(make_study(), url)


def test_every_commit_reaches_the_disk(opened):
    _, store = opened
    with store._reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def _trial_ids(study):
    with sqlite3.connect(study.folder / "answers.sqlite") as connection:
        rows = connection.execute("SELECT id FROM study_trials ORDER BY rater_id, position")
        ids = [row[0] for row in rows]
    connection.close()
    return ids
