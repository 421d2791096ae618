"""Writes of many threads in one transaction: one flush to the disk for all that wait.

A flush costs milliseconds, and SQLite has one writer anyway. While one thread commits, others
queue; the next to get the lock commits for all of them. Nobody is answered before the flush.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

__all__ = ["GroupCommit"]

Result = TypeVar("Result")


@dataclass
class _Entry:
    work: Callable[[sa.Connection], Any]
    future: Future[Any] = field(default_factory=Future)


class GroupCommit:
    """Runs pieces of work on an engine, each all or nothing, flushed together.

    Args:
        engine: of the database that this process alone writes to.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._waiting: list[_Entry] = []
        self._queueing = threading.Lock()
        self._committing = threading.Lock()

    def run(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Returns the result of `work` once it is on the disk, or raises what it raised."""
        entry = _Entry(work)
        with self._queueing:
            self._waiting.append(entry)
        with self._committing:
            with self._queueing:
                batch, self._waiting = self._waiting, []
            if batch:
                self._commit(batch)
        result: Result = entry.future.result()
        return result

    def _commit(self, batch: list[_Entry]) -> None:
        try:
            with self._engine.begin() as connection:
                alone = len(batch) == 1  # then the transaction itself is the savepoint
                settled = [_attempt(connection, entry.work, alone) for entry in batch]
        except Exception as error:
            for entry in batch:
                entry.future.set_exception(error)
            return
        for entry, settle in zip(batch, settled, strict=True):
            settle(entry.future)


def _attempt(
    connection: sa.Connection, work: Callable[[sa.Connection], Any], alone: bool
) -> Callable[[Future[Any]], None]:
    """Runs one piece within a savepoint; returns what will settle its future."""
    if alone:
        only = work(connection)
        return lambda future: future.set_result(only)
    try:
        with connection.begin_nested():
            result = work(connection)
    except Exception as raised:
        error = raised
        return lambda future: future.set_exception(error)
    return lambda future: future.set_result(result)
