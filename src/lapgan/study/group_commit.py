"""Writes of many requests in one transaction: one flush to the disk for all that wait.

A flush costs milliseconds, and SQLite has one writer anyway. While the one writing thread commits,
requests queue; then it commits for all of them at once. Nobody is answered before the flush, and
nobody waits for a later one.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

__all__ = ["GroupCommit"]

Result = TypeVar("Result")
Work = Callable[[sa.Connection], Any]
Settle = Callable[[Future[Any]], None]


@dataclass
class _Entry:
    work: Work
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
        entry = _Entry(work)
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
                return [_succeed(entry.work(connection)) for entry in batch]
        except Exception:
            if len(batch) == 1:
                raise
        with self._engine.begin() as connection:
            return [_attempt(connection, entry.work) for entry in batch]


def _attempt(connection: sa.Connection, work: Work) -> Settle:
    try:
        with connection.begin_nested():
            return _succeed(work(connection))
    except Exception as error:
        return _fail(error)


def _succeed(result: object) -> Settle:
    return lambda future: future.set_result(result)


def _fail(error: Exception) -> Settle:
    return lambda future: future.set_exception(error)
