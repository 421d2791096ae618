import threading

import pytest
import sqlalchemy as sa

from lapgan.study.group_commit import GroupCommit


@pytest.fixture
def engine(tmp_path):
    engine = sa.create_engine(
        f"sqlite:///{tmp_path / 'x.sqlite'}", connect_args={"isolation_level": None}
    )
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x INTEGER PRIMARY KEY)")
    yield engine
    engine.dispose()


@pytest.fixture
def commits(engine):
    commits = GroupCommit(engine)
    yield commits
    commits.close()


def insert(value):
    return lambda connection: connection.exec_driver_sql(f"INSERT INTO t VALUES ({value})")


def values_in(connection):
    return list(connection.exec_driver_sql("SELECT x FROM t ORDER BY x").scalars())


def values(engine):
    with engine.connect() as connection:
        return values_in(connection)


def test_results_come_back_and_are_stored(engine, commits):
    seven = commits.submit(lambda connection: connection.exec_driver_sql("SELECT 7").scalar())
    assert seven.result(10) == 7
    commits.submit(insert(1)).result(10)
    assert values(engine) == [1]


@pytest.fixture
def held(commits):
    """A write that is under way until the event is set."""
    begun, go = threading.Event(), threading.Event()

    def work(connection):
        insert(0)(connection)
        begun.set()
        go.wait(10)

    commits.submit(work)
    begun.wait(10)
    yield go
    go.set()


def broken(connection):
    insert(99)(connection)
    raise ValueError("not this one")


def test_waiting_work_shares_one_transaction(engine, commits, held):
    transactions = []
    sa.event.listen(engine, "commit", lambda _connection: transactions.append(1))
    waiting = [commits.submit(insert(value)) for value in range(1, 9)]
    held.set()
    for future in waiting:
        future.result(10)
    assert values(engine) == list(range(9))
    assert len(transactions) == 2


def test_errors_stay_alone(engine, commits, held):
    before, failing, after = (commits.submit(work) for work in (insert(1), broken, insert(2)))
    held.set()
    before.result(10)
    after.result(10)
    with pytest.raises(ValueError, match="not this one"):
        failing.result(10)
    assert values(engine) == [0, 1, 2]
    with pytest.raises(ValueError, match="not this one"):
        commits.submit(broken).result(10)
    assert values(engine) == [0, 1, 2]


@pytest.fixture
def calls():
    return []


@pytest.fixture
def insert_all(calls):
    """Inserts numbers, and records which it received together; even ones only."""

    def work(connection, numbers):
        calls.append(list(numbers))
        for number in numbers:
            insert(number)(connection)
            if number % 2:
                raise ValueError(f"{number} is odd")
        return [f"inserted {number}" for number in numbers]

    return work


def test_neighbors_are_given_to_their_work_at_once(engine, commits, held, calls, insert_all):
    first = [commits.submit_item(insert_all, number) for number in (2, 4)]
    between = commits.submit(values_in)
    last = commits.submit_item(insert_all, 6)
    held.set()
    assert [future.result(10) for future in first] == ["inserted 2", "inserted 4"]
    assert between.result(10) == [0, 2, 4]
    assert last.result(10) == "inserted 6"
    assert calls == [[2, 4], [6]]


def test_after_an_error_each_item_is_tried_alone(engine, commits, held, calls, insert_all):
    futures = [commits.submit_item(insert_all, number) for number in (2, 3, 4)]
    held.set()
    assert futures[0].result(10) == "inserted 2"
    with pytest.raises(ValueError, match="3 is odd"):
        futures[1].result(10)
    assert futures[2].result(10) == "inserted 4"
    assert values(engine) == [0, 2, 4]
    assert calls == [[2, 3, 4], [2], [3], [4]]


def test_nobody_waits_for_a_later_flush(commits, held):
    first = commits.submit(insert(1))
    later = threading.Event()
    first.add_done_callback(lambda _future: commits.submit(lambda _connection: later.wait(10)))
    held.set()
    first.result(5)
    assert not later.is_set()
    later.set()


def test_work_that_was_called_off_is_not_done(engine, commits, held):
    off, on = commits.submit(insert(1)), commits.submit(insert(2))
    assert off.cancel()
    held.set()
    on.result(10)
    assert values(engine) == [0, 2]


def test_closing_stores_what_waits(engine, commits, held):
    waiting = commits.submit(insert(1))
    held.set()
    commits.close()
    assert waiting.done()
    assert values(engine) == [0, 1]
    with pytest.raises(RuntimeError):
        commits.submit(insert(2))


def test_when_the_commit_fails_everybody_hears_of_it(engine, commits, held):
    waiting = [commits.submit(insert(value)) for value in (1, 2)]

    def fail(_connection):
        raise OSError("disk full")

    sa.event.listen(engine, "commit", fail)
    held.set()
    for future in waiting:
        with pytest.raises(OSError, match="disk full"):
            future.result(10)
    sa.event.remove(engine, "commit", fail)
    assert values(engine) == []
