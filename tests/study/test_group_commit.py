import threading

import pytest
import sqlalchemy as sa

from lapgan.study.group_commit import GroupCommit


@pytest.fixture
def engine(tmp_path):
    made = sa.create_engine(f"sqlite:///{tmp_path / 'x.sqlite'}")
    with made.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x INTEGER PRIMARY KEY)")
    yield made
    made.dispose()


def insert(value):
    return lambda connection: connection.exec_driver_sql(f"INSERT INTO t VALUES ({value})")


def values(engine):
    with engine.connect() as connection:
        return list(connection.exec_driver_sql("SELECT x FROM t ORDER BY x").scalars())


def test_results_come_back_and_are_stored(engine):
    commits = GroupCommit(engine)
    assert commits.run(lambda connection: connection.exec_driver_sql("SELECT 7").scalar()) == 7
    commits.run(insert(1))
    assert values(engine) == [1]


def test_waiting_work_shares_one_transaction_and_errors_stay_alone(engine):
    commits, begun, go = GroupCommit(engine), threading.Event(), threading.Event()
    outcomes, transactions = {}, []
    sa.event.listen(engine, "commit", lambda _connection: transactions.append(1))

    def first(connection):
        insert(0)(connection)
        begun.set()
        go.wait(10)

    def broken(connection):
        insert(99)(connection)
        raise ValueError("not this one")

    def run(name, work):
        try:
            outcomes[name] = commits.run(work) is not None
        except ValueError as error:
            outcomes[name] = str(error)

    threads = [threading.Thread(target=run, args=("first", first))]
    threads[0].start()
    begun.wait(10)
    work = {f"w{value}": insert(value) for value in range(1, 9)} | {"broken": broken}
    threads += [threading.Thread(target=run, args=item) for item in work.items()]
    for thread in threads[1:]:
        thread.start()
    while len(commits._waiting) < len(work):
        pass
    go.set()
    for thread in threads:
        thread.join(10)
    assert values(engine) == list(range(9))
    assert outcomes.pop("broken") == "not this one"
    assert len(outcomes) == 9
    assert len(transactions) == 2


def test_when_the_commit_fails_everybody_hears_of_it(engine):
    commits = GroupCommit(engine)

    def fail(_connection):
        raise OSError("disk full")

    sa.event.listen(engine, "commit", fail)
    with pytest.raises(OSError, match="disk full"):
        commits.run(insert(1))
