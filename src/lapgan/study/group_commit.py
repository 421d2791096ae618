"""Writes of many requests in one transaction: one flush to the disk for all that wait.

A flush costs milliseconds, and SQLite has one writer anyway. While the one writing thread commits,
requests queue; then it commits for all of them at once. Nobody is answered before the flush, and
nobody waits for a later one. Requests of one kind may also share their queries: where the database
is another process, it is these round trips that take the time.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar

import sqlalchemy as sa

__all__ = ["GroupCommit"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Settle = Callable[[Future[Any]], None]


@dataclass
class _Entry:
    work: Callable[[sa.Connection, Sequence[Any]], Sequence[Any]]
    item: Any
    future: Future[Any] = field(default_factory=Future)


class GroupCommit:
    """Runs pieces of work on an engine, each all or nothing, flushed together.

    A piece may run twice, the first time rolled back: it must act on its connection alone.

    Args:
        engine: of the database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._waiting: deque[_Entry] = deque()
        self._writer = ThreadPoolExecutor(1, "group-commit")

    def submit(self, work: Callable[[sa.Connection], Result]) -> Future[Result]:
        """Queues `work`; the future holds its result, or its error, once it is on the disk.

        Raises:
            RuntimeError: the writer is closed.
        """
        return self.submit_item(_one_by_one, work)

    def submit_item(
        self, work: Callable[[sa.Connection, Sequence[Item]], Sequence[Result]], item: Item
    ) -> Future[Result]:
        """Queues one item for `work`, which takes all its items that wait in a row at once.

        `work` returns their results in their order. When it raises, it is called again with each
        item alone, so that the error reaches only the item that caused it.

        Raises:
            RuntimeError: the writer is closed.
        """
        entry = _Entry(work, item)
        self._waiting.append(entry)
        self._writer.submit(self._commit_waiting)
        return entry.future

    def close(self) -> None:
        """Commits what waits and ends the writing thread."""
        self._writer.shutdown()

    def _commit_waiting(self) -> None:
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        batch = [entry for entry in taken if entry.future.set_running_or_notify_cancel()]
        if not batch:  # an earlier turn has taken them all
            return
        try:
            settled = self._commit(batch)
        except Exception as error:
            settled = [_fail(error)] * len(batch)
        for entry, settle in zip(batch, settled, strict=True):
            settle(entry.future)

    def _commit(self, batch: list[_Entry]) -> list[Settle]:
        """One transaction; savepoints only once a piece has failed, for they cost two queries."""
        try:
            with self._engine.begin() as connection:
                return _run(connection, batch)
        except Exception:
            if len(batch) == 1:
                raise
        with self._engine.begin() as connection:
            return [_attempt(connection, entry) for entry in batch]


def _one_by_one(
    connection: sa.Connection, works: Sequence[Callable[[sa.Connection], Result]]
) -> list[Result]:
    return [work(connection) for work in works]


def _run(connection: sa.Connection, batch: Sequence[_Entry]) -> list[Settle]:
    settled: list[Settle] = []
    for work, neighbours in groupby(batch, key=lambda entry: entry.work):
        settled += map(_succeed, work(connection, [entry.item for entry in neighbours]))
    return settled


def _attempt(connection: sa.Connection, entry: _Entry) -> Settle:
    try:
        with connection.begin_nested():
            return _run(connection, [entry])[0]
    except Exception as error:
        return _fail(error)


def _succeed(result: object) -> Settle:
    return lambda future: future.set_result(result)


def _fail(error: Exception) -> Settle:
    return lambda future: future.set_exception(error)
