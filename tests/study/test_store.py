import random
import shutil
import sqlite3
import sys
import threading
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from serving import make_answer

from lapgan.errors import LapganError
from lapgan.study.answers import Answer
from lapgan.study.planning import plan_sitting, staircase_ms
from lapgan.study.standing import RefusedError
from lapgan.study.store import Store
from lapgan.study.store import _read as read_only


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
    planned = plan_sitting(
        study.design, study.manifest.fakes, study.pools(), 0, study.manifest.salt
    )
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
    planned = plan_sitting(
        study.design, study.manifest.fakes, study.pools(), 0, study.manifest.salt
    )
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


@pytest.fixture
def twins(make_study, tmp_path):
    """Makes two stores of one study that hold the same raters and trials, and their tokens."""
    opened = []

    def make(raters=3, **changes):
        study = make_study(**changes)
        store = Store(study)
        tokens = [store.join().result() for _ in range(raters)]
        store.close()
        shutil.copy(study.folder / "answers.sqlite", tmp_path / "twin.sqlite")
        opened.extend([Store(study), Store(study, f"sqlite:///{tmp_path / 'twin.sqlite'}")])
        plan = _trial_ids(study)
        length = len(plan) // raters
        return *opened, {
            token: plan[i * length : (i + 1) * length] for i, token in enumerate(tokens)
        }

    yield make
    for store in opened:
        store.close()


@contextmanager
def held(store):
    """While it lasts, what is submitted waits; then it is written as one batch."""
    begun, go = threading.Event(), threading.Event()
    store._commits.submit(lambda _connection: begun.set() or go.wait(10))
    assert begun.wait(10)
    yield
    go.set()


def outcome(future):
    try:
        return future.result(10)
    except RefusedError as refusal:
        return refusal.reason


def check_batches(together, alone, batches):
    """Batches must leave what the same answers leave one by one; returns the outcomes."""
    outcomes = []
    for batch in batches:
        with held(together):
            futures = [together.answer(token, sent) for token, sent in batch]
        outcomes += [outcome(future) for future in futures]
    expected = [outcome(alone.answer(*one)) for batch in batches for one in batch]
    assert outcomes == expected

    def answers_of(store):
        return [{**row, "answered_at": None} for row in store.rows()]

    def stand(store):
        return [{**row, "finished_at": bool(row["finished_at"])} for row in store.progress()]

    assert answers_of(together) == answers_of(alone)
    assert stand(together) == stand(alone)
    return outcomes


def test_a_batch_is_one_transaction_of_few_queries(twins):
    together, alone, plans = twins()
    transactions, queries = [], []
    sa.event.listen(together._engine, "commit", lambda _connection: transactions.append(1))
    sa.event.listen(
        together._engine, "before_cursor_execute", lambda *details: queries.append(details[2])
    )
    batch = [(token, answer(trial)) for token, plan in plans.items() for trial in plan[:4]]
    with held(together):
        futures = [together.answer(*one) for one in batch]
    assert [outcome(future).done for future in futures] == [1, 2, 3, 4] * 3
    assert len(transactions) == 2  # the first is that of `held`
    assert len([query for query in queries if not query.startswith("BEGIN")]) == 4
    for one in batch:
        alone.answer(*one).result()
    assert [row["trial"] for row in together.rows()] == [row["trial"] for row in alone.rows()]


def test_copies_within_a_batch_are_stored_once(twins):
    together, alone, plans = twins()
    (mine, plan), (other, others) = list(plans.items())[:2]
    batch = [
        (mine, answer(plan[0], answer="fake")),
        (mine, answer(plan[0], answer="real")),
        (other, answer(others[0])),
        (mine, answer(plan[1])),
        (mine, answer(plan[0], answer="real")),
    ]
    outcomes = check_batches(together, alone, [batch, batch])
    assert [receipt.repeated for receipt in outcomes] == [
        False,
        True,
        False,
        False,
        True,
        *[True] * 5,
    ]
    assert [row["said_real"] for row in together.rows() if row["trial"] == plan[0]] == [False]


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_forged_answer_in_a_batch_harms_no_other(twins, place):
    together, alone, plans = twins()
    (mine, plan), (other, others) = list(plans.items())[:2]
    good = [(mine, answer(plan[0])), (other, answer(others[0])), (mine, answer(plan[1]))]
    for forged, reason in [
        ((mine, answer(others[1])), "unknown-trial"),
        ((other, answer("no-such-trial")), "unknown-trial"),
        (("x" * 32, answer(plan[0])), "unknown-rater"),
        ((mine, answer(plan[9])), "out-of-order"),
    ]:
        outcomes = check_batches(together, alone, [[*good[:place], forged, *good[place:]]])
        assert outcomes.pop(place) == reason
        assert [receipt.done for receipt in outcomes] in ([1, 1, 2], [2, 1, 2])
    assert len(together.rows()) == 3


def test_staircases_move_within_a_batch(twins):
    together, alone, plans = twins(raters=2, mode="staircase", trials=24, catch_trials=0)
    rng = random.Random(0)
    said = {trial: rng.choice(["real", "fake"]) for plan in plans.values() for trial in plan}
    turns = [
        (token, answer(trial, answer=said[trial]))
        for trials in zip(*plans.values(), strict=True)
        for token, trial in zip(plans, trials, strict=True)
    ]
    check_batches(together, alone, [turns[:7], turns[7:30], turns[30:]])
    outcomes = {}
    for row in together.rows():
        if row["staircase"] is not None:
            before = outcomes.setdefault((row["rater"], row["staircase"]), [])
            rule = together._study.design.staircase
            assert row["asked_ms"] == pytest.approx(staircase_ms(rule, before))
            before.append(row["correct"])
    assert len(together.rows()) == len(turns)


@pytest.mark.parametrize("mode", ["durations", "staircase"])
@pytest.mark.parametrize("strays", [0.0, 0.1])
def test_any_batches_leave_what_single_answers_leave(twins, mode, strays):
    together, alone, plans = twins(mode=mode)
    rng = random.Random(1)
    done = dict.fromkeys(plans, 0)
    everything = [trial for plan in plans.values() for trial in plan]

    def draw():
        token = rng.choice(list(plans))
        at, plan = done[token], plans[token]
        if rng.random() < strays:
            trial = rng.choice(everything)
            done[token] += at < len(plan) and trial == plan[at]
        elif at == len(plan) or (at and rng.random() < 0.3):
            trial = plan[rng.randrange(at)]
        else:
            trial = plan[at]
            done[token] += 1
        return token, answer(trial, answer=rng.choice(["real", "fake"]))

    batches = [[draw() for _ in range(rng.randint(1, 12))] for _ in range(12)]
    outcomes = check_batches(together, alone, batches)
    assert any(isinstance(one, str) for one in outcomes) == (strays > 0)
    assert [rater["done"] for rater in together.progress()] == list(done.values())


def test_a_staircase_gets_shorter_when_raters_are_right(make_study):
    study = make_study(mode="staircase", trials=24, practice_trials=0, catch_trials=0)
    store = Store(study)
    token = store.join().result()
    rule = study.design.staircase
    outcomes = {fake: [] for fake in study.manifest.fakes}
    planned = plan_sitting(
        study.design, study.manifest.fakes, study.pools(), 0, study.manifest.salt
    )
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


def test_a_missing_driver_is_named_and_the_password_is_not(make_study, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LapganError, match=r"psycopg.*\.\[postgres\]") as error:
        Store(make_study(), "postgresql://me:secret@localhost/x")
    assert "secret" not in str(error.value)


def test_every_commit_reaches_the_disk(opened):
    _, store = opened
    with read_only(store._engine) as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def _trial_ids(study):
    with sqlite3.connect(study.folder / "answers.sqlite") as connection:
        rows = connection.execute("SELECT id FROM study_trials ORDER BY rater_id, position")
        ids = [row[0] for row in rows]
    connection.close()
    return ids
