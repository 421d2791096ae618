"""Group commit: the writes of many requests share one transaction and one flush to the disk.

A flush takes milliseconds, and SQLite has a single writer anyway. While the writing thread commits,
requests queue; then it commits all of them at once. No request is answered before its flush, and
none waits for a later flush. Requests of one kind may also share their queries: if the database is
another process, most of the time goes into these round trips.
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
    """Runs units of work on an engine, each all or nothing, flushed together.

    A unit may run twice, the first time rolled back: it must have no effect but on its connection.

    Args:
        engine: of the database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._waiting: deque[_Entry] = deque()
        self._writer = ThreadPoolExecutor(1, "group-commit")

    def submit(self, work: Callable[[sa.Connection], Result]) -> Future[Result]:
        """Queues `work`; the future has its result or its error once the work is on the disk.

        Raises:
            RuntimeError: the writer is closed.
        """
        return self.submit_item(_run_each, work)

    def submit_item(
        self, work: Callable[[sa.Connection, Sequence[Item]], Sequence[Result]], item: Item
    ) -> Future[Result]:
        """Queues one item for `work`, which receives consecutive waiting items together.

        `work` returns their results in order. If it raises, it is called again with each item
        alone, so that the error reaches only the item that caused it.

        Raises:
            RuntimeError: the writer is closed.
        """
        entry = _Entry(work, item)
        self._waiting.append(entry)
        self._writer.submit(self._commit_waiting)
        return entry.future

    def close(self) -> None:
        """Commits all waiting work and ends the writing thread."""
        self._writer.shutdown()

    def _commit_waiting(self) -> None:
        entries = [self._waiting.popleft() for _ in range(len(self._waiting))]
        batch = [entry for entry in entries if entry.future.set_running_or_notify_cancel()]
        if not batch:  # an earlier call has committed them all
            return
        try:
            outcomes = self._commit(batch)
        except Exception as error:
            outcomes = [_fail(error)] * len(batch)
        for entry, settle in zip(batch, outcomes, strict=True):
            settle(entry.future)

    def _commit(self, batch: list[_Entry]) -> list[Settle]:
        """Commits in one transaction; with savepoints, two queries each, only after an error."""
        try:
            with self._engine.begin() as connection:
                return _run(connection, batch)
        except Exception:
            if len(batch) == 1:
                raise
        with self._engine.begin() as connection:
            return [_attempt(connection, entry) for entry in batch]


def _run_each(
    connection: sa.Connection, works: Sequence[Callable[[sa.Connection], Result]]
) -> list[Result]:
    return [work(connection) for work in works]


def _run(connection: sa.Connection, batch: Sequence[_Entry]) -> list[Settle]:
    outcomes: list[Settle] = []
    for work, neighbors in groupby(batch, key=lambda entry: entry.work):
        outcomes += map(_succeed, work(connection, [entry.item for entry in neighbors]))
    return outcomes


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
